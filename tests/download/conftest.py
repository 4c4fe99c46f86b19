from __future__ import annotations

import pytest

from dino_detector.download import http


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for milliseconds instead of seconds."""
    monkeypatch.setattr(http, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(http, "READ_TIMEOUT", 0.3)
