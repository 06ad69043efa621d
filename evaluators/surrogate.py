"""A surrogate: where the run's own results foretell a candidate well enough, it is not evaluated.

How it foretells: regression.py. Path encoding: White, Neiswanger, Savani 2021, "BANANAS", AAAI, section 4.1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import numpy as np

from nasengine import (
    Architecture,
    ConfigError,
    Context,
    Evaluator,
    Fidelity,
    ForeseeingEvaluator,
    Metrics,
    SearchSpace,
    Task,
    Trial,
    evaluator_named,
)

from .regression import Ensemble, Floats

MOST = 500
"""How many results are learnt from, the latest: the time grows with the cube of their number."""
PATHS = 500
"""How many paths are looked at, the most frequent."""
REMEMBERED = 20_000
"""How many networks' paths are kept."""
ENCODINGS = ("one_hot+path", "one_hot", "path")
Encode: TypeAlias = Callable[[Architecture], Floats]


@dataclass(slots=True)
class Known:
    """What was truly evaluated at one fidelity: the architectures, and the objectives of each, as they come."""

    architectures: list[Architecture] = field(default_factory=list)
    values: list[list[float]] = field(default_factory=list)
    foreseen: int = 0
    """How many candidates have been foreseen since."""
    fitted: int = 0
    """From how many results the ensemble has learnt."""
    fit: tuple[Ensemble, list[Encode]] | None = None


