"""Checkpoints: a digest, then what `torch.save` writes. The one before the last is kept.

They are read with `weights_only=True`, which runs no code, and survive a torn or damaged file: the digest is checked,
and the file before it is used.
"""

from __future__ import annotations

import hashlib
import io
from typing import Any

from .storage import Storage

DIGEST = 32


def write_checkpoint(storage: Storage, number: int, state: dict[str, Any]) -> None:
    """A trial's state: tensors, numbers and strings. Raises OSError where the storage refuses."""
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    storage.move(_name(number), _before(number))
    storage.write(_name(number), hashlib.sha256(content).digest() + content)


def read_checkpoint(storage: Storage, number: int) -> dict[str, Any] | None:
    """The newest checkpoint of a trial that is whole; None where there is none."""
    import torch

    for name in (_name(number), _before(number)):
        content = storage.read(name)
        if content is None or hashlib.sha256(content[DIGEST:]).digest() != content[:DIGEST]:
            continue
        try:
            state = torch.load(io.BytesIO(content[DIGEST:]), weights_only=True, map_location="cpu")
        except Exception:  # torch has no one error for what is none of ours; there is nothing to go on from, then
            continue
        if isinstance(state, dict):
            return state
    return None


def remove_checkpoint(storage: Storage, number: int) -> None:
    storage.remove(_name(number))
    storage.remove(_before(number))


def _name(number: int) -> str:
    return f"checkpoints/{number}.pt"


def _before(number: int) -> str:
    return f"checkpoints/{number}.before.pt"
