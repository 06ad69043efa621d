"""What an architecture costs, before anything is trained: parameters, FLOPs, memory, and the latency that a table
foretells; and constraints on these."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import cycle
from math import inf
from threading import Timer
from typing import TYPE_CHECKING, Any, Literal

from .architecture import Architecture, Pick
from .errors import ConfigError, near_miss

if TYPE_CHECKING:
    from torch import nn

    from .decision import Decision
    from .domain import Domain
    from .space import SearchSpace
    from .task import Task

METRICS = ("parameters", "flops", "memory")
"""What is counted on shapes alone, the same on every machine."""
REMEMBERED = 50_000
"""How many costs are kept; a search may look at millions of architectures."""
STARTS = 10
"""Random architectures, of which the best is where the lowest cost is looked for from."""
WHILE = 2.0
"""Seconds of looking for what meets the constraints, until it is said."""
LATENCY = r"latency(?:_([1-9]\d*))?"
"""`latency`, of one example, or `latency_32`, of so many at a time."""
UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9}


@dataclass(frozen=True, slots=True)
class Constraint:
    """A bound on a cost: `parameters<=1e6`, `flops>=2M`, `memory<=4M` (bytes), `latency_32<=5` (milliseconds)."""

    metric: str
    sign: Literal["<=", ">="]
    limit: float

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Raises ConfigError."""
        match = re.fullmatch(r"\s*(\w+)\s*(<=|>=)\s*([0-9.]+(?:e[+-]?\d+)?)\s*([kmgb]?)\s*", text.lower())
        if not match:
            raise ConfigError(f"{text!r} is no constraint; expected one like parameters<=1e6 or flops<=300M")
        metric, sign, number, unit = match.groups()
        if metric not in METRICS and not re.fullmatch(LATENCY, metric):
            names = (*METRICS, "latency")
            hint = near_miss(metric, names)
            raise ConfigError(f"{metric!r} cannot be constrained; expected {', '.join(METRICS)} or latency.{hint}")
        try:
            limit = float(number) * UNITS[unit]
        except ValueError:
            raise ConfigError(f"{number!r} in the constraint {text!r} is no number") from None
        if not 0 < limit < float("inf"):
            raise ConfigError(f"the constraint {text!r} has the limit {limit:g}; expected a positive number")
        return cls(metric, "<=" if sign == "<=" else ">=", limit)

    def __str__(self) -> str:
        return f"{self.metric}{self.sign}{self.limit:.15g}"

    def excess(self, cost: float) -> float:
        """By how much the cost breaks the constraint, as a fraction of the limit; 0 where it does not."""
        over = cost / self.limit - 1 if self.sign == "<=" else self.limit / max(cost, 1e-9) - 1
        return max(0.0, over)


def parameters(model: nn.Module) -> int:
    """The number of trainable and fixed weights, each once."""
    return sum(parameter.numel() for parameter in model.parameters())


def flops(model: nn.Module, task: Task) -> int:
    """The floating-point operations of one forward pass of one example, by torch's own counter.

    It counts convolutions and matrix products, a multiplication and an addition as two operations; papers often count
    them as one.
    """
    from .shapes import OncePerShape

    counter = OncePerShape()
    examples, count = _examples(task)
    _run(model, examples, counter)
    return counter.flops // count


def weight_bytes(model: nn.Module) -> int:
    """What the weights take, and whatever else the model keeps, such as running means."""
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))


def memory(model: nn.Module, task: Task) -> int:
    """The bytes of the weights and, at most, of all tensors that a forward pass of one example holds at a time."""
    from .live import LiveBytes

    counter = LiveBytes()
    example = one_example(task)
    _run(model, example, counter)
    return weight_bytes(model) + int(example.nbytes) + counter.most


def countable(example: Any) -> bool:
    """Whether what a model is called with can be moved to where the model is, and measured."""
    return hasattr(example, "to") and hasattr(example, "nbytes")


def one_example(task: Task, batch: int = 1) -> Any:
    """What a model is called with, for one example, or for so many the same. Raises ConfigError."""
    import torch

    examples, _ = _examples(task)
    if isinstance(examples, torch.Tensor):
        return examples[:1].repeat_interleave(batch, 0)
    if batch > 1:
        raise ConfigError(
            f"a latency of {batch} examples at a time is measured on tensors, and an example of the task "
            f"{task.known_as!r} is a {type(examples).__name__}; ask for latency, which is of one"
        )
    return examples


def _examples(task: Task) -> tuple[Any, int]:
    """What a model is called with, and how many examples it is. Raises ConfigError."""
    import torch

    examples = task.example()
    if isinstance(examples, torch.Tensor):
        return examples, len(examples)
    if not countable(examples):
        raise ConfigError(
            f"FLOPs, memory and latency are of tensors, or of what has `to` and `nbytes` as these have; an example of "
            f"the task {task.known_as!r} has not"
        )
    return examples, 1


def _run(model: nn.Module, examples: Any, counter: AbstractContextManager[object]) -> None:
    """A forward pass in evaluation mode, which the counter looks on."""
    import torch

    training = model.training
    device = next((tensor.device for tensor in model.state_dict().values()), torch.device("cpu"))
    given = examples.to(device)
    with torch.no_grad(), counter:
        model.eval()(given)
    model.train(training)


