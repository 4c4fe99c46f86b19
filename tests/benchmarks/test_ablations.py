"""The table of a recipe's parts, and the variants that come with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ablations import Result, table

from dino_detector.config import Config

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((BENCHMARKS / name).read_text(encoding="utf-8"))


CHANGES = [
    pytest.param(read(recipe), changes, id=name)
    for recipe, variants in (("recipe_cpu.yaml", "ablations.yaml"), ("adapters_cpu.yaml", "adapters.yaml"))
    for name, changes in read(variants).items()
]


@pytest.mark.parametrize(("recipe", "changes"), CHANGES)
def test_a_variant_changes_the_recipe_in_every_setting_that_it_names(
    recipe: dict[str, Any], changes: dict[str, Any]
) -> None:
    without, changed = Config.from_flat(recipe).flat(), Config.from_flat(recipe | changes).flat()
    assert {key for key, value in changed.items() if value != without[key]} == set(changes)


def test_changes_are_paired_by_seed_and_their_spread_is_that_of_the_pairs() -> None:
    """The seeds differ by much more than the variant from the recipe."""
    recipe = [Result(0.2, 0.4, 0.1, 0.5), Result(0.4, 0.6, 0.3, 0.5)]
    variant = [Result(0.21, 0.4, 0.1, 1.0), Result(0.43, 0.6, 0.3, 1.0)]
    rows = {
        line.split("|")[1].strip(): line.split("|")[2:-1]
        for line in table({"recipe": recipe, "new": variant}).splitlines()
    }
    assert [cell.strip() for cell in rows["recipe"]] == ["0.300 ± 0.141", "", "0.500", "0.200", "1.00"]
    assert [cell.strip() for cell in rows["new"]] == ["0.320 ± 0.156", "+0.020 ± 0.014", "0.500", "0.200", "2.00"]
