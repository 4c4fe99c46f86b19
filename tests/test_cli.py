from __future__ import annotations

import json
import runpy
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import dino_detector
from dino_detector import cli
from dino_detector.commands.frame import run_command
from dino_detector.data import demo_set
from dino_detector.errors import InputError, StoppedByUser

DATA = ["--train_images", "a", "--train_annotations", "b", "--val_images", "c", "--val_annotations", "d"]


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


PREDICT = "dino-detector predict IMAGE_OR_FOLDER --checkpoint PATH [--SETTING VALUE ...]"
MISTAKES = [
    (
        [],
        "give a command: data, convert, recommend, train, evaluate, predict, suggest, doubts, label, export, analyze, "
        "download, demo; see dino-detector --help",
    ),
    (["trian"], "unknown command trian; did you mean train?"),
    (["--hlp"], "unknown flag --hlp; did you mean --help?"),
    (["train", "--epchs", "3"], "unknown flag --epchs; did you mean --epochs?"),
    (["train", "--config", "none.yaml"], "none.yaml: no such settings file; correct --config"),
    (
        ["train"],
        "training needs --train_images and --train_annotations, or --download_train_data to fetch COCO 2017 to "
        "coco_data; see --help",
    ),
    (["train", *DATA[:6]], "--val_images needs --val_annotations; see --help"),
    (["train", *DATA[2:]], "--train_annotations needs --train_images; see --help"),
    (
        ["train", *DATA[:4], "--download_train_data"],
        "--download_train_data fetches COCO 2017 and uses it, so it excludes --train_images; leave one out",
    ),
    (
        ["train", "--testdev_images", "t", "--download_test_data", *DATA],
        "--download_test_data fetches COCO 2017 and uses it, so it excludes --testdev_images; leave one out",
    ),
    (
        ["train", *DATA, "--test_mini"],
        "--test_mini needs --testdev_images, or --download_test_data; add one or leave it out",
    ),
    (
        ["train", *DATA, "--debug_samples", "5"],
        "--debug_samples has no effect without --debug; give both or neither",
    ),
    (
        ["train", *DATA, "--debug", "--mosaic_probability", "0.5"],
        "--mosaic_probability has no effect without --augmentation; give both or neither",
    ),
    (
        ["train", *DATA, "--scale_range", "2,0.1"],
        "--scale_range must be two factors above 0 and at most 100, the smaller first, not [2.0, 0.1]",
    ),
    (
        ["train", *DATA, "--early_stopping_min_delta", "0.01"],
        "--early_stopping_min_delta has no effect without --early_stopping_patience; give both or neither",
    ),
    (
        ["train", *DATA, "--ema_warmup", "100", "--ema_decay", "0"],
        "--ema_warmup has no effect without --ema_decay; give both or neither",
    ),
    (
        ["train", *DATA, "--use_dora", "--train_backbone", "full"],
        "--use_dora has no effect without --train_backbone lora; give both or neither",
    ),
    (
        ["train", *DATA, "--layer_decay", "0.8", "--train_backbone", "none"],
        "--layer_decay has no effect without --train_backbone lora or full; give both or neither",
    ),
    (
        ["train", *DATA, "--debug", "--debug_lr", "1", "--learning_rate", "2"],
        "--debug_lr and --learning_rate both give the learning rate of a debug run; leave one out",
    ),
    (
        ["train", *DATA, "--debug", "--use_coco_mini"],
        "--debug and use_coco_mini both choose the training images; give one of them",
    ),
    (["train", "--only_evaluate", *DATA], "evaluation needs --checkpoint; see --help"),
    (
        ["train", "--only_evaluate", *DATA, "--checkpoint", "x", "--skip_checkpoint_load"],
        "evaluation needs --checkpoint and no --skip_checkpoint_load; see --help",
    ),
    (
        ["evaluate", "--checkpoint", "x"],
        "evaluation needs --val_images and --val_annotations, or --testdev_images, or --download_val_data or "
        "--download_test_data to fetch COCO 2017; see --help",
    ),
    (
        ["evaluate", "--checkpoint", "x", "--download_train_data"],
        "--download_train_data has no use in an evaluation; leave it out",
    ),
    (["evaluate", "--epchs"], "unknown flag --epchs; did you mean --epochs?"),
    (["predict"], f"missing: image_or_folder, checkpoint; usage: {PREDICT}"),
    (["predict", "a.jpg"], f"missing: checkpoint; usage: {PREDICT}"),
    (["predict", "a.jpg", "--checkpiont", "x"], "unknown flag --checkpiont; did you mean --checkpoint?"),
    (["predict", "none", "--checkpoint", "x"], "none: no such picture or folder; correct the path"),
    (
        ["predict", "none", "--checkpoint", "x", "--threshold", "2"],
        "--threshold must be between 0 and 1, not 2.0",
    ),
    (["predict", "none", "--checkpoint", "x", "--batch_size", "0"], "--batch_size must be at least 1, not 0"),
    (["export"], "missing: checkpoint; usage: dino-detector export --checkpoint PATH [--SETTING VALUE ...]"),
    (["demo", "--output_dri", "x"], "unknown flag --output_dri; did you mean --output_dir?"),
    (["demo", "x"], "unexpected 'x'; settings are given as --name value"),
]


