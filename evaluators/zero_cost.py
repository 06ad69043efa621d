"""Judging without training: zero-cost proxies, alone or by vote. What they are, and their sources: proxies.py."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from statistics import fmean
from typing import Any

import numpy as np
import torch
from scipy.stats import rankdata

from nasengine import (
    Architecture,
    Batch,
    ConfigError,
    Context,
    Evaluator,
    Fidelity,
    Metrics,
    SearchSpace,
    Task,
    TrainingDiverged,
    cost_of,
)

from .proxies import PROXIES, Subject

COSTS = ("parameters", "flops")
VOTERS = ("synflow", "jacob_cov", "snip")
"""Who votes unless others are named: the three of Abdelfattah et al. 2021, section 3.3."""
WHY = {
    "synflow": ": nothing passes from its input to its output",
    "jacob_cov": ": its output does not depend on some of the examples",
    "naswot": ": it has no activation functions, or different examples switch on the same units",
}
BATCH_SEED = REFERENCE_SEED = 0
"""All candidates are held to the same examples, and to the same reference: what differs is the candidate."""


class ZeroCost(Evaluator):
    """Scores each candidate untrained, on a batch of the training data: a second or less instead of a training.

    Hold it against `parameters` and `flops`, which are reported too: a proxy that ranks no better than these is worth
    nothing. What the search finds is trained in the end.

    Options:
        proxy: synflow, naswot, jacob_cov, grad_norm, snip, grasp, fisher, zico, plain, parameters or flops; or
            several, as synflow+naswot, which then vote: `vote` is the mean of the places that the candidate takes, by
            each proxy, among the reference architectures. `vote` alone is that of synflow, jacob_cov and snip.
        batch_size: how many images, or graphs, the proxies see; of one graph they see all training nodes.
        batches: how many batches zico compares; the other proxies see the first only.
        seeds: how many initialisations the scores are averaged over.
        reference: among how many random architectures, the same for all candidates, a vote places a candidate.
    """

    provisional = True
    needs = frozenset({"classifier"})

    def __init__(
        self, *, proxy: str = "synflow", batch_size: int = 64, batches: int = 2, seeds: int = 1, reference: int = 20
    ) -> None:
        known = (*PROXIES, *COSTS, "vote")
        names = [name for given in proxy.split("+") for name in (VOTERS if given == "vote" else (given,))]
        for name in names:
            if name not in known:
                raise ConfigError(
                    f"the evaluator 'zero_cost' has proxy = {name!r}; expected {', '.join(known)}, or several of them "
                    f"with + between"
                )
        for option, value, least in (
            ("batch_size", batch_size, 2), ("batches", batches, 2), ("seeds", seeds, 1), ("reference", reference, 1),
        ):  # fmt: skip
            if value < least:
                raise ConfigError(f"the evaluator 'zero_cost' has {option} = {value}; expected {least} or more")
        self.proxies = tuple(dict.fromkeys(names))
        self.batch_size, self.seeds, self.reference = batch_size, seeds, reference
        self.batches = batches if "zico" in self.proxies else 1
        self.objectives = (f"{self.proxies[0] if len(self.proxies) == 1 else 'vote'}:max",)
        self._references: dict[Any, Mapping[str, Sequence[float]]] = {}

    def metric_names(self, task: Task) -> Collection[str]:
        return (*self.proxies, "vote") if len(self.proxies) > 1 else self.proxies

    def check(self, space: SearchSpace, task: Task) -> None:
        super().check(space, task)
        self._drawn(task, 1.0)  # raises now rather than later

    def evaluate(self, architecture: Architecture, fidelity: Fidelity, context: Context) -> Metrics:
        """Raises TrainingDiverged where a score is not finite."""
        scores = self._scores(architecture, fidelity, context)
        for name in self.proxies:
            if not math.isfinite(scores[name]):
                raise TrainingDiverged(f"the untrained network's {name} is {scores[name]}{WHY.get(name, '')}")
        if len(self.proxies) == 1:
            return scores
        others = self._reference_scores(architecture, fidelity, context)
        return {**scores, "vote": fmean(place(scores[name], others[name]) for name in self.proxies)}

    def _scores(self, architecture: Architecture, fidelity: Fidelity, context: Context) -> dict[str, float]:
        """Every proxy's mean over the initialisations, and the costs."""
        task = context.task
        batches = self._drawn(task, fidelity.data)
        totals = dict.fromkeys((name for name in self.proxies if name in PROXIES), 0.0)
        for _ in range(self.seeds):
            model = context.model(architecture)
            subject = Subject(model, task, batches)
            for name in totals:
                totals[name] += PROXIES[name](subject) / self.seeds
        return {**totals, **cost_of(model, task)}

    def _drawn(self, task: Task, data: float) -> list[Batch]:
        """The first batches of the training data; where it is one batch, whatever its size is, as a graph's nodes are,
        the batches of as many parts of it."""
        parts = [(0.0, data)]
        for _ in range(2):
            generator = torch.Generator().manual_seed(BATCH_SEED)
            batches = [
                batch
                for part in parts
                for batch in islice(task.train_batches(self.batch_size, generator, part), self.batches)
            ]
            if not all(isinstance(batch, tuple | list) and len(batch) == 2 for batch in batches):
                raise ConfigError(
                    f"the evaluator 'zero_cost' expects batches of inputs and labels; the task {task.known_as!r} has "
                    f"others"
                )
            if len(batches) >= self.batches:
                return batches[: self.batches]
            parts = [(data * i / self.batches, data * (i + 1) / self.batches) for i in range(self.batches)]
            if len(batches) > 1 or len(task.rows(batches[0])) < self.batches * self.batch_size:
                break
        raise ConfigError(
            f"the evaluator 'zero_cost' expects {self.batches} batches of {self.batch_size}; the training data of the "
            f"task {task.known_as!r} has {len(batches)}: choose a smaller batch_size"
        )

    def _reference_scores(
        self, architecture: Architecture, fidelity: Fidelity, context: Context
    ) -> Mapping[str, Sequence[float]]:
        """By proxy, the scores of random architectures of the candidate's space. Each worker finds them once."""
        task = context.task
        key = (
            Architecture(architecture.space, architecture.options, {}), task.known_as, tuple(task.input_shape),
            json.dumps(task.recorded_settings(), sort_keys=True), fidelity.data,
        )  # fmt: skip
        if key not in self._references:
            space, rng = context.space.at(architecture.options), np.random.default_rng(REFERENCE_SEED)
            domain = space.domain(task)
            # each in a context of its own: what they score must not depend on which candidate a worker judges first
            rows = [
                self._scores(domain.sample(rng), fidelity, Context(space, task, context.device, seed))
                for seed in range(self.reference)
            ]
            self._references[key] = {name: [row[name] for row in rows] for name in self.proxies}
        return self._references[key]


