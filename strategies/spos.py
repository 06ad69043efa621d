"""SPOS: a supernet trained one path at a time, each as likely as the others; then evolution among its paths.

Guo, Zhang, Mu, Heng, Liu, Wei, Sun 2020, "Single Path One-Shot Neural Architecture Search with Uniform Sampling", ECCV:
section 3.2 (single paths, uniform sampling), section 3.4 and algorithm 1 (evolution); their code for its constants.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch

from nasengine import (
    Architecture,
    ConfigError,
    Context,
    Decision,
    Derivation,
    Domain,
    OneShotStrategy,
    Pick,
    Recipe,
    Supernet,
    Task,
    TrainingDiverged,
    optimizer_of,
    supernet_recipe,
    train_paths,
)  # fmt: skip

from .guard import ParameterFree, check_guard, operations
from .paths import Paths

ATTEMPTS = 20
"""How often a child may be one that was judged before, or is not allowed, until a random one takes its place."""


class SPOS(OneShotStrategy):
    """Single path one-shot search: uniform sampling of paths, then evolution on inherited weights (Guo et al. 2020).

    Options:
        epochs: of the supernet's training; by default as the task's recipe says (120 in the paper, for ImageNet).
        batch_size: of the training; 1,024 in the paper.
        optimizer: of the weights: `sgd`, `adam` or `adamw`; by default SGD as in the paper, but what the task's recipe
            says where its models learn by another one.
        learning_rate, momentum, weight_decay, gradient_clip: of that optimiser, whose paper or recipe they are of
            unless you say; a gradient_clip of 0 clips nothing. In the paper 0.5 · batch_size / 1,024, 0.9, 4e-5 and no
            clipping, here 5. The learning rate falls linearly to zero.
        population: paths judged in each generation; by default 50 where the search has 50 epochs or more, else as many
            as it has epochs, but at least 4.
        generations: of the evolution; by default 20 where the search has 50 epochs or more, else 2 for 5 epochs.
        top: how many of the best so far are parents; by default a fifth of the population. Half of the children are
            crossovers of two of them, half mutants of one.
        mutation: the probability with which a mutant's decision is made anew.
        calibration: training batches from which each path's batch normalisation takes its statistics before it is
            judged; 0 keeps those of the training, which are of all paths.
        samples: random paths judged after each epoch of the training, to say how it stands.
        restarts: independent searches, from different seeds; the best derived architecture is kept.
        guard: `warn` says so where more than two thirds of the best path's operations have no parameters, for five
            generations or in the end; `off` does not. While the supernet is trained nothing is preferred, so nothing is
            counted. There are no architecture weights, so nothing to `stop` by.
    """

    def __init__(
        self,
        *,
        epochs: int | None = None,
        batch_size: int = 64,
        optimizer: str | None = None,
        learning_rate: float | None = None,
        momentum: float | None = None,
        weight_decay: float | None = None,
        gradient_clip: float | None = None,
        population: int | None = None,
        generations: int | None = None,
        top: int | None = None,
        mutation: float = 0.1,
        calibration: int = 20,
        samples: int = 2,
        restarts: int = 1,
        guard: str = "warn",
    ) -> None:
        given = {
            "epochs": epochs, "batch_size": batch_size, "population": population, "generations": generations,
            "top": top, "samples": samples, "restarts": restarts,
        }  # fmt: skip
        for name, value in given.items():
            if value is not None and value < 1:
                raise ConfigError(f"the strategy 'spos' has {name} = {value}; expected at least 1")
        if not 0 <= mutation <= 1 or calibration < 0:
            raise ConfigError("the strategy 'spos' expects mutation to be a probability, and calibration 0 or more")
        check_guard("spos", guard)
        self.guard = guard
        self.epochs, self.batch_size, self.restarts = epochs, batch_size, restarts
        self.paper = Recipe(learning_rate=0.5 * batch_size / 1024, weight_decay=4e-5)
        self.asked = {
            "optimizer": optimizer, "learning_rate": learning_rate, "momentum": momentum, "weight_decay": weight_decay,
            "gradient_clip": gradient_clip,
        }  # fmt: skip
        self.paper.changed(self.asked)  # raises now rather than later
        self.population, self.generations, self.top = population, generations, top
        self.mutation, self.calibration, self.samples = mutation, calibration, samples

    def learn(self, supernet: Supernet, task: Task, context: Context) -> Iterator[Derivation]:
        epochs = self.epochs or task.recipe.search_epochs
        size = self.population or min(50, max(4, epochs))
        generations = self.generations or min(20, max(1, epochs * 2 // 5))
        recipe = supernet_recipe(self.paper, task, self.asked)
        step = optimizer_of(supernet.parameters(), recipe, nesterov=False, fused=False)
        falling = torch.optim.lr_scheduler.LinearLR(step, 1.0, 0.0, epochs)
        paths = Paths(supernet, task, self.calibration, self.batch_size)
        free = ParameterFree(self.guard, operations(supernet), first=epochs)
        context.keep(supernet=supernet, step=step, falling=falling, paths=paths, free=free)
        for epoch in context.epochs(epochs + generations):
            if epoch < epochs:
                batches = task.train_batches(self.batch_size, context.generator)
                draw = lambda: [supernet.domain.sample(context.rng)]  # noqa: E731
                loss = train_paths(supernet, task, batches, step, draw, recipe.gradient_clip)
                falling.step()
                if not math.isfinite(loss):
                    raise TrainingDiverged(f"the supernet's loss is {loss} in epoch {epoch + 1}")
                paths.scores.clear()  # they are of other weights
                paths.judge(supernet.domain.sample(context.rng) for _ in range(self.samples))
                yield Derivation(paths.best(1)[0], {"train_loss": loss, "path_score": paths.score})
            else:
                paths.scores = {} if epoch == epochs else paths.scores
                paths.judge(self._generation(supernet.domain, paths, size, context.rng))
                best = paths.best(1)[0]
                share, collapse = free.look(epoch, best, last=epoch + 1 == epochs + generations)
                metrics = {"path_score": paths.score, "paths": float(len(paths.scores)), **share}
                yield Derivation(best, metrics, collapse)

    def _generation(self, domain: Domain, paths: Paths, size: int, rng: np.random.Generator) -> list[Architecture]:
        """Algorithm 1: crossovers and mutants of the best so far, none of them judged before; at first random paths."""
        parents = paths.best(self.top or max(1, size // 5))
        found: dict[str, Architecture] = {}
        for index in range(size):
            for attempt in range(2 * ATTEMPTS):
                if not parents or attempt >= ATTEMPTS:
                    child = domain.sample(rng)
                elif index < size // 2:
                    one, other = (parents[int(rng.integers(len(parents)))] for _ in range(2))
                    child = domain.crossover(one, other, rng)
                else:
                    child = mutant(domain, parents[int(rng.integers(len(parents)))], self.mutation, rng)
                name = domain.canonical(child).id
                if domain.allows(child) and name not in found and name not in paths.scores:
                    found[name] = child
                    break
        return list(found.values())


def mutant(domain: Domain, parent: Architecture, probability: float, rng: np.random.Generator) -> Architecture:
    """Each decision made anew with a probability; those that this brings up are made, too. It may not be allowed."""

    def choose(decision: Decision) -> Pick:
        again = rng.random() < probability or decision.name not in parent.picks
        return decision.sample(rng) if again else parent.picks[decision.name]

    return domain.walk(choose)
