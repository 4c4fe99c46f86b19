import numpy as np
import pytest
from detection_cases import annotations_of, case, random_case

from dino_detector.analysis import comparison
from dino_detector.analysis.comparison import bootstrap, flipped_images, resampled_ap
from dino_detector.analysis.matches import DetectionMatches
from dino_detector.validate import coco_metrics

BOX = (0, 0, 100, 100)


def matched(built):
    ground_truth, results = built
    return DetectionMatches.of(annotations_of(ground_truth), results)


def drawn(ground_truth, results, weights):
    """Return a data set that repeats each image as often as its weight says, in the order of the ids."""
    images, annotations, rows = [], [], []
    for image, weight in zip(sorted(ground_truth["images"], key=lambda image: image["id"]), weights, strict=True):
        for _ in range(weight):
            number = len(images) + 1
            images.append({**image, "id": number})
            for entry in ground_truth["annotations"]:
                if entry["image_id"] == image["id"]:
                    annotations.append({**entry, "image_id": number, "id": len(annotations) + 1})
            rows += [{**row, "image_id": number} for row in results if row["image_id"] == image["id"]]
    return {**ground_truth, "images": images, "annotations": annotations}, rows


@pytest.mark.parametrize("tied_scores", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_every_image_once_is_cocos_ap(seed, tied_scores):
    ground_truth, results = random_case(seed, tied_scores=tied_scores, detections_of_absent=True, most=120)
    annotations = annotations_of(ground_truth)
    matches = DetectionMatches.of(annotations, results)
    once = resampled_ap(matches)(np.ones(len(matches.image_ids), dtype=np.int64))
    assert once == pytest.approx(coco_metrics(annotations.ground_truth, results).AP, abs=1e-9)
    assert once > 0


@pytest.mark.parametrize("seed", range(4))
def test_a_draw_is_an_evaluation_of_the_drawn_images(seed):
    ground_truth, results = random_case(seed)
    weights = np.random.default_rng(seed).multinomial(25, np.ones(25) / 25)
    assert 0 in weights
    assert weights.max() > 1
    repeated, rows = drawn(ground_truth, results, weights)
    expected = coco_metrics(annotations_of(repeated).ground_truth, rows).AP
    assert resampled_ap(matched((ground_truth, results)))(weights) == pytest.approx(expected, abs=1e-9)


def test_a_run_does_not_differ_from_itself(monkeypatch):
    monkeypatch.setattr(comparison, "RESAMPLES", (50, 50))
    matches = matched(random_case(0))
    interval = bootstrap(matches, matches)
    assert (interval["difference"], interval["low"], interval["high"]) == (0, 0, 0)


def test_the_interval_turns_with_the_runs_and_repeats(monkeypatch):
    monkeypatch.setattr(comparison, "RESAMPLES", (200, 200))
    ground_truth, results = random_case(1)
    better, worse = matched((ground_truth, results)), matched((ground_truth, results[::2]))
    one, other = bootstrap(better, worse), bootstrap(worse, better)
    assert one["low"] < one["difference"] < one["high"]
    assert (one["low"], one["high"]) == pytest.approx((-other["high"], -other["low"]))
    assert one == bootstrap(better, worse)


def test_the_interval_is_that_of_the_exact_distribution(monkeypatch):
    monkeypatch.setattr(comparison, "RESAMPLES", (2000, 2000))
    # 40 images with one box each; the run finds all boxes, the baseline the boxes of even ids. Its AP is the recall it
    # reaches at precision 1, rounded to 101 levels. Over draws the recall is binomial: 0.5 with deviation 0.079.
    truths = [(number, "cat", BOX) for number in range(1, 41)]
    built = case(truths, [(number, "cat", BOX, 0.9) for number in range(1, 41)], images=range(1, 41))
    fewer = (built[0], built[1][1::2])
    interval = bootstrap(matched(built), matched(fewer))
    assert interval["difference"] == pytest.approx(1 - 51 / 101)
    assert interval["low"] == pytest.approx(0.5 - 1.96 * 0.079, abs=0.03)
    assert interval["high"] == pytest.approx(0.5 + 1.96 * 0.079, abs=0.03)


def test_without_ground_truth_there_is_no_interval():
    matches = matched(case([], [(1, "cat", BOX, 0.5)]))
    assert bootstrap(matches, matches) is None


def test_few_detections_are_resampled_a_thousand_times():
    matches = matched(case([(1, "cat", BOX)], []))
    assert bootstrap(matches, matches)["resamples"] == 1000


def numbers(images):
    return [(image["id"], image["baseline_mistakes"], image["mistakes"]) for image in images]


def test_flipped_images_by_hand():
    truths = [(1, "cat", BOX), (2, "cat", BOX), (2, "dog", BOX), (3, "cat", BOX)]
    images = (1, 2, 3, 4)
    now = [(1, "cat", BOX, 0.9), (2, "cat", BOX, 0.9), (2, "dog", BOX, 0.9), (4, "cat", BOX, 0.9)]
    before = [(2, "cat", BOX, 0.3), (2, "dog", BOX, 0.2), (3, "cat", BOX, 0.2), (1, "cat", BOX, 0.1)]
    flipped = flipped_images(
        matched(case(truths, now, images=images)),
        matched(case(truths, before, images=images)),
        threshold=0.5,
        baseline_threshold=0.2,
    )
    assert numbers(flipped["gained"]) == [(1, 1, 0)]
    assert numbers(flipped["lost"]) == [(3, 0, 1), (4, 0, 1)]


def test_those_with_the_most_mistakes_come_first():
    truths = [(1, "cat", BOX), (2, "cat", BOX), (2, "dog", BOX)]
    now = [(1, "cat", BOX, 0.9), (2, "cat", BOX, 0.9), (2, "dog", BOX, 0.9)]
    flipped = flipped_images(
        matched(case(truths, now, images=(1, 2))),
        matched(case(truths, [], images=(1, 2))),
        threshold=0.5,
        baseline_threshold=0.5,
    )
    assert numbers(flipped["gained"]) == [(2, 2, 0), (1, 1, 0)]
