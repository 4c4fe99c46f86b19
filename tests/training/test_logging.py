"""Tags of a run's logs, and their values against an independent record of the run."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import Callback
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from dino_detector.config import Config
from dino_detector.data import loading
from dino_detector.data.dataset import CocoDetection
from dino_detector.errors import InputError
from dino_detector.inference.detector import Detector
from dino_detector.losses import LossTerms
from dino_detector.structures.categories import Categories
from dino_detector.structures.predictions import MatchedIndices
from dino_detector.structures.targets import Targets
from dino_detector.training import pace
from dino_detector.training.fit import fit
from dino_detector.training.logging.scalars import class_counts, class_shares

PAGE = Path(__file__).parents[2] / "docs" / "tensorboard.md"


@pytest.fixture(scope="session")
def settings(settings: Callable[..., Config]) -> Callable[..., Config]:
    """Build the tiny settings with the logger that a run has unless it is told otherwise."""
    return lambda folder, **changes: settings(folder, **({"logger": ["tensorboard"]} | changes))


def events(folder: Path) -> EventAccumulator:
    (file,) = (folder / "tensorboard").glob("*/events.*")
    accumulator = EventAccumulator(str(file.parent), size_guidance={"scalars": 0, "images": 0, "histograms": 0})
    accumulator.Reload()
    return accumulator


def series(log: EventAccumulator, tag: str) -> dict[int, float]:
    return {event.step: event.value for event in log.Scalars(tag)}


class Observed(Callback):
    """Record each step of a run, independently of its logs."""

    def __init__(self) -> None:
        self.terms: dict[int, list[LossTerms]] = {}
        self.auxiliary: dict[int, list[dict[str, torch.Tensor]]] = {}
        self.rates: dict[int, dict[str, float]] = {}
        self.norms: dict[int, float] = {}
        self.gradients: dict[int, torch.Tensor] = {}
        self.weight: dict[int, torch.Tensor] = {}

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        step = trainer.global_step + 1
        gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
        self.norms[step] = torch.cat([gradient.flatten() for gradient in gradients]).norm().item()
        self.rates[step] = {group["name"]: group["lr"] for group in optimizer.param_groups}
        self.gradients[step] = pl_module.detector.decoder.layers[0].norms[0].weight.grad.clone()
        self.weight[step] = pl_module.detector.decoder.layers[0].norms[0].weight.detach().clone()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = trainer.fit_loop.epoch_loop.total_batch_idx // trainer.accumulate_grad_batches + 1
        self.terms.setdefault(step, []).append(outputs["terms"])
        self.auxiliary.setdefault(step, []).append(outputs["auxiliary"])


class Logged:
    """A run with all logging switched on."""

    def __init__(self, folder: Path, settings: Callable[..., Config]) -> None:
        self.folder = folder
        self.seen = Observed()
        self.config = settings(
            folder,
            log_frequency=5,
            log_layers=True,
            log_images=True,
            log_images_frequency=3,
            memory_monitor=True,
            logger=["tensorboard", "csv"],
            experiment_name="all of it",
            weight_decay=0.01,
            two_stage=True,
            query_groups=2,
            denoising_queries=8,
        )
        self.metrics = fit(self.config, callbacks=[self.seen])
        self.log = events(folder)


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory, settings: Callable[..., Config]) -> Logged:
    """Train three epochs of four steps: seven images in batches of two."""
    return Logged(tmp_path_factory.mktemp("run"), settings)


def documented() -> set[str]:
    """Return patterns of the tags in the page's table."""
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    tags = {tag for row in rows for tag in re.findall("`([^`]+)`", row.split("|")[1])}
    kinds = {
        "TERM": "(classification|bbox|giou)",
        "NAME": "(brick|tile)",
        "GROUP": "(backbone|decoder)(_no_decay)?",
        "WEIGHT": "(backbone|neck|decoder).+",
        "STAGE": "[a-z_]+",
        "_N": r"_\d",
        "/N": r"/\d",
    }
    for word, pattern in kinds.items():
        tags = {re.sub(rf"{word}\b", lambda _, pattern=pattern: pattern, tag) for tag in tags}
    return tags


