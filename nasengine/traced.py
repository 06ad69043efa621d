"""A model's code, written from what it does: torch.fx traces it down to torch's own layers and the calls between them.

Each layer becomes an attribute, made by a constructor call that is worked out from the layer's attributes and proven
by building it; the calls become the statements of `forward`.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import keyword
import math
import operator
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from itertools import chain, count
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, fx, nn

from .errors import ExportError, one_line

WIDTH = 110
PACKAGES = ("torch", "math", "operator", "_operator", "builtins")
MODEL = "model"
NOT_ATTRIBUTES = frozenset({*keyword.kwlist, *dir(nn.Module())})
NOT_VARIABLES = frozenset({*keyword.kwlist, *dir(builtins), "self", "torch", "nn", "functional", "inf", "nan", "device"})
BOOKKEEPING = frozenset(vars(nn.Module()))


class Program:
    """A model as statements.

    network: its layers and tensors under the names that they have as attributes of the class. argument: of `forward`.
    """

    def __init__(self, model: nn.Module) -> None:
        self._root = _OneArgument(model)
        graph = _trace(self._root)
        self._nodes = list(graph.nodes)
        self._used = list(dict.fromkeys(str(node.target) for node in self._nodes if node.op in ("call_module", "get_attr")))
        self._traced = {path for node in self._nodes for path in _scopes(node)} - {*self._used}
        self._parts: dict[str, set[str]] = defaultdict(set)
        for path in (*self._used, *self._traced):
            parent, _, part = path.rpartition(".")
            self._parts[parent].add(part)
        self.network = nn.Module()
        self._attributes = {path: self._adopt(path) for path in self._used}
        first = next(iter(inspect.signature(model.forward).parameters.values()))
        ...