def place(score: float, others: Sequence[float]) -> float:
    """Where a score stands among others, between 0 and 1: its rank among n, divided by n + 1, ties averaged.

    Between two of them, and beyond the first and the last, it moves on with the score, so that a search which has left
    them all behind still sees which candidate is better. Others that are not finite are the worst.
    """
    known = sorted(other for other in others if math.isfinite(other))
    if not known:
        return len(others) / (len(others) + 1)
    places = (len(others) - len(known) + rankdata(known)) / (len(others) + 1)
    lowest, highest = known[0], known[-1]
    spread = highest - lowest or 1.0
    if score > highest:
        return float(1 - (1 - places[-1]) / (1 + (score - highest) / spread))
    if score < lowest:
        return float(places[0] / (1 + (lowest - score) / spread))
    return float(np.interp(score, known, places))


def vote(rows: Sequence[Metrics], proxies: Sequence[str] = VOTERS) -> list[float]:
    """For each candidate's metrics the mean, over the proxies, of its rank: 1 the worst, ties averaged.

    A proxy that a candidate lacks, or that is not finite, ranks it worst.
    """
    ranks = [
        rankdata([row[name] if math.isfinite(row.get(name, math.nan)) else -math.inf for row in rows])
        for name in proxies
    ]
    return [float(mean) for mean in np.mean(ranks, axis=0)]
