"""Non-dominated fronts: who is beaten in every objective by nobody, then by nobody of those left, and so on.

Deb, Pratap, Agarwal, Meyarivan 2002, "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", section III.A.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from .trial import Objective, Trial


def fronts(trials: Iterable[Trial], objectives: Sequence[Objective]) -> list[list[Trial]]:
    """The trials that have a value for every objective, front by front; within one, in the order given."""
    usable, rows = [], []
    for trial in trials:
        scores = [objective.score(trial) for objective in objectives]
        if None not in scores:
            usable.append(trial)
            rows.append(scores)
    values = np.array(rows, dtype=float).reshape(len(rows), len(objectives))
    found, left = [], np.arange(len(usable))
    while len(left):
        mine, theirs = values[left][:, None], values[left][None]
        beaten = np.any(np.all(theirs >= mine, axis=2) & np.any(theirs > mine, axis=2), axis=1)
        found.append([usable[index] for index in left[~beaten]])
        left = left[beaten]
    return found
