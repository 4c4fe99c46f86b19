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
from types import NoneType, UnionType
from typing import Any, Literal

import docstring_parser
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import dino_detector
from dino_detector import config as settings
from dino_detector.config import Config, ImageSize

ROOT = Path(__file__).parents[1]
FROM_OUTSIDE = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "demo_backbone.md": "dino_detector/models/demo_backbone/README.md",
}
"""pages of the site, and the files of the repository that they show"""
COMMANDS = {
    "train, evaluate": [item.default_factory for item in dataclasses.fields(Config)],
    "predict": [settings.PredictSettings, settings.TilingConfig],
    "export": [settings.ExportSettings],
    "analyze": [settings.AnalyzeSettings],
    "data": [settings.DataCheckSettings],
    "download": [settings.DownloadSettings, settings.DownloadConfig],
    "demo": [settings.DemoSettings],
}
"""commands, and the dataclasses whose fields are their settings"""
KINDS = {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path", ImageSize: "size"}


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
            summary = docstring_parser.parse(group.__doc__).short_description
            heading = group.__name__.removesuffix("Config").removesuffix("Settings")
            parts.append(f"### {heading} {{ #{command.split(',')[0]}-{heading.lower()} }}" if len(groups) > 1 else "")
            parts += [summary, setting_table(group)]
    return "\n\n".join(part for part in parts if part)


def setting_table(group: type) -> str:
    """Return the fields of a dataclass as a Markdown table."""
    hints, helps = typing.get_type_hints(group), field_helps(group)
    rows = ["| setting | values | default | meaning |", "|---|---|---|---|"]
    for item in dataclasses.fields(group):
        cells = (flag(item), values_text(hints[item.name]), default_text(item), helps[item.name])
        rows.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    return "\n".join(rows)


def field_helps(group: type) -> dict[str, str]:
    """Return what each field means: the help in its metadata, or the docstring below it."""
    documented = docstring_parser.parse_from_object(group).params
    helps = {param.arg_name: param.description or "" for param in documented}
    helps |= {item.name: item.metadata["help"] for item in dataclasses.fields(group) if "help" in item.metadata}
    return {name: " ".join(text.split()) for name, text in helps.items()}


def flag(item: dataclasses.Field) -> str:
    """Return the setting as a user types it: a flag, or the name of what needs no flag."""
    positional = not item.kw_only and default_text(item) == "required"
    return f"`{item.name.upper()}`" if positional else f"`--{item.name}`"


def default_text(item: dataclasses.Field) -> str:
    """Return the default as a user would write it."""
    value = item.default_factory() if item.default_factory is not dataclasses.MISSING else item.default
    if value is dataclasses.MISSING:
        return "required"
    if isinstance(value, list):
        return f"`{','.join(str(one) for one in value)}`" if value else ""
    if value is None or isinstance(value, bool):
        return f"`{'null' if value is None else str(value).lower()}`"
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{value}`" if value != {} else ""


def values_text(hint: Any) -> str:
    """Return the values that a type allows, in words."""
    if isinstance(hint, UnionType):
        return " or ".join("null" if kind is NoneType else values_text(kind) for kind in typing.get_args(hint))
    if typing.get_origin(hint) is Literal:
        return ", ".join(f"`{choice}`" for choice in typing.get_args(hint))
    if typing.get_origin(hint) is list:
        (kind,) = typing.get_args(hint)
        return f"list of {values_text(kind) if typing.get_origin(kind) is Literal else f'{KINDS[kind]}s'}"
    return "mapping" if typing.get_origin(hint) is dict else KINDS[hint]


def preset_tables() -> str:
    """Return the presets as a Markdown table each."""
    parts = []
    for name, preset in (("lightweight", settings.LIGHTWEIGHT), ("debug", settings.DEBUG)):
        rows = [f"| `{key}` | `{default(value)}` |" for key, value in preset.items()]
        parts.append("\n".join([f"| `--{name}` | value |", "|---|---|", *rows]))
    return "\n\n".join(parts)


def default(value: Any) -> str:
    """Return a value of a preset as a user would write it."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value).lower()


def python_api() -> str:
    """Return what mkdocstrings needs to describe every public name."""
    public = [getattr(dino_detector, name) for name in dino_detector.__all__]
    return "\n\n".join(f"::: {one.__module__}.{one.__qualname__}" for one in public if hasattr(one, "__qualname__"))


GENERATED = {
    "<!-- settings -->": setting_tables,
    "<!-- presets -->": preset_tables,
    "<!-- python api -->": python_api,
}
