"""Write tide_reference.json: the results of the authors' package for the cases of test_mistakes.

Not a test: tidecv needs OpenCV, seaborn and pandas, which no other part needs. In an environment of its own, with
this folder as the current one and the package on the path:

    pip install tidecv==1.0.1 pycocotools
    python tide_reference.py cases.json

where cases.json comes from the environment of the project: ``python tide_reference.py > cases.json``.
"""

import contextlib
import io
import json
import sys
from pathlib import Path

REFERENCE = Path(__file__).with_name("tide_reference.json")
VERSION = "1.0.1"


def cases():
    """Return the compared cases by name: ground truth and results."""
    from detection_cases import case_by_hand, random_case

    seeds = {f"random {seed}": random_case(seed) for seed in range(4)}
    absent = {f"absent {seed}": random_case(seed, detections_of_absent=True) for seed in range(10, 13)}
    return {"by hand": case_by_hand(), **seeds, **absent}


def tide(ground_truth, results):
    """Return AP50, costs and counts by tidecv's names, and AP50 of each class before and after repairing each kind."""
    from tidecv import TIDE, Data

    truth, detections = Data("truth"), Data("detections")
    for image in ground_truth["images"]:
        truth.add_image(image["id"], image["file_name"])
    for category in ground_truth["categories"]:
        truth.add_class(category["id"], category["name"])
    for entry in ground_truth["annotations"]:
        add = truth.add_ignore_region if entry["iscrowd"] else truth.add_ground_truth
        add(entry["image_id"], entry["category_id"], entry["bbox"])
    for row in results:
        detections.add_detection(row["image_id"], row["category_id"], row["score"], row["bbox"])
    with contextlib.redirect_stdout(io.StringIO()):
        tool = TIDE()
        run = tool.evaluate(truth, detections, mode=TIDE.BOX, name="run")
    errors = tool.get_all_errors()

    def by_class(data):
        return {category_id: None if curve.is_empty() else curve.get_ap() for category_id, curve in data.objs.items()}

    return {
        "AP50": run.ap,
        "main": errors["main"]["run"],
        "special": errors["special"]["run"],
        "counts": {kind.short_name: count for kind, count in run.count_errors().items()},
        "classes": by_class(run.ap_data),
        "repaired": {
            kind.short_name: by_class(run.fix_errors(lambda error, kind=kind: isinstance(error, kind)))
            for kind in TIDE._error_types
        },
    }


if __name__ == "__main__":
    if len(sys.argv) == 1:
        json.dump(cases(), sys.stdout)
    else:
        given = json.loads(Path(sys.argv[1]).read_text())
        numbers = {name: tide(*case) for name, case in given.items()}
        REFERENCE.write_text(json.dumps({"tidecv": VERSION, "cases": numbers}, indent=1) + "\n")
