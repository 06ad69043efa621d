"""Comparing strategies: the same searches side by side, statistics that a textbook would give, and nothing lost."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nasengine
from nasengine import ConfigError, NasError, Objective, PluginError, RunError
from nasengine.comparing import Result, folder_name, read_results, split_strategies
from nasengine.report.compared import best_at, cells, holm, markdown, rank_sum, regret, rows_of, text
from nasengine.testing import TinySpace, TinyTask

TINY: dict[str, Any] = {"space": "nasengine.testing:TinySpace", "task": "nasengine.testing:TinyTask"}
GOAL = Objective("accuracy")


@pytest.fixture
def tabular(tmp_path: Path) -> str:
    """A table in which an architecture's accuracy is how many of its picks are the last that there are."""
    domain = TinySpace().domain(TinyTask())
    architectures = list(domain.enumerate())
    score = [
        np.mean([a.picks[d.name] == list(d.picks())[-1] for d in domain.decisions.values() if d.name in a.picks])
        for a in architectures
    ]
    frame = pd.DataFrame({"architecture": map(TinySpace().notation, architectures), "accuracy": score})
    frame["test_accuracy"], frame["seconds"] = frame["accuracy"] / 2, 10.0
    frame.to_csv(tmp_path / "tiny.csv", index=False)
    return f"tabular:table={tmp_path / 'tiny.csv'}"


def compared(tabular: str, out: Path, strategies: Any = "random,evolution", **settings: Any) -> nasengine.Compared:
    return nasengine.compare(strategies, evaluator=tabular, out=out, **{**TINY, "trials": 12, "seeds": 3, **settings})


# What is searched


def test_each_result_is_that_of_the_search_alone(tabular: str, tmp_path: Path) -> None:
    found = compared(tabular, tmp_path / "out")
    assert [(r.strategy, r.seed) for r in found.results] == list(itertools.product(["random", "evolution"], range(3)))
    for result in found.results:
        run = nasengine.search(
            strategy=result.strategy, evaluator=tabular, trials=12, baseline=0, seed=result.seed,
            out=tmp_path / f"{result.strategy}{result.seed}", **TINY,
        )  # fmt: skip
        searched = [trial for trial in run.all_trials if trial.purpose == "search"]
        best = np.maximum.accumulate([trial.metrics["accuracy"] for trial in searched])
        assert result.best == pytest.approx(tuple(best))
        assert (result.metric, result.found) == ("test_accuracy", run.best.metrics["test_accuracy"])
        assert result.simulated == run.simulated == result.clock[-1]


@pytest.mark.slow
def test_several_processes_find_what_one_does(tabular: str, tmp_path: Path) -> None:
    def told(found: nasengine.Compared) -> list[Any]:
        return [(r.strategy, r.seed, r.found, r.best, r.clock) for r in found.results]

    alone = compared(tabular, tmp_path / "alone", seeds=2)
    assert told(compared(tabular, tmp_path / "both", seeds=2, workers=2)) == told(alone)


def test_random_is_always_among_them_and_no_strategy_twice(tabular: str, tmp_path: Path) -> None:
    found = compared(tabular, tmp_path / "out", ["evolution", "evolution"], seeds=1)
    assert [result.strategy for result in found.results] == ["random", "evolution"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("random", ["random"]),
        ("random,evolution:population=10,sample=3,darts", ["random", "evolution:population=10,sample=3", "darts"]),
        ("a:x=[1,2],y=3, b", ["a:x=[1,2],y=3", "b"]),
        ("./mine.py:Mine,random", ["./mine.py:Mine", "random"]),
    ],
)
def test_names_with_options_stand_between_commas(given: str, meant: list[str]) -> None:
    assert split_strategies(given) == meant


def test_folders_of_different_strategies_differ() -> None:
    names = ["evolution", "evolution:sample=2", "evolution:sample=3", "./a/mine.py:Mine", "./b/mine.py:Mine"]
    assert len({folder_name(name) for name in names}) == len(names)
    assert all("/" not in folder_name(name) for name in names)


# What may go wrong