@pytest.mark.parametrize(("argv", "message"), MISTAKES)
def test_a_mistake_is_one_line_and_code_2(
    argv: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(argv) == 2
    captured = capsys.readouterr()
    assert captured.err == f"error: {message}\n"
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_mistakes_and_help_import_no_torch() -> None:
    commands = [argv for argv, _ in MISTAKES]
    code = (
        "import sys, contextlib, io\n"
        "import dino_detector\n"
        "assert not {'torch', 'yaml'} & sys.modules.keys(), 'import dino_detector'\n"
        "from dino_detector import Config, cli\n"
        f"for argv in {commands!r}:\n"
        "    with contextlib.redirect_stderr(io.StringIO()):\n"
        "        assert cli.main(argv) == 2, argv\n"
        "for argv in ([], ['train'], ['evaluate'], ['predict'], ['export'], ['analyze'], ['download'], ['demo']):\n"
        "    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "        cli.main([*argv, '--help'])\n"
        "heavy = {'torch', 'torchvision', 'lightning', 'transformers', 'supervision', 'hotcoco'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
    )
    run_python(code)


def test_each_entry_point_gives_the_same_error() -> None:
    for module, argv in (("dino_detector.train", []), ("dino_detector", ["train"]), ("dino_detector.cli", ["train"])):
        done = subprocess.run(
            [sys.executable, "-m", module, *argv, "--epochs", "ten"], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "error: --epochs must be a whole number, not 'ten'\n"


def test_help_names_every_command_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in ("train", "evaluate", "predict", "export", "analyze", "download", "demo"):
        assert any(line.split()[:1] == [name] and len(line.split()) > 3 for line in lines)


def test_help_of_a_command_names_it_as_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("train", "evaluate", "predict", "export", "analyze", "download", "demo"):
        with pytest.raises(SystemExit) as stop:
            cli.main([name, "--help"])
        assert stop.value.code == 0
        assert capsys.readouterr().out.startswith(f"usage: dino-detector {name} ")
    monkeypatch.setattr(sys, "argv", ["train.py", "--help"])
    with pytest.raises(SystemExit):
        runpy.run_module("dino_detector.train", run_name="__main__")
    assert capsys.readouterr().out.startswith("usage: python3 -m dino_detector.train ")


def test_help_of_evaluate_shows_what_evaluation_reads(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["evaluate", "--help"])
    text = capsys.readouterr().out
    for flag in ("--checkpoint", "--val_images", "--val_annotations", "--batch_size", "--device", "--dino_model"):
        assert flag in text
    for flag in ("--epochs", "--learning_rate", "--only_evaluate", "--num_queries"):
        assert flag not in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"dino-detector {dino_detector.__version__}\n"


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Detektor"):
        _ = dino_detector.Detektor


RESULTS = [{"image_id": 7, "category_id": 90, "bbox": [1.0, 2.0, 3.0, 4.0], "score": 0.5}]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the arguments of `fit` and `evaluate` by command; both are replaced by stubs."""
    import dino_detector.training.evaluation as evaluations
    import dino_detector.training.fit as runs
    from dino_detector.training.run_data import RunData, SplitData

    calls: dict[str, Any] = {}

    class Numbers:
        def write(self, path: Path, **extra: Any) -> None:
            calls["written"] = path, extra

    def fit(config: Any, **_: Any) -> Numbers:
        calls["fit"] = config
        return Numbers()

    def evaluate(config: Any, *, dino_model: str | None, **_: Any) -> evaluations.Evaluation:
        calls["evaluate"] = config, dino_model
        val = SplitData(Path("images"), SimpleNamespace(path=Path("val.json")), "val")
        return evaluations.Evaluation(config, RunData(None, val, None), Numbers(), RESULTS, [], ())

    monkeypatch.setattr(runs, "fit", fit)
    monkeypatch.setattr(evaluations, "evaluate", evaluate)
    monkeypatch.setattr("dino_detector.analysis.tables.metrics_table", lambda metrics: "TABLE")
    monkeypatch.setattr("dino_detector.commands.frame.configure_logging", lambda: None)
    return calls


def test_training_gets_the_settings_and_prints_the_metrics(
    seen: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", *DATA, "--epochs", "3"]) == 0
    config = seen.pop("fit")
    assert not seen
    assert (config.training.epochs, config.data.val_annotations) == (3, Path("d"))
    assert capsys.readouterr().out == "\nthe last evaluation:\nTABLE\n"


@pytest.mark.parametrize("command", [["train", "--only_evaluate"], ["evaluate"]])
def test_evaluation_uses_the_base_of_the_checkpoint_unless_one_is_given(
    command: list[str], seen: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers, predictions = tmp_path / "val_metrics.json", tmp_path / "val_predictions.json"
    needed = ["--checkpoint", "x.pth", *DATA[4:], "--output_dir", str(tmp_path)]
    assert cli.main([*command, *needed]) == 0
    config, dino_model = seen["evaluate"]
    assert (config.training.checkpoint, dino_model) == (Path("x.pth"), None)
    data = {"val_images": str(Path("images").resolve()), "val_annotations": str(Path("val.json").resolve())}
    assert seen["written"] == (
        numbers,
        {"checkpoint": "x.pth", "precision": "auto", "predictions": "val_predictions.json"} | data,
    )
    assert json.loads(predictions.read_text()) == RESULTS
    assert capsys.readouterr().out == f"TABLE\n\nThe numbers are in {numbers}, the detections in {predictions}\n"
    assert cli.main([*command, *needed, "--dino_model", "base"]) == 0
    assert seen["evaluate"][1] == "base"
    assert "fit" not in seen


@pytest.mark.parametrize("command", [["train", *DATA], ["demo"]])
def test_a_stopped_run_says_how_to_go_on(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dino_detector.commands.frame.configure_logging", lambda: None)

    def stop(*_: Any, **__: Any) -> None:
        raise StoppedByUser("stopped; go on with --checkpoint last.pth")

    monkeypatch.setattr("dino_detector.training.fit.fit", stop)
    few = partial(demo_set.write_demo_set, train_images=2, val_images=1)
    monkeypatch.setattr(demo_set, "write_demo_set", few)
    assert cli.main([*command, "--output_dir", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "stopped; go on with --checkpoint last.pth\n"


def raising(error: BaseException) -> Any:
    def command() -> None:
        raise error

    return command


def test_an_input_error_is_one_line_whatever_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(raising(InputError("a.jpg: bad\n  (truncated)\n"))) == 2
    assert capsys.readouterr().err == "error: a.jpg: bad (truncated)\n"


def test_an_interruption_is_one_line_and_code_130(capsys: pytest.CaptureFixture[str]) -> None:
    def stopped_by_lightning() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)

    for command in (raising(KeyboardInterrupt()), stopped_by_lightning):
        assert run_command(command) == 130
        assert capsys.readouterr().err == "interrupted\n"


def test_a_reader_that_has_gone_ends_a_command_quietly() -> None:
    code = "import sys; from dino_detector.commands.frame import run_command; "
    code += "sys.exit(run_command(lambda: [print('line', flush=True) for _ in range(100_000)] and 0))"
    piped = subprocess.run(
        ["bash", "-c", f'{sys.executable} -c "{code}" | head -1; echo ${{PIPESTATUS[0]}}'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert piped.stdout == "line\n141\n"
    assert piped.stderr == ""


def test_other_errors_and_exits_pass() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(raising(ZeroDivisionError()))
    with pytest.raises(SystemExit) as stop:
        run_command(raising(SystemExit(3)))
    assert stop.value.code == 3