def test_the_page_lists_the_tags_and_no_others(logged: Logged) -> None:
    tags = logged.log.Tags()
    texts = {tag.removesuffix("/text_summary") for tag in tags["tensors"]}
    written = {*tags["scalars"], *tags["images"], *tags["histograms"], *texts}
    patterns = documented()
    assert {tag for tag in written if not any(re.fullmatch(pattern, tag) for pattern in patterns)} == set()
    silent = {pattern for pattern in patterns if not any(re.fullmatch(pattern, tag) for tag in written)}
    assert silent == {"memory/gpu_allocated", "memory/gpu_peak", "val/APm", "val/APl", "val/ARm", "val/ARl"}


def test_losses_are_those_of_the_steps_that_are_due(logged: Logged) -> None:
    assert list(series(logged.log, "train/loss")) == [1, 5, 10]
    weights = {"classification": 2, "bbox": 5, "giou": 2}
    for step, loss in series(logged.log, "train/loss").items():
        (terms,) = logged.seen.terms[step]
        total = 0.0
        for name, weight in weights.items():
            part = weight * getattr(terms, name)  # [L]
            assert series(logged.log, f"train/loss_{name}")[step] == pytest.approx(part.sum().item(), rel=1e-5)
            for layer, value in enumerate(part.tolist(), start=1):
                assert series(logged.log, f"train/loss_{name}/layer_{layer}")[step] == pytest.approx(value, rel=1e-5)
            total += part.sum().item()
        (auxiliary,) = logged.seen.auxiliary[step]
        assert list(auxiliary) == ["proposals", "denoising", "groups"]
        for name, value in auxiliary.items():
            assert value > 0
            assert series(logged.log, f"train/loss_{name}")[step] == pytest.approx(value.item(), rel=1e-5)
            total += value.item()
        assert loss == pytest.approx(total, rel=1e-5)


def test_the_loss_of_a_step_is_the_mean_of_its_batches(settings: Callable[..., Config], tmp_path: Path) -> None:
    seen = Observed()
    fit(settings(tmp_path, epochs=1, accumulate_batches=2, log_frequency=1), callbacks=[seen])
    logged = series(events(tmp_path), "train/loss_giou")
    assert list(logged) == [1, 2]
    for step, value in logged.items():
        assert len(seen.terms[step]) == 2
        means = [2 * terms.giou.sum().item() for terms in seen.terms[step]]
        assert value == pytest.approx(sum(means) / 2, rel=1e-5)


def test_without_asking_there_are_no_losses_of_layers(settings: Callable[..., Config], tmp_path: Path) -> None:
    fit(settings(tmp_path, epochs=1))
    assert not [tag for tag in events(tmp_path).Tags()["scalars"] if "layer" in tag]


def test_rates_norms_and_decay_are_those_of_the_optimizer(logged: Logged) -> None:
    norms = series(logged.log, "optimizer/gradient_norm")
    for step, norm in norms.items():
        assert norm == pytest.approx(logged.seen.norms[step], rel=1e-4)
        assert norm > 0.1, "it would be clipped to this"
    for group in ("backbone", "backbone_no_decay", "decoder", "decoder_no_decay"):
        for value in series(logged.log, f"optimizer/weight_decay/{group}").values():
            assert value == pytest.approx(0.0 if "no" in group else 0.01)
        for step, rate in series(logged.log, f"optimizer/learning_rate/{group}").items():
            assert rate == pytest.approx(logged.seen.rates[step][group])
    assert set(series(logged.log, "optimizer/loss_scale").values()) == {1.0}


