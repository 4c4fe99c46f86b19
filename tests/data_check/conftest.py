from __future__ import annotations

from pathlib import Path

import pytest
from small_set import Data


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data(tmp_path / "set")
