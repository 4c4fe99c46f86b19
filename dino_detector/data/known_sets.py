"""Data sets that everyone has, and that nobody can mend."""

from __future__ import annotations

COCO_2017 = "COCO 2017 Dataset"
"""``info.description`` of COCO's own files. Its training split has boxes of zero height."""
