"""Settings for a data set and a machine, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dino_detector.config.yaml_text import value_text
from dino_detector.data.coco.findings import STOPS, Finding, ranked
from dino_detector.data.layouts import find_sources
from dino_detector.data_check.check import Check, check, load
from dino_detector.data_check.facts import Facts, Hardware, find_hardware
from dino_detector.data_check.patches import PATCH, PatchGrid
from dino_detector.data_check.rules import CONFIG, MOST_QUERIES, PROCESSOR, Choice, choose, grid_of
from dino_detector.errors import InputError
from dino_detector.plain_text import WIDTH, columns, counted, listed, percent, plain, wrapped

FIRST_LINE = "# Written by dino-detector recommend"
"""start of every file of a recommendation; a file without it is never replaced"""
MANY_SMALL = 0.2
"""share of the boxes that are still below a patch at the chosen size, from which tiles are advised"""


@dataclass(frozen=True, repr=False)
class Recommendation:
    """Settings for a data set and a machine.

    ``print`` shows them as a table, and ``yaml`` is the text of a settings file.

    Attributes:
        data: the folder or file of the data set.
        summary: the numbers of the data and the machine in one line.
        choices: each setting with its value and its reason.
        hints: what to do besides, such as mistakes to correct before training.
    """

    data: Path
    summary: str
    choices: tuple[Choice, ...]
    hints: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """The settings by name, with ``data``, in the types of YAML."""
        return {"data": str(self.data)} | {choice.name: choice.value for choice in self.choices}

    @property
    def reasons(self) -> dict[str, str]:
        """The reason of each choice by setting."""
        return {choice.name: choice.reason for choice in self.choices}

    @property
    def yaml(self) -> str:
        """The settings as YAML for ``--config``, with the reasons as comments."""
        lines = [f"{FIRST_LINE} for {self.summary}."]
        lines += ["# Pages in brackets are in docs/. Other settings keep their defaults: dino-detector train --help."]
        lines += [f"# Note: {hint}" for hint in self.hints]
        lines += ["", f"data: {value_text(str(self.data))}"]
        for choice in self.choices:
            lines += ["", f"# {choice.reason}", f"{choice.name}: {value_text(choice.value)}"]
        return "\n".join([*lines, ""])

    def __str__(self) -> str:
        cells = [(name, value_text(value)) for name, value, _ in self.choices]
        names, values = (max(map(columns, column)) for column in zip(*cells, strict=True))
        lines = [*wrapped(f"For {self.summary}:"), ""]
        for (name, value), choice in zip(cells, self.choices, strict=True):
            first = f"{name:{names}}  {value:{values}}  "
            lines += wrapped(choice.reason, first=first, then=" " * len(first))
        for number, hint in enumerate(self.hints):
            lines += ([] if number else [""]) + wrapped(hint, first="- ", then="  ")
        return "\n".join(lines)

    __repr__ = __str__


def recommend(data: str | Path, *, device: str = "auto", hardware: Hardware | None = None) -> Recommendation:
    """Choose settings for a data set and a machine, from the statistics of the data check.

    No image is decoded, and no file is written.

    Args:
        data: folder or file of a data set, in the format of any labelling tool.
        device: device of the training, as the setting ``device`` names it.
        hardware: the machine of the training; None is this machine.

    Raises:
        InputError: there is no training split or no box to train on, or the machine lacks the device.
    """
    data = Path(data)
    sources = find_sources(data)
    loaded = load(sources, data if data.is_dir() else data.parent, [None] * len(sources))
    grid = PatchGrid(CONFIG.data.image_size, CONFIG.data.resize_mode)
    checked = check(loaded, grid=grid, num_queries=MOST_QUERIES, advance=None)
    facts = _facts(data, checked)
    hardware = find_hardware(device) if hardware is None else hardware
    choices = [] if device == "auto" else [Choice("device", device, "the device that you gave")]
    choices += choose(facts, hardware)
    boxes, classes = counted(int(facts.train.trained.sum()), "box", "boxes"), counted(facts.classes, "class", "classes")
    numbers = f"{facts.train.format}: {counted(facts.images, 'training image')} with {boxes} of {classes}"
    summary = f"{plain(data, WIDTH)} ({numbers}) and this machine ({hardware})"
    hints = _hints(checked, facts, hardware, {choice.name: choice.value for choice in choices})
    return Recommendation(data, summary, tuple(choices), tuple(hints))


def _facts(data: Path, checked: Check) -> Facts:
    """Return the facts of the splits; raise `InputError` without a training split, or without a usable box in it."""
    splits = {split.name: split for split in checked.splits}
    only = len(splits) == 1 and not splits.keys() & {"val", "test"}
    train = next(iter(splits.values())) if only else splits.get("train")
    if train is None:
        unreadable = [finding for finding in checked.findings if finding.kind == "file_unreadable"]
        if unreadable:
            raise InputError(unreadable[0].note)
        lacks = "but no split train; name one folder or file train"
        raise InputError(f"{data}: has {listed(list(splits))}, {lacks}")
    labelled = [split for split in checked.splits if split.labelled and split.name != "test"]
    unreadable = {finding.split for finding in checked.findings if finding.kind == "file_unreadable"}
    facts = Facts(train, labelled, unreadable.union(splits))
    if not len(facts.sides(checked.grid)):
        raise InputError(f"{train.path}: has no box to train on; dino-detector data {data} names the mistakes")
    return facts


def _hints(checked: Check, facts: Facts, hardware: Hardware, chosen: dict[str, Any]) -> list[str]:
    """Return advice that no setting of a training run follows."""
    hints = []
    stops = [problem.kind.title for problem in ranked(checked.findings) if any(map(_stops, problem.findings))]
    if stops:
        hints.append(f"Training does not start before this is corrected: {'; '.join(stops)}. See dino-detector data.")
    if "test" in facts.names and "val" not in facts.names:
        text = "Training does not measure the detector, because there is no split val; dino-detector evaluate takes the"
        hints.append(f"{text} split test.")
    grid = grid_of(chosen)
    share = facts.share_below_patch(grid)
    if share >= MANY_SMALL:
        tile = 10 * max(1, round(facts.small_side * max(grid.image_size) / PATCH / 10))
        text = f"{percent(share)} of the boxes stay below a patch: cut the pictures into tiles of about {tile} pixels "
        hints.append(f"{text}before training, and detect with --tile_size {tile} (detect_small_objects.md).")
    if facts.most_boxes > chosen["num_queries"]:
        text = f"An image has {facts.most_boxes:,} objects, and {chosen['num_queries']} queries find no more than that"
        hints.append(f"{text} number: cut such pictures into tiles before training.")
    if hardware.device == "cpu" and facts.images * PROCESSOR.epochs > PROCESSOR.images:
        hints.append(f"{facts.images:,} images are many for a processor: train on a GPU, or on a part of the images.")
    return hints


def _stops(finding: Finding) -> bool:
    """Return whether a finding keeps training from starting; training reads the training and validation split."""
    return finding.effect == STOPS and finding.split != "test"
