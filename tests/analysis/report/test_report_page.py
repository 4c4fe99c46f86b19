from __future__ import annotations

import base64
import copy
import hashlib
import itertools
import json
import re
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from report_payloads import HOSTILE, small_payload

from dino_detector.analysis.report.page import SCRIPTS, STYLES, page, write_report
from dino_detector.analysis.wording import DASH

VOID = {"meta", "link", "input", "img", "br", "hr"}


class Reader(HTMLParser):
    """Collect the elements of a page with their attributes and text, as a browser sees them; tags must be balanced."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((tuple(self._open), data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text_in(self, *path: str) -> list[str]:
        return [text for place, text in self.texts if place[-len(path) :] == path]


@pytest.fixture(scope="module")
def pages(reports: dict[str, Path]) -> dict[str, Reader]:
    return {name: Reader(path.read_text(encoding="utf-8")) for name, path in reports.items()}


def sentences(payload: dict[str, Any]) -> str:
    [lead] = re.findall(r'<p class="lead">(.*)</p>', page(payload))
    return re.sub("<.*?>", "", lead)


@pytest.mark.parametrize("name", ["hostile", "small", "metrics"])
def test_the_payload_comes_back_as_it_went_in(pages, payloads, name: str):
    [inside] = [text for text in pages[name].text_in("script") if text.startswith("{")]
    assert json.loads(inside) == payloads[name]


@pytest.mark.parametrize("name", ["hostile", "small", "metrics"])
def test_no_text_becomes_markup(pages, name: str):
    assert pages[name].all("script") == [{"type": "application/json", "id": "payload"}, {}]
    assert pages[name].all("img") == []
    assert not [attributes for _, attributes in pages[name].elements if any(key.startswith("on") for key in attributes)]


def test_hostile_texts_are_shown_as_they_are(pages, payloads):
    assert pages["hostile"].text_in("h1", "bdi") == [payloads["hostile"]["title"]]
    assert pages["hostile"].text_in("title") == [payloads["hostile"]["title"]]
    assert set(HOSTILE) <= set(pages["hostile"].text_in("th", "bdi"))


def test_neither_lines_nor_elements_can_end_within_the_json():
    payload = small_payload() | {"title": "</script><!--<script>&\u2028\u2029"}
    inside = page(payload).split('id="payload">')[1].split("</script>")[0]
    assert not set(inside) & set("<>&\u2028\u2029")
    assert json.loads(inside)["title"] == payload["title"]


def test_half_a_surrogate_pair_in_a_name_does_not_stop_the_report(tmp_path: Path):
    payload = small_payload()
    payload["gallery"]["images"][0]["file_name"] = "caf\udce9.jpg"  # how Python reads a name that is not UTF-8
    write_report(payload, tmp_path / "report.html")
    assert "caf?.jpg" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_policy_allows_this_style_and_this_script_alone(pages):
    reader = pages["hostile"]
    [policy] = [meta["content"] for meta in reader.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    [style] = reader.text_in("style")
    [script] = [text for text in reader.text_in("script") if not text.startswith("{")]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    assert policy.split("; ") == [
        "default-src 'none'",
        "img-src data:",
        f"style-src 'sha256-{hashes[0]}'",
        f"script-src 'sha256-{hashes[1]}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]


def test_nothing_is_fetched_and_the_paper_is_the_only_link_out(pages):
    reader = pages["hostile"]
    addresses = [attributes[key] for _, attributes in reader.elements for key in ("src", "href") if key in attributes]
    assert [address for address in addresses if not address.startswith(("#", "data:"))] == [
        "https://arxiv.org/abs/2008.08115"
    ]
    assert not re.search(r"url\(|@import", reader.text_in("style")[0])
    script = next(text for text in reader.text_in("script") if not text.startswith("{"))
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|import|eval|Function|innerHTML)\b", script)


def test_the_page_of_many_images_stays_under_ten_megabytes(reports):
    assert reports["hostile"].stat().st_size < 10e6


def test_a_page_without_pictures_is_small(reports):
    assert reports["metrics"].stat().st_size < 100e3


def test_every_asset_is_in_the_page_once():
    folder = resources.files("dino_detector.analysis.report").joinpath("assets")
    assert sorted(entry.name for entry in folder.iterdir()) == sorted(["page.html", *STYLES, *SCRIPTS])


def test_a_report_is_whole_or_absent(tmp_path: Path):
    payload = small_payload()
    payload["metrics"]["AP"] = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        write_report(payload, tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_ids_are_unique_and_what_is_referred_to_exists(pages):
    ids = [attributes["id"] for _, attributes in pages["small"].elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in pages["small"].elements:
        for key in ("aria-labelledby", "for"):
            assert attributes.get(key, ids[0]) in ids


def test_headings_go_down_one_level_at_a_time(pages):
    levels = [int(tag[1]) for tag, _ in pages["small"].elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_the_numbers_are_there_without_scripts(pages, payloads):
    reader, payload = pages["small"], payloads["small"]
    assert reader.text_in("strong") == [f"{payload['metrics']['AP']:.3f}"]
    shown = dict(zip(reader.text_in("dt"), reader.text_in("dd", "b"), strict=True))
    assert shown == {name: DASH if value is None else f"{value:.3f}" for name, value in payload["metrics"].items()}
    assert shown["APs"] == DASH


def test_the_class_with_the_lowest_ap_stands_first_and_those_without_any_last(pages, payloads):
    names = pages["hostile"].text_in("tr", "th", "bdi")
    rows = {row["name"]: row["AP"] for row in payloads["hostile"]["classes"]}
    assert names[-1] == "never there"
    assert rows[names[0]] == min(AP for AP in rows.values() if AP is not None)


def test_columns_that_have_no_numbers_are_left_out(pages):
    heads = [head.replace("\u00ad", "") for head in pages["metrics"].text_in("thead", "tr", "th")]
    assert heads == ["class", "AP", "AP50", "boxes"]
    assert len(pages["small"].text_in("thead", "tr", "th")) == 13


def test_sentences_say_what_costs_most():
    assert sentences(small_payload()).startswith("Missed objects cost most: 0.112 of AP50, then poor boxes: 0.062.")


def test_a_kind_that_alone_costs_anything_has_no_runner_up():
    payload = small_payload()
    for kind in payload["errors"]["types"]:
        kind["cost"] = 0.25 if kind["key"] == "duplicate" else 0.0
    assert sentences(payload).startswith("Duplicates cost most: 0.250 of AP50. The class")


def test_sentences_name_the_class_furthest_behind():
    payload = small_payload()
    for row, AP in zip(payload["classes"], (0.5, None, 0.25), strict=True):
        row |= {"AP": AP, "boxes": 1}
    assert sentences(payload).endswith("The class Platelets has the lowest AP: 0.250 on 1 object.")


def test_without_ground_truth_nothing_is_said_to_cost_anything():
    payload = copy.deepcopy(small_payload())
    payload["errors"]["AP50"] = None
    for row in (*payload["errors"]["types"], *payload["errors"]["special"]):
        row["cost"] = None
    for row in payload["classes"]:
        row["AP"] = None
    assert sentences(payload) == "There is no ground truth to measure against."


def test_what_is_missing_is_said_and_how_to_get_it(pages):
    notes = [text for place, text in pages["metrics"].texts if place[-2:] == ("main", "p")]
    assert notes == [
        "Not in this report: kinds of mistakes, worst images, precision and recall, confusions, calibration, scores. "
        "They need detections, annotations and at least one annotated box; see --help.",
        "There is no comparison: a baseline run is needed for this; see --help.",
    ]
    assert [text for place, text in pages["small"].texts if place[-2:] == ("main", "p")] == []
