"""``python3 -m dino_detector.train``: train a detector, or evaluate one with ``--only_evaluate``."""

import sys

from dino_detector.commands.train import main

if __name__ == "__main__":
    sys.exit(main(prog="python3 -m dino_detector.train"))
