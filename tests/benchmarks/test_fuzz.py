"""Each property of `benchmarks.fuzz`, on a few examples."""

from __future__ import annotations

import logging

import pytest

from benchmarks.fuzz import properties, run


@pytest.mark.parametrize(
    ("name", "examples"), [("annotations", 250), ("pictures", 400), ("results", 200), ("checkpoints", 150)]
)
def test_readers_return_valid_data_or_refuse_in_one_line(name, examples, tmp_path, caplog):
    caplog.set_level(logging.ERROR)
    outcomes = run(properties(tmp_path)[name], examples=examples, number=0)
    assert outcomes["refused"] > examples / 20
    assert outcomes["accepted"] > 0
