"""Types of the keyword arguments of each function, for editors and type checkers.

``python -m tools.write_keywords`` writes the other modules of this folder.
"""

from __future__ import annotations

import os

PathLike = str | os.PathLike[str]
Size = int | str | tuple[int, int]
"""a number of pixels, or height and width: ``518``, ``"504x896"``, ``(504, 896)``"""
