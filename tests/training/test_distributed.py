"""Two processes on CPUs train and evaluate like one."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

SCRIPT = """
import json, sys, warnings
from pathlib import Path

import torch
from lightning import Trainer, seed_everything

from dino_detector.config import Config
from dino_detector.losses import build_criterion
from dino_detector.inference.detector import build_detector
from dino_detector.training.datamodule import DetectionData
from dino_detector.training.module import DetectorModule
from dino_detector.training.run_data import read_run_data

torch.set_num_threads(1)
devices, out = int(sys.argv[1]), Path(sys.argv[2])
settings = json.loads(Path(sys.argv[3]).read_text())
for name, changes in json.loads(Path(sys.argv[4]).read_text()).items():
    config = Config.from_flat(settings | changes | {"batch_size": 4 // devices})
    seed_everything(0, verbose=False)
    run_data = read_run_data(config, training=True)
    data = DetectionData(config=config, run_data=run_data)
    detector = build_detector(config, categories=run_data.train.annotations.categories)
    data.header = detector.header
    module = DetectorModule(detector=detector, criterion=build_criterion(config))
    trained = [parameter for parameter in detector.parameters() if parameter.requires_grad]
    # Adam's steps do not depend on the scale of the loss, and enlarge rounding where there is hardly a gradient.
    module.configure_optimizers = lambda: torch.optim.SGD([{"params": trained, "name": "all"}], lr=1e-3)
    trainer = Trainer(
        accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto", max_epochs=2,
        use_distributed_sampler=False, num_sanity_val_steps=0, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )
    trainer.validate(module, datamodule=data, verbose=False)
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    untrained = (module.metrics, module.results)
    trainer.fit(module, datamodule=data)
    assert trainer.num_training_batches == data.batches_per_epoch
    contents = {
        "results": untrained[1], "metrics": untrained[0].to_json(), "after": module.metrics.to_json(),
        "before": before, "weights": dict(detector.state_dict()), "steps": trainer.global_step,
    }
    torch.save(contents, out / f"{name}_{devices}_{trainer.global_rank}.pt")
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory, settings, draw_boxes, warm_python):
    """Return the results of one process and of each of two processes, by (settings, processes, rank)."""
    folder = tmp_path_factory.mktemp("distributed")
    eight = draw_boxes(folder, "train", 8)
    data = {"train_images": str(eight.images), "train_annotations": str(eight.annotations)}
    (folder / "run.py").write_text(SCRIPT)
    # Denoising queries depend on the images of a process.
    (folder / "settings.json").write_text(json.dumps(settings(folder, denoising_queries=0, **data).flat()))
    variants = {"full": {}, "lora": {"train_backbone": "lora"}}
    (folder / "variants.json").write_text(json.dumps(variants))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    started = []
    for devices in ("1", "2"):
        arguments = [folder / "run.py", devices, folder, folder / "settings.json", folder / "variants.json"]
        started.append(subprocess.Popen([warm_python, *arguments], env=environment, stderr=subprocess.PIPE, text=True))
    for process in started:
        errors = process.communicate()[1]
        assert process.returncode == 0, errors[-3000:]
    places = [(devices, rank) for devices in (1, 2) for rank in range(devices)]
    return {
        (name, *place): torch.load(folder / "{}_{}_{}.pt".format(name, *place), weights_only=True)
        for name in variants
        for place in places
    }


def test_each_image_counts_once_though_two_do_not_divide_five(runs):
    one, *two = (runs["full", *place] for place in ((1, 0), (2, 0), (2, 1)))
    for process in two:
        assert process["metrics"] == one["metrics"]
        assert process["metrics"]["num_images"] == 5
        assert len(process["results"]) == len(one["results"])
        for result, wanted in zip(process["results"], one["results"], strict=True):
            assert (result["image_id"], result["category_id"]) == (wanted["image_id"], wanted["category_id"])
            assert result["bbox"] == pytest.approx(wanted["bbox"], abs=0.01)
            assert result["score"] == pytest.approx(wanted["score"], abs=1e-5)


@pytest.mark.parametrize("variant", ["full", "lora"])
def test_two_processes_take_the_steps_of_one_with_all_images(runs, variant):
    one, two, other = (runs[variant, *place] for place in ((1, 0), (2, 0), (2, 1)))
    assert one["steps"] == two["steps"] == 4
    assert all(torch.equal(two["weights"][name], other["weights"][name]) for name in two["weights"])
    moved = sum((one["weights"][name] - one["before"][name]).abs().sum() for name in one["weights"])
    apart = sum((one["weights"][name] - two["weights"][name]).abs().sum() for name in one["weights"])
    assert moved > 0
    assert apart / moved < 1e-3
    assert two["after"] == other["after"]
