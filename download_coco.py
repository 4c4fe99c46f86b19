"""Download COCO 2017; ``python3 download_coco.py --help`` says what to give."""

import sys

from dino_detector.commands.download import main

if __name__ == "__main__":
    sys.exit(main(prog="python3 download_coco.py"))
