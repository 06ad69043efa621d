"""Comparing strategies: each searches the same space by the same settings, once for each seed, side by side.

Nothing is lost: every search that ends is a line of `results.jsonl`, and the same call goes on where it stopped, also
with more seeds or more strategies.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import ConfigError, NasError, RunError, RunFailed, one_line

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from .trial import Objective

RESULTS, SETTINGS = "results.jsonl", "compare.json"
TRIES = 3
"""How often a search is begun whose process dies."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one search.

    found: the final judgement of what it found (test data where there is some), in `metric`. best: what the search
    itself saw as its best after each trial, None before the first. clock: when each trial had ended, in simulated
    seconds where the evaluator has them, else in seconds of the search. error: why there is no result.
    """

    strategy: str
    seed: int
    found: float | None = None
    metric: str = ""
    best: tuple[float | None, ...] = ()
    clock: tuple[float, ...] = ()
    seconds: float = 0.0
    simulated: float = 0.0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """The results of a comparison, by strategy and seed."""

    folder: Path
    objective: Objective
    results: Sequence[Result]

    def table(self, budgets: Sequence[int] = ()) -> list[list[str]]:
        """A row a strategy, headings first: mean ± standard deviation, median, the best seen at each budget (a number
        of trials), seconds, and Wilcoxon's rank-sum test against `random`, by Holm corrected."""
        from .report.compared import cells

        return cells(self.results, self.objective, budgets)

    def frame(self) -> pd.DataFrame:
        """A row a search."""
        from .report.compared import frame

        return frame(self.results)

    def curves(self) -> pd.DataFrame:
        """A row for each trial that brought something better."""
        from .report.compared import curves_frame

        return curves_frame(self.results)

    def regret(self, optimum: float | None = None) -> Figure:
        """How far the best seen is from the optimum, or else from the best that any search saw, after each trial.

        Raises RunError where no strategy judges candidates one by one.
        """
        from .report.compared import regret

        return regret(self.results, self.objective, optimum)

    def write(self, budgets: Sequence[int] = (), optimum: float | None = None) -> list[Path]:
        """The table as markdown, the rows as CSV, and the picture, where there is one, into the folder."""
        from .report.compared import markdown

        names = ("table.md", "runs.csv", "curves.csv", "regret.png")
        table, runs, curves, picture = paths = [self.folder / name for name in names]
        try:
            table.write_text(markdown(self.table(budgets)) + "\n", encoding="utf-8")
            self.frame().to_csv(runs, index=False)
            self.curves().to_csv(curves, index=False)
            try:
                self.regret(optimum).savefig(picture, dpi=150)
            except RunError:
                paths.remove(picture)
        except OSError as error:
            raise RunError(f"{self.folder} cannot be written to: {error.strerror}; the results are kept") from None
        return paths


def compare(
    strategies: Sequence[str] | str,
    space: str = "cell",
    task: str = "digits",
    evaluator: str = "train",
    *,
    seeds: int = 10,
    out: str | Path,
    workers: int = 1,
    began: Callable[[int, int], None] = lambda done, total: None,
    ended: Callable[[Result], None] = lambda result: None,
    **settings: Any,
) -> Compared:
    """Searches with each strategy and each of the seeds 0 … seeds − 1.

    strategies: names, with options, `["random", "evolution:population=10"]`, or one text with commas between them.
    `random`, which all are held against, is among them in any case. settings: those of `nasengine.search`. workers:
    processes, each with one search at a time. The folder `out` holds the results; searches of an evaluator that trains
    keep their runs there, too. `began` is called once with how many searches are done already, and how many there
    will be; `ended` with each result as it comes.

    Raises NasError where what was asked for cannot be, or where `out` holds a comparison by other settings.
    """
    names = with_random(split_strategies(strategies) if isinstance(strategies, str) else list(strategies))
    if seeds < 1 or workers < 1:
        raise ConfigError(f"seeds are {seeds} and workers {workers}; expected at least 1 of each")
    asked = {"space": space, "task": task, "evaluator": evaluator, "baseline": 0, **settings}
    folder = Path(out)
    objective, keeps = _checked(asked, names)
    known = _opened(folder, asked)
    todo = [(name, seed) for seed in range(seeds) for name in names if (name, seed) not in known]
    began(len(names) * seeds - len(todo), len(names) * seeds)
    for result in _results(todo, asked, folder, keeps, workers):
        _kept(folder, result)
        known[result.strategy, result.seed] = result
        ended(result)
    return Compared(folder, objective, [known[name, seed] for name in names for seed in range(seeds)])


def split_strategies(text: str) -> list[str]:
    """`random,evolution:population=10,sample=3,darts` as three: what has no colon and an equals sign goes on with the
    options of the one before. Raises ConfigError where nothing is named."""
    found: list[str] = []
    for part in filter(None, re.split(r",(?![^\[]*\])", text)):
        if found and "=" in part.partition(":")[0]:
            found[-1] += f",{part}"
        else:
            found.append(part.strip())
    if not found:
        raise ConfigError("no strategy is named; expected some, as random,evolution,local_search")
    return found


def with_random(names: list[str]) -> list[str]:
    """Each once, and `random` with them."""
    return list(dict.fromkeys(names if "random" in names else ["random", *names]))


