"""How a learning curve may go on: the posterior over weighted sums of parametric curves.

Domhan et al. 2015, §3.2: f(t) = Σ w_k f_k(t | θ_k) + ε, ε ~ N(0, σ²). The prior: the weights uniform where w_k ≥ 0 and
Σ w_k = 1, θ_k uniform on the family's box, log σ uniform; curves that end lower than they began, or than they are now,
or beyond the limit, are impossible. (In the paper the weights need no sum; but then a weight and the height of its
curve cannot be told apart, and the posterior has no end.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .ensemble import stretched
from .families import FAMILIES, SMALLEST_VARIANCE, Family, at_places, near_fits

SMALLEST_NOISE, LARGEST_NOISE = np.log(1e-4), np.log(0.5)
THINNING = 5
"""Of every so many steps one is kept."""
DRAWN = 8
"""Points that are drawn for every walker that begins at one."""


@dataclass(frozen=True, slots=True)
class Posterior:
    """Of the curves through y (points,) at the epochs 1 to points, y having a scale by which it is in [0, 1].

    end: the epoch to look ahead to. limit: what a curve is not beyond there; None for anything.
    """

    y: np.ndarray
    end: int
    limit: float | None = 1.0
    families: Sequence[Family] = FAMILIES

    def log_density(self, curves: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Of curves (rows, points + 1), the last at the end, and log σ (rows,); -inf where they are impossible."""
        now, end = curves[:, -2], curves[:, -1]
        possible = (end >= now) & (end > curves[:, 0]) & (noise >= SMALLEST_NOISE) & (noise <= LARGEST_NOISE)
        if self.limit is not None:
            possible &= end <= self.limit
        squares = ((curves[:, :-1] - self.y) ** 2).sum(1)
        return np.where(possible, -len(self.y) * noise - squares / (2 * np.exp(2 * noise)), -np.inf)

    def samples(self, walkers: int, steps: int, rng: np.random.Generator) -> np.ndarray | None:
        """Values at the end and σ, as an array (2, n): where the walkers, an even number, were in the second half of
        their steps. None where no such curve is possible.
        """
        ensemble = self.ensemble(walkers, rng)
        if ensemble is None:
            return None
        halves = (slice(0, walkers // 2), slice(walkers // 2, walkers))
        kept = []
        for step in range(steps):
            pair = rng.permutation(len(self.families))[:2].tolist()
            for mine, others in (halves, halves[::-1]):
                ensemble.move(pair, mine, others, rng)
            if step >= steps // 2 and step % THINNING == 0:
                kept.append(np.stack([ensemble.curves[:, -1], np.exp(ensemble.noise)]))
        return np.concatenate(kept, 1)

    def ensemble(self, walkers: int, rng: np.random.Generator) -> Ensemble | None:
        """Walkers near least-squares fits of each family: some of the better third of many that are drawn."""
        x, drawn = np.arange(1.0, len(self.y) + 1), DRAWN * walkers
        fits = [near_fits(family, x, self.y, drawn, rng) for family in self.families]
        deviation = np.sqrt(max(min(squares for _, squares in fits) / len(self.y), SMALLEST_VARIANCE))
        noise = np.log(deviation) + 0.3 * rng.standard_normal(drawn)
        weights = rng.dirichlet(np.ones(len(fits)), size=drawn)
        noise = np.clip(noise, SMALLEST_NOISE, LARGEST_NOISE)
        found = Ensemble(self, [places for places, _ in fits], weights, noise)
        order = np.argsort(-found.density)
        possible = np.isfinite(found.density[order])
        if possible.sum() < walkers:
            return None
        best = rng.permutation(order[possible][: drawn // 3])[:walkers]
        return Ensemble(self, [places[best] for places, _ in fits], weights[best], noise[best])


class Ensemble:
    """Walkers through a posterior: each family's places (walkers, k), the weights (walkers, families), log σ
    (walkers,), and what follows from them: each family's curve (walkers, points + 1), their sum, and the log
    density.
    """

    def __init__(
        self, posterior: Posterior, places: Sequence[np.ndarray], weights: np.ndarray, noise: np.ndarray
    ) -> None:
        self.posterior, self.places, self.weights, self.noise = posterior, list(places), weights, noise
        self._x = np.append(np.arange(1.0, len(posterior.y) + 1), posterior.end)
        self._parts = [at_places(f, there, self._x) for f, there in zip(posterior.families, places, strict=True)]
        self.curves = (weights[:, :, None] * np.stack(self._parts, 1)).sum(1)
        self.density = posterior.log_density(self.curves, noise)

    def move(self, pair: Sequence[int], mine: slice, others: slice, rng: np.random.Generator) -> None:
        """A stretch move of the walkers `mine` in the space of two families (or the only one): their places, the first
        one's share of both their weights, and log σ. The rest is held fixed."""
        proposed, correction = stretched(self._where(pair, mine), self._where(pair, others), rng)
        both = self.weights[mine, pair].sum(1)
        inside = ((proposed[:, :-1] >= 0) & (proposed[:, :-1] <= 1)).all(1)
        noise, proposed = proposed[:, -1], np.clip(proposed, 0, 1)
        first = both * proposed[:, -2] if len(pair) == 2 else both
        curves, begin, parts = self.curves[mine].copy(), 0, []
        for family, weight in zip(pair, (first, both - first), strict=False):
            end = begin + self.places[family].shape[1]
            part = at_places(self.posterior.families[family], proposed[:, begin:end], self._x)
            curves += weight[:, None] * part - self.weights[mine, family, None] * self._parts[family][mine]
            parts.append((family, weight, proposed[:, begin:end], part))
            begin = end
        density = np.where(inside, self.posterior.log_density(curves, noise), -np.inf)
        accepted = np.log(rng.random(len(both))) < correction + density - self.density[mine]
        for family, weight, places, part in parts:
            np.copyto(self.places[family][mine], places, where=accepted[:, None])
            np.copyto(self.weights[mine, family], weight, where=accepted)
            np.copyto(self._parts[family][mine], part, where=accepted[:, None])
        np.copyto(self.curves[mine], curves, where=accepted[:, None])
        np.copyto(self.density[mine], density, where=accepted)
        np.copyto(self.noise[mine], noise, where=accepted)

    def _where(self, pair: Sequence[int], walkers: slice) -> np.ndarray:
        """The walkers in the space of the pair (n, dimensions)."""
        columns = [self.places[family][walkers] for family in pair]
        if len(pair) == 2:
            both = np.maximum(self.weights[walkers, pair].sum(1), np.finfo(float).tiny)
            columns.append((self.weights[walkers, pair[0]] / both)[:, None])
        return np.concatenate([*columns, self.noise[walkers, None]], 1)