COUNTS: Mapping[str, Callable[[nn.Module, Task], int]] = {"flops": flops, "memory": memory}


def cost_of(model: nn.Module, task: Task) -> dict[str, float]:
    """The model's `parameters`, and its `flops` where these can be counted, as metrics."""
    costs = {"parameters": float(parameters(model))}
    return costs | ({"flops": float(flops(model, task))} if countable(task.example()) else {})


class Costs:
    """The costs of a space's architectures on a task, from models without memory (torch's `meta` device), or, a
    latency, from the space's table."""

    def __init__(self, space: SearchSpace, task: Task) -> None:
        self._space, self._task = space, task
        self._known: dict[tuple[str, str], float] = {}

    def of(self, architecture: Architecture, metric: str) -> float:
        key = architecture.id, metric
        if key not in self._known:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[key] = self._count(architecture, metric)
        return self._known[key]

    def _count(self, architecture: Architecture, metric: str) -> float:
        import torch

        table = self._space.latency_table
        if table is not None and metric == table.metric:
            return table.latency(architecture)
        model = self._space.shape(architecture, self._task)
        # building takes longer than counting, and a bound on one often comes with a bound on the other
        self._known[architecture.id, "parameters"] = weights = parameters(model)
        if metric == "parameters":
            return weights
        try:
            return COUNTS[metric](model, self._task)
        except RuntimeError:  # by layers whose shapes depend on values, such as those of a graph's edges
            with torch.random.fork_rng(devices=[]):
                return COUNTS[metric](self._space.model(architecture, self._task), self._task)

    def violation(self, constraints: Sequence[Constraint]) -> Callable[[Architecture], float]:
        """By how much an architecture breaks constraints: the sum of the excesses."""
        return lambda architecture: sum(c.excess(self.of(architecture, c.metric)) for c in constraints)

    def least(self, domain: Domain, constraint: Constraint) -> float:
        """The lowest (for `>=`: highest) cost found in the space, see `lowest`; or one that meets the constraint."""
        sign = 1 if constraint.sign == "<=" else -1
        cost = lowest(domain, lambda one: sign * self.of(one, constraint.metric), sign * constraint.limit)[1]
        return sign * cost


def lowest(domain: Domain, cost: Callable[[Architecture], float], enough: float = -inf) -> tuple[Architecture, float]:
    """The architecture of the lowest cost that was found, and this cost: from the best of a few, of decisions that have
    the same options first the best pick for all of them at once, then decision by decision the best one, until none is
    better, or the cost is no more than enough. The true minimum where decisions do not work against each other, else a
    bound for it."""
    import numpy as np

    rng = np.random.default_rng(0)
    best = domain.complete({})
    value, wanted = cost(best), dict(best.picks)

    def better(edited: Architecture, changes: Mapping[str, Pick]) -> bool:
        nonlocal wanted, best, value
        if value <= enough or (after := cost(edited)) >= value:
            return False
        wanted, best, value = {**wanted, **edited.picks, **changes}, edited, after
        return True

    def changed(changes: Mapping[str, Pick]) -> bool:
        return better(domain.complete({**wanted, **changes}), changes)

    for _ in range(STARTS):
        better(domain.sample(rng), {})
    alike: dict[tuple[object, ...], list[Decision]] = {}
    for decision in domain.decisions.values():
        alike.setdefault((decision.kind, decision.options, decision.k), []).append(decision)
    for group in alike.values():
        for pick in group[0].picks():
            changed({decision.name: pick for decision in group})
    unimproved = 0
    for decision in cycle(domain.decisions.values()):
        if unimproved == len(domain.decisions) or value <= enough:
            return best, value
        unimproved += 1
        for pick in decision.neighbors(best.picks[decision.name]) if decision.name in best.picks else ():
            unimproved = 0 if changed({decision.name: pick}) else unimproved
    return best, value


def refuse_the_impossible(
    space: SearchSpace, task: Task, domain: Domain, seed: int, note: Callable[[str], None] = lambda text: None
) -> None:
    """Raises ConfigError, naming the space's smallest (largest) cost, where no architecture meets the constraints.

    note: is told, where this takes a while, what is going on.
    """
    import numpy as np

    from .wording import worded

    if not space.constraints:
        return
    asked = " and ".join(map(str, space.constraints))
    refused = f"no architecture of the space {space.known_as!r} with {asked} was found"
    told = Timer(WHILE, note, [f"looking for an architecture with {asked}"])
    told.daemon = True
    told.start()
    try:
        costs, free = Costs(space, task), space.constrained(())._domain([*domain.decisions.values()], task)
        for constraint in space.constraints:
            least = costs.least(free, constraint)
            if constraint.excess(least) > 0:
                word = "smallest" if constraint.sign == "<=" else "largest"
                raise ConfigError(f"{refused}; the {word} that was found has {worded(constraint.metric, least)}")
        if len(space.constraints) > 1:
            nearest = domain.nearest(np.random.default_rng(seed))
            if not domain.allows(nearest):
                metrics = dict.fromkeys(constraint.metric for constraint in space.constraints)
                found = " and ".join(worded(metric, costs.of(nearest, metric)) for metric in metrics)
                raise ConfigError(
                    f"{refused}, though each of these can be met alone; the nearest that was found has {found}"
                )
    finally:
        told.cancel()
