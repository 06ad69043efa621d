"""The guard of one-shot strategies: it says while it happens that a search collapses.

Zela, Elsken, Saikia, Marrakchi, Brox, Hutter 2020, "Understanding and Robustifying Differentiable Architecture
Search", ICLR: where the dominant eigenvalue of the validation loss's Hessian in α grows quickly, what is derived
generalises badly, often because skip connections take over. Section 5.1 stops early by it; the window, the distance,
the limit and the first epoch are those of the authors' code. A strategy without architecture weights has no such
Hessian: there `ParameterFree` alone looks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nasengine import Architecture, ConfigError, Context, Derivation, One, Supernet, Task

from .relaxation import Relaxation

WINDOW, BACK, LIMIT = 5, 4, 1.3
"""The mean eigenvalue of 5 epochs, compared with that of 4 epochs before, may grow by this factor."""
FIRST = 10
"""The first epoch, counted from 0, that can be gone back to: of 50, or the same share of fewer."""
ROLL_BACK = WINDOW // 2 + BACK
"""How many epochs before the last one stands the middle of the earlier window, whose architecture is kept."""
ITERATIONS = 3
MOSTLY, FEWEST = 2 / 3, 3
"""A search collapses where more than this share of at least so many operations have no parameters: said in the end,
and before where it has been so for as many epochs as a window has. By chance it is so at times while α is near 0."""


@dataclass(kw_only=True, slots=True)
class Guard:
    """Looks at a search after each epoch. `how` is `warn`, `stop` or `off`.

    eigenvalues: one for each epoch so far. derived: what the last epochs would have derived, as JSON, latest last.
    vector: where the power iteration goes on from. first: the first epoch that the rule may go back to. free: the
    share of operations without parameters.
    """

    how: str
    hessian: bool
    task: Task
    supernet: Supernet
    relaxation: Relaxation
    epochs: int
    first: int
    vector: Tensor
    free: ParameterFree
    eigenvalues: list[float]
    derived: list[str]
    warned: bool = False
    stopped: bool = False

    @classmethod
    def of(
        cls, how: str, hessian: bool, task: Task, relaxation: Relaxation, supernet: Supernet, context: Context,
        epochs: int, warmup: int,
    ) -> Guard:  # fmt: skip
        generator = torch.Generator().manual_seed(context.seed)
        vector = torch.randn(relaxation.alpha.shape, generator=generator).to(relaxation.alpha)
        first = max(first_epoch(epochs), warmup)
        return cls(
            how=how, hessian=hessian and len(vector) > 0, task=task, supernet=supernet, relaxation=relaxation,
            epochs=epochs, first=first, vector=vector / vector.norm(), eigenvalues=[], derived=[],
            free=ParameterFree(how, operations(supernet), first),
        )  # fmt: skip

    def look(self, epoch: int, derived: Architecture, batch: Any) -> Derivation:
        """What is derived after an epoch, counted from 0, with the guard's metrics and what it has to say.

        batch: of the validation half.
        """
        notes, metrics = [], {}
        self.derived = [*self.derived, derived.to_json()][-ROLL_BACK - 1 :]
        if self.hessian:
            try:
                self.eigenvalues.append(self.eigenvalue(batch))
            except RuntimeError as error:  # memory, or a layer that torch cannot differentiate twice
                self.hessian = False
                why = str(error).strip().partition("\n")[0]
                notes.append(f"the guard cannot measure the Hessian here, and goes without: {why}")
        if self.hessian:
            metrics["eigenvalue"] = self.eigenvalues[-1]
            ratio = growth(self.eigenvalues, self.first)
            if self.how != "off" and not self.warned and ratio > LIMIT:
                self.warned = True
                notes.append(self._sharper(epoch, ratio))
                if self.how == "stop":
                    self.stopped, derived = True, Architecture.from_json(self.derived[0])
        share, collapse = self.free.look(epoch, derived, last=self.stopped or epoch + 1 == self.epochs)
        notes += [collapse] if collapse else []
        return Derivation(derived, {**metrics, **share}, "; ".join(notes) or None)

    def eigenvalue(self, batch: Any) -> float:
        """The dominant eigenvalue of the validation loss's Hessian in α, at the expected weights, on one batch.

        Costs a forward and a backward pass of the whole supernet and ITERATIONS Hessian-vector products, each about
        two more, in two to three times the memory of a step of DARTS. The next call goes on from this vector.
        """
        alpha = self.relaxation.alpha
        kept = [buffer.clone() for buffer in self.supernet.buffers()]
        self.supernet.eval()  # without dropout, but with the batch's own statistics, as α has learnt
        for module in self.supernet.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase):
                module.train()
        try:
            self.relaxation.settle()
            loss = self.task.loss(self.supernet, batch)
            (gradient,) = torch.autograd.grad(loss, [alpha], create_graph=True, allow_unused=True)

            def product(vector: Tensor) -> Tensor:
                if gradient is None or not gradient.requires_grad:
                    return torch.zeros_like(alpha)
                (found,) = torch.autograd.grad(gradient, [alpha], vector, retain_graph=True, allow_unused=True)
                return torch.zeros_like(alpha) if found is None else found

            value, self.vector = dominant(product, self.vector, ITERATIONS)
        finally:
            with torch.no_grad():
                for buffer, old in zip(self.supernet.buffers(), kept, strict=True):
                    buffer.copy_(old)
            self.supernet.train()
        return value

    def _sharper(self, epoch: int, ratio: float) -> str:
        back = epoch + 1 - ROLL_BACK
        grown = (
            f"after epoch {epoch + 1} the validation loss curves {ratio:.2f} times as much in the architecture's "
            f"weights as {BACK} epochs before (R-DARTS allows {LIMIT})"
        )
        if self.how == "stop":
            return f"{grown}: the learning ends, and what was derived after epoch {back} is kept"
        return (
            f"{grown}: what is derived from here on may do worse than that of epoch {back}; guard=stop would keep that"
        )

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {
            "eigenvalues": list(self.eigenvalues),
            "derived": list(self.derived),
            "vector": self.vector.clone(),
            "flags": [self.warned, self.stopped],
            "free": self.free.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.eigenvalues, self.derived = list(state["eigenvalues"]), list(state["derived"])
        self.vector = state["vector"].to(self.vector)
        self.warned, self.stopped = state["flags"]
        self.free.load_state_dict(state["free"])


@dataclass(slots=True)
class ParameterFree:
    """Counts after each epoch how many of the derived operations have no parameters. `how`: as the guard's; `off` says
    nothing.

    operations: those of `operations`. first: the first epoch, counted from 0, after which a collapse is said.
    free_for: for how many epochs in a row most had none.
    """

    how: str
    operations: Mapping[str, Mapping[Any, bool | None]]
    first: int
    free_for: int = 0
    collapsed: bool = False

    def look(self, epoch: int, derived: Architecture, last: bool) -> tuple[dict[str, float], str | None]:
        """After an epoch, counted from 0: the metric `parameter_free`, in a space that has such operations, and a
        sentence where the search collapses."""
        if not self.operations:
            return {}, None
        picked = [(pick, kinds[pick]) for name, kinds in self.operations.items() if (pick := derived.picks.get(name))]
        free = Counter(pick for pick, learns in picked if learns is False)
        counted = sum(learns is not None for _, learns in picked)
        share = free.total() / counted if counted else 1.0
        self.free_for = self.free_for + 1 if share > MOSTLY and counted >= FEWEST else 0
        lasting = self.free_for >= WINDOW and epoch >= self.first and not self.collapsed
        if self.how == "off" or not self.free_for or not (lasting or last):
            return {"parameter_free": share}, None
        self.collapsed = True
        return {"parameter_free": share}, _collapse(free, counted, "in the end" if last else f"after epoch {epoch + 1}")

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"free_for": self.free_for, "collapsed": self.collapsed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.free_for, self.collapsed = state["free_for"], state["collapsed"]


def first_epoch(epochs: int) -> int:
    """The first epoch of so many, counted from 0, whose architecture weights are taken at their word."""
    return min(FIRST, FIRST * epochs // 50)


def check_guard(strategy: str, guard: str) -> None:
    """Raises ConfigError for a guard that a strategy without architecture weights cannot have."""
    if guard not in ("warn", "off"):
        why = "" if guard != "stop" else (
            "; stop goes by the validation loss's Hessian in the architecture weights, and it has none"
        )  # fmt: skip
        raise ConfigError(f"the strategy {strategy!r} has guard = {guard!r}; expected warn or off{why}")


def growth(eigenvalues: list[float], first: int) -> float:
    """R-DARTS's ratio after the last epoch: the mean size of the last 5 eigenvalues, by that of 4 epochs before.

    0 where it is too early: the middle of the earlier window must not lie before the epoch `first`, counted from 0.
    """
    if len(eigenvalues) < WINDOW + BACK or len(eigenvalues) - 1 - ROLL_BACK < first:
        return 0.0
    sizes = [abs(value) for value in eigenvalues]
    now, before = sum(sizes[-WINDOW:]), sum(sizes[-WINDOW - BACK : -BACK])
    return now / before if before > 0 else 0.0


def dominant(product: Callable[[Tensor], Tensor], vector: Tensor, iterations: int) -> tuple[float, Tensor]:
    """The eigenvalue of largest size of a symmetric matrix that is known by its products with vectors, by power
    iteration from a vector of length 1, and the vector to go on from."""
    value = torch.zeros((), device=vector.device)
    for _ in range(iterations):
        found = product(vector)
        value = vector @ found
        norm = found.norm()
        vector = torch.where(norm > 0, found / norm.clamp_min(1e-30), vector)
    return float(value), vector


def operations(supernet: Supernet) -> dict[str, dict[Any, bool | None]]:
    """The one-of-n decisions some of whose options have parameters, some not: for each option whether it has.

    None for an option that gives only zeros (`none`), which is not counted as an operation. An option has parameters
    where it has some in one of the places where the decision is met.
    """
    found: dict[str, dict[Any, bool | None]] = {}
    for one in supernet.modules():
        if isinstance(one, One) and one.gate is not None:
            kinds = found.setdefault(one.gate.decision.name, {})
            for index, option in enumerate(one.gate.decision.options):
                module = one.option(index)
                zero = getattr(module, "gives_zero", False)
                has = any(True for _ in module.parameters())
                kinds[option] = None if zero else has or bool(kinds.get(option))
    return {name: kinds for name, kinds in found.items() if {True, False} <= set(kinds.values())}


def _collapse(free: Counter[Any], counted: int, when: str) -> str:
    names = ", ".join(f"{count} × {name}" for name, count in free.most_common())
    return (
        f"{free.total()} of the {counted} operations derived {when} have no parameters ({names}): so do searches "
        f"inside a supernet collapse; hold the result against random architectures, or take another strategy"
    )
