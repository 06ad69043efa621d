"""BOHB: Hyperband's brackets, whose candidates come from a model of where good results are likelier than others.

Falkner, Klein, Hutter 2018, "BOHB: Robust and Efficient Hyperparameter Optimization at Scale", ICML: section 4 and
algorithm 2; kernels, rule of thumb for the bandwidths, split and imputation as in the authors' HpBandSter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nasengine import Architecture, ConfigError, Decision, Evaluate, Pick, Strategy, Trial

from .hyperband import Hyperband

DRAWS = 30
"""How often a random candidate may be one that was proposed before."""
INACTIVE = -1

Codes = NDArray[np.int64]
"""A pick for each decision, by its place among all picks of the decision; INACTIVE where there is none."""


class BOHB(Hyperband):
    """Hyperband with a model of the results (Falkner et al. 2018): the better of both, early and late.

    Two kernel densities are fitted at the highest fidelity that has results enough, one to the best of them, one to the
    others. The candidate is, of `num_samples` draws from the first, its bandwidths widened, the one whose ratio of the
    two is highest and that was not proposed before. Failed trials count as bad results. A depth or a value is a
    category like any other. A decision that an architecture leaves no place for takes over from a random architecture
    of the same group that has one. As Hyperband, it is synchronous and trains promoted candidates anew.

    An ask takes longer with the number of results at the fidelity of the model.

    Options:
        eta: η, of how many candidates one goes up; each rung has as many times the epochs of the one below.
        min_epochs: the fewest that a candidate is judged by.
        max_epochs: the most; by default those of a full evaluation.
        top_n_percent: the share of the results that are good, in percent; at least `min_points_in_model` are.
        num_samples: how many draws are compared.
        random_fraction: the share of candidates that are random all the same.
        bandwidth_factor: by what the bandwidths are widened to draw (as the paper says; the authors' code widens those
            of continuous parameters only).
        min_bandwidth: below which none falls, so that no pick dies out.
        min_points_in_model: of how many good and other results, each, a model is made; by default the number of
            decisions plus one.
    """

    def __init__(
        self,
        *,
        eta: int = 3,
        min_epochs: int = 1,
        max_epochs: int | None = None,
        top_n_percent: int = 15,
        num_samples: int = 64,
        random_fraction: float = 1 / 3,
        bandwidth_factor: float = 3.0,
        min_bandwidth: float = 1e-3,
        min_points_in_model: int | None = None,
    ) -> None:
        if not 0 < top_n_percent < 100 or not 0 <= random_fraction <= 1:
            raise ConfigError("the strategy 'bohb' expects 0 < top_n_percent < 100 and a random_fraction from 0 to 1")
        if num_samples < 1 or bandwidth_factor <= 0 or min_bandwidth <= 0 or (min_points_in_model or 2) < 2:
            raise ConfigError(
                "the strategy 'bohb' expects num_samples of at least 1, min_points_in_model of at least 2, and a "
                "bandwidth_factor and a min_bandwidth above 0"
            )
        super().__init__(eta=eta, min_epochs=min_epochs, max_epochs=max_epochs)
        self.sampler = KernelDensity(
            top_n_percent, num_samples, random_fraction, bandwidth_factor, min_bandwidth, min_points_in_model
        )

    def inform(self, trial: Trial) -> None:
        """The model is told of every result: it keeps those of each fidelity apart."""
        self.sampler.tell(trial)


@dataclass(frozen=True, slots=True)
class Density:
    """A product of Aitchison–Aitken kernels around each row: of a decision of c picks, with the bandwidth λ, they are
    1 − λ at the row's own pick and λ / (c − 1) at any other.

    codes: the rows, shape (rows, decisions). counts: c, at least 2. bandwidths: λ, above 0 and at most (c − 1) / c,
    where all picks are alike. Shapes (decisions,).
    """

    codes: Codes
    counts: NDArray[np.int64]
    bandwidths: NDArray[np.float64]

    @classmethod
    def of(cls, codes: Codes, counts: NDArray[np.int64], least: float) -> Density:
        """With bandwidths by the normal reference rule, 1.06 σ rows^(−1 / (4 + decisions)), σ being that of the codes,
        within their limits."""
        rows, decisions = codes.shape
        rule = 1.06 * codes.std(axis=0) * rows ** (-1 / (4 + decisions))
        return cls(codes, counts, np.minimum(np.maximum(rule, least), (counts - 1) / counts))

    def log(self, points: Codes) -> NDArray[np.float64]:
        """The logarithm of the density at points. Shape (points, decisions) to (points,)."""
        near, far = np.log1p(-self.bandwidths), np.log(self.bandwidths / (self.counts - 1))
        sums = np.zeros((len(points), len(self.codes)))
        for column in range(len(self.counts)):
            same = points[:, column, None] == self.codes[None, :, column]
            sums += np.where(same, near[column], far[column])
        logs: NDArray[np.float64] = np.logaddexp.reduce(sums, axis=1) - math.log(len(self.codes))
        return logs

    def draw(self, count: int, factor: float, rng: np.random.Generator) -> Codes:
        """So many points from the density, its bandwidths times a factor, within their limits."""
        wide = np.minimum(factor * self.bandwidths, (self.counts - 1) / self.counts)
        drawn = self.codes[rng.integers(len(self.codes), size=count)]
        others = (drawn + 1 + rng.integers(self.counts - 1, size=drawn.shape)) % self.counts
        return np.where(rng.random(drawn.shape) < wide, others, drawn)


class KernelDensity(Strategy):
    """Proposes what is likelier by the density of the good results than by that of the others; some at random."""

    def __init__(
        self,
        top_n_percent: int,
        num_samples: int,
        random_fraction: float,
        bandwidth_factor: float,
        min_bandwidth: float,
        min_points_in_model: int | None,
    ) -> None:
        self.top_n_percent, self.num_samples, self.random_fraction = top_n_percent, num_samples, random_fraction
        self.bandwidth_factor, self.min_bandwidth = bandwidth_factor, min_bandwidth
        self.min_points_in_model = min_points_in_model

    def prepare(self) -> None:
        self.decisions = [decision for decision in self.domain.decisions.values() if decision.count > 1]
        self.counts = np.array([decision.count for decision in self.decisions], np.int64)
        self._points = self.min_points_in_model or len(self.decisions) + 1
        self._results: dict[tuple[float, ...], dict[str, tuple[float, list[int]]]] = {}
        self._proposed: set[str] = set()
        self._densities: tuple[Density, Density] | None = None
        self._outdated = False

    def ask(self) -> Evaluate:
        densities = self.densities()
        if densities is not None and self.rng.random() >= self.random_fraction:
            for likely in self._likely(*densities):
                if self._is_new(likely):
                    return self.evaluate(likely)
        drawn = self.domain.sample(self.rng)
        for _ in range(DRAWS):
            if self._is_new(drawn):
                break
            drawn = self.domain.sample(self.rng)
        return self.evaluate(drawn)

    def tell(self, trial: Trial) -> None:
        if isinstance(trial.request, Evaluate):
            architecture, score = trial.request.architecture, self.score(trial)
            at = self._results.setdefault(trial.request.fidelity.thoroughness, {})
            result = -math.inf if score is None else score, self.codes_of(architecture)
            at[self.domain.canonical(architecture).id] = result
            self._outdated = True

    def densities(self) -> tuple[Density, Density] | None:
        """Of the good results and of the others, at the highest fidelity that has enough of both."""
        if not self._outdated or not self.decisions:
            return self._densities
        self._outdated = False
        for fidelity in sorted(self._results, reverse=True):
            known = sorted(self._results[fidelity].values(), key=lambda result: -result[0])
            good = max(self._points, self.top_n_percent * len(known) // 100)
            if len(known) - good >= self._points:
                codes = np.array([row for _, row in known], np.int64)
                one, other = (self.imputed(part) for part in (codes[:good], codes[good:]))
                least, counts = self.min_bandwidth, self.counts
                self._densities = Density.of(one, counts, least), Density.of(other, counts, least)
                break
        return self._densities

    def imputed(self, codes: Codes) -> Codes:
        """The rows with a pick everywhere. What is missing is taken, as far as it is there, from a random row that has
        the first of it; where no row has that, it is random."""
        whole = codes.copy()
        for row in whole:
            while (missing := np.flatnonzero(row == INACTIVE)).size:
                donors = np.flatnonzero(codes[:, missing[0]] != INACTIVE)
                if donors.size:
                    row[missing] = codes[donors[self.rng.integers(donors.size)], missing]
                else:
                    row[missing[0]] = self.rng.integers(self.counts[missing[0]])
        return whole

    def _likely(self, good: Density, others: Density) -> Iterator[Architecture]:
        drawn = good.draw(self.num_samples, self.bandwidth_factor, self.rng)
        for place in np.argsort(others.log(drawn) - good.log(drawn), kind="stable"):
            yield self.architecture_of(drawn[place].tolist())

    def codes_of(self, architecture: Architecture) -> list[int]:
        picks = architecture.picks
        return [code_of(d, picks[d.name]) if d.name in picks else INACTIVE for d in self.decisions]

    def architecture_of(self, codes: Sequence[int]) -> Architecture:
        """With the picks that are active; one near by where it is not allowed."""
        return self.domain.complete({d.name: pick_of(d, code) for d, code in zip(self.decisions, codes, strict=True)})

    def _is_new(self, architecture: Architecture) -> bool:
        """Whether the network was not proposed before; it is from here on."""
        network = self.domain.canonical(architecture).id
        new = network not in self._proposed
        self._proposed.add(network)
        return new


def code_of(decision: Decision, pick: Pick) -> int:
    """The place of the pick in `decision.picks()`."""
    indices = decision.indices(pick)
    if decision.kind != "some":
        return indices[0]
    n, k = len(decision.options), decision.k
    return decision.count - 1 - sum(math.comb(n - 1 - index, k - place) for place, index in enumerate(indices))


def pick_of(decision: Decision, code: int) -> Pick:
    """The inverse of `code_of`."""
    if decision.kind != "some":
        return decision.options[code]
    n, kept = len(decision.options), list[int]()
    for index in range(n):
        with_it = math.comb(n - 1 - index, decision.k - len(kept) - 1) if len(kept) < decision.k else 0
        if code < with_it:
            kept.append(index)
        else:
            code -= with_it
    return decision.ordered(kept)
