"""Deformable DETR of transformers on the common backbone: ``python -m benchmarks.accuracy.deformable_detr JOB``.

The recipe follows the paper (https://arxiv.org/abs/2010.04159, section 5) and the authors' code
(https://github.com/fundamentalvision/Deformable-DETR):

- 300 queries, class weight 2 in matching costs and losses, a loss after every decoder layer;
- AdamW with learning rate 2e-4 (2e-5 for reference points and sampling offsets), weight decay 1e-4, gradients clipped
  at 0.1, learning rate divided by ten after four fifths of the time;
- DETR's augmentation: flips, and random crops of half of the images.

It departs from that recipe in three points. The backbone has the learning rate of the decoder, because a tenth suits
pretrained weights only. The decoder reads the last layer of the backbone and three coarser levels made of it, which is
how transformers builds the model. All images have one size.

transformers initialises some weights differently from the authors' code: all queries then look at the middle of the
image and learn little in a short run. `initialise` restores the authors' initial weights.

The job's settings are ``model``, overrides of `DeformableDetrConfig`, and ``precision``, 32 or bf16.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader
from torchvision import tv_tensors
from torchvision.ops import box_convert
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F
from transformers import (
    DeformableDetrConfig,
    DeformableDetrForObjectDetection,
    DeformableDetrImageProcessor,
    Dinov2Config,
)
from transformers.models.deformable_detr.modeling_deformable_detr import DeformableDetrMultiscaleDeformableAttention

from benchmarks.accuracy.job import Job, job_of_command_line
from benchmarks.accuracy.recorder import MAX_DETECTIONS, Recorder, coco_result
from dino_detector.data.augmentation.pipeline import augmentation_seed
from dino_detector.data.coco.annotations import CocoAnnotations
from dino_detector.data.coco.images import CocoImages
from dino_detector.data.dataset import CocoDetection, Sample, SampleKey, full_size_sample
from dino_detector.data.sampling import TrainingSampler

BATCH_SIZE = 8
LEARNING_RATE = 2e-4
WEIGHT_DECAY = 1e-4
GRADIENT_CLIP = 0.1
DROP_AFTER = 0.8
"""fraction of the budget after which the learning rates are divided by ten"""
SLOW = ("reference_points", "sampling_offsets")
"""layers with a tenth of the learning rate"""
CLASS_WEIGHT = 2
PRIOR_BIAS = -math.log(99)
"""logit of a class probability of 0.01"""


def build_model(job: Job, *, num_classes: int) -> DeformableDetrForObjectDetection:
    """Return the untrained detector; it reads the last layer of the job's backbone."""
    backbone = Dinov2Config(
        **job.backbone, image_size=job.image_size, patch_size=14, out_indices=[job.backbone["num_hidden_layers"]]
    )
    config = DeformableDetrConfig(
        backbone_config=backbone,
        num_labels=num_classes,
        auxiliary_loss=True,
        class_cost=CLASS_WEIGHT,
        disable_custom_kernels=job.device == "cpu",
        **job.settings["model"],
    )
    torch.manual_seed(job.seed)
    model = DeformableDetrForObjectDetection(config)
    initialise(model)
    return model.to(job.device)


@torch.no_grad()
def initialise(model: DeformableDetrForObjectDetection) -> None:
    """Set the initial weights of the authors' code, except in the backbone and in deformable attention.

    Queries are normal with a standard deviation of 1. Matrices of the transformer and of the input projections are
    Xavier uniform. Heads have PyTorch's default, except the last layer of each box head, which is zero. Classes start
    at a probability of 0.01, and boxes at their reference points with sides of 0.12.
    """
    detr = model.model
    nn.init.normal_(detr.query_position_embeddings.weight)
    for module in (*detr.input_proj.modules(), detr.reference_points):
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    for layer in (*detr.encoder.layers, *detr.decoder.layers):
        sampling = [part for part in layer.modules() if isinstance(part, DeformableDetrMultiscaleDeformableAttention)]
        unchanged = {part for attention in sampling for part in attention.modules()}
        for module in layer.modules():
            if isinstance(module, nn.Linear) and module not in unchanged:
                nn.init.xavier_uniform_(module.weight)
    for head in model.class_embed:
        head.reset_parameters()
        nn.init.constant_(head.bias, PRIOR_BIAS)
    for head in model.bbox_embed:
        for linear in head.layers:
            linear.reset_parameters()
        nn.init.zeros_(head.layers[-1].weight)
        nn.init.zeros_(head.layers[-1].bias)
    nn.init.constant_(model.bbox_embed[0].layers[-1].bias[2:], -2.0)


