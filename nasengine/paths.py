"""Paths of a supernet: how they are drawn, learn together, and get normalisation statistics of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from .architecture import Architecture, Pick
from .decision import Decision
from .domain import Domain

if TYPE_CHECKING:
    import numpy as np

    from .supernet import Supernet
    from .task import Batch, Task


def train_paths(
    supernet: Supernet,
    task: Task,
    batches: Iterable[Batch],
    step: torch.optim.Optimizer,
    draw: Callable[[], Sequence[Architecture]],
    gradient_clip: float = 0.0,
) -> float:
    """For each batch, the paths that are drawn learn from it: one step along the sum of their gradients. The mean loss.

    gradient_clip: the largest norm of that sum, over the weights of those paths; 0 for none.
    """
    supernet.train()
    losses = []
    for batch in batches:
        step.zero_grad()
        for path in draw():
            supernet.pick(path)
            loss = task.loss(supernet, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        if gradient_clip:
            nn.utils.clip_grad_norm_(supernet.parameters(), gradient_clip)
        step.step()
    return float(torch.stack(losses).mean())


def fair_paths(domain: Domain, rng: np.random.Generator) -> list[Architecture]:
    """As many paths as the decision with the most options has, on which each decision's options are met equally often.

    Chu, Zhang, Xu 2021, "FairNAS: Rethinking Evaluation Fairness of Weight Sharing Neural Architecture Search", ICCV,
    section 3.2 (strict fairness), where all decisions have as many options. Here the options of a decision are dealt
    out in a random order, again and again, one for each path on which it is met (k for k of n): where it has fewer, or
    is met on some of the paths only, one option may come up once more than another. A path that is not allowed is
    replaced by one near it.
    """
    order = {name: rng.permutation(len(decision.options)) for name, decision in domain.decisions.items()}
    dealt: Counter[str] = Counter()

    def deal(decision: Decision) -> Pick:
        options, first = order[decision.name], dealt[decision.name]
        dealt[decision.name] += decision.k
        indices = [int(options[(first + index) % len(options)]) for index in range(decision.k)]
        return decision.ordered(indices) if decision.kind == "some" else decision.options[indices[0]]

    paths = [domain.walk(deal) for _ in range(max(map(len, order.values())))]
    return [path if domain.allows(path) else domain.complete(path.picks) for path in paths]


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[Sequence[nn.modules.batchnorm._BatchNorm]]:
    """Batch normalisation by each batch's own statistics, all else (dropout) as in evaluation, and no gradients."""
    found = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    model.eval()
    for module in found:
        module.train()
    with torch.no_grad():
        yield found
    model.eval()


def recalibrate(model: nn.Module, task: Task, batches: Iterable[Batch]) -> None:
    """Running statistics become the mean of those of the batches; without batches, they stay.

    Guo et al. 2020, "Single Path One-Shot Neural Architecture Search with Uniform Sampling", ECCV, section 3.4: those
    of the training are of all paths.
    """
    momenta: list[float | None] = []
    with batch_statistics(model) as found:
        for number, batch in enumerate(batches):
            for module in found if number == 0 else ():
                module.reset_running_stats()
                momenta.append(module.momentum)
                module.momentum = None  # the mean of all batches, not a moving one
            task.loss(model, batch)
        for module, momentum in zip(found, momenta, strict=False):
            module.momentum = momentum
