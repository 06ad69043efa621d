"""The affine-invariant ensemble sampler: many walkers, each of which moves along the line to another.

Goodman and Weare 2010, "Ensemble samplers with affine invariance", Comm. App. Math. Comp. Sci. 5, §3 (the stretch
move). Foreman-Mackey et al. 2013, "emcee: The MCMC Hammer", algorithm 3, lets two halves of the walkers move by turns,
each relative to the other.
"""

from __future__ import annotations

import numpy as np

STRETCH = 2.0
"""a of Goodman and Weare's equation 9."""


def stretched(walkers: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Where walkers (n, dimensions) may go, relative to walkers of the other half, and what is to be added to the
    logarithm of the densities' ratio (n,) for the chance to accept it.

    It may as well be some of the dimensions only, the others held fixed.
    """
    z = (1 + (STRETCH - 1) * rng.random(len(walkers))) ** 2 / STRETCH  # density ∝ 1/√z on [1/a, a]
    towards = others[rng.integers(len(others), size=len(walkers))]
    return towards + z[:, None] * (walkers - towards), (walkers.shape[1] - 1) * np.log(z)