def test_a_comparison_goes_on_where_it_was_ended_and_grows(tabular: str, tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def stop(result: Result, left: list[int] = [2]) -> None:  # noqa: B006 (counts)
        left[0] -= 1
        if left[0] < 0:
            raise Enough

    with pytest.raises(Enough):
        compared(tabular, tmp_path / "out", ended=stop)
    kept = list(read_results(tmp_path / "out"))
    assert len(kept) == 3
    done: list[tuple[int, int]] = []
    new: list[Result] = []
    found = compared(
        tabular, tmp_path / "out", "random,evolution,evolution:population=3", seeds=4, ended=new.append,
        began=lambda before, total: done.append((before, total)),
    )  # fmt: skip
    assert done == [(3, 12)]
    assert len(new) == 9
    assert set(kept) <= set(found.results)
    whole = compared(tabular, tmp_path / "whole", "random,evolution,evolution:population=3", seeds=4)
    assert [r.best for r in found.results] == [r.best for r in whole.results]


def test_a_line_that_a_dying_process_left_unfinished_is_searched_again(tabular: str, tmp_path: Path) -> None:
    found = compared(tabular, tmp_path / "out", seeds=1)
    path = tmp_path / "out" / "results.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    again = compared(tabular, tmp_path / "out", seeds=1)
    assert [r.best for r in again.results] == [r.best for r in found.results]
    assert sum(json.loads(line)["seed"] == 0 for line in path.read_text().splitlines() if line.endswith("}")) == 2


def test_a_search_that_was_killed_in_the_middle_goes_on(tabular: str, tmp_path: Path) -> None:
    """Its run is in the comparison's folder, with the trials that it had."""
    whole = compared(tabular, tmp_path / "whole", "random", seeds=1)

    class Stops(nasengine.Observer):
        def ended(self, trial: nasengine.Trial) -> None:
            if trial.number == 5:
                raise KeyboardInterrupt

    own = tmp_path / "out" / "runs" / "random-0"
    with pytest.raises(KeyboardInterrupt):
        nasengine.search(
            strategy="random", evaluator=tabular, trials=12, baseline=0, out=own, observer=Stops(), durable=False,
            **TINY,
        )  # fmt: skip
    found = compared(tabular, tmp_path / "out", "random", seeds=1)
    assert found.results[0].best == whole.results[0].best


def test_results_of_other_settings_are_refused(tabular: str, tmp_path: Path) -> None:
    compared(tabular, tmp_path / "out", "random", seeds=1)
    with pytest.raises(RunError, match="holds a comparison with trials = 12, not 13; choose another folder"):
        compared(tabular, tmp_path / "out", "random", seeds=1, trials=13)


def test_mistakes_are_told_before_anything_is_done(tabular: str, tmp_path: Path) -> None:
    for strategies, settings, error in (
        ("random,evolutoin", {}, PluginError),
        ("random,evolution:size=3", {}, ConfigError),
        ("", {}, ConfigError),
        ("random", {"seeds": 0}, ConfigError),
        ("random", {"trials": 0}, ConfigError),
        ("random", {"space": "cel"}, PluginError),
    ):
        with pytest.raises(error) as raised:
            compared(tabular, tmp_path / "out", strategies, **settings)
        assert isinstance(raised.value, NasError)
        assert not (tmp_path / "out").exists()


PARTS = """
import os
from nasengine import Evaluator

class Sometimes(Evaluator):
    def evaluate(self, architecture, fidelity, context):
        if context.space.domain(context.task) and HOW == "fail":
            raise ValueError("not today")
        if HOW == "die":
            os._exit(9)
        return {"accuracy": 0.5}
"""


@pytest.mark.parametrize(
    ("how", "workers", "said"),
    [("fail", 1, "not today"), pytest.param("die", 2, "its process died 3 times", marks=pytest.mark.slow)],
)
def test_a_search_that_fails_is_a_result_that_says_so(how: str, workers: int, said: str, tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text(PARTS.replace("HOW", repr(how)))
    found = nasengine.compare(
        "random", evaluator=f"{tmp_path / 'parts.py'}:Sometimes", out=tmp_path / "out", workers=workers, seeds=1,
        trials=3, **TINY,
    )  # fmt: skip
    assert [result.found for result in found.results] == [None]
    assert said in (found.results[0].error or "")
    assert "0 (1 failed)" in found.table()[1]


# What is made of it


def result(strategy: str, seed: int, found: float | None, *best: float | None) -> Result:
    return Result(strategy, seed, found, "test_accuracy", best, tuple(range(len(best))), 1.0, 100.0)


def test_the_rank_sum_test_is_exact_for_few_values() -> None:
    """All 70 ways to rank 4 of 8 values are equally likely; p is the share that is as extreme as what was seen."""
    ours, theirs = [0.1, 0.4, 0.5, 0.8], [0.2, 0.3, 0.6, 0.7]
    for shift in (0.0, 0.25, 0.45, 1.0):
        moved = [value + shift for value in ours]
        ranks = {value: rank for rank, value in enumerate(sorted([*moved, *theirs]))}
        seen = abs(sum(ranks[value] for value in moved) - 14)
        ways = [abs(sum(some) - 14) >= seen for some in itertools.combinations(range(8), 4)]
        assert rank_sum(moved, theirs) == pytest.approx(min(1.0, np.mean(ways)))
    assert rank_sum([0.5] * 4, [0.5] * 6) == 1.0


def test_holms_correction_is_the_textbooks() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_table_says_mean_spread_median_the_best_seen_and_who_beats_random() -> None:
    results = [result("random", seed, 0.50 + 0.01 * seed, 0.3, 0.4, 0.4) for seed in range(8)]
    results += [result("good", seed, 0.70 + 0.01 * seed, 0.5, 0.6, 0.8) for seed in range(8)]
    results += [result("bad", seed, 0.20 + 0.01 * seed, None, 0.1, 0.2) for seed in range(7)]
    results += [Result("bad", 7, error="it broke")]
    head, random, good, bad = cells(results, GOAL, [1, 3])
    assert head == ["strategy", "seeds", "test accuracy (%)", "median", "seen at 1", "seen at 3", "simulated s",
                    "p (Holm)", "than random"]  # fmt: skip
    assert random == ["random", "8", "53.50 ± 2.45", "53.50", "30.00", "40.00", "100", "", ""]
    assert good[:6] == ["good", "8", "73.50 ± 2.45", "73.50", "50.00", "80.00"]
    assert (good[-1], bad[-1], bad[1], bad[4]) == ("better", "worse", "7 (1 failed)", "–")
    assert cells(results, Objective("accuracy", "min"), [1])[2][-1] == "worse"
    same = [result(name, seed, 0.5 + 0.01 * seed, 0.5) for name in ("random", "other") for seed in range(8)]
    assert cells(same, GOAL)[2][-1] == "not told apart"


def test_a_shorter_search_keeps_its_best() -> None:
    several = [result("a", 0, 0.5, 0.1, 0.2), result("a", 1, 0.5, 0.3, 0.4, 0.6, 0.8)]
    assert best_at(several, 1) == pytest.approx(0.2)
    assert best_at(several, 4) == pytest.approx(0.5)
    assert math.isnan(best_at([Result("a", 0)], 3))


def test_a_single_seed_has_neither_spread_nor_test() -> None:
    row = rows_of([result("random", 0, 0.5, 0.5), result("other", 0, 0.6, 0.6)])[1]
    assert (row.spread, row.p) == (0.0, None)


def test_the_regret_is_the_mean_distance_to_the_optimum() -> None:
    results = [result("random", seed, 0.5, 0.2 + 0.1 * seed, 0.5, 0.5) for seed in range(3)]
    axes = regret(results, GOAL, optimum=0.9).axes[0]
    assert axes.lines[0].get_ydata() == pytest.approx([60.0, 40.0, 40.0])
    assert "behind the optimum" in axes.get_title("left")
    against_best = regret(results, GOAL).axes[0]
    assert against_best.lines[0].get_ydata()[0] == pytest.approx(20.0)  # type: ignore[index]
    fewer = regret(results, Objective("accuracy", "min"), optimum=0.1).axes[0]
    assert fewer.lines[0].get_ydata() == pytest.approx([20.0, 40.0, 40.0])
    with pytest.raises(RunError, match="none of the strategies judges candidates one by one"):
        regret([Result("darts", 0, 0.9, "test_accuracy")], GOAL)


def test_tables_line_up_and_markdown_is_a_table() -> None:
    table = [["strategy", "seeds", "than random"], ["a|b", "10", "better"]]
    assert text(table) == "strategy  seeds  than random\na|b          10  better"
    assert markdown(table).splitlines()[1:] == ["| --- | ---: | --- |", "| a\\|b | 10 | better |"]


# The command


@pytest.mark.usefixtures("warm_python")
def test_nas_compare_prints_the_table_and_writes_it_with_rows_and_a_picture(tabular: str, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "nasengine", "compare", "--strategies", "random,evolution:population=4,sample=2",
        "--space", TINY["space"], "--task", TINY["task"], "--evaluator", tabular, "--trials", "12", "--seeds", "3",
        "--workers", "1", "--budgets", "4,12", "--optimum", "1", "--out", "out",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split()[:2] == ["strategy", "seeds"]
    assert [line.split()[0] for line in lines[1:3]] == ["random", "evolution:population=4,sample=2"]
    assert lines[-1] == "In out: table.md, runs.csv, curves.csv, regret.png"
    assert "6 of 6 searches" in done.stderr
    runs = pd.read_csv(tmp_path / "out" / "runs.csv")
    assert list(runs["trials"]) == [12] * 6
    curves = pd.read_csv(tmp_path / "out" / "curves.csv")
    assert curves.groupby(["strategy", "seed"])["best_seen"].is_monotonic_increasing.all()
    assert (tmp_path / "out" / "regret.png").read_bytes().startswith(b"\x89PNG")
    assert not list((tmp_path / "out" / "runs").iterdir())  # a table can be read again: its runs are not kept
    again = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, text=True)
    assert [row["seed"] for row in json.loads(again.stdout)] == [0, 1, 2] * 2
    assert "6 of 6 searches are done already" in again.stderr
    wrong = subprocess.run([*command, "--budgets", "4,x"], cwd=tmp_path, capture_output=True, text=True)
    assert wrong.returncode == 2
    assert wrong.stderr == "nas: the budgets are '4,x'; expected numbers of trials, as 50,100,200\n"
