"""The page in Chromium. `open_report` also asserts that no page complains, opens a dialog, or asks the network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from report_payloads import HOSTILE, METRICS

if TYPE_CHECKING:
    from playwright.sync_api import Page

ARTIFACTS = Path(os.environ.get("TEST_ARTIFACTS", Path(__file__).parents[3] / "outputs" / "test_artifacts"))
LOOKS: dict[str, dict[str, Any]] = {
    "desktop": {},
    "phone": {"width": 360, "height": 740, "device_scale_factor": 2},
    "dark": {"color_scheme": "dark"},
}


def text(page: Page, selector: str) -> str:
    return page.locator(selector).first.inner_text()


def texts(page: Page, selector: str) -> list[str]:
    """Return the text of all elements that match, also of scrolled or hidden ones."""
    return page.locator(selector).evaluate_all("nodes => nodes.map(node => node.textContent)")


def frame(page: Page) -> None:
    """Wait until the page has drawn the last change."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until the element has the focus."""
    for _ in range(150):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"Tab never reaches {selector}")


def cards(page: Page) -> set[str]:
    """Return the file names of all cards that pass the filters."""
    frame(page)
    while page.locator("#gallery-more").is_visible():
        page.click("#gallery-more")
    return set(page.locator(".card .name").evaluate_all("nodes => nodes.map(node => node.title)"))


def mistakes(image: dict[str, Any], threshold: float) -> list[tuple[str, int, float | None]]:
    """Return kind, label and score of each mistake of an image, from the payload alone."""
    wrong = [
        (row["kind"], row["label"], row["score"])
        for row in image["detections"]
        if row["score"] >= threshold and row["kind"] not in ("correct", "ignored")
    ]
    missed = [
        ("missed", row["label"], None)
        for row in image["truth"]
        if not row["crowd"] and (row["found"] is None or row["found"] < threshold)
    ]
    return wrong + missed


@pytest.mark.parametrize(
    ("name", "look"),
    [("hostile", "desktop"), ("small", "dark"), *((name, "phone") for name in ("hostile", "small", "metrics", "bare"))],
)
def test_no_page_is_wider_than_its_screen(open_report, name: str, look: str):
    page = open_report(name, **LOOKS[look])
    frame(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"report_{name}_{look}.png", full_page=True)


def test_hostile_names_show_as_text_everywhere(open_report, payloads):
    page = open_report("hostile")
    assert set(HOSTILE) <= set(texts(page, "#class-table tbody th"))
    assert set(HOSTILE) <= set(texts(page, "#gallery-class option"))
    assert set(HOSTILE) <= set(texts(page, "#curves-class option"))
    assert texts(page, "#confusion-matrix thead th")[1:11] == HOSTILE
    page.locator(".card").first.click()
    assert text(page, "#viewer-title") == payloads["hostile"]["gallery"]["images"][0]["file_name"]
    assert page.evaluate("[document.scripts.length, document.images.length]") == [2, 0]


def test_nothing_of_the_scripts_is_global(open_report):
    page = open_report("small")
    names = ("payload", "gallery", "element", "buildGallery", "KINDS")
    own = "name => typeof globalThis[name] === 'undefined' || globalThis[name] instanceof Element"
    assert [name for name in names if not page.evaluate(own, name)] == []


def test_numbers_classes_and_notes_are_readable_without_scripts(open_report, payloads):
    page = open_report("small", java_script_enabled=False)
    assert page.locator(".large strong").is_visible()
    assert page.locator("#class-table tbody tr").count() == 3
    assert page.locator("noscript p").is_visible()
    assert page.locator("main > section:visible").count() == 2


def test_a_page_about_nothing_says_so(open_report):
    page = open_report("bare")
    assert text(page, "#headline .lead") == "There is no ground truth to measure against."
    assert text(page, "#errors-special") == "There is no ground truth, so the costs are unknown."
    assert text(page, "#calibration-about") == "There are no detections to compare with their scores."
    assert text(page, "#gallery-count") == "0 of 0 images shown."
    assert text(page, "#gallery-threshold-value") == "0.4163"
    assert not page.get_by_text("NaN").count()


@pytest.mark.parametrize(("scheme", "ground"), [("light", "rgb(251, 251, 249)"), ("dark", "rgb(18, 22, 26)")])
def test_colours_follow_the_system(open_report, scheme: str, ground: str):
    page = open_report("small", color_scheme=scheme)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ground


def test_what_the_payload_does_not_have_is_left_out(open_report):
    page = open_report("metrics")
    assert texts(page, "#sections a") == ["Result", "Classes"]
    assert page.locator("main > section:visible").count() == 2
    assert page.get_by_text(
        "They need detections, annotations and at least one annotated box; see --help."
    ).is_visible()


