"""Small data sets with detections, written by hand or drawn at random."""

import copy
import random
from pathlib import Path

from dino_detector.data.coco.annotations import CocoAnnotations

IDS = (0, 2, 3, 90, 91)
"""category ids; in the random case, 90 has one box and no detection, and 91 has no box"""


def annotations_of(ground_truth):
    return CocoAnnotations.parse(copy.deepcopy(ground_truth), Path("truth.json"))


def random_case(seed, *, tied_scores=False, detections_of_absent=False, most=40):
    """Return 25 images: crowds, overlapping boxes, images without boxes or detections, every kind of detection."""
    chance = random.Random(seed)

    def box():
        return [chance.uniform(0, 500), chance.uniform(0, 400), chance.uniform(10, 120), chance.uniform(10, 70)]

    def beside(other, spread):
        near = [number + chance.gauss(0, spread * other[2]) for number in other]
        return [max(0, near[0]), max(0, near[1]), max(1, near[2]), max(1, near[3])]

    images = [
        {"id": image_id, "file_name": f"{image_id}.jpg", "width": 640, "height": 480}
        for image_id in chance.sample(range(1000), 25)
    ]
    annotations, results = [], []

    def annotate(image, bbox, category_id, iscrowd):
        entry = {"id": len(annotations) + 1, "image_id": image["id"], "category_id": category_id}
        annotations.append({**entry, "bbox": bbox, "iscrowd": iscrowd})
        return annotations[-1]

    for position, image in enumerate(images):
        own = []
        for _ in range(0 if position % 6 == 0 else chance.randint(1, 12)):
            bbox = beside(chance.choice(own)["bbox"], 0.1) if own and chance.random() < 0.3 else box()
            own.append(annotate(image, bbox, chance.choice(IDS[:3]), int(chance.random() < 0.15)))
        if position == 1:
            annotate(image, box(), 90, 0)
        for _ in range(chance.randint(0, most)):
            if own and chance.random() < 0.8:
                near = chance.choice(own)
                bbox = beside(near["bbox"], 0.15)
                category_id = near["category_id"] if chance.random() < 0.7 else chance.choice(IDS[:3])
            else:
                bbox, category_id = box(), chance.choice(IDS if detections_of_absent else IDS[:3])
            score = chance.choice((0.2, 0.5, 0.8)) if tied_scores else chance.random()
            results.append({"image_id": image["id"], "category_id": category_id, "bbox": bbox, "score": score})
    return {"images": images, "annotations": annotations, "categories": _categories(*IDS)}, results


def case(truths, detections, *, categories=("cat", "dog"), images=(1,)):
    """Build a case from rows (image id, class, box, *crowd*) and (image id, class, box, score); ids start at 1."""
    ground_truth = {
        "images": [{"id": number, "file_name": f"{number}.jpg", "width": 640, "height": 480} for number in images],
        "annotations": [
            {
                "id": number,
                "image_id": image_id,
                "category_id": categories.index(name) + 1,
                "bbox": list(box),
                "iscrowd": int(bool(crowd)),
            }
            for number, (image_id, name, box, *crowd) in enumerate(truths, start=1)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(categories, start=1)],
    }
    results = [
        {"image_id": image_id, "category_id": categories.index(name) + 1, "bbox": list(box), "score": score}
        for image_id, name, box, score in detections
    ]
    return ground_truth, results


def case_by_hand():
    """Return a case with every kind of mistake between true detections; `test_mistakes` works out the costs."""
    truths = [
        (1, "cat", (0, 0, 100, 100)),
        (1, "cat", (200, 0, 100, 100)),
        (1, "cat", (400, 0, 100, 100)),
        (1, "dog", (0, 200, 100, 100)),
        (1, "dog", (200, 200, 100, 100)),
        (1, "dog", (400, 200, 100, 100)),
    ]
    detections = [
        (1, "dog", (200, 0, 100, 40), 0.97),  # IoU 0.4 with a cat: both
        (1, "dog", (400, 200, 100, 100), 0.95),  # right
        (1, "cat", (0, 0, 100, 100), 0.9),  # right
        (1, "cat", (0, 0, 100, 90), 0.8),  # duplicate
        (1, "cat", (200, 0, 100, 45), 0.7),  # IoU 0.45 with the second cat: localisation
        (1, "cat", (0, 200, 100, 100), 0.6),  # the first dog: classification
        (1, "cat", (500, 400, 50, 50), 0.5),  # background
        (1, "cat", (400, 0, 100, 100), 0.3),  # right
    ]
    return case(truths, detections)


def _categories(*ids):
    return [{"id": number, "name": f"class {number}"} for number in ids]
