"""How long a strategy takes to propose the next candidate, after 100, 1,000 and 10,000 trials.

A strategy is driven without the engine: the processor time of `ask` and `tell`, a trial. The space is `cell`,
where an accuracy is made up from the architecture's id; those that take more than the time allowed show how far they
came.
"""

from __future__ import annotations

import time

import numpy as np
from report import machine, number, parser, print_head, print_table, versions

import nasengine
from nasengine import Evaluate, Strategy, Trial
from nasengine.registry import installed, make, split

MARKS = (100, 1_000, 10_000)
WINDOW = 50
"""Trials over which the time at a mark is averaged, those just before it."""


def times(strategy: Strategy, trials: int, limit: float) -> list[float]:
    """Seconds of processor time of each trial's ask and tell."""
    space = make("space", "cell", {})
    task = make("task", "digits", {})
    assert isinstance(space, nasengine.SearchSpace) and isinstance(task, nasengine.Task)  # noqa: PT018
    strategy.start(space.domain(task), np.random.default_rng(0), trials=trials)
    taken: list[float] = []
    began = time.process_time()
    while len(taken) < trials and time.process_time() - began < limit:
        before = time.process_time()
        request = strategy.ask()
        if request is None:
            break
        asked = time.process_time() - before
        assert isinstance(request, Evaluate)
        value = int(request.architecture.id[:8], 16) / 16**8
        before = time.process_time()
        strategy.tell(Trial(len(taken), request, "done", {"accuracy": value}))
        taken.append(asked + time.process_time() - before)
    return taken


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--seconds", type=float, default=120.0, help="of a strategy, at most (default: %(default)s)")
    options.add_argument("--strategies", default="", help="others than all that are installed, with semicolons between")
    given = options.parse_args()
    names = given.strategies.split(";") if given.strategies else [plugin.name for plugin in installed("strategy")]
    marks = MARKS[:1] if given.quick else MARKS
    facts = {
        "machine": machine(),
        "versions": versions("optuna"),
        "seeds": "0",
        "repetitions": f"one; milliseconds of processor time, mean of the {WINDOW} trials before the mark",
    }
    print_head("Time of a proposal", facts, given.markdown)
    rows = []
    for text in names:
        name, chosen = split(text)
        strategy = make("strategy", name, chosen)
        if not isinstance(strategy, Strategy) or isinstance(strategy, nasengine.OneShotStrategy):
            continue
        taken = times(strategy, marks[-1], 5.0 if given.quick else given.seconds)
        cells = [number(1e3 * float(np.mean(taken[m - WINDOW : m]))) if len(taken) >= m else "–" for m in marks]
        rows.append([text, *cells, f"{len(taken):,}"])
    print_table(["strategy", *(f"ms at {mark:,}" for mark in marks), "trials made"], rows, given.markdown)


if __name__ == "__main__":
    main()
