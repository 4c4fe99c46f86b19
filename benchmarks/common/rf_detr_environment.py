"""A virtual environment for RF-DETR, whose dependencies conflict with ours; it takes about 6 GB."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from dino_detector.errors import InputError

REQUIREMENT = "rfdetr[train]==1.11.2"


def rf_detr_python(given: Path | None) -> Path:
    """Return the interpreter of an environment with RF-DETR.

    Args:
        given: interpreter to check and use; None installs RF-DETR into the user's cache on the first call.

    Raises:
        InputError: the given interpreter can't import RF-DETR, or pip can't install it.
    """
    if given is not None:
        check = subprocess.run([str(given), "-c", "import rfdetr, pytorch_lightning"], capture_output=True, text=True)
        if check.returncode:
            raise InputError(f'--rfdetr_python {given}: can\'t import RF-DETR; pip install "{REQUIREMENT}" there')
        return given
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "dinov2-od" / REQUIREMENT.replace("[train]==", "-")
    python, installed = folder / "bin" / "python", folder / "installed"
    if installed.exists():
        return python
    print(f"installing {REQUIREMENT} into {folder}: once, some minutes and about 6 GB", flush=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = subprocess.run([str(python), "-m", "pip", "install", "--quiet", REQUIREMENT])
    if pip.returncode:
        raise InputError(f"{REQUIREMENT} can't be installed; give --rfdetr_python, or leave RF-DETR out of --systems")
    installed.touch()
    return python
