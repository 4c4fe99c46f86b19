"""The table of an ablation, its runs, and the variants in the repository."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_settings import TINY

from benchmarks.ablations.runs import Result, run, table
from benchmarks.common.machine import revision
from dino_detector.config import Config
from dino_detector.errors import InputError

ABLATIONS = Path(__file__).parents[2] / "benchmarks" / "ablations"


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((ABLATIONS / name).read_text(encoding="utf-8"))


CHANGES = [
    pytest.param(read(recipe), changes, id=name)
    for recipe, variants in (("recipe_cpu.yaml", "ablations.yaml"), ("adapters_cpu.yaml", "adapters.yaml"))
    for name, changes in read(variants).items()
]


@pytest.mark.parametrize(("recipe", "changes"), CHANGES)
def test_a_variant_changes_exactly_the_settings_that_it_names(recipe: dict[str, Any], changes: dict[str, Any]) -> None:
    without, changed = Config.from_flat(recipe).flat(), Config.from_flat(recipe | changes).flat()
    assert {key for key, value in changed.items() if value != without[key]} == set(changes)


def test_changes_of_ap_are_paired_by_seed() -> None:
    """The seeds differ by much more than the variant and the recipe do."""
    recipe = [Result(0.2, 0.4, 0.1, 0.5, "a"), Result(0.4, 0.6, 0.3, 0.5, "a")]
    variant = [Result(0.21, 0.4, 0.1, 1.0, "a"), Result(0.43, 0.6, 0.3, 1.0, "a")]
    rows = {
        line.split("|")[1].strip(): line.split("|")[2:-1]
        for line in table({"recipe": recipe, "new": variant}).splitlines()
    }
    assert [cell.strip() for cell in rows["recipe"]] == ["0.300 ± 0.141", "", "0.500", "0.200", "1.00"]
    assert [cell.strip() for cell in rows["new"]] == ["0.320 ± 0.156", "+0.020 ± 0.014", "0.500", "0.200", "2.00"]


SHORT = TINY | {"epochs": 2, "val_frequency": 2}


@pytest.fixture(autouse=True)
def _warm(warm_python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start the processes of runs with the libraries imported."""
    monkeypatch.setattr(sys, "executable", str(warm_python))


def test_a_finished_run_is_reused_and_other_settings_are_refused(two_images: Path, tmp_path: Path) -> None:
    first = run(SHORT, 0, two_images, tmp_path / "run", 1)
    assert first.revision == revision()
    written = (tmp_path / "run" / "run.log").stat().st_mtime_ns
    assert run(SHORT, 0, two_images, tmp_path / "run", 1) == first
    assert (tmp_path / "run" / "run.log").stat().st_mtime_ns == written
    with pytest.raises(InputError, match=r"run: this run had another learning_rate, seed; give another --output"):
        run(SHORT | {"learning_rate": 1e-3}, 1, two_images, tmp_path / "run", 1)


def test_a_failed_run_reports_the_error_and_is_not_reused(two_images: Path, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(InputError, match=r"run.log ends with: .*hidden_dim must be a multiple of num_heads"):
            run(SHORT | {"num_heads": 5}, 0, two_images, tmp_path / "run", 1)