def test_the_class_table_sorts_both_ways_with_nulls_last(open_report, payloads):
    page = open_report("hostile")
    for column, key in ((1, "AP"), (3, "AP75"), (8, "boxes")):
        head = page.locator("#class-table thead th").nth(column)
        values = {row["name"]: row[key] for row in payloads["hostile"]["classes"] if row[key] is not None}
        nulls = [row["name"] for row in payloads["hostile"]["classes"] if row[key] is None]
        for order, reverse in (("descending", True), ("ascending", False)):
            head.locator("button").click()
            assert head.get_attribute("aria-sort") == order
            assert page.locator("#class-table [aria-sort]").count() == 1
            names = texts(page, "#class-table tbody th")
            assert [values[name] for name in names[: len(values)]] == sorted(values.values(), reverse=reverse)
            assert names[len(values) :] == nulls


def test_the_class_table_filters_by_name(open_report):
    page = open_report("hostile")
    page.fill("#class-filter", "CLASS 7")
    assert page.locator("#class-table tbody tr:visible").count() == 10
    assert text(page, "#class-count") == "10 of 80 classes"


def test_filters_leave_the_images_with_such_a_mistake(open_report, payloads):
    page = open_report("hostile")
    images = payloads["hostile"]["gallery"]["images"]
    for kind, label, low, high in (
        ("duplicate", 7, 0, 1),
        ("missed", 4, 0, 1),
        ("", 11, 0.9, 1),
        ("background", None, 0.97, 0.98),
        ("missed", None, 0.5, 1),
    ):
        page.select_option("#gallery-kind", kind)
        page.select_option("#gallery-class", "" if label is None else str(label))
        page.fill("#gallery-low", str(low))
        page.fill("#gallery-high", str(high))

        def fits(mistake: tuple[str, int, float | None], kind=kind, label=label, low=low, high=high) -> bool:
            in_range = (low, high) == (0, 1) if mistake[2] is None else low <= mistake[2] <= high
            return kind in ("", mistake[0]) and label in (None, mistake[1]) and in_range

        wanted = {image["file_name"] for image in images if any(map(fits, mistakes(image, 0.4)))}
        assert (kind, low) == ("missed", 0.5) or 0 < len(wanted) < len(images)
        assert cards(page) == wanted
        assert text(page, "#gallery-count").startswith(f"{len(wanted)} of {len(wanted)} image")
    page.get_by_role("button", name="Reset").click()
    frame(page)
    assert text(page, "#gallery-count") == "24 of 200 images shown."
    assert page.input_value("#gallery-threshold") == "0.4"


def test_show_more_adds_cards_and_takes_the_focus_to_them(open_report):
    page = open_report("hostile")
    frame(page)
    assert page.locator(".card").count() == 24
    page.click("#gallery-more")
    assert page.locator(".card").count() == 48
    place = "[...document.querySelectorAll('.card')].indexOf(document.activeElement)"
    assert page.evaluate(place) == 24


@pytest.mark.parametrize(
    ("threshold", "boxes", "chips"),
    [("0.1", 8, "C 1 D 1 M 1"), ("0.4", 7, "C 1 D 1 M 2"), ("0.9", 5, "C 1 M 3"), ("1", 4, "M 3")],
)
def test_the_slider_redraws_boxes_and_counts(open_report, threshold: str, boxes: int, chips: str):
    page = open_report("small")
    page.fill("#gallery-threshold", threshold)
    frame(page)
    assert page.locator(".card").first.locator("rect.box").count() == boxes
    words = page.locator(".card").first.locator(".chips > span")
    shown = words.evaluate_all("chips => chips.map(chip => chip.childNodes[0].textContent + chip.childNodes[1].data)")
    assert " ".join(shown) == chips


def test_boxes_are_told_apart_without_colour(open_report):
    page = open_report("small")
    dashes = "node => getComputedStyle(node).strokeDasharray"
    assert page.locator(".card .box.truth").first.evaluate(dashes) != "none"
    assert page.locator(".card .box.classification").first.evaluate(dashes) == "none"
    assert set(texts(page, ".card .tag-text")) == {"M", "C", "D", "B"}


def test_boxes_lie_in_pixels_of_the_original_image(open_report):
    page = open_report("small")
    assert page.locator(".card svg.picture").first.get_attribute("viewBox") == "0 0 640 480"
    box = page.locator(".card .box.classification").first
    assert [box.get_attribute(name) for name in ("x", "y", "width", "height")] == ["448", "310", "92", "108"]


def test_the_large_view_lists_boxes_and_is_left_by_escape(open_report):
    page = open_report("small")
    page.locator(".card").first.click()
    rows = page.locator("#viewer-boxes tbody tr").evaluate_all("rows => rows.map(row => row.innerText.split('\\t'))")
    assert [[cell.strip() for cell in row][1:] for row in rows[:4]] == [
        ["M missed", "WBC", "–", "–"],  # noqa: RUF001
        ["M missed", "Platelets", "–", "–"],  # noqa: RUF001
        ["C wrong class", "WBC", "0.920", "0.860"],
        ["D duplicate", "RBC", "0.600", "0.900"],
    ]
    assert len(rows) == 7
    page.keyboard.press("ArrowRight")
    assert text(page, "#viewer-title") == "<i>dark</i>.jpg"
    assert "Image 2 of 2. At threshold 0.40: nothing there 1." in text(page, "#viewer-about")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert text(page, "#viewer-title") == "seen.jpg"
    page.screenshot(path=ARTIFACTS / "report_small_large_view.png")
    page.keyboard.press("Escape")
    assert not page.locator("#viewer").is_visible()


