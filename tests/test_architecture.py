"""Architecture: the direction of imports, the length of files, and lazily imported libraries."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import dino_detector

PACKAGE = Path(dino_detector.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

FLOORS = [
    {"errors", "plain_text", "terminal"},
    {"storage"},
    {"config", "structures"},
    {"matching"},
    {"losses"},
    {"download"},
    {"data"},
    {"models"},
    {"inference"},
    {"training", "validate", "analysis", "data_check"},
    {"labelling"},
]
"""Layers from the bottom up: a unit imports from its own or lower layers. All other units are commands, on top."""

HEAVY = {
    "torch",
    "torchvision",
    "transformers",
    "peft",
    "lightning",
    "supervision",
    "hotcoco",
    "scipy",
    "numpy",
}
LATE = {"supervision", "lightning", "hotcoco", "pycocotools", "matplotlib", "cv2", "tensorboard", "plotly"}

LINES_OF_FOLDER = {
    "commands": 1_730,
    "api": 1_970,
    "labelling": 1_610,
    "training": 3_620,
    "analysis": 2_550,
    "data_check": 1_700,
    "inference": 1_050,
    "models": 1_860,
    "data": 7_420,
    "download": 780,
    "structures": 630,
    "config": 1_170,
    "storage": 420,
    ".": 1_020,
}
"""most lines of Python in each folder, "." is the package's own; a budget rises together with a feature alone"""
LINES_OF_SCRIPTS_AND_STYLES = 1_780
"""most lines of JavaScript and CSS"""
LINES_OF_FILE = 400


def unit(path: Path) -> str:
    """Return the top-level module or subpackage that a file belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def floor(name: str) -> int:
    return next((level for level, units in enumerate(FLOORS) if name in units), len(FLOORS))


def for_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(node: ast.AST, *, inside_functions: bool) -> Iterator[str]:
    """Return the full names of the modules that code imports at run time."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"line {child.lineno}: imports are absolute"
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif for_type_checking(child) or (
            not inside_functions and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
        ):
            continue
        else:
            yield from imports(child, inside_functions=inside_functions)


def own_units(path: Path) -> set[str]:
    """Return the units of this package that a file imports, at its top or in a function."""
    names = (name.split(".") for name in imports(ast.parse(path.read_text()), inside_functions=True))
    return {parts[1] for parts in names if parts[0] == "dino_detector" and len(parts) > 1}


def test_the_arrows_are_read_at_all():
    assert {"config", "data", "structures", "errors", "models"} <= own_units(PACKAGE / "inference" / "detector.py")
    assert {"matching", "structures"} <= own_units(PACKAGE / "losses.py")


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.parent != PACKAGE or path.name != "__init__.py"], ids=str
)
def test_nothing_imports_from_above(path: Path):
    above = {name for name in own_units(path) if floor(name) > floor(unit(path))}
    assert not above, f"{unit(path)} imports {', '.join(above)}"


def test_units_do_not_import_each_other_in_circles():
    arrows: dict[str, set[str]] = {}
    for path in FILES:
        if unit(path) != "__init__":
            arrows.setdefault(unit(path), set()).update(own_units(path) - {unit(path)})
    TopologicalSorter(arrows).prepare()  # raises CycleError


def test_modules_do_not_import_each_other_in_circles():
    modules = {".".join(["dino_detector", *path.relative_to(PACKAGE).with_suffix("").parts]): path for path in FILES}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}
    arrows = {
        name: {
            imported if imported in modules else imported.rpartition(".")[0]
            for imported in imports(ast.parse(path.read_text()), inside_functions=True)
            if imported.startswith("dino_detector")
        }
        - {name}
        for name, path in modules.items()
    }
    assert "dino_detector.structures.targets" in arrows["dino_detector.losses"]
    TopologicalSorter(arrows).prepare()


@pytest.mark.parametrize(
    ("lower", "forbidden"),
    [
        ("data", {"models", "losses", "matching", "training", "validate", "analysis", "inference"}),
        ("models", {"inference", "losses", "matching", "training", "validate", "analysis"}),
        ("losses", {"data", "models", "training"}),
        ("matching", {"losses", "data", "models", "training"}),
    ],
)
def test_the_arrows_of_the_design_hold(lower: str, forbidden: set[str]):
    for path in FILES:
        if unit(path) == lower:
            assert not own_units(path) & forbidden, path


def test_there_are_no_junk_drawers():
    drawers = {"utils", "util", "helpers", "helper", "misc", "common", "tools"}
    assert not [path for path in FILES if path.stem in drawers or path.parent.name in drawers]


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_files_and_folders_stay_within_their_line_budget():
    folders = Counter(dict.fromkeys(LINES_OF_FOLDER, 0))
    for path in FILES:
        folders[unit(path) if path.parent != PACKAGE else "."] += lines(path)
    assert {path: lines(path) for path in FILES if lines(path) > LINES_OF_FILE} == {}
    assert {folder: count for folder, count in folders.items() if count > LINES_OF_FOLDER[folder]} == {}
    assets = [path for ending in ("js", "css") for path in PACKAGE.rglob(f"*.{ending}")]
    assert assets
    assert sum(map(lines, assets)) <= LINES_OF_SCRIPTS_AND_STYLES


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if unit(path) in {"models", "inference", "losses", "matching", "structures"}],
    ids=str,
)
def test_models_losses_and_matching_do_not_load_what_only_the_edges_need(path: Path):
    loaded = {name.split(".")[0] for name in imports(ast.parse(path.read_text()), inside_functions=False)}
    assert not loaded & LATE


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, dino_detector; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(run.stdout.split()) & (HEAVY | LATE)


@pytest.mark.parametrize("command", ["data", "recommend", "train", "evaluate", "predict", "analyze"])
def test_checks_of_a_command_line_and_of_data_load_no_torch(command: str):
    """A mistake is reported at once, and the data check takes no memory for libraries that it does not use."""
    modules = [
        f"dino_detector.commands.{command}",
        "dino_detector.data_check.report",
        "dino_detector.data_check.recommendation",
        "dino_detector.training.run_data",
    ]
    code = f"import sys, {', '.join(modules)}; print(*{{'torch', 'torchvision', 'lightning'}} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_only_commands_print(path: Path):
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    prints = any(isinstance(function, ast.Name) and function.id == "print" for function in calls)
    assert not prints or floor(unit(path)) == len(FLOORS)
