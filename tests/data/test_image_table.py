from __future__ import annotations

import sys

import numpy as np
import psutil
import pytest
import torch

from dino_detector.data.coco.annotations import BoxTable, ImageRecord, ImageTable
from dino_detector.data.coco.images import CocoImages
from dino_detector.data.dataset import CocoDetection, Sample
from dino_detector.data.loading import build_evaluation_loader

RECORDS = (ImageRecord(30, "c.jpg", 40, 60), ImageRecord(-1, "ä/日本.png", 1, 2), ImageRecord(2**62, "\ud800", 9, 8))


@pytest.fixture
def table():
    ids, names, heights, widths = zip(*RECORDS, strict=True)
    return ImageTable.of(ids, names, [*zip(heights, widths, strict=True)])


def test_a_table_gives_back_what_it_was_made_of(table):
    assert tuple(table) == RECORDS
    assert table[-1] == RECORDS[-1]
    assert table.file_names == [record.file_name for record in RECORDS]
    assert len(table) == 3
    with pytest.raises(IndexError):
        table[3]


def test_parts_of_a_table_are_tables(table):
    assert tuple(table.at(np.array([2, 0]))) == (RECORDS[2], RECORDS[0])
    assert tuple(table.at(np.array([False, True, True]))) == RECORDS[1:]
    assert tuple(table.at(np.zeros(3, bool))) == ()


class PrivateMemory:
    """Stand in for a view: return the bytes that only this process holds after it has read every image."""

    def __call__(self, images, key):
        for index in range(0, len(images), 7):
            assert images.records[index].image_id == index
            images.objects(index)
        used = psutil.Process().memory_full_info().uss
        return Sample(torch.zeros(3, 14, 14, dtype=torch.uint8), torch.zeros(0, 4), torch.zeros(0).long(), used, (9, 9))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers get copies")
def test_workers_share_the_tables_of_a_data_set(tmp_path):
    images, boxes = 500_000, 12_000_000
    table = ImageTable.of(range(images), [f"{index:040}.jpg" for index in range(images)], np.full((images, 2), 9))
    starts = np.linspace(0, boxes, images + 1).astype(np.int64)
    annotations = type("Annotations", (), {"path": tmp_path, "images": table, "has_places": False})
    annotations.training = BoxTable(np.ones((boxes, 4), np.float32), np.ones(boxes, np.int64), starts)
    size = annotations.training.boxes_xyxy.nbytes + annotations.training.labels.nbytes
    assert size > 250e6
    data = CocoDetection(CocoImages(tmp_path, annotations), view=PrivateMemory(), on_bad_image="raise")
    loader = build_evaluation_loader(
        **{"dataset": torch.utils.data.Subset(data, [0, 1]), "batch_size": 1, "num_workers": 2, "pin_memory": False},
        **{"mean": [0.5] * 3, "std": [0.5] * 3, "num_replicas": 1, "rank": 0},
    )
    for batch in loader:
        assert batch.image_ids[0] < 40e6  # 7 to 19 MB; with a tuple of records 60 MB and more
