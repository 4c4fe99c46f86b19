"""Writes the types of keyword arguments, which editors complete and type checkers check, from the settings.

``python -m tools.write_keywords`` replaces the modules of ``dino_detector/api/keywords/``; a test compares them with
the settings.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection
from pathlib import Path

import dino_detector
from dino_detector.api.calling import in_python, kind_text, texts_of
from dino_detector.commands.evaluate import EVALUATION_HELP
from dino_detector.config import Config, TilingConfig
from dino_detector.config.commands import (
    AnalyzeSettings,
    DataCheckSettings,
    ExportSettings,
    InferenceSettings,
    PredictSettings,
)
from dino_detector.config.labelling import DoubtSettings, LabelSettings, SuggestSettings
from dino_detector.config.resolving import parts_of
from dino_detector.config.setting import settings_of

FOLDER = Path(dino_detector.__file__).parent / "api" / "keywords"
FUNCTIONS: dict[str, tuple[tuple[type, ...], Collection[str] | None, Collection[str]]] = {
    "train": ((Config,), None, ("data", "only_evaluate")),
    "evaluate": ((Config,), EVALUATION_HELP, ("data",)),
    "predict": ((PredictSettings, InferenceSettings, TilingConfig), None, ("image_or_folder",)),
    "check_data": ((DataCheckSettings,), None, ("data",)),
    "export": ((ExportSettings,), None, ()),
    "suggest": ((SuggestSettings, InferenceSettings), None, ("folder",)),
    "doubts": ((DoubtSettings,), None, ("data",)),
    "label": ((LabelSettings, InferenceSettings), None, ("data_or_folder",)),
    "analyze": ((AnalyzeSettings,), None, ("data",)),
}
"""for each function: dataclasses of its settings, the settings that it reads (None: all), and its own parameters"""
IMPORTS = {
    "collections.abc": ("Mapping", "Sequence"),
    "typing": ("Any", "Literal", "Required", "TypedDict"),
    "dino_detector.api.keywords": ("PathLike", "Size"),
}
"""names that the types of settings use"""


def keywords_module(function: str) -> str:
    """Return the text of the module with the keyword arguments of a function."""
    groups, shown, own = FUNCTIONS[function]
    name = "".join(word.title() for word in function.split("_"))
    lines = [f"class {name}Keywords(TypedDict, total=False):", f'    """Settings of `{function}`."""', ""]
    for group in parts_of(groups):
        helps = texts_of(group)
        for setting_name, setting in settings_of(group).items():
            if setting_name in own or (shown is not None and setting_name not in shown):
                continue
            kind = kind_text(setting)
            lines.append(f"    {setting_name}: {f'Required[{kind}]' if setting.required else kind}")
            text = f'"""{in_python(helps[setting_name])}"""'
            lines += textwrap.wrap(text, 116, initial_indent="    ", subsequent_indent="    ")
    body = "\n".join(lines)
    head = [f'"""Keyword arguments of `{function}`; ``python -m tools.write_keywords`` writes this file."""', ""]
    head += ["from __future__ import annotations", ""]
    for module, names in IMPORTS.items():
        if used := [name for name in names if re.search(rf": .*\b{name}\b|\({name}\b", body)]:
            head.append(f"from {module} import {', '.join(used)}")
            head += [""] if module == "typing" else []
    return "\n".join(head) + f"\n\n\n{body}\n"


if __name__ == "__main__":
    for one in FUNCTIONS:
        (FOLDER / f"{one}.py").write_text(keywords_module(one), encoding="utf-8")
