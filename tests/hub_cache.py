"""A stand-in for the Hugging Face cache: names such as facebook/dinov2-small load without a network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest


def fill_hub_cache(folder: Path, names: Sequence[str], write_dinov2: Callable[..., Path]) -> None:
    """Write tiny models of random weights in the layout of ``hf download``.

    A name has the same weights in every cache; different names have different weights. As on the hub, the giant has the
    SwiGLU feed-forward network, and ``-with-registers-`` has four registers.

    Args:
        folder: the folder of ``HF_HUB_CACHE``, which is ``hub`` inside ``HF_HOME``.
        names: such as ``facebook/dinov2-small``.
        write_dinov2: the fixture that writes one model.
    """
    for name in names:
        commit = hashlib.sha1(name.encode()).hexdigest()
        repository = folder / f"models--{name.replace('/', '--')}"
        write_dinov2(
            repository / "snapshots" / commit,
            registers=4 if "-with-registers-" in name else 0,
            seed=int(commit[:8], 16),
            use_swiglu_ffn=name.endswith("-giant"),
        )
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(commit)


def serve_hub_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process and its children read hub names only from a filled cache.

    huggingface_hub reads the environment once, when it is imported, and looks up its constants in every call.
    """
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