def _checked(asked: Mapping[str, Any], names: Sequence[str]) -> tuple[Objective, bool]:
    """What counts, and whether the searches keep their runs. Raises NasError where one of them could not begin."""
    from .config import Config
    from .parts import check_objectives, resolve
    from .session import absolute

    plans = [resolve(absolute(Config.of({**asked, "strategy": name}, "compare")), {}) for name in names]
    check_objectives(plans[0])
    if not plans[0].config.trials:
        raise ConfigError("trials are 0; expected at least 1: there is nothing to compare without a search")
    return plans[0].objectives[0], not plans[0].evaluator.simulates


def _opened(folder: Path, asked: Mapping[str, Any]) -> dict[tuple[str, int], Result]:
    """The results that are there already. Raises RunError where they are of other settings, or cannot be kept."""
    from .storage import write_atomically

    plain = json.loads(json.dumps(asked, sort_keys=True, default=str))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / SETTINGS
        if not path.exists():
            write_atomically(path, json.dumps(plain, indent=2, sort_keys=True).encode())
        before = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RunError(f"the comparison's folder {folder} cannot be used: {one_line(error)}") from None
    for name in sorted({*before, *plain}):
        if before.get(name) != plain.get(name):
            raise RunError(
                f"{folder} holds a comparison with {name} = {before.get(name)!r}, not {plain.get(name)!r}; choose "
                f"another folder with --out"
            )
    return {(result.strategy, result.seed): result for result in read_results(folder)}


def read_results(folder: Path) -> Iterator[Result]:
    """The results on record. A line that a dying process did not finish is passed over."""
    path = folder / RESULTS
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            data = json.loads(line)
            yield Result(**{**data, "best": tuple(data["best"]), "clock": tuple(data["clock"])})
        except (ValueError, TypeError, KeyError):
            continue


def _kept(folder: Path, result: Result) -> None:
    try:
        with open(folder / RESULTS, "a+b") as file:
            if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                file.write(b"\n")  # after a line that was not finished
            file.write(json.dumps(asdict(result)).encode() + b"\n")
    except OSError as error:
        raise RunError(f"the results in {folder} cannot be written: {error.strerror}; nothing before is lost") from None


def _results(
    todo: Sequence[tuple[str, int]], asked: Mapping[str, Any], folder: Path, keeps: bool, workers: int
) -> Iterator[Result]:
    """Each search's result as it ends."""
    if workers == 1:
        yield from (search_once(*entry, asked, folder, keeps) for entry in todo)
        return
    waiting, tries = list(reversed(todo)), dict.fromkeys(todo, 0)
    while waiting:
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _alone)
        running: dict[Future[Result], tuple[str, int]] = {}
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    entry = waiting.pop()
                    running[pool.submit(search_once, *entry, asked, folder, keeps, 1)] = entry
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    entry = running[future]
                    yield future.result()
                    del running[future]
        except BrokenProcessPool:  # one of those that ran took its process with it: all of them are begun again
            for entry in running.values():
                tries[entry] += 1
                if tries[entry] < TRIES:
                    waiting.append(entry)
                else:
                    yield Result(*entry, error=f"its process died {TRIES} times")
        finally:
            for process in list((pool._processes or {}).values()):
                process.terminate()
            pool.shutdown(cancel_futures=True)


def _alone() -> None:
    """In a process of the pool: one thread, deaf to the terminal's Ctrl-C, and gone when its parent is."""
    import signal

    os.environ["OMP_NUM_THREADS"] = "1"
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def search_once(
    strategy: str, seed: int, asked: Mapping[str, Any], folder: Path, keeps: bool, threads: int | None = None
) -> Result:
    """One search, from where it stopped if it had begun."""
    from .config import Config
    from .ledger import FILE
    from .session import resume, start

    own = folder / "runs" / f"{folder_name(strategy)}-{seed}"
    settings = {"threads": threads} if threads and "threads" not in asked else {}
    try:
        if (own / FILE).exists():
            run = resume(own, durable=False)
        else:
            config = Config.of({**asked, **settings, "strategy": strategy, "seed": seed}, "compare")
            run = start(config, own, durable=False)
        result = result_of(run, strategy, seed)
    except RunFailed as error:
        result = Result(strategy, seed, error=one_line(error))
    except NasError as error:
        raise RunError(f"the search of {strategy} with seed {seed} cannot go on: {error}") from error
    if not keeps:
        shutil.rmtree(own, ignore_errors=True)
    return result


def folder_name(strategy: str) -> str:
    """A strategy's text as part of a path: different texts, different names."""
    word = re.sub(r"[^\w-]+", "-", strategy)[:60].strip("-")
    return word if word == strategy else f"{word}-{hashlib.sha256(strategy.encode()).hexdigest()[:6]}"


def result_of(run: Any, strategy: str, seed: int) -> Result:
    """What a finished run says about its strategy."""
    from .plan import simulated_seconds, standing_of

    objective = run.objectives[0]
    best: list[float | None] = []
    clock: list[float] = []
    leader: tuple[Any, ...] | None = None
    value, simulated = None, 0.0
    for trial in run.all_trials:
        if trial.purpose != "search":
            continue
        standing = standing_of(trial, run.by_stage)
        if standing is not None and (leader is None or standing > leader):
            leader, value = standing, trial.metrics[objective.metric]
        simulated += simulated_seconds(trial)
        best.append(value)
        clock.append(simulated or run.told_at[trial.number])
    judged = run.best.metrics
    metric = f"test_{objective.metric}" if f"test_{objective.metric}" in judged else objective.metric
    return Result(
        strategy, seed, judged.get(metric), metric, tuple(best), tuple(clock), run.seconds, run.simulated
    )  # fmt: skip
