"""Judging by shared weights on the digits: how well inherited weights rank what training from scratch makes of it.

Random architectures of a space are trained from scratch; then the space's supernet is trained, and each architecture is
judged by the weights that it has there. The ranks of these judgements are held against those of the trained accuracy,
beside those of the number of parameters and of FLOPs, which cost nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from report import machine, number, parser, print_head, print_table, versions
from scipy.stats import kendalltau, spearmanr

from nasengine import Architecture, Context, Fidelity, SearchSpace, Task
from nasengine.evaluators.train import Train
from nasengine.evaluators.weight_sharing import WeightSharing
from nasengine.models import weights
from nasengine.registry import make, split

CPU = torch.device("cpu")
COSTS = ("parameters", "flops")
MEASURES = {"Spearman": spearmanr, "Kendall": kendalltau}
RESAMPLES = 1000


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--space", default="nasbench201", help="default: %(default)s")
    options.add_argument("--architectures", type=int, default=30, help="how many (default: %(default)s)")
    options.add_argument("--epochs", type=int, default=15, help="of each training from scratch (default: %(default)s)")
    options.add_argument("--seeds", type=int, default=1, help="trainings of each, averaged (default: %(default)s)")
    options.add_argument("--supernet-epochs", type=int, nargs="+", default=[25, 50, 100], help="default: 25 50 100")
    options.add_argument("--fair-epochs", type=int, nargs="*", default=[10, 20], help="with strict fairness: 10 20")
    options.add_argument("--seed", type=int, default=0, help="of the architectures and the supernet (default: 0)")
    given = options.parse_args()
    space, count, epochs, seeds = given.space, given.architectures, given.epochs, given.seeds
    cases = [("uniform", one) for one in given.supernet_epochs] + [("fair", one) for one in given.fair_epochs]
    if given.quick:
        space, count, epochs, cases = "nasbench201:cells=1,channels=4", 4, 1, [("uniform", 1), ("fair", 1)]
    torch.set_num_threads(1)
    facts = {
        "machine": machine(),
        "versions": versions("numpy"),
        "asked": f"{count} architectures of {space} on digits, {epochs} epochs each from scratch; 1 thread",
        "seeds": f"{given.seed} of the architectures and the supernets; the number of the architecture, of its weights",
        "repetitions": f"{seeds} an architecture, one a supernet; [95 % intervals] from {RESAMPLES:,} resamples",
    }
    print_head("Shared weights on the digits", facts, given.markdown)
    made_space: Any = make("space", *split(space))
    task: Any = make("task", "digits", {})
    task.to(CPU)
    drawn = made_space.domain(task).sample_different(count, np.random.default_rng(given.seed))
    trained, seconds = from_scratch(made_space, task, drawn, epochs, seeds)
    rows = [line(name, trained[name], trained["accuracy"], 0.0, 0.0) for name in COSTS]
    for sampling, length in cases:
        print(f"the supernet, {sampling}, {length} epochs", file=sys.stderr)
        scores, learning, judging = inherited(made_space, task, drawn, sampling, length, given.seed)
        rows.append(
            line(f"shared weights, {sampling}, {length} epochs", scores, trained["accuracy"], learning, judging)
        )
    print_table(["judged by", *MEASURES, "best of the top 3", "learning, s", "ms a candidate"], rows, given.markdown)
    accuracy = trained["accuracy"]
    print(
        f"Trained accuracy: {accuracy.min():.4f} to {accuracy.max():.4f}, mean {accuracy.mean():.4f}, standard "
        f"deviation {accuracy.std(ddof=1):.4f}; {seconds:.1f} s a training."
    )


def from_scratch(
    space: SearchSpace, task: Task, drawn: list[Architecture], epochs: int, seeds: int
) -> tuple[Mapping[str, NDArray[np.float64]], float]:
    """By metric, of each architecture what it is worth at its best epoch, on average; and the seconds that one
    training takes."""
    evaluator: Any = Train(epochs=epochs, patience=0, seeds=seeds)
    rows, began = [], time.perf_counter()
    for index, architecture in enumerate(drawn):
        print(f"training {index + 1} of {len(drawn)}", file=sys.stderr)
        judged = evaluator.evaluate(architecture, Fidelity(), Context(space, task, CPU, index))
        while True:
            try:
                next(judged)
            except StopIteration as ended:
                rows.append(ended.value)
                break
    seconds = (time.perf_counter() - began) / len(drawn) / seeds
    return {name: np.array([row[name] for row in rows]) for name in ("accuracy", *COSTS)}, seconds


def inherited(
    space: SearchSpace, task: Task, drawn: list[Architecture], sampling: str, epochs: int, seed: int
) -> tuple[NDArray[np.float64], float, float]:
    """What each architecture is worth with the supernet's weights; the seconds of the learning, and of a judgement."""
    evaluator: Any = WeightSharing(epochs=epochs, sampling=sampling)
    context, began = Context(space, task, CPU, seed), time.perf_counter()
    for _ in evaluator.learn(context):
        pass
    learning, began = time.perf_counter() - began, time.perf_counter()
    learnt = weights(context.saved)  # type: ignore[arg-type]
    scores = [
        evaluator.evaluate(architecture, Fidelity(), Context(space, task, CPU, 0, learnt=learnt))["accuracy"]
        for architecture in drawn
    ]
    return np.array(scores), learning, (time.perf_counter() - began) / len(drawn)


def line(
    name: str, scores: NDArray[np.float64], accuracy: NDArray[np.float64], learning: float, judging: float
) -> list[str]:
    """A line of the table: the correlations, the best trained accuracy among the three with the highest scores, the
    times."""
    top = accuracy[np.argsort(-scores, kind="stable")[:3]].max()
    texts = ["{:.3f} [{:.3f}, {:.3f}]".format(*correlation(scores, accuracy, of)) for of in MEASURES.values()]
    times = [number(learning), number(1000 * judging)] if learning else ["–", "–"]
    return [name, *texts, f"{top:.4f}", *times]


def correlation(scores: NDArray[np.float64], accuracy: NDArray[np.float64], measure: Any) -> tuple[float, float, float]:
    """The rank correlation, and its 95 % interval by resampling the architectures; 0 where nothing varies."""
    rng, ranks = np.random.default_rng(0), pd.Series(scores).rank().to_numpy()
    chosen = rng.integers(len(scores), size=(RESAMPLES, len(scores)))
    values = [
        measure(ranks[some], accuracy[some]).statistic
        for some in (np.arange(len(scores)), *chosen)
        if min(len(set(ranks[some])), len(set(accuracy[some]))) > 1
    ]
    low, high = np.percentile(values[1:] or [0.0], [2.5, 97.5])
    return float(values[0] if values else 0.0), float(low), float(high)


if __name__ == "__main__":
    main()
