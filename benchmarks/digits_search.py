"""What `nas run --space cell --strategy darts` finds on the digits, over seeds: is the search worth its time?

Each seed is a whole run: the search, the final training of what it found, and the training of random architectures by
the same recipe. The gain is the found architecture's test accuracy minus the random ones' mean, in the same run.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import fmean

from report import machine, mean, parser, print_head, print_table, versions

import nasengine
from nasengine import Run, RunFailed

COLUMNS = {
    "validation accuracy": 4,
    "test accuracy": 4,
    "random: test accuracy": 4,
    "gain": 4,
    "parameters": 0,
    "search, s": 1,
    "final training, s": 1,
}
"""What is shown of a run, and with how many decimals."""


def figures(run: Run) -> list[float]:
    """What COLUMNS names, of a finished run."""
    comparison = run.comparison()
    if comparison is None:
        raise RunFailed(f"the run {run.folder} has no random architectures to compare with")
    best = run.best
    searching = sum(trial.seconds for trial in run.all_trials if trial.purpose == "search")
    return [
        best.metrics["accuracy"],
        comparison.found,
        fmean(comparison.baseline),
        comparison.gain,
        best.metrics["parameters"],
        searching,
        best.seconds,
    ]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--space", help="default: cell")
    options.add_argument("--strategy", help="default: darts")
    options.add_argument("--trials", type=int, default=20, help="the budget (default: %(default)s)")
    options.add_argument("--baseline", type=int, default=3, help="random architectures a run (default: %(default)s)")
    options.add_argument("--seeds", type=int, default=5, help="how many, from 0 on (default: %(default)s)")
    given = options.parse_args()
    space = given.space or ("cell:channels=2,nodes=2" if given.quick else "cell")
    strategy = given.strategy or ("darts:epochs=1" if given.quick else "darts")
    evaluator = "train:epochs=1" if given.quick else "train"
    seeds = 1 if given.quick else given.seeds
    facts = {
        "machine": machine(),
        "versions": versions(),
        "asked": f"space {space}, strategy {strategy}, evaluator {evaluator}, task digits, {given.trials} trials",
        "baseline": f"{given.baseline} random architectures a run, trained by the same recipe",
        "seeds": f"0 to {seeds - 1}",
        "repetitions": "one a seed; the last row is mean ± sd over the seeds",
    }
    print_head("What a search finds on the digits", facts, given.markdown)
    found = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            run = nasengine.search(
                space, strategy, "digits", evaluator, seed=seed, trials=given.trials, baseline=given.baseline,
                out=Path(folder) / "run",
            )  # fmt: skip
            found.append(figures(run))
    rows = [
        [str(seed), *(f"{value:,.{digits}f}" for value, digits in zip(row, COLUMNS.values(), strict=True))]
        for seed, row in enumerate(found)
    ]
    columns = list(zip(*found, strict=True))
    rows.append(["mean", *map(mean, columns, COLUMNS.values())])
    print_table(["seed", *COLUMNS], rows, given.markdown)
    gains = columns[list(COLUMNS).index("gain")]
    print(
        f"The gain is positive in {sum(gain > 0 for gain in gains)} of {seeds} runs, "
        f"zero in {sum(gain == 0 for gain in gains)}, negative in {sum(gain < 0 for gain in gains)}."
    )


if __name__ == "__main__":
    main()