class Surrogate(ForeseeingEvaluator):
    """Evaluates a candidate with another evaluator only where it is not sure of the result.

    What it learns from is what the run has measured, at the same fidelity. A candidate that it foresees costs no
    training; its trial has the metric `predicted`, the objectives' expected values, and `…_spread`, how far off they
    may well be. Predictions steer the search; what the run finds has been evaluated: a candidate that could be the
    best so far, by its expected value and `optimism` times its spread, always is. Several objectives are foreseen
    together, costs among them too, and what nothing measured is sure to beat in all of them is evaluated.

    On NAS-Bench-201 (validation accuracy after 12 epochs, CIFAR-10) its Spearman correlation with the truth, on 1,000
    cells that it does not know, is 0.49 after 20 results, 0.63 after 50, 0.73 after 100 and 0.81 after 200 (means over
    twenty seeds). Foreseen trials count among the run's `trials`: ask for several times as many.

    Options:
        evaluator: who evaluates truly: a name, `train:epochs=5`, or a mapping, `{train: {epochs: 5, patience: 2}}`.
        initial: how many results there must be before anything is foreseen.
        tolerance: the largest spread of a candidate that is foreseen, as a share of the spread of what was measured,
            both in ranks (normal scores). 0 foresees nothing; 1 nearly everything.
        every: of so many candidates in a row at least one is evaluated, however sure it is.
        optimism: a candidate that would be the best so far, were it better than expected by so many spreads, is
            evaluated.
        encodings: what is compared: `one_hot`, the picks; `path`, the ways from input to output with the operations on
            them (where nobody knows these, the picks); `one_hot+path`, an ensemble of both, in which each weighs the
            more, the better it foretells the results that it was not told.
    """

    def __init__(
        self,
        *,
        evaluator: str | dict[str, Any] = "train",
        initial: int = 20,
        tolerance: float = 0.8,
        every: int = 10,
        optimism: float = 2.5,
        encodings: Literal["one_hot+path", "one_hot", "path"] = "one_hot+path",
    ) -> None:
        if initial < 2 or every < 1:
            raise ConfigError(
                f"the evaluator 'surrogate' has initial = {initial} and every = {every}; expected at least 2 and 1"
            )
        for name, value in (("tolerance", tolerance), ("optimism", optimism)):
            if not 0 <= value < math.inf:
                raise ConfigError(f"the evaluator 'surrogate' has {name} = {value}; expected 0 or more")
        if encodings not in ENCODINGS:
            raise ConfigError(
                f"the evaluator 'surrogate' has encodings = {encodings!r}; expected {', '.join(ENCODINGS)}"
            )
        self.inner: Evaluator = evaluator_named(evaluator)
        if isinstance(self.inner, ForeseeingEvaluator):
            raise ConfigError(
                f"the evaluator 'surrogate' has evaluator = {self.inner.known_as}, which foresees results itself; "
                f"expected one that evaluates, such as train"
            )
        self.initial, self.tolerance, self.every = initial, tolerance, every
        self.optimism, self.encodings = optimism, encodings
        self.simulates, self.provisional, self.learns = self.inner.simulates, self.inner.provisional, self.inner.learns
        self.objectives, self.measures = self.inner.objectives, self.inner.measures

    @property
    def own_epochs(self) -> int | None:
        return self.inner.own_epochs

    def metric_names(self, task: Task) -> Collection[str]:
        return self.inner.metric_names(task)

    def check(self, space: SearchSpace, task: Task) -> None:
        self.inner.check(space, task)

    def check_fidelity(self, fidelity: Fidelity) -> None:
        self.inner.check_fidelity(fidelity)

    def learn(self, context: Context) -> Iterator[Metrics]:
        return self.inner.learn(context)

    def evaluate(
        self, architecture: Architecture, fidelity: Fidelity, context: Context
    ) -> Generator[Metrics, None, Metrics]:
        judged = self.inner.evaluate(architecture, fidelity, context)
        return judged if isinstance(judged, Mapping) else (yield from judged)

    def prepare(self) -> None:
        self._known: dict[Fidelity, Known] = {}
        paths, canonical = self.domain.paths, self.domain.canonical
        self._paths = paths and lru_cache(REMEMBERED)(lambda architecture: paths(canonical(architecture)))
        self._signs = np.array([1.0 if objective.direction == "max" else -1.0 for objective in self.targets])

    def tell(self, trial: Trial) -> None:
        known = self._known.setdefault(trial.request.fidelity, Known())  # type: ignore[union-attr]
        if "predicted" in trial.metrics:
            known.foreseen += 1
            return
        known.foreseen = 0
        usable = trial.state == "done" and all(objective.score(trial) is not None for objective in self.targets)
        if usable and trial.architecture is not None:
            known.architectures.append(trial.architecture)
            known.values.append([trial.metrics[objective.metric] for objective in self.targets])

    def foresee(self, architecture: Architecture, fidelity: Fidelity) -> Metrics | None:
        """None also where the candidate is due to be evaluated, or could be the best so far."""
        known = self._known.get(fidelity, Known())
        if len(known.values) < self.initial or known.foreseen >= self.every - 1:
            return None
        ensemble, encodings = self._fit(known)
        mean, spread = ensemble.predict([encode(architecture)[None] for encode in encodings])
        hoped = self._signs * mean + self.optimism * spread
        beaten = np.all(self._signs * ensemble.scores >= hoped, axis=1).any()
        if spread.max() > self.tolerance or not beaten:
            return None
        low, middle, high = (ensemble.values(mean + step * spread)[0] for step in (-1, 0, 1))
        metrics: dict[str, float] = {}
        for index, objective in enumerate(self.targets):
            metrics[objective.metric] = float(middle[index])
            metrics[f"{objective.metric}_spread"] = float(high[index] - low[index]) / 2
        return metrics

    def _fit(self, known: Known) -> tuple[Ensemble, list[Encode]]:
        """What the latest results say; learnt once for as many results."""
        if known.fit is None or known.fitted != len(known.values):
            known.fitted, architectures = len(known.values), known.architectures[-MOST:]
            encodings = list(self._encodings(architectures))
            inputs = [np.stack([encode(one) for one in architectures]) for encode in encodings]
            known.fit = Ensemble(inputs, np.array(known.values[-MOST:])), encodings
        return known.fit

    def _encodings(self, architectures: Sequence[Architecture]) -> Iterator[Encode]:
        """Those that were asked for; `one_hot` in place of `path` where nobody knows the paths."""
        domain, paths = self.domain, self._paths
        if self.encodings != "path" or paths is None:
            yield lambda architecture: domain.encode(domain.canonical(architecture)).astype(np.float64)
        if self.encodings != "one_hot" and paths is not None:
            frequency = Counter(way for architecture in architectures for way in sorted(paths(architecture)))
            ways = [way for way, _ in frequency.most_common(PATHS)]
            yield lambda architecture: np.array([way in paths(architecture) for way in ways], np.float64)
