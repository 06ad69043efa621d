"""Request and Trial: the work that a strategy asks for, and what came of it. Objective: what counts as better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from .architecture import Architecture
from .errors import ConfigError
from .evaluator import FULL, Fidelity

Purpose: TypeAlias = Literal["search", "final", "baseline", "preparation"]
State: TypeAlias = Literal["done", "pruned", "failed", "out_of_memory", "timed_out"]
Verdict: TypeAlias = State | Literal["interrupted"]
"""How a trial is told to end. One that is interrupted leaves a checkpoint and no result."""


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Judge an architecture. Only requests whose purpose is `final` or `baseline` read the test data.

    parent: the number of an earlier trial of the run whose trained weights the candidate begins with, where names and
    shapes agree; None to begin anew. stage: of the run's funnel, by whose evaluator it is judged, counted from 0.
    """

    architecture: Architecture
    fidelity: Fidelity = FULL
    purpose: Purpose = "search"
    parent: int | None = None
    stage: int = 0


@dataclass(frozen=True, slots=True)
class Teach:
    """Let the evaluator of a stage learn what it judges by, once, before its first candidate."""

    stage: int = 0
    purpose: Purpose = "preparation"


@dataclass(frozen=True, slots=True)
class Learn:
    """Let the strategy learn inside a supernet; `restart` counts its independent repetitions."""

    restart: int = 0
    purpose: Purpose = "search"


Request: TypeAlias = Evaluate | Learn | Teach


def request_to_dict(request: Request) -> dict[str, Any]:
    if isinstance(request, Learn):
        return {"kind": "learn", "restart": request.restart, "purpose": request.purpose}
    if isinstance(request, Teach):
        return {"kind": "teach", "stage": request.stage, "purpose": request.purpose}
    architecture, fidelity = request.architecture.to_dict(), request.fidelity.to_dict()
    data: dict[str, Any] = {
        "kind": "evaluate",
        "architecture": architecture,
        "fidelity": fidelity,
        "purpose": request.purpose,
    }
    data |= {} if request.parent is None else {"parent": request.parent}
    return data if request.stage == 0 else {**data, "stage": request.stage}


def request_from_dict(data: Mapping[str, Any]) -> Request:
    if data["kind"] == "learn":
        return Learn(data["restart"], data["purpose"])
    if data["kind"] == "teach":
        return Teach(data["stage"], data["purpose"])
    fidelity = Fidelity(**{name: value for name, value in data["fidelity"].items() if type(value) is int or value != 1})
    architecture = Architecture.from_dict(data["architecture"])
    return Evaluate(architecture, fidelity, data["purpose"], data.get("parent"), data.get("stage", 0))


@dataclass(frozen=True, slots=True)
class Report:
    """What a trial knows after an epoch, counted from 1. epochs: how many there will be at most, if known. note: what
    people should know of it at once."""

    number: int
    epoch: int
    metrics: Mapping[str, float]
    epochs: int | None = None
    derived: Architecture | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended: a Trial without what only the engine knows."""

    number: int
    state: Verdict
    metrics: Mapping[str, float] = field(default_factory=dict)
    curve: tuple[Mapping[str, float], ...] = ()
    seconds: float = 0.0
    worker: str = "local"
    error: str | None = None
    derived: Architecture | None = None
    details: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Lost:
    """The worker of a request is gone, or ran out of memory that it shares: the request may run again.

    state: what the trial's is if it may not. blamed: whether the request may have been the cause (a node that leaves
    is nobody's fault, and does not count as one of its tries).
    """

    number: int
    state: State
    error: str
    blamed: bool = True


@dataclass(frozen=True, slots=True)
class Trial:
    """A request that came back.

    metrics: finite floats by name. curve: the metrics after each epoch. seconds: what it took. error: one line.
    derived: the architecture that a `Learn` arrived at. same_as: the number of the earlier trial of the same network
    whose result this is. details: for people (a traceback). notes: what was said of it while it ran.
    """

    number: int
    request: Request
    state: State
    metrics: Mapping[str, float] = field(default_factory=dict)
    curve: tuple[Mapping[str, float], ...] = ()
    seconds: float = 0.0
    worker: str = "local"
    error: str | None = None
    seed: int = 0
    derived: Architecture | None = None
    same_as: int | None = None
    details: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def architecture(self) -> Architecture | None:
        return self.request.architecture if isinstance(self.request, Evaluate) else self.derived

    @property
    def purpose(self) -> Purpose:
        return self.request.purpose

    @property
    def stage(self) -> int:
        """Of the run's funnel, counted from 0."""
        return 0 if isinstance(self.request, Learn) else self.request.stage

    @property
    def origin(self) -> int:
        """The number of the trial whose result and weights these are: its own, or `same_as`."""
        return self.number if self.same_as is None else self.same_as

    def to_dict(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "metrics": dict(self.metrics),
            "curve": [dict(point) for point in self.curve],
            "seconds": self.seconds,
            "worker": self.worker,
            "error": self.error,
            "derived": self.derived and self.derived.to_dict(),
            "same_as": self.same_as,
            "details": self.details,
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, number: int, request: Request, seed: int, data: Mapping[str, Any]) -> Trial:
        derived = Architecture.from_dict(data["derived"]) if data["derived"] else None
        rest = {name: data[name] for name in ("state", "metrics", "seconds", "worker", "error", "same_as", "details")}
        notes = tuple(data.get("notes", ()))  # which records had not from the beginning
        return cls(number, request, curve=tuple(data["curve"]), derived=derived, seed=seed, notes=notes, **rest)


@dataclass(frozen=True, slots=True)
class Objective:
    """A metric that counts, and its direction."""

    metric: str
    direction: Literal["max", "min"] = "max"

    @classmethod
    def parse(cls, text: str) -> Objective:
        """`accuracy:max`, `parameters:min`; without a direction: max. Raises ConfigError."""
        metric, _, direction = text.partition(":")
        if not metric or direction not in ("", "max", "min"):
            raise ConfigError(f"{text!r} is no objective; expected METRIC:max or METRIC:min, such as accuracy:max")
        return cls(metric, "min" if direction == "min" else "max")

    def __str__(self) -> str:
        return f"{self.metric}:{self.direction}"

    def score(self, trial: Trial) -> float | None:
        """Higher is better; None where the trial has no usable value: it failed, or the metric is not finite."""
        if trial.state not in ("done", "pruned"):
            return None
        value = trial.metrics.get(self.metric)
        if value is None or not math.isfinite(value):
            return None
        return value if self.direction == "max" else -value
