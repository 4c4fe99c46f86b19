"""``python3 -m dino_detector`` is ``dino-detector``."""

import sys

from dino_detector.cli import main

sys.exit(main())
