"""The table of a recipe's parts, and the variants that come with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ablations import Result, table

from dino_detector.config import Config

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RECIPE = yaml.safe_load((BENCHMARKS / "recipe_cpu.yaml").read_text(encoding="utf-8"))
VARIANTS = yaml.safe_load((BENCHMARKS / "ablations.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_changes_the_recipe_in_every_setting_that_it_names(name: str) -> None:
    recipe, variant = Config.from_flat(RECIPE).flat(), Config.from_flat(RECIPE | VARIANTS[name]).flat()
    assert {key for key, value in variant.items() if value != recipe[key]} == set(VARIANTS[name])


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
