"""Keyword arguments: the settings, presets, rules and errors of the command line."""

from __future__ import annotations

import inspect
import pydoc
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dino_detector as dd
from dino_detector.api.calling import in_python, settings_from
from dino_detector.config import Config
from dino_detector.config.resolving import RUN_GROUPS
from dino_detector.config.setting import settings_of
from tools.write_keywords import FOLDER, FUNCTIONS, keywords_module

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epohcs": 3}, "epohcs is no setting; did you mean epochs?"),
        ({"epochs": "x"}, "epochs must be a whole number, not 'x'"),
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"debug_lr": 1e-3}, "debug_lr has no effect without debug; give both or neither"),
        ({"config": "absent.yaml"}, "absent.yaml: no such settings file; correct config"),
        ({"only_evaluate": True}, "only_evaluate is for the command line; call evaluate(data, checkpoint=...)"),
        ({"val": []}, "val is for data sets in memory; val_images and val_annotations name files"),
    ],
)
def test_a_wrong_argument_is_an_input_error_of_one_line(settings: dict[str, Any], message: str):
    with pytest.raises(dd.InputError) as caught:
        dd.train("absent", **settings)
    assert str(caught.value) == message
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dd.train("absent"), "absent"),
        (lambda: dd.train(7), "data must be a path, or a data set with items by index"),
        (lambda: dd.train([(0, 0)], val="folder", classes=["a"]), "val must be a data set in memory, as data is one"),
        (lambda: dd.train([(0, 0)], val=7, classes=["a"]), "val must be a data set with items by index"),
        (lambda: dd.train("absent", tile_size=512), "call evaluate(data, checkpoint=..., tile_size=512)"),
        (lambda: dd.evaluate("absent"), "evaluation needs checkpoint"),
        (lambda: dd.predict("absent.jpg", checkpoint="absent.pth"), "absent.jpg: no such picture or folder"),
        (lambda: dd.predict("absent.jpg"), "missing: checkpoint"),
        (lambda: dd.export(checkpoint="absent.pth", output="a.txt"), "a.txt"),
        (lambda: dd.analyze(), "give what to analyze: metrics_file FILE"),
        (lambda: dd.check_data("absent"), "absent: no such folder or annotation file"),
        (lambda: dd.Run.open("absent"), "absent: has no run"),
    ],
)
def test_each_function_raises_the_error_of_its_command(call: Any, message: str, tmp_path: Path, monkeypatch: Any):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(dd.InputError) as caught:
        call()
    assert message in str(caught.value)
    assert "--" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 20 GiB\nmore"), OSError(28, "no room")]
)
def test_a_limit_of_the_machine_is_an_input_error(error: Exception, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("dino_detector.api.report.evaluate_and_write", fail)
    with pytest.raises(dd.InputError, match=r"out of memory|disk is full") as caught:
        dd.evaluate("data", checkpoint="a.pth")
    assert "\n" not in str(caught.value)
    assert "--" not in str(caught.value)


def test_a_bug_keeps_its_type(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr("dino_detector.api.report.evaluate_and_write", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        dd.evaluate("data", checkpoint="a.pth")


def test_values_have_the_types_of_python(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("epochs: 7\nbatch_size: 2\n")
    given = {"image_size": (504, 896), "scale_range": (0.5, 2.0), "output_dir": tmp_path, "logger": "csv", "epochs": 9}
    config, names = settings_from((Config,), given, usage="", config=tmp_path / "a.yaml")
    assert config.data.image_size == (504, 896)
    assert config.augmentation.scale_range == [0.5, 2.0]
    assert config.training.output_dir == tmp_path
    assert config.logging.logger == ["csv"]
    assert (config.training.epochs, config.training.batch_size) == (9, 2), "an argument wins over the file"
    assert names == {*given, "batch_size"}


def test_presets_are_as_on_the_command_line():
    config, _ = settings_from((Config,), {"lightweight": True, "num_queries": 30}, usage="")
    assert (config.decoder.num_queries, config.decoder.hidden_dim) == (30, 192)


def test_messages_name_arguments_and_not_flags():
    assert in_python("give a larger --image_size, or --a-b; see --help") == (
        "give a larger image_size, or a-b; see help() of the function"
    )
    assert in_python("a -- b --- c x--y") == "a -- b --- c x--y"
    assert in_python("epochs must be a number or null, not 'x'; see --help") == (
        "epochs must be a number or None, not 'x'; see help() of the function"
    )


@pytest.mark.parametrize(
    "text",
    [
        "/dev/null: no such file",
        "/data/my null/--x/b.json: no such file",
        "null: no such file",
        "give a file other than a/null or null.json",
        "name must be a word, not '--epochs'",
        'the class "null" has no box',
        "evaluate runs in one process; dino-detector evaluate --distributed runs in several",
        "run python3 -m dino_detector train --epochs 3",
    ],
)
def test_values_paths_and_commands_in_messages_stay_as_they_are(text: str):
    assert in_python(text) == text
    assert in_python(f"{text}; change --epochs") == f"{text}; change epochs"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_types_of_keyword_arguments_are_current(function: str):
    written = (FOLDER / f"{function}.py").read_text()
    assert written == keywords_module(function), "run python -m tools.write_keywords"


def test_help_lists_every_setting_with_its_default():
    text = pydoc.plain(pydoc.render_doc(dd.train))
    for name in settings_of(*RUN_GROUPS):
        assert name in text
    assert "epochs: int = 50" in text
    assert "passes over the training images" in text
    parameters = inspect.signature(dd.train).parameters
    assert parameters["epochs"].default == 50
    assert parameters["epochs"].kind is inspect.Parameter.KEYWORD_ONLY


def test_the_package_shows_its_public_names():
    assert {"train", "evaluate", "predict", "export", "analyze", "check_data", "Detector", "Run"} <= set(dir(dd))
    assert all(getattr(dd, name) is not None for name in dir(dd))
    text = pydoc.plain(pydoc.render_doc(dd))
    assert "train(" in text
    assert "check_data(" in text


def test_importing_warns_of_nothing_and_the_module_of_the_command_does_not_hide_the_function():
    code = (
        "import dino_detector as dd, dino_detector.train\n"
        "from dino_detector.train import main\n"
        "try: dd.train('absent', epohcs=3)\n"
        "except dd.InputError as error: print(error)\n"
        "import inspect, pydoc\n"
        "print('epochs: int = 50' in pydoc.render_doc(dd.train), inspect.signature(dd.train).parameters['epochs'])\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("epohcs is no setting; did you mean epochs?\nTrue epochs: int = 50\n", "")
