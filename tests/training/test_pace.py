"""Speed, time left and the estimate of a run, on a clock and a trainer that tests set by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dino_detector.config import Config
from dino_detector.training import estimate, pace, progress
from dino_detector.training.estimate import RunEstimate
from dino_detector.training.history import EpochHistory
from dino_detector.training.pace import Pace, is_due, is_evaluated
from dino_detector.training.progress import EpochLines, LiveLine

pytestmark = pytest.mark.fast
IMAGES = 4
"""images of a batch, and validation images"""


class Clock:
    """A clock that moves only when a test says so; it takes the place of the module `time`."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


class Run:
    """A run without a network: batches and evaluations take the seconds that a test gives them."""

    def __init__(self, clock: Clock, *, epochs: int, batches: int, frequency: int = 1, precision: str = "32") -> None:
        self.clock, self.pace = clock, Pace()
        self.history = EpochHistory(self.pace)
        self.estimate = RunEstimate(Config(), self.pace, precision=precision)
        self.lines = EpochLines(self.history)
        self.callbacks = [self.pace, self.estimate, self.history, self.lines]
        val = SimpleNamespace(annotations=SimpleNamespace(images=range(IMAGES)))
        self.trainer: Any = SimpleNamespace(
            **{"current_epoch": 0, "max_epochs": epochs, "num_training_batches": batches, "world_size": 1},
            **{"check_val_every_n_epoch": frequency, "accumulate_grad_batches": 1, "is_global_zero": True},
            **{"global_step": 0, "should_stop": False, "callbacks": self.callbacks},
            train_dataloader=SimpleNamespace(seconds_waited=0.0),
            datamodule=SimpleNamespace(run_data=SimpleNamespace(val=val), caching=None),
            strategy=SimpleNamespace(reduce=lambda value, reduce_op: value),
            optimizers=[SimpleNamespace(param_groups=[{"lr": 0.1}])],
        )
        terms = SimpleNamespace(weighted=lambda losses: SimpleNamespace(_asdict=dict))
        self.outputs = {"terms": terms, "auxiliary": {}, "loss": torch.tensor(2.0)}
        self.module: Any = SimpleNamespace(
            settings=SimpleNamespace(losses=None), metrics=None, device=torch.device("cpu"), detector=None
        )

    def start(self) -> None:
        for each in self.callbacks:
            each.on_train_start(self.trainer, self.module)

    def batch(self, index: int, seconds: float) -> None:
        self.clock.seconds += seconds
        batch = SimpleNamespace(image_ids=range(IMAGES), shown=range(IMAGES))
        for each in self.callbacks:
            each.on_train_batch_end(self.trainer, self.module, self.outputs, batch, index)

    def epoch(self, epoch: int, *, batch: float, evaluation: float = 0.0, first: int = 0) -> None:
        self.trainer.current_epoch = epoch
        for each in self.callbacks:
            each.on_train_epoch_start(self.trainer, self.module)
        for index in range(first, self.trainer.num_training_batches):
            self.batch(index, batch)
        if is_evaluated(self.trainer, epoch + 1):
            self.pace.on_validation_start(self.trainer, self.module)
            self.clock.seconds += evaluation
            self.pace.on_validation_end(self.trainer, self.module)
        for each in self.callbacks:
            each.on_train_epoch_end(self.trainer, self.module)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock of all the callbacks."""
    clock = Clock()
    for module in (pace, estimate, progress):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def measurement(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> SimpleNamespace:
    """Return the seconds that the estimate measures for an image and a lightweight step, and that measuring takes."""
    seconds = SimpleNamespace(image=0.5, light=(0.25, 0.125), taken=40.0)

    def forward(*args: Any) -> float:
        clock.seconds += seconds.taken
        return seconds.image

    monkeypatch.setattr(estimate, "forward_seconds", forward)
    monkeypatch.setattr(estimate, "peak_memory", lambda device: {})
    monkeypatch.setattr(RunEstimate, "_lightweight", lambda *args: seconds.light)
    return seconds


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for text in caplog.messages if text.startswith("the run takes")]


def test_no_speed_includes_the_measurements_of_the_estimate(clock, measurement, caplog):
    caplog.set_level("INFO")
    run = Run(clock, epochs=2, batches=30)
    run.start()
    run.epoch(0, batch=1.0, evaluation=10.0)
    assert len(told(caplog)) == 1
    assert run.pace.seconds_per_batch == 1.0
    assert run.history.records[0]["seconds"] == 40.0  # 30 batches and the evaluation
    assert run.history.records[0]["images_per_second"] == 30 * IMAGES / 40
    assert "3.0 images/s  0:00:40 left" in caplog.text


def test_a_run_of_short_epochs_gets_its_estimate_for_all_its_epochs(clock, measurement, caplog):
    caplog.set_level("INFO")
    run = Run(clock, epochs=20, batches=4, frequency=5)
    run.start()
    for epoch in range(6):
        run.epoch(epoch, batch=1.0, evaluation=2.0)
    # Told in the fourth epoch: 20 epochs of 4 s, and 4 evaluations of 4 images of 0.5 s.
    assert told(caplog) == ["the run takes about 88 seconds for 20 epochs with 4 evaluations"]


def test_time_and_number_of_epochs_count_from_the_first_epoch_of_the_process(clock, measurement, caplog):
    caplog.set_level("INFO")
    run = Run(clock, epochs=20, batches=4, frequency=5)
    run.trainer.current_epoch = 10
    run.start()
    for epoch in range(10, 14):
        run.epoch(epoch, batch=1.0)
    assert told(caplog) == ["the run takes about 44 seconds for 10 epochs with 2 evaluations"]


def test_lightweight_counts_the_same_batches_as_the_run(clock, measurement, caplog):
    caplog.set_level("INFO")
    run = Run(clock, epochs=100, batches=8, frequency=50)
    run.start()
    for epoch in range(2):
        run.epoch(epoch, batch=2.0)
    # 800 batches of 2 s and 2 evaluations of 2 s; lightweight: 800 batches of 0.25 s and 8 images of 0.125 s
    text = "the run takes about 27 minutes for 100 epochs with 2 evaluations; --lightweight about 3 minutes"
    assert told(caplog) == [text]


def test_the_evaluation_of_an_epoch_counts_as_left_until_it_ends(clock):
    run = Run(clock, epochs=2, batches=10)
    run.pace.expect_evaluation(7.0)
    run.pace.on_train_epoch_start(run.trainer, run.module)
    for index in range(10):
        clock.seconds += 1.0
        run.pace.on_train_batch_end(run.trainer, run.module, None, None, index)
    assert run.pace.seconds_left(run.trainer, batches_done=10) == (0.0, 7.0 + 10.0 + 7.0)
    run.pace.on_validation_start(run.trainer, run.module)
    clock.seconds += 3.0
    run.pace.on_validation_end(run.trainer, run.module)
    assert run.pace.seconds_left(run.trainer, batches_done=10) == (0.0, 10.0 + 3.0)
    run.pace.expect_evaluation(100.0)  # too late: a measurement is known
    assert run.pace.evaluation_seconds == 3.0


def test_every_nth_epoch_and_the_last_are_due_and_evaluated_where_there_are_images(clock):
    trainer = Run(clock, epochs=5, batches=1, frequency=2).trainer
    assert [epoch for epoch in range(1, 6) if is_evaluated(trainer, epoch)] == [2, 4, 5]
    trainer.datamodule.run_data.val = None
    assert [epoch for epoch in range(1, 6) if is_due(trainer, epoch)] == [2, 4, 5]
    assert not any(is_evaluated(trainer, epoch) for epoch in range(1, 6))


def test_the_lines_of_an_epoch_resumed_in_its_middle_show_the_numbers_of_its_record(clock, caplog):
    caplog.set_level("INFO")
    before = Run(clock, epochs=1, batches=4)
    before.start()
    before.outputs["loss"] = torch.tensor(6.0)
    before.batch(0, 1.0)
    before.batch(1, 1.0)
    state = before.history.state_dict()
    clock.seconds += 500.0
    run = Run(clock, epochs=1, batches=4)
    run.history.load_state_dict(state)
    run.start()
    run.epoch(0, batch=3.0, first=2)
    record = run.history.records[0]
    assert (record["loss"], record["images_per_second"], record["seconds"]) == (4.0, 2.0, 8.0)  # (6+6+2+2)/4, 16/8
    assert "epoch 1/1  loss 4.000  2.0 images/s" in caplog.text


class Bar:
    """A bar that remembers how far it was when it closed."""

    total, n, closed_at = 8, 0, None

    def set_description_str(self, text: str) -> None:
        self.text = text

    def close(self) -> None:
        self.closed_at = self.n


def test_the_live_line_waits_for_the_first_image_and_closes_its_bar_at_the_end(clock, monkeypatch):
    bar = Bar()
    monkeypatch.setattr(progress, "bars", lambda: lambda **settings: bar)
    trainer: Any = SimpleNamespace(
        world_size=1,
        state=SimpleNamespace(fn="validate"),
        datamodule=SimpleNamespace(
            run_data=SimpleNamespace(val=SimpleNamespace(annotations=SimpleNamespace(images=range(8))))
        ),
    )
    line = LiveLine()
    line.on_validation_start(trainer, None)
    clock.seconds += 1.0
    line.on_validation_batch_end(trainer, None, None, SimpleNamespace(image_ids=[]))
    clock.seconds += 1.0
    line.on_validation_batch_end(trainer, None, None, SimpleNamespace(image_ids=[1, 2]))
    assert bar.text.endswith("1.0 images/s  0:00:06 left")  # 2 images in 2 s, 6 images to come
    line.on_validation_end(trainer, None)
    assert bar.closed_at == 8
