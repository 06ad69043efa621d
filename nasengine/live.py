"""How many bytes of tensors a computation holds at a time, counted while it runs, also on torch's `meta` device."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts each dense tensor that is made inside `with LiveBytes() as live:` until nobody holds it any more, and
    views of one as that one.

    most: the most bytes at a time.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._held: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {storage._cdata for storage in _storages((args, kwargs))}
        made = func(*args, **(kwargs or {}))
        for storage in _storages(made):
            key, size = storage._cdata, storage.nbytes()
            if key not in given and key not in self._held:
                self._held[key] = weakref.ref(storage, lambda _, key=key, size=size: self._drop(key, size))  # type: ignore[misc]
                self.now += size
        self.most = max(self.most, self.now)
        return made

    def _drop(self, key: int, size: int) -> None:
        del self._held[key]
        self.now -= size


def _storages(values: Any) -> list[torch.UntypedStorage]:
    tensors = (leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor) and leaf.layout == torch.strided)
    return [tensor.untyped_storage() for tensor in tensors]
