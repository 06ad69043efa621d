"""Gaussian-process regression on encoded architectures, in ranks: a surrogate of what they are worth.

Rasmussen, Williams 2006, "Gaussian Processes for Machine Learning": equations 2.25 and 2.26 (mean and variance), 5.12
(leave-one-out). Its scale is that of the largest likelihood; its width and its noise are fixed, as good as any that
were tried on NAS-Bench-201. Forecasts are combined as in Bates, Granger 1969, "The combination of forecasts".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

WIDTH = 0.5
"""Of the kernel exp(−d/width), d the squared distance: as a multiple of the median d between two known inputs."""
NOISE = 0.1
"""The variance of one result's noise, as a share of the variance of what is learnt."""
Floats: TypeAlias = NDArray[np.float64]


class Regression:
    """What inputs are worth, learnt from some whose worth is known.

    The outputs are learnt as normal scores: by their rank r among n, Φ⁻¹((r − ½)/n), ties averaged. So a few networks
    that learn nothing, with an accuracy of 10 % among others of 90 %, do not spoil what is said of the others.
    """

    def __init__(self, inputs: Floats, outputs: Floats) -> None:
        """inputs: shape (n, features); outputs: shape (n, kinds), each kind learnt for itself."""
        self.inputs, self.sorted = inputs, np.sort(outputs, axis=0)
        self.scores: Floats = norm.ppf((rankdata(outputs, axis=0) - 0.5) / len(outputs))
        self.sorted_scores = np.sort(self.scores, axis=0)
        self.mean = self.scores.mean(0)
        distances = squared_distances(inputs, inputs)
        self.width = WIDTH * float(np.median(distances[np.triu_indices(len(inputs), 1)])) or 1.0
        kernel = np.exp(-distances / self.width)
        self.inverse = np.linalg.inv(kernel + NOISE * np.eye(len(inputs)))
        self.weights = self.inverse @ (self.scores - self.mean)
        self.scale = np.sqrt(((self.scores - self.mean) * self.weights).mean(0))
        left_out = self.weights / np.diag(self.inverse)[:, None]
        self.error = float(np.square(left_out).mean())
        """The mean squared error in normal scores where each output is foretold from all others."""

    def predict(self, inputs: Floats) -> tuple[Floats, Floats]:
        """(m, features) → the mean and the standard deviation of the normal scores, both (m, kinds)."""
        kernel = np.exp(-squared_distances(inputs, self.inputs) / self.width)
        left = np.maximum(1 - ((kernel @ self.inverse) * kernel).sum(1), 0)
        return self.mean + kernel @ self.weights, np.sqrt(left)[:, None] * self.scale

    def values(self, scores: Floats) -> Floats:
        """(m, kinds): what has these scores among the known outputs; beyond them the smallest, and the largest."""
        columns = zip(scores.T, self.sorted_scores.T, self.sorted.T, strict=True)
        return np.stack([np.interp(asked, known, outputs) for asked, known, outputs in columns], axis=1)


class Ensemble:
    """Regressions of the same outputs from different inputs, as one: a mixture of what they foretell.

    Each weighs the less, the larger its leave-one-out error is. Where the members disagree, the spread is larger.
    """

    def __init__(self, inputs: Sequence[Floats], outputs: Floats) -> None:
        """inputs: of each member, (n, features of its own); outputs: (n, kinds)."""
        self.members = [Regression(each, outputs) for each in inputs]
        accuracies = 1 / np.maximum([member.error for member in self.members], 1e-12)
        self.shares: Floats = accuracies / accuracies.sum()
        self.scores, self.values = self.members[0].scores, self.members[0].values  # alike in all of them

    def predict(self, inputs: Sequence[Floats]) -> tuple[Floats, Floats]:
        """Each member's inputs, (m, features of its own) → the mean and the standard deviation, both (m, kinds)."""
        foretold = [member.predict(each) for member, each in zip(self.members, inputs, strict=True)]
        means, spreads = (np.stack(parts) for parts in zip(*foretold, strict=True))
        mean: Floats = np.tensordot(self.shares, means, 1)
        return mean, np.sqrt(np.tensordot(self.shares, spreads**2 + (means - mean) ** 2, 1))


def squared_distances(one: Floats, other: Floats) -> Floats:
    """(n, features), (m, features) → (n, m)."""
    squares: Floats = np.square(one).sum(1)[:, None] + np.square(other).sum(1) - 2 * one @ other.T
    return np.maximum(squares, 0, out=squares)