def weighted_loss(losses: dict[str, Tensor], config: DeformableDetrConfig) -> Tensor:
    """Return the weighted sum of the losses of all layers; transformers itself gives classes the weight 1."""
    weights = {
        "loss_ce": CLASS_WEIGHT,
        "loss_bbox": config.bbox_loss_coefficient,
        "loss_giou": config.giou_loss_coefficient,
    }
    terms = [weight * losses[name] for kind, weight in weights.items() for name in losses if name.startswith(kind)]
    return torch.stack(terms).sum()


class RandomSizeCrop(v2.Transform):
    """DETR's crop: each side is 384/600 to 1 times the shorter side of the image."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the position and the size of the crop."""
        height, width = v2.query_size(flat_inputs)
        most = min(height, width)
        least = round(most * 384 / 600)
        crop_height, crop_width = torch.randint(least, most + 1, (2,)).tolist()
        top = int(torch.randint(0, height - crop_height + 1, ()))
        left = int(torch.randint(0, width - crop_width + 1, ()))
        return {"top": top, "left": left, "height": crop_height, "width": crop_width}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Crop the image, or shift and clip its boxes."""
        return F.crop(inpt, **params)


def training_transforms() -> v2.Transform:
    """Return DETR's augmentation; the image processor resizes afterwards."""
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomApply([RandomSizeCrop()], p=0.5),
            v2.SanitizeBoundingBoxes(min_size=1),
        ]
    )


class Collate:
    """Make a batch of samples with transformers' image processor."""

    def __init__(self, image_size: int) -> None:
        self.processor = DeformableDetrImageProcessor(size={"height": image_size, "width": image_size}, do_pad=False)

    def __call__(self, samples: list[Sample]) -> dict[str, Any]:
        """Return ``pixel_values`` ``[B, 3, H, W]``, ``labels``, ``image_ids`` and ``original_sizes``."""
        batch = self.processor(
            images=[sample.image.as_subclass(Tensor) for sample in samples],
            annotations=[
                {"image_id": sample.image_id, "annotations": _entries(sample.boxes_xyxy, sample.labels)}
                for sample in samples
            ],
            return_tensors="pt",
        )
        return {
            "pixel_values": batch["pixel_values"],
            "labels": [{key: entry[key] for key in ("class_labels", "boxes")} for entry in batch["labels"]],
            "image_ids": [sample.image_id for sample in samples],
            "original_sizes": [sample.original_size for sample in samples],
        }


def _entries(boxes_xyxy: Tensor, labels: Tensor) -> list[dict[str, Any]]:
    boxes_xywh = box_convert(boxes_xyxy.as_subclass(Tensor), "xyxy", "xywh")
    return [
        {"bbox": box, "area": box[2] * box[3], "category_id": label, "iscrowd": 0}
        for box, label in zip(boxes_xywh.tolist(), labels.tolist(), strict=True)
    ]


