"""The choosers behind `choose`: one keeps every option (and records them), one keeps what an architecture picked."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from .architecture import Architecture, Pick
from .decision import ALWAYS, Decision, Option, Path
from .errors import ArchitectureError, SpaceError
from .supernet import Depth, Gate, One, Several
from .widths import Largest

if TYPE_CHECKING:
    from .space import Factory, Value


class _NoInitialisation(TorchFunctionMode):
    """Leaves new parameters as they are: initialising what has no values is work, and imports half of torch."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


@contextmanager
def shapes_only() -> Iterator[None]:
    """What is built inside has shapes, but neither memory nor values."""
    collects = gc.isenabled()
    gc.disable()  # thousands of small objects, none of them garbage yet: looking for it takes a third of the time
    try:
        with torch.device("meta"), _NoInitialisation():
            yield
    finally:
        if collects:
            gc.enable()


class EveryOption:
    """The chooser that keeps everything: on the `meta` device it records the domain, elsewhere it makes a supernet."""

    def __init__(self) -> None:
        self._decisions: dict[str, Decision] = {}
        self._gates: dict[str, Gate] = {}
        self._path: Path = ()

    @property
    def decisions(self) -> list[Decision]:
        return list(self._decisions.values())

    def finished_gates(self, space: str) -> dict[str, Gate]:
        """The gates by decision. Raises SpaceError where a chosen value has no effect in a supernet."""
        for name, gate in self._gates.items():
            if not gate.used:
                raise SpaceError(
                    f"the space {space!r} has no supernet: it does not say how its value {name!r} is cut down from "
                    f"the largest (see mask_channels); use a strategy that trains one candidate at a time"
                )
        return self._gates

    def one(self, name: str, options: Mapping[str, Factory]) -> nn.Module:
        gate = self._note(name, "one", tuple(options))
        return One(gate.decision, self._build(gate.decision, options.values()), gate)

    def some(self, name: str, options: Mapping[str, Factory], k: int) -> Several:
        gate = self._note(name, "some", tuple(options), k)
        return Several(gate.decision, self._build(gate.decision, options.values()), gate)

    def depth(self, name: str, layers: Sequence[Factory], at_least: int = 1) -> Depth:
        if at_least < 0:
            raise SpaceError(f"the decision {name!r} has at_least = {at_least}; expected 0 or more layers")
        gate = self._note(name, "depth", tuple(range(at_least, len(layers) + 1)))
        return Depth(list(self._build(gate.decision, layers, range(len(layers))).values()), gate)

    def value(self, name: str, values: Sequence[Value]) -> Value:
        gate = self._note(name, "value", tuple(values))
        largest = max(values)
        if isinstance(largest, bool) or not isinstance(largest, int):
            return largest
        return Largest.of(gate, largest)

    def _build(
        self, decision: Decision, factories: Any, inside: Sequence[Option] | None = None
    ) -> dict[int, nn.Module]:
        built, outside = {}, self._path
        for index, factory in enumerate(factories):
            self._path = (*outside, (decision.name, decision.options[index] if inside is None else inside[index]))
            try:
                built[index] = _made(factory, decision)
            finally:
                self._path = outside
        return built

    def _note(
        self, name: str, kind: Literal["one", "some", "depth", "value"], options: tuple[Option, ...], k: int = 1
    ) -> Gate:
        """Records that the decision was met here, inside the options on the current path."""
        if strange := [option for option in options if not _lasting(option, kind)]:
            expected = "names as str" if kind in ("one", "some") else "finite numbers or str, of Python's own types"
            raise SpaceError(f"the decision {name!r} has the option {strange[0]!r}; expected {expected}")
        if not options or len(set(options)) != len(options):
            raise SpaceError(f"the decision {name!r} has the options {options}; expected at least one, all different")
        if not 1 <= k <= len(options):
            raise SpaceError(f"the decision {name!r} keeps {k} of {len(options)} options")
        if name in (decision for decision, _ in self._path):
            raise SpaceError(f"the decision {name!r} is met inside one of its own options")
        met = self._decisions.get(name)
        if met is not None and (met.kind, met.options, met.k) != (kind, options, k):
            raise SpaceError(f"the decision {name!r} is met twice, with different options")
        when = frozenset({self._path}) if met is None else met.when | {self._path}
        self._decisions[name] = Decision(name, kind, options, k, ALWAYS if () in when else when)
        gate = self._gates.setdefault(name, Gate(self._decisions[name]))
        gate.decision = self._decisions[name]
        return gate


def _made(factory: Factory, decision: Decision) -> nn.Module:
    module: object = factory()
    if not isinstance(module, nn.Module):
        raise SpaceError(f"an option of the decision {decision.name!r} made {module!r}; expected an nn.Module")
    return module


def _lasting(option: object, kind: str) -> bool:
    """Whether the option comes back from JSON as it was, value and type."""
    if kind in ("one", "some"):
        return type(option) is str
    return type(option) in (str, int, bool) or (type(option) is float and math.isfinite(option))


class OnlyPicked:
    """The chooser that keeps what an architecture picked: a plain model."""

    def __init__(self, architecture: Architecture) -> None:
        self._picks = architecture.picks

    def one(self, name: str, options: Mapping[str, Factory]) -> nn.Module:
        return One(*self._kept(Decision(name, "one", tuple(options)), options), gate=None)

    def some(self, name: str, options: Mapping[str, Factory], k: int) -> Several:
        return Several(*self._kept(Decision(name, "some", tuple(options), k), options), gate=None)

    def depth(self, name: str, layers: Sequence[Factory], at_least: int = 1) -> Depth:
        decision = Decision(name, "depth", tuple(range(at_least, len(layers) + 1)))
        depth = self._pick(decision)
        return Depth([_made(layer, decision) for layer in layers[: int(depth)]], gate=None)  # type: ignore[arg-type]

    def value(self, name: str, values: Sequence[Value]) -> Value:
        return self._pick(Decision(name, "value", tuple(values)))  # type: ignore[return-value]

    def _kept(self, decision: Decision, options: Mapping[str, Factory]) -> tuple[Decision, dict[int, nn.Module]]:
        pick, factories = self._pick(decision), list(options.values())
        return decision, {index: _made(factories[index], decision) for index in decision.indices(pick)}

    def _pick(self, decision: Decision) -> Pick:
        pick = self._picks.get(decision.name)
        if pick is None or not decision.allows(pick):
            raise ArchitectureError(f"the architecture's pick for {decision.name!r} is {pick!r}, which is no option")
        return pick
