"""Trials a second of the whole loop, with an evaluator that returns at once: ask, record, evaluate, record, tell.

Beside it Optuna's studies, in memory and in SQLite, whose objective suggests the same parameters: the same operations,
widths and depths of the same chain space. All random searches but one: evolution's rows show what a strategy that
looks back costs.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

import optuna
from report import by_turns, machine, parser, print_head, print_table, ratios, spread, versions

import nasengine
from nasengine import Domain
from nasengine.evaluators.tasks.digits import Digits
from nasengine.ledger import Ledger
from nasengine.search_spaces.chain import ChainSpace

STAGES, LAYERS = 3, 4
SPACE = (
    f"chain:stages={STAGES},layers={LAYERS},operations=[convolution,separable,dilated,grouped,max_pool,identity],"
    "kernels=[3],activations=[relu],norms=[batch],dropouts=[0.0],reductions=[max_pool],heads=[average],hidden_layers=0"
)
INSTANT = f"{Path(__file__).with_name('instant.py')}:Instant"
OURS = "nasengine, random, durable"
COMMIT, SYNC = "one commit of nasengine's record, durable", "one fsync of 4 kB"


@dataclass(frozen=True)
class Loop:
    """seconds: of a trial. judged: how many trials were evaluated; a network that is asked for again is not."""

    seconds: float
    judged: int


def engine(strategy: str, durable: bool, trials: int, seed: int) -> Loop:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        run = nasengine.search(
            SPACE, strategy, evaluator=INSTANT, trials=trials, baseline=0, seed=seed, out=folder, durable=durable
        )
        seconds = time.perf_counter() - started
        return Loop(
            seconds / trials, sum(trial.same_as is None for trial in run.all_trials if trial.purpose == "search")
        )


def study(in_sqlite: bool, trials: int, seed: int, domain: Domain) -> Loop:
    def objective(trial: optuna.Trial) -> float:
        """What the chain space leaves open, and an accuracy from the picks' digest, as the engine's evaluator does."""
        options = {name: list(decision.options) for name, decision in domain.decisions.items()}
        for stage in range(STAGES):
            depth = trial.suggest_categorical(f"stage{stage}.depth", options[f"stage{stage}.depth"])
            for name in (f"stage{stage}.layer{layer}" for layer in range(int(depth or 0))):
                for part in ("width", "operation"):
                    trial.suggest_categorical(f"{name}.{part}", options[f"{name}.{part}"])
        return int(hashlib.sha256(repr(trial.params).encode()).hexdigest()[:8], 16) / 16**8

    with tempfile.TemporaryDirectory() as folder:
        storage = f"sqlite:///{folder}/optuna.sqlite" if in_sqlite else None
        started = time.perf_counter()
        made = optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler(seed), direction="maximize")
        made.optimize(objective, n_trials=trials)
        return Loop((time.perf_counter() - started) / trials, len(made.trials))


def commits(trials: int, _: int) -> Loop:
    """The ledger alone: two events of a usual length a commit, as a turn of the loop writes them."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger.create(Path(folder), {})
        started = time.perf_counter()
        for index in range(trials):
            for kind in ("ask", "tell"):
                ledger.record(kind, index, 0.0, {"text": "x" * 600})
            ledger.commit()
        seconds = time.perf_counter() - started
        ledger.close()
    return Loop(seconds / trials, trials)


def syncs(trials: int, _: int) -> Loop:
    """What the disk asks for a promise: 4 kB appended and forced down to it."""
    with tempfile.TemporaryFile() as file:
        started = time.perf_counter()
        for _ in range(trials):
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
        return Loop((time.perf_counter() - started) / trials, trials)


def main() -> None:
    options = parser(__doc__, repetitions=11)
    options.add_argument("--trials", type=int, default=1000, help="of each search (default: %(default)s)")
    given = options.parse_args()
    repetitions, trials = (1, 20) if given.quick else (given.repetitions, given.trials)
    few = max(10, trials // 10)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    domain = ChainSpace(stages=STAGES, layers=LAYERS).domain(Digits())
    facts = {
        "machine": machine(),
        "versions": versions("optuna"),
        "space": f"{SPACE}: {len(domain.decisions)} decisions, {domain.size:.1e} architectures",
        "seeds": f"0 to {repetitions - 1}, one a repetition",
        "repetitions": f"{repetitions}, by turns, of {trials:,} trials each ({few:,} in Optuna's SQLite, so that no "
        "turn takes minutes); all numbers as median (min–max)",
        "durable": "survives a power cut: every commit waits for the disk; without it a run survives a killed process",
    }
    print_head("The loop, with an evaluator that returns at once", facts, given.markdown)

    cases: dict[str, Callable[[int], Loop]] = {
        OURS: partial(engine, "random", True, trials),
        "nasengine, random, not durable": partial(engine, "random", False, trials),
        "nasengine, evolution, durable": partial(engine, "evolution", True, trials),
        "nasengine, evolution, not durable": partial(engine, "evolution", False, trials),
        "Optuna, random, SQLite (durable)": lambda seed: study(True, few, seed, domain),
        "Optuna, random, in memory": lambda seed: study(False, trials, seed, domain),
        COMMIT: partial(commits, trials),
        SYNC: partial(syncs, trials),
    }
    engine("random", False, 5, 0)  # imports, and warms caches up, not counted
    study(True, 5, 0, domain)
    results = by_turns(cases, repetitions)
    reference = [loop.seconds for loop in results[OURS]]
    rows = []
    for name, loops in results.items():
        seconds = [loop.seconds for loop in loops]
        judged = "–" if name in (COMMIT, SYNC) else f"{fmean(loop.judged for loop in loops):,.0f}"
        milliseconds = spread([1000 * value for value in seconds])
        rows.append([name, spread([1 / s for s in seconds]), milliseconds, spread(ratios(seconds, reference)), judged])
    print_table(["what", "a second", "ms each", f"time, × {OURS}", "judged"], rows, given.markdown)


if __name__ == "__main__":
    main()
