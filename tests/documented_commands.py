"""The command lines of the pages, and a small selection that covers every program and flag."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dino_detector import cli
from dino_detector.commands import analyze, download, train

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LABELLING = ("suggest", "doubts", "label")
PROGRAMS = {
    ("python3", "-m", "dino_detector.train"): train.main,
    ("python3", "download_coco.py"): download.main,
    ("python3", "analyze_results.py"): analyze.main,
    **{
        ("dino-detector", name): cli.main
        for name in ("data", "convert", "recommend", "train", "evaluate", "predict", "export", "analyze", *LABELLING)
    },
}
"""documented programs, and the functions that run them"""


class Command(NamedTuple):
    """A documented command: the page, and its words."""

    page: str
    words: tuple[str, ...]

    @property
    def program(self) -> tuple[str, ...]:
        return self.words[: 3 if self.words[1:2] == ("-m",) else 2]

    @property
    def name(self) -> str:
        """Return the matching command of ``dino-detector``."""
        names = {"dino_detector.train": "train", "download_coco.py": "download", "analyze_results.py": "analyze"}
        return names.get(self.program[-1], self.program[-1])

    @property
    def resumes(self) -> bool:
        return self.has("--checkpoint") and not self.has("--skip_checkpoint_load") and not self.has("--only_evaluate")

    @property
    def uses(self) -> set[tuple[str, ...]]:
        """Return the program with each of its flags; resuming from a checkpoint differs from evaluating it."""
        flags = [word for word in self.words if word.startswith("--")] or [""]
        return {(*self.program, flag, str(self.resumes and flag == "--checkpoint")) for flag in flags}

    def value(self, flag: str) -> str | None:
        """Return the word after a flag."""
        return self.words[self.words.index(flag) + 1] if flag in self.words else None

    def has(self, *flags: str) -> bool:
        return all(flag in self.words for flag in flags)

    def run(self, extra: Sequence[str] = ()) -> int:
        """Run the command in this process, with more flags, and return the exit code."""
        before = 1 if self.words[0] == "dino-detector" else len(self.program)
        return PROGRAMS[self.program]([*self.words[before:], *extra])


def documented() -> Iterator[Command]:
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), flags=re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if words := shlex.split(line, comments=True):
                    yield Command(page.name, tuple(words))


COMMANDS = list(documented())
OURS = list({command.words: command for command in COMMANDS if command.program in PROGRAMS}.values())


def one_of_each_kind(commands: Sequence[Command]) -> Iterator[Command]:
    """Yield a few commands that together use every program with all its documented flags."""
    left = set().union(*(command.uses for command in commands))
    while left:
        command = max(commands, key=lambda command: len(command.uses & left))
        left -= command.uses
        yield command


RUN = list(one_of_each_kind(OURS))