def test_rates_of_layers_are_logged_by_their_names(settings: Callable[..., Config], tmp_path: Path) -> None:
    fit(settings(tmp_path, epochs=1, layer_decay=0.5, log_frequency=4, learning_rate=1e-3))
    log = events(tmp_path)
    tag = "optimizer/learning_rate/{}".format
    decoder = series(log, tag("decoder"))
    for group, share in (("norm_no_decay", 1), ("layer_1", 2), ("layer_0_no_decay", 4), ("embeddings", 8)):
        assert series(log, tag(f"backbone_{group}")) == pytest.approx({s: rate / share for s, rate in decoder.items()})
    assert tag("backbone") not in log.Tags()["scalars"]


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_metrics_are_those_of_the_metrics_file(logged: Logged, epoch: int) -> None:
    written = json.loads((logged.folder / f"val_metrics_epoch_{epoch}.json").read_text())
    for name in ("AP", "AP50", "AP75", "APs", "AR1", "AR10", "AR100", "ARs"):
        assert series(logged.log, f"val/{name}")[written["step"]] == pytest.approx(written[name], rel=1e-5)
    assert series(logged.log, "val/AR") == series(logged.log, "val/AR100")
    for row in written["per_class"]:
        values = series(logged.log, f"val_AP_per_class/{row['name']}")
        assert values[written["step"]] == pytest.approx(row["AP"], rel=1e-5)


def test_validation_losses_and_classes_are_those_of_the_saved_weights(logged: Logged) -> None:
    """Compute the reference image by image from the checkpoint, which holds the evaluated, averaged weights."""
    from dino_detector.losses import build_criterion
    from dino_detector.training.datamodule import DetectionData
    from dino_detector.training.run_data import read_run_data

    detector = Detector.load(logged.folder / "dino_detector_final.pth", device="cpu")
    criterion = build_criterion(logged.config)
    run_data = read_run_data(logged.config, training=True)
    data = DetectionData(config=logged.config.replace(batch_size=1), run_data=run_data)
    data.header = detector.header
    root = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(world_size=1, global_rank=0, strategy=root)
    boxes, sums, right, wanted = 0, 0.0, [0, 0], [0, 0]
    for batch in data.val_dataloader():
        with torch.no_grad():
            output = detector(batch.pixel_values)
        matches = criterion.matcher(output.logits, output.boxes_cxcywh, batch.targets)
        count = int(batch.targets.valid.sum())
        terms = criterion.loss_sums(output.logits, output.boxes_cxcywh[matches.predictions], batch.targets, matches)
        sums += 2 * terms.giou.sum().item()
        boxes += count
        for layer, query, target in zip(matches.layer, matches.query, matches.target, strict=True):
            if layer == 1:
                label = int(batch.targets.labels[0, target])
                wanted[label] += 1
                right[label] += int(output.logits[1, 0, query].argmax()) == label
    assert series(logged.log, "val/loss_giou")[12] == pytest.approx(sums / boxes, rel=1e-3)
    for label, name in enumerate(("brick", "tile")):
        assert series(logged.log, f"val_accuracy_per_class/{name}")[12] == pytest.approx(right[label] / wanted[label])


def test_a_validation_file_without_the_first_class_counts_the_right_classes(
    settings: Callable[..., Config], tmp_path: Path, val_split: Any
) -> None:
    """Class "tile" is label 1 of the network, and label 0 of the file."""
    content = json.loads(val_split.annotations.read_text())
    content["categories"] = content["categories"][1:]
    content["annotations"] = [row for row in content["annotations"] if row["category_id"] == 9]
    (tmp_path / "val.json").write_text(json.dumps(content))
    everything = json.loads(val_split.annotations.read_text())
    everything["annotations"] = content["annotations"]
    (tmp_path / "all.json").write_text(json.dumps(everything))
    found = []
    for name in ("val", "all"):
        fit(settings(tmp_path / name, epochs=1, val_annotations=tmp_path / f"{name}.json"))
        log = events(tmp_path / name)
        tags = [tag for tag in log.Tags()["scalars"] if tag.startswith(("val/loss", "val_acc", "val_prec"))]
        found.append({tag: series(log, tag) for tag in tags})
    assert "val_accuracy_per_class/tile" in found[0]
    assert found[0] == found[1]


