"""Checkpoints on disk: a digest, then what `torch.save` writes. The one before the last is kept.

They are read with `weights_only=True`, which runs no code, and survive a torn or damaged file: the digest is checked,
and the file before it is used.
"""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

DIGEST = 32


def write_atomically(path: Path, content: bytes) -> None:
    """All of the content or the old file, whatever happens in between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    if path.exists():
        os.replace(path, _before(path))
    write_atomically(path, hashlib.sha256(content).digest() + content)


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """The newest checkpoint that is whole; None where there is none."""
    import torch

    for candidate in (path, _before(path)):
        try:
            content = candidate.read_bytes()
        except OSError:
            continue
        if hashlib.sha256(content[DIGEST:]).digest() == content[:DIGEST]:
            state: dict[str, Any] = torch.load(io.BytesIO(content[DIGEST:]), weights_only=True, map_location="cpu")
            return state
    return None


def remove_checkpoint(path: Path) -> None:
    path.unlink(missing_ok=True)
    _before(path).unlink(missing_ok=True)


def _before(path: Path) -> Path:
    return path.with_suffix(".before.pt")
