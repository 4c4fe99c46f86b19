"""Contrast of the palette, as WCAG 2.2 defines it: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio"""

from __future__ import annotations

import re
from importlib import resources

import pytest

PALETTE = resources.files("dino_detector.analysis.report").joinpath("assets", "palette.css").read_text()


def colours(css: str) -> dict[str, str]:
    """Return the colour variables of the page, and for each class its colour and the text colour on it (``-ink``)."""
    classes = re.findall(r"\.([\w-]+) \{ --\w+: (#[0-9a-f]{6});(?: --\w+-ink: (#[0-9a-f]{6});)? \}", css)
    found = dict(re.findall(r"^ +--([\w-]+): (#[0-9a-f]{6});$", css, re.MULTILINE))
    return found | {name: color for name, color, _ in classes} | {f"{name}-ink": ink for name, _, ink in classes if ink}


LIGHT, DARK = map(colours, PALETTE.split("@media"))
MODES = {"light": LIGHT, "dark": LIGHT | DARK}
KINDS = ("correct", "classification", "localisation", "both", "duplicate", "background", "missed", "ignored")


def luminance(color: str) -> float:
    channels = (int(color[place : place + 2], 16) / 255 for place in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_wcag():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.005)  # the lightest grey that passes level AA


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("text", ["ink", "soft", "link", "gain", "loss"])
@pytest.mark.parametrize("ground", ["ground", "surface"])
def test_text_has_the_contrast_of_aa(mode: str, text: str, ground: str):
    assert contrast(MODES[mode][text], MODES[mode][ground]) >= 4.5


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("line", ["edge", "bar", "link", *(f"line-{number}" for number in range(1, 6))])
@pytest.mark.parametrize("ground", ["ground", "surface"])
def test_controls_bars_and_curves_stand_out(mode: str, line: str, ground: str):
    assert contrast(MODES[mode][line], MODES[mode][ground]) >= 3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cell", [f"{kind}-{step}" for kind in ("hit", "slip") for step in range(1, 7)])
def test_numbers_in_the_matrix_have_the_contrast_of_aa(mode: str, cell: str):
    assert contrast(MODES[mode][cell], MODES[mode][f"{cell}-ink"]) >= 4.5


@pytest.mark.parametrize("kind", KINDS)
def test_codes_of_mistakes_have_the_contrast_of_aa(kind: str):
    palette = colours(PALETTE)
    assert contrast(palette[kind], palette[f"{kind}-ink"]) >= 4.5


def test_kinds_are_coloured_by_okabe_and_ito():
    palette = colours(PALETTE)
    okabe_ito = {"#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"}
    colors = [palette[kind] for kind in KINDS[1:-1]]
    assert set(colors) <= okabe_ito
    assert len(set(colors)) == len(colors)