def test_accuracy_and_precision_of_a_case_worked_out_by_hand() -> None:
    """Four boxes have classes 0, 0, 1, 2; the last layer predicts 0, 1, 1, 1: the first and the third are right."""
    said = torch.tensor([0, 1, 1, 1])
    last = torch.nn.functional.one_hot(said, 3).float()[None]  # [1, Q, C]
    logits = torch.stack([torch.zeros_like(last), last])  # [L, 1, Q, C]
    truth = Targets.pad([torch.rand(4, 4)], [torch.tensor([0, 0, 1, 2])])
    every = torch.arange(4).repeat(2)
    matches = MatchedIndices(torch.arange(2).repeat_interleave(4), torch.zeros(8, dtype=torch.int64), every, every)
    counts = class_counts(logits, truth, matches)
    shares = class_shares("val", counts, Categories((1, 2, 3), ("a", "b", "c")))
    assert [shares.get(f"val_accuracy_per_class/{name}") for name in "abc"] == [0.5, 1.0, 0.0]
    assert [shares.get(f"val_precision_per_class/{name}") for name in "abc"] == [1.0, pytest.approx(1 / 3), None]


def test_histograms_are_those_of_weights_and_gradients(logged: Logged) -> None:
    for kind, values in (("parameters", logged.seen.weight), ("gradients", logged.seen.gradients)):
        events = logged.log.Histograms(f"{kind}/decoder.layers.0.norms.0.weight")
        assert [event.step for event in events] == [4, 8, 12], "the last step of each epoch that is evaluated"
        for event in events:
            histogram, expected = event.histogram_value, values[event.step]
            assert histogram.num == sum(histogram.bucket) == expected.numel()
            assert histogram.min == pytest.approx(expected.min().item(), abs=1e-6)
            assert histogram.max == pytest.approx(expected.max().item(), abs=1e-6)
            assert histogram.sum == pytest.approx(expected.sum().item(), abs=1e-4)


def test_pictures_show_what_the_network_sees_and_what_it_finds(logged: Logged) -> None:
    assert [event.step for event in logged.log.Images("train/images/0")] == [0, 3, 6, 9]
    assert [event.step for event in logged.log.Images("val/images/3")] == [4, 8, 12]
    trained, found = (
        np.asarray(Image.open(io.BytesIO(logged.log.Images(f"{stage}/images/0")[0].encoded_image_string)))
        for stage in ("train", "val")
    )
    assert trained.shape == (56, 56, 3)
    assert trained.max() > 200, "dark noise below 60 holds bright rectangles"
    assert found.shape[1] > 2 * 480, "two pictures side by side"


def test_settings_and_model_are_there_to_read(logged: Logged) -> None:
    settings, model = (
        logged.log.Tensors(f"{name}/text_summary")[0].tensor_proto.string_val[0].decode()
        for name in ("settings", "model")
    )
    assert yaml.safe_load(settings.strip("`")) == logged.config.flat()
    assert "detector.decoder" in model
    assert "Trainable params" in model


def test_the_hparams_tab_has_the_settings_and_the_final_metrics(logged: Logged) -> None:
    """The tab shows the newest value of each metric."""
    content = logged.log.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    started = HParamsPluginData.FromString(content).session_start_info.hparams
    assert started["learning_rate"].number_value == 1e-3
    assert started["experiment_name"].string_value == "all of it"
    content = logged.log.summary_metadata["_hparams_/experiment"].plugin_data.content
    metrics = [info.name.tag for info in HParamsPluginData.FromString(content).experiment.metric_infos]
    assert metrics == ["val/AP", "val/AP50", "val/AP75"]
    assert logged.log.Scalars("val/AP")[-1].value == pytest.approx(logged.metrics.AP)
    assert "_hparams_/session_end_info" in logged.log.summary_metadata
    (hparams,) = (logged.folder / "tensorboard").glob("*/hparams.yaml")
    assert yaml.safe_load(hparams.read_text()) == logged.config.flat()


