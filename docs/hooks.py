"""Hooks of MkDocs: pages that come from files outside ``docs/``, and tables that come from the code.

Nothing here is copied by hand. The start page is the README, the settings are the dataclasses of
`dino_detector.config`, and the Python API is what `dino_detector.__all__` names.
"""

from __future__ import annotations

import dataclasses
import posixpath
import re
import typing
from pathlib import Path
from typing import Any, Literal

import docstring_parser
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import dino_detector
from dino_detector.config import (
    DEBUG,
    LIGHTWEIGHT,
    Config,
    DownloadConfig,
    ImageSize,
    TilingConfig,
    commands,
    labelling,
)
from dino_detector.config.setting import Setting, settings_of

ROOT = Path(__file__).parents[1]
FROM_OUTSIDE = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "demo_backbone.md": "dino_detector/models/demo_backbone/README.md",
    **{f"examples/{name}.ipynb": f"examples/{name}.ipynb" for name in ("own_data", "several_detectors")},
}
"""pages and files of the site, and the files of the repository that they show"""
COMMANDS = {
    "train, evaluate": [item.default_factory for item in dataclasses.fields(Config)],
    "predict": [commands.PredictSettings, commands.InferenceSettings, TilingConfig],
    "suggest": [labelling.SuggestSettings, commands.InferenceSettings],
    "doubts": [labelling.DoubtSettings],
    "label": [labelling.LabelSettings, commands.InferenceSettings],
    "export": [commands.ExportSettings],
    "analyze": [commands.AnalyzeSettings],
    "data": [commands.DataCheckSettings],
    "convert": [commands.ConvertSettings],
    "recommend": [commands.RecommendSettings],
    "download": [commands.DownloadSettings, DownloadConfig],
    "demo": [commands.DemoSettings],
}
"""commands, and the dataclasses whose fields are their settings"""
KINDS = {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path", ImageSize: "size"}
"""types of settings, in words"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages whose text lies outside ``docs/``."""
    for page, source in FROM_OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at pages of the site, and fill in the generated tables."""
    source = FROM_OUTSIDE.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    markdown = site_links(markdown, posixpath.dirname(source))
    for marker, write in GENERATED.items():
        if marker in markdown:
            markdown = markdown.replace(marker, write())
    return markdown


def site_links(markdown: str, folder: str) -> str:
    """Turn links between files of the repository, relative to ``folder``, into links between pages."""
    pages = {source: page for page, source in FROM_OUTSIDE.items()}

    def site_link(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match[1]))
        return f"]({pages.get(target, target.removeprefix('docs/'))}{match[2] or ''})"

    return re.sub(r"\]\((?!https?://|#)([^)#\s]+)(#[^)]*)?\)", site_link, markdown)


def setting_tables() -> str:
    """Return the settings of every command as Markdown, a table for each group."""
    parts = []
    for command, groups in COMMANDS.items():
        parts.append(f"## {command}")
        for group in groups:
            if len(groups) == len(dataclasses.fields(Config)):
                heading = group.__name__.removesuffix("Config")
                parts.append(f"### {heading} {{ #{heading.lower()}-settings }}")
            parts += [docstring_parser.parse(group.__doc__).short_description, setting_table(group)]
    return "\n\n".join(parts)


def setting_table(group: type) -> str:
    """Return the fields of a dataclass as a Markdown table."""
    helps = {param.arg_name: param.description for param in docstring_parser.parse_from_object(group).params}
    rows = ["| setting | values | default | meaning |", "|---|---|---|---|"]
    for name, one in settings_of(group).items():
        flag = f"`{name.upper()}`" if one.positional else f"`--{name}`"
        default = "required" if one.required else value_text(one.default())
        meaning = " ".join(helps[name].split())
        if needed := one.field.metadata.get("effective_with"):
            other, *values = needed
            meaning += f". Needs `--{' '.join([other, ' or '.join(values)]).strip()}`"
        cells = (flag, values_text(one), default, meaning)
        rows.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    return "\n".join(rows)


def values_text(one: Setting) -> str:
    """Return the values that a setting allows, in words: its type and its range."""
    allowed = one.field.metadata.get("allowed")
    text = kind_text(one.kind) + (f", {allowed.wanted}" if allowed else "")
    return f"{text}, or null" if one.nullable else text


def kind_text(kind: Any) -> str:
    """Return a type in words."""
    if typing.get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in typing.get_args(kind))
    if typing.get_origin(kind) is list:
        (inner,) = typing.get_args(kind)
        return f"list of {kind_text(inner) if typing.get_origin(inner) is Literal else f'{KINDS[inner]}s'}"
    return "mapping" if typing.get_origin(kind) is dict else KINDS[kind]


def value_text(value: Any) -> str:
    """Return a value as a user writes it."""
    if value is None or isinstance(value, bool):
        return f"`{'null' if value is None else str(value).lower()}`"
    if isinstance(value, list):
        return f"`{','.join(map(str, value))}`" if value else ""
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{value}`" if value != {} else ""


def preset_tables() -> str:
    """Return the presets as a Markdown table each."""
    parts = []
    for name, preset in (("lightweight", LIGHTWEIGHT), ("debug", DEBUG)):
        rows = [f"| `{key}` | {value_text(value)} |" for key, value in preset.items()]
        parts.append("\n".join([f"| `--{name}` | value |", "|---|---|", *rows]))
    return "\n\n".join(parts)


def python_api() -> str:
    """Return what mkdocstrings needs to describe every public name."""
    public = [getattr(dino_detector, name) for name in dino_detector.__all__]
    return "\n\n".join(f"::: {one.__module__}.{one.__qualname__}" for one in public if hasattr(one, "__qualname__"))


GENERATED = {
    "<!-- settings -->": setting_tables,
    "<!-- presets -->": preset_tables,
    "<!-- python api -->": python_api,
}
