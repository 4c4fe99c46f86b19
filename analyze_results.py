"""Charts, tables and pictures of results; ``python3 analyze_results.py --help`` says what to give."""

import sys

from dino_detector.commands.analyze import main

if __name__ == "__main__":
    sys.exit(main(prog="python3 analyze_results.py"))