def test_the_table_of_csv_holds_the_same_numbers(logged: Logged) -> None:
    (table,) = (logged.folder / "csv").glob("*/metrics.csv")
    rows = list(csv.DictReader(table.open()))
    for tag in ("train/loss", "val/AP"):
        values = {int(row["step"]): float(row[tag]) for row in rows if row[tag]}
        assert values == pytest.approx(series(logged.log, tag), rel=1e-5)


class Clock:
    """Stand in for the module ``time``: advance when a test says so, and by a microsecond at each reading."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1e-6
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replace the clock of the loader and of the log."""
    clock = Clock()
    for module in (loading, pace):
        monkeypatch.setattr(module, "time", clock)
    return clock


def test_speed_is_that_of_the_steps(settings: Callable[..., Config], tmp_path: Path, clock: Clock) -> None:
    """A slow callback slows the run, but does not count as waiting for data."""

    class Slow(Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            clock.now += 1.0

    fit(settings(tmp_path, epochs=2, log_frequency=4), callbacks=[Slow()])
    log = events(tmp_path)
    assert series(log, "speed/images_per_second")[8] == pytest.approx(7 / 3, rel=1e-3), (
        "an epoch ends before its last callback"
    )
    assert series(log, "speed/waiting_for_data")[8] == pytest.approx(0, abs=1e-3)


def test_a_slow_loader_is_waited_for(
    settings: Callable[..., Config], tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = CocoDetection.__getitem__

    def slow(data: CocoDetection, key: Any) -> Any:
        clock.now += 1.0
        return read(data, key)

    monkeypatch.setattr(CocoDetection, "__getitem__", slow)
    fit(settings(tmp_path, epochs=2, log_frequency=4))
    assert series(events(tmp_path), "speed/waiting_for_data")[8] == pytest.approx(1, abs=1e-3)


def test_logs_are_where_they_were_asked_for(settings: Callable[..., Config], tmp_path: Path) -> None:
    logs = tmp_path / "logs" / "here"
    fit(settings(tmp_path / "out", epochs=1, log_dir=logs, experiment_name="first try"))
    (folder,) = (logs / "tensorboard").iterdir()
    assert re.fullmatch(r"\d{8}-\d{6}_first try", folder.name)
    assert not (tmp_path / "out" / "tensorboard").exists()


def test_a_run_may_log_nothing(settings: Callable[..., Config], tmp_path: Path) -> None:
    fit(settings(tmp_path, epochs=1, logger=[]))
    assert not (tmp_path / "tensorboard").exists()


def test_loggers_that_are_not_there_are_refused_before_the_run(settings: Callable[..., Config], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--logger mlflow needs the package mlflow.*pip install mlflow"):
        fit(settings(tmp_path / "out", logger=["mlflow"]))
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match=r"logger .*csv.*mlflow.*'tensorbored'"):
        settings(tmp_path, logger=["tensorbored"])
    with pytest.raises(InputError, match="log_images needs a logger that shows images"):
        settings(tmp_path, logger=["csv"], log_images=True)


def test_the_bar_of_a_terminal_counts_epochs_from_one(
    train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    train(tmp_path / "out", epochs=2)
    shown = "".join(capsys.readouterr())
    assert {int(number) for number in re.findall(r"(?i)epoch +(\d+)", shown)} == {1, 2}
    assert re.search(r"epoch 1/2 100%  loss \d+\.\d{3}  \d+\.\d images/s", shown)
    assert "evaluating after epoch 2/2 100%  computing the metrics" in shown