class Augmented:
    """Training view of images at full size; the random draws depend on seed, epoch and image alone."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.transforms = training_transforms()

    def __call__(self, images: CocoImages, key: SampleKey) -> Sample:
        """Return the augmented sample of a key."""
        sample = full_size_sample(images, key)
        boxes = tv_tensors.BoundingBoxes(sample.boxes_xyxy, format="XYXY", canvas_size=sample.original_size)
        with torch.random.fork_rng(devices=[]):
            drawn = augmentation_seed(self.seed, key.epoch, sample.image_id, key.repeat)
            torch.default_generator.manual_seed(drawn)
            shown = self.transforms({"image": tv_tensors.Image(sample.image), "boxes": boxes, "labels": sample.labels})
        return replace(sample, image=shown["image"], boxes_xyxy=shown["boxes"], labels=shown["labels"])


class DeformableDetr:
    """Training and evaluation of the detector.

    Args:
        job: the run.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.collate = Collate(job.image_size)
        self.train = CocoAnnotations.read(job.train_annotations)
        self.val = CocoAnnotations.read(job.val_annotations)

    def batches(self) -> Iterator[dict[str, Any]]:
        """Yield shuffled, augmented batches, epoch after epoch without end."""
        images = CocoImages(self.job.train_images, self.train)
        dataset = CocoDetection(images, view=Augmented(self.job.seed), on_bad_image="skip")
        sampler = TrainingSampler(np.ones(len(images)), num_replicas=1, rank=0, seed=self.job.seed)
        loader = DataLoader(
            dataset,
            batch_sampler=BatchSampler(sampler, BATCH_SIZE, drop_last=False),
            collate_fn=self.collate,
            num_workers=self.job.workers,
            persistent_workers=self.job.workers > 0,
            pin_memory=self.job.device != "cpu",
        )
        for epoch in itertools.count():
            sampler.set_epoch(epoch)
            yield from loader

    def fit(self, recorder: Recorder) -> nn.Module:
        """Train until the end of the budget, record the evaluations, and return the model."""
        model, optimizer = self.start()
        full_rates = [group["lr"] for group in optimizer.param_groups]
        for batch in self.batches():
            recorder.clock.start()
            self.step(model, optimizer, batch)
            recorder.images_seen += len(batch["labels"])
            factor = 0.1 if recorder.clock.seconds >= DROP_AFTER * self.job.budget else 1.0
            for group, rate in zip(optimizer.param_groups, full_rates, strict=True):
                group["lr"] = factor * rate
            is_last = recorder.is_over
            if is_last or recorder.is_due:
                with recorder.evaluating():
                    recorder.record(self.detect(model))
            if is_last:
                return model
        raise AssertionError("batches() has no end")

    @torch.inference_mode()
    def detect(self, model: nn.Module) -> list[dict[str, Any]]:
        """Return COCO results for the validation images, with the category ids of the data set."""
        images = CocoImages(self.job.val_images, self.val)
        dataset = CocoDetection(images, view=full_size_sample, on_bad_image="raise")
        results: list[dict[str, Any]] = []
        model.eval()
        for batch in DataLoader(dataset, batch_size=BATCH_SIZE, collate_fn=self.collate):
            output = model(pixel_values=batch["pixel_values"].to(self.job.device))
            found = self.collate.processor.post_process_object_detection(
                output, threshold=0.0, target_sizes=batch["original_sizes"], top_k=MAX_DETECTIONS
            )
            for image_id, detections in zip(batch["image_ids"], found, strict=True):
                rows = (detections[key].tolist() for key in ("labels", "boxes", "scores"))
                results += [
                    coco_result(image_id, self.train.categories.ids[label], box_xyxy, score)
                    for label, box_xyxy, score in zip(*rows, strict=True)
                ]
        model.train()
        return results

    def start(self) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Return the untrained model and its optimizer."""
        model = build_model(self.job, num_classes=len(self.train.categories)).train()
        slow, others = [], []
        for name, parameter in model.named_parameters():
            (slow if any(part in name for part in SLOW) else others).append(parameter)
        groups = [{"params": others, "lr": LEARNING_RATE}, {"params": slow, "lr": LEARNING_RATE / 10}]
        return model, torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY)

    def step(self, model: nn.Module, optimizer: torch.optim.Optimizer, batch: dict[str, Any]) -> None:
        """Take one optimizer step."""
        device = torch.device(self.job.device)
        labels = [{key: value.to(device) for key, value in entry.items()} for entry in batch["labels"]]
        with torch.autocast(device.type, torch.bfloat16, enabled=self.job.settings["precision"] == "bf16"):
            losses = model(pixel_values=batch["pixel_values"].to(device), labels=labels).loss_dict
            loss = weighted_loss(losses, model.config)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_CLIP)
        optimizer.step()


def train(job: Job) -> None:
    """Train, and write the record."""
    recorder = Recorder(job)
    model = DeformableDetr(job).fit(recorder)
    recorder.write(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        peak_gpu_memory_bytes=None if job.device == "cpu" else torch.cuda.max_memory_allocated(job.device),
    )


if __name__ == "__main__":
    train(job_of_command_line("benchmarks.accuracy.deformable_detr", __doc__))
