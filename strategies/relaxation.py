"""The continuous relaxation that gradient-based one-shot strategies share: a space's choices as a vector α of weights.

Liu, Simonyan, Yang 2019, "DARTS: Differentiable Architecture Search", ICLR: equation 2 (relaxation), section 2.4
(derivation).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from nasengine import Architecture, Context, Decision, Domain, Pick, Supernet, Task


class Relaxation:
    """α, the gates that it sets, and the architecture that it stands for. Subclasses set the gates by chance.

    alpha: all decisions' architecture weights in one vector, initialised with 1e-3 · N(0, 1). A k-of-n choice whose
    options hold choices of their own has no weights: as in the paper, all its options stay open, and their strength is
    that of what they hold. With `edges` it has weights too, which count times what it holds (β, Xu et al. 2020).
    """

    note: str | None = None
    """What people should know of it, said after the first epoch."""

    def __init__(self, supernet: Supernet, context: Context, edges: bool = False) -> None:
        self.gates = supernet.gates
        self.domain = supernet.domain
        self.generator = context.generator
        decisions = self.domain.decisions.values()
        self.inner = {d.name: inner_decisions(self.domain, d) for d in decisions if d.kind == "some"}
        self.holding = {name for name, inner in self.inner.items() if all(inner.values())}
        relaxed = [d for d in decisions if d.count > 1 and (edges or d.name not in self.holding)]
        sizes = [len(decision.options) for decision in relaxed]
        values = 1e-3 * torch.randn(sum(sizes), generator=context.generator)
        self.alpha = values.to(context.device).requires_grad_()
        ends = torch.tensor([0, *sizes]).cumsum(0).tolist()
        self.slices = {d.name: slice(a, b) for d, a, b in zip(relaxed, ends, ends[1:], strict=False)}

    def begin(self, progress: float) -> None:
        """Called before each epoch: `progress` is 0 in the first, 1 in the last."""

    def probabilities(self, name: str) -> Tensor:
        """How likely each option of a decision is; shape (options,), the sum is 1. Here: the softmax of α."""
        return self.alpha[self.slices[name]].softmax(0)

    def kept(self, name: str) -> int:
        """What a decision's weights add up to: k for a k-of-n choice, but 1 for one that holds other choices."""
        return 1 if name in self.holding else self.domain.decisions[name].k

    def weights(self, name: str) -> Tensor:
        """The expected weights of a decision's options, shape (options,)."""
        return self.kept(name) * self.probabilities(name)

    def settle(self) -> None:
        """Sets every gate to its expected weights, without chance."""
        for name in self.slices:
            self.gates[name].set(self.weights(name))

    def apply(self) -> None:
        """Sets every gate for the loss that α learns from."""
        self.settle()

    def apply_for_weights(self) -> None:
        """Sets every gate for the loss that w learns from."""
        self.apply()

    def stepped(self) -> None:
        """Called after each step of α."""

    def entropy(self) -> float:
        """The mean over decisions of their entropy, as a fraction of its largest: 1 is undecided, 0 decided."""
        total = 0.0
        with torch.no_grad():
            for name in self.slices:
                p = self.probabilities(name)
                total += float(torch.special.entr(p).sum()) / math.log(len(p))
        return total / max(len(self.slices), 1)

    def derive(self) -> Architecture:
        """Section 2.4: of every decision the strongest option; of a k-of-n choice the k strongest, an option's
        strength being the largest weight inside it, `none` left aside."""
        with torch.no_grad():
            weights = {name: self.weights(name).tolist() for name in self.slices}
        picks: dict[str, str | int | float | tuple[str, ...]] = {}
        optional = {inner.name for options in self.inner.values() for found in options.values() for inner in found}
        for name, decision in self.domain.decisions.items():
            if decision.kind != "some":
                without = "none" if name in optional else None
                picks[name] = decision.options[strongest(decision, weights.get(name), without)]
                continue
            own = weights.get(name)
            strengths = own if own and name not in self.holding else self._strengths(name, weights, own)
            order = sorted(range(len(strengths)), key=lambda index: -strengths[index])
            picks[name] = decision.ordered(order[: decision.k])

        def lost(decision: Decision, before: Pick, after: Pick) -> float:
            """By how much the other pick is weaker, where the one that is wanted is not allowed."""
            w = weights.get(decision.name)
            return (
                0.0
                if w is None
                else sum(w[i] for i in decision.indices(before)) - sum(w[i] for i in decision.indices(after))
            )

        return self.domain.complete(picks, lost)

    def _strengths(self, name: str, weights: dict[str, list[float]], own: Sequence[float] | None) -> list[float]:
        """For each option of a k-of-n choice the largest weight inside it, times its own where it has one."""
        found = [
            max(
                (max(w for w, o in zip(weights[i.name], i.options, strict=True) if o != "none") for i in inner),
                default=0.0,  # nothing inside and nothing learnt: all n of n are kept
            )
            for inner in self.inner[name].values()
        ]
        return found if own is None else [share * best for share, best in zip(own, found, strict=True)]


def inner_decisions(domain: Domain, some: Decision) -> dict[str | int | float, list[Decision]]:
    """For each option of a k-of-n choice, the one-of-n choices that are met directly inside it."""
    return {
        option: [
            inner
            for inner in domain.decisions.values()
            if inner.kind == "one" and inner.count > 1 and any(p and p[-1] == (some.name, option) for p in inner.when)
        ]
        for option in some.options
    }


def strongest(decision: Decision, weights: Sequence[float] | None, without: str | None) -> int:
    """The index of the largest weight; the first option where nothing was learnt."""
    allowed = [index for index, option in enumerate(decision.options) if option != without]
    return max(allowed, key=lambda index: weights[index]) if weights else allowed[0]


def narrowed(supernet: Supernet, partial: int, task: Task, context: Context) -> str | None:
    """Lets 1/partial of the channels through the supernet's choices; a sentence where it could be done with none."""
    example = task.example()
    count = supernet.pass_partially(partial, example.to(context.device) if isinstance(example, Tensor) else example)
    if count:
        return None
    return (
        f"no choice of this space has options that a part of the channels can pass (partial={partial} asks for "
        f"1/{partial}): all pass"
    )