def test_everything_is_reached_by_the_keyboard_alone(open_report):
    page = open_report("small")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    tab_to(page, "#gallery-threshold")
    page.keyboard.press("ArrowRight")
    assert text(page, "#gallery-threshold-value") == "0.41"
    tab_to(page, "#gallery-kind")
    page.keyboard.type("nothing")
    frame(page)
    assert cards(page) == {"<i>dark</i>.jpg"}
    tab_to(page, "#gallery-cards button")
    page.keyboard.press("Enter")
    assert page.locator("#viewer").is_visible()
    tab_to(page, "#viewer-threshold")
    page.keyboard.press("Home")
    frame(page)
    assert text(page, "#viewer-threshold-value") == "0.05"
    tab_to(page, "#viewer-boxes button")
    assert page.locator("#viewer .box.chosen").count() == 1
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.classList.contains('card')")
    tab_to(page, "#class-filter")
    page.keyboard.type("rbc")
    assert page.locator("#class-table tbody tr:visible").count() == 1
    tab_to(page, "#class-table th:nth-child(2) button")
    page.keyboard.press("Enter")
    assert page.locator("#class-table th").nth(1).get_attribute("aria-sort") == "descending"
    tab_to(page, "#curves-recall")
    page.keyboard.press("Home")
    assert text(page, "#curves-recall-value") == "0.00"
    tab_to(page, "#confusion-matrix td")
    page.keyboard.press("ArrowDown")
    assert "WBC" in text(page, "#confusion-reading")


def test_the_focus_is_visible(open_report):
    page = open_report("small")
    for selector in ("#gallery-threshold", "#gallery-cards button", "#class-table button", "#curves-chart ~ * input"):
        tab_to(page, selector)
        assert page.evaluate("getComputedStyle(document.activeElement).outlineWidth") == "3px"


def test_fields_and_buttons_have_names(open_report):
    page = open_report("small")
    nameless = """() => [...document.querySelectorAll("input, select, button")].filter(node =>
        !(node.labels && node.labels.length && node.labels[0].textContent.trim()) && !node.textContent.trim())
        .map(node => node.outerHTML)"""
    assert page.evaluate(nameless) == []


def test_curves_read_what_the_payload_says(open_report, payloads):
    page = open_report("small")
    page.select_option("#curves-class", "1")
    page.fill("#curves-recall", "20")
    points = [payloads["small"]["curves"]["precision"][1][step][20] for step in (0, 5, 8)]
    assert text(page, "#curves-reading") == (
        f"\u2068WBC\u2069, recall 0.20: precision {points[0]:.3f} at IoU 0.50, {points[1]:.3f} at IoU 0.75, "
        f"{points[2]:.3f} at IoU 0.90."
    )
    assert set(texts(page, "#curves-chart .label")) == {"IoU 0.50", "IoU 0.75", "IoU 0.90"}
    page.get_by_label("0.95").check()
    assert page.locator("#curves-chart .curve").count() == 4
    dashes = page.locator("#curves-chart .curve").evaluate_all(
        "nodes => nodes.map(n => n.getAttribute('stroke-dasharray'))"
    )
    assert len(set(dashes)) == 4


def test_the_matrix_tells_each_cell(open_report, payloads):
    page = open_report("small")
    counts = payloads["small"]["confusion"]["counts"]
    page.locator("#confusion-matrix td").nth(0).focus()
    page.keyboard.press("ArrowRight")
    said = text(page, "#confusion-reading")
    assert said.startswith(f"{counts[0][1]:,} of {sum(counts[0]):,} objects of \u2068RBC\u2069")
    assert said.endswith("taken for \u2068WBC\u2069.")


def test_the_comparison_says_whether_it_may_be_chance(open_report):
    page = open_report("small")
    assert text(page, "#comparison-verdict") == (
        "AP +0.031, 95% interval -0.002 to +0.064: may be chance (1,000 resamples of the images)."
    )
    assert texts(page, "#comparison-metrics tbody th") == list(METRICS)
    assert texts(page, "#comparison-classes tbody th") == ["WBC", "RBC", "Platelets"]


def test_images_that_changed_open_where_the_gallery_has_them(open_report):
    page = open_report("small")
    assert texts(page, "#comparison-flipped button") == ["seen.jpg"]
    page.click("#comparison-flipped button")
    assert text(page, "#viewer-title") == "seen.jpg"
