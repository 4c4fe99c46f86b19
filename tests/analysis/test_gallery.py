import pytest
from detection_cases import annotations_of, case, case_by_hand
from PIL import Image

from dino_detector.analysis.gallery import MOST_DETECTIONS, gallery
from dino_detector.analysis.matches import DetectionMatches
from dino_detector.analysis.mistakes import find_mistakes, image_mistakes

BOX = (0, 0, 100, 100)


def shown(built, *, threshold, count=10, folder=None):
    annotations, results = annotations_of(built[0]), built[1]
    matches = DetectionMatches.of(annotations, results)
    mistakes = find_mistakes(matches)
    return gallery(matches, mistakes, annotations, threshold=threshold, count=count, folder=folder)


def four_images():
    """Return four images: 1 is right, 2 misses a box, 3 invents two, 4 has only a crowd and ignored detections."""
    truths = [(1, "cat", BOX), (2, "cat", BOX), (4, "cat", BOX, "crowd")]
    detections = [
        (1, "cat", BOX, 0.9),
        (2, "cat", BOX, 0.3),
        (3, "cat", BOX, 0.8),
        (3, "dog", BOX, 0.7),
        (4, "cat", (10, 10, 10, 10), 0.9),
    ]
    return case(truths, detections, images=(4, 3, 2, 1))


def test_mistakes_of_images_by_hand():
    annotations, results = annotations_of(four_images()[0]), four_images()[1]
    matches = DetectionMatches.of(annotations, results)
    wrong = image_mistakes(matches, threshold=0.5)
    assert wrong.counts.tolist() == [0, 1, 2, 0]
    assert wrong.costs == pytest.approx([0, 1, 1.5, 0])
    assert image_mistakes(matches, threshold=0.3).counts.tolist() == [0, 0, 2, 0]
    assert image_mistakes(matches, threshold=0.75).counts.tolist() == [0, 1, 1, 0]


def test_the_worst_come_first_and_images_without_mistakes_are_left_out():
    content = shown(four_images(), threshold=0.5)
    assert [image["id"] for image in content["images"]] == [3, 2]
    assert (content["total"], content["threshold"]) == (2, 0.5)


def test_no_more_than_asked_for_are_shown_and_loaded(tmp_path, caplog):
    Image.new("RGB", (640, 480)).save(tmp_path / "3.jpg")  # the only file: another one would be missed
    content = shown(four_images(), threshold=0.5, count=1, folder=tmp_path)
    assert [(image["id"], image["thumbnail"][:5]) for image in content["images"]] == [(3, "data:")]
    assert not caplog.messages
    assert content["total"] == 2
    assert shown(four_images(), threshold=0.5, count=0)["images"] == []


def test_boxes_carry_what_finds_them_and_detections_what_they_are():
    [image] = shown(case_by_hand(), threshold=0.5)["images"]
    assert [entry["found"] for entry in image["truth"]] == [0.9, None, 0.3, None, None, 0.95]
    assert [(entry["score"], entry["kind"], entry["iou"]) for entry in image["detections"]] == [
        (0.97, "both", 0.4),
        (0.95, "correct", 1.0),
        (0.9, "correct", 1.0),
        (0.8, "duplicate", 0.9),
        (0.7, "localisation", 0.45),
        (0.6, "classification", 1.0),
        (0.5, "background", 0.0),
        (0.3, "correct", 1.0),
    ]
    assert (image["file_name"], image["width"], image["height"]) == ("1.jpg", 640, 480)
    # Missed at 0.5: the second and third cat and two dogs; false: 0.97, 0.8, 0.7, 0.6 and 0.5.
    assert image["cost"] == pytest.approx(4 + 3.57)


def test_crowds_are_drawn_but_never_found():
    truths = [(1, "cat", BOX, "crowd"), (1, "cat", (200, 200, 50, 50))]
    [image] = shown(case(truths, [(1, "cat", (0, 0, 50, 50), 0.9)]), threshold=0.5)["images"]
    assert [(entry["crowd"], entry["found"]) for entry in image["truth"]] == [(True, None), (False, None)]
    assert [(entry["kind"], entry["iou"]) for entry in image["detections"]] == [("ignored", 1.0)]


def test_low_scores_are_left_out_unless_the_threshold_is_lower():
    detections = [(1, "cat", BOX, 0.9), (1, "cat", BOX, 0.04)]
    [image] = shown(case([], detections), threshold=0.5)["images"]
    assert len(image["detections"]) == 1
    content = shown(case([], detections), threshold=0.0412)
    assert content["lowest"] == 0.04, "the slider goes no lower"
    assert len(content["images"][0]["detections"]) == 2


def test_an_image_has_its_best_hundred_detections():
    detections = [(1, name, BOX, 0.1 + number / 1000) for number in range(80) for name in ("cat", "dog")]
    [image] = shown(case([], detections), threshold=0.1)["images"]
    scores = [entry["score"] for entry in image["detections"]]
    assert len(scores) == MOST_DETECTIONS
    assert scores == sorted(scores, reverse=True)
    assert min(scores) == pytest.approx(0.13)
