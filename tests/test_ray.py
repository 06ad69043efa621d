"""The executor on Ray: the same search as in one process, and what it survives."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import nasengine
from nasengine import Architecture, ConfigError, Context, Evaluator, Fidelity, Metrics, Observer, Run, Trial
from nasengine.errors import Interrupted
from nasengine.plan import trial_seed
from nasengine.trial import Report, Request

pytestmark = pytest.mark.usefixtures("ray_cluster")

CHAIN = "chain:stages=1,layers=3,widths=[4,8],"
CHAIN += "kernels=[3],activations=[relu],norms=[batch],dropouts=[0.0],heads=[average],hidden_layers=0"
PARTS = Path(__file__).parent / "parts"
CHEAP = f"{PARTS / 'cheap.py'}:Cheap"
PERILOUS = f"{PARTS / 'perilous.py'}:Perilous"
EPOCHS = f"{PARTS / 'perilous.py'}:Epochs"


class Witness(Observer):
    """Remembers what it is told; asks for an end after so many reports."""

    def __init__(self, reports: int | None = None) -> None:
        self.patience = reports
        self.losses: list[tuple[int, str]] = []
        self.notes: list[str] = []
        self.told: list[Trial] = []

    def reported(self, report: Report) -> None:
        if self.patience is not None:
            self.patience -= 1
            self.stop_requested = self.patience <= 0

    def lost(self, number: int, error: str) -> None:
        self.losses.append((number, error))

    def note(self, text: str) -> None:
        self.notes.append(text)

    def ended(self, trial: Trial) -> None:
        self.told.append(trial)


def perilous(marks: Path, how: str, **options: Any) -> str:
    marks.mkdir()
    return f"{PERILOUS}:how={how},marks={marks}," + ",".join(f"{name}={value}" for name, value in options.items())


def tries(marks: Path) -> list[list[str]]:
    """The processes that worked on each trial."""
    return [mark.read_text().split() for mark in marks.iterdir()]


def test_two_workers_do_the_search_that_one_would(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"strategy": "random", "evaluator": "train:epochs=1", "trials": 4, "baseline": 1}
    alone = nasengine.search(CHAIN, out=tmp_path / "alone", threads=1, **asked)
    both = nasengine.search(CHAIN, out=tmp_path / "both", workers=2, **asked)

    def results(run: Run) -> list[Any]:
        return [(t.number, t.architecture, t.purpose, t.state, dict(t.metrics)) for t in run.all_trials]

    assert results(both) == results(alone)
    assert {trial.worker for trial in both.all_trials} == {"w0", "w1"}
    assert both.best_model() is not None
    assert not list((tmp_path / "both" / "checkpoints").glob("*"))


def test_among_trials_that_a_worker_was_given_at_once_the_one_that_kills_it_is_found(tmp_path: Path) -> None:
    run = nasengine.search(
        CHAIN, "random", evaluator=perilous(tmp_path / "marks", "die", share=0.015), trials=30, baseline=0, retries=0,
        workers=2, out=tmp_path / "run",
    )  # fmt: skip
    searched = [trial for trial in run.all_trials if trial.purpose == "search"]
    fatal = {number for number in range(30) if random.Random(trial_seed(0, number)).random() < 0.015}
    assert {trial.number for trial in searched if trial.state == "failed"} == fatal == {5, 26}
    assert sorted(trial.number for trial in searched if trial.state == "done") == sorted(set(range(30)) - fatal)


def test_a_request_whose_worker_dies_runs_again(tmp_path: Path) -> None:
    witness = Witness()
    evaluator = perilous(tmp_path / "marks", "die", share=0.5, times=1)
    run = nasengine.search(
        CHAIN, "random", evaluator=evaluator, trials=6, baseline=0, out=tmp_path / "run", workers=2, observer=witness
    )
    assert {trial.state for trial in run.all_trials} == {"done"}
    again = [pids for pids in tries(tmp_path / "marks") if len(pids) > 1]
    assert 0 < len(again) <= len({number for number, _ in witness.losses})  # with some that were given along with them
    assert all(len(pids) == 2 and pids[0] != pids[1] for pids in again)
    assert {error for _, error in witness.losses} == {"its worker died"}


def test_a_candidate_that_kills_every_worker_fails_after_its_retries_and_the_search_goes_on(tmp_path: Path) -> None:
    evaluator = perilous(tmp_path / "marks", "die", share=0.5)
    run = nasengine.search(
        CHAIN, "random", evaluator=evaluator, trials=4, baseline=0, out=tmp_path / "run", workers=2, retries=1,
        max_failures=1.0,
    )  # fmt: skip
    states = Counter(trial.state for trial in run.all_trials if trial.purpose == "search")
    assert states["failed"] > 0
    assert states["done"] > 0
    failed = [trial for trial in run.all_trials if trial.state == "failed"]
    assert {trial.error for trial in failed} == {"its worker died (2 tries)"}
    assert sorted(len(pids) for pids in tries(tmp_path / "marks"))[-len(failed) :] == [2] * len(failed)


@pytest.mark.parametrize(("how", "stays"), [("sleep", True), ("hang", False)])
def test_a_candidate_that_hangs_is_gone_soon_after_its_time(how: str, stays: bool, tmp_path: Path) -> None:
    witness = Witness()
    evaluator = perilous(tmp_path / "marks", how, share=0.3)
    run = nasengine.search(
        CHAIN, "random", evaluator=evaluator, trials=3, baseline=0, out=tmp_path / "run", workers=1, ray="local",
        time_per_trial=1, max_failures=1.0, observer=witness,
    )  # fmt: skip
    states = {trial.number: trial for trial in run.all_trials if trial.purpose == "search"}
    late = [trial for trial in states.values() if trial.state == "timed_out"]
    assert 0 < len(late) < len(states)
    assert all(trial.seconds < 1 + 5 for trial in late)
    assert all("it took longer than the 1 s that a trial may" in (trial.error or "") for trial in late)
    assert witness.losses == []
    assert (len({pid for pids in tries(tmp_path / "marks") for pid in pids}) == 1) == stays


def test_a_candidate_out_of_its_memory_is_a_trial_and_its_worker_goes_on(tmp_path: Path) -> None:
    evaluator = perilous(tmp_path / "marks", "memory", share=0.5)
    run = nasengine.search(
        CHAIN, "random", evaluator=evaluator, trials=6, baseline=0, out=tmp_path / "run", workers=1, ray="local",
        memory_per_trial="200m", max_failures=1.0,
    )  # fmt: skip
    states = Counter(trial.state for trial in run.all_trials if trial.purpose == "search")
    assert states["out_of_memory"] > 0
    assert states["done"] > 0
    assert states["out_of_memory"] + states["done"] == 6
    assert len({pid for pids in tries(tmp_path / "marks") for pid in pids}) == 1


def test_memory_that_trials_share_is_asked_for_again_before_a_trial_is_given_up(tmp_path: Path) -> None:
    evaluator = perilous(tmp_path / "marks", "error", times=1)
    run = nasengine.search(
        CHAIN, "random", evaluator=evaluator, trials=2, baseline=0, out=tmp_path / "run", workers=2, retries=1
    )
    assert {trial.state for trial in run.all_trials} == {"done"}
    assert sorted(len(pids) for pids in tries(tmp_path / "marks")) == [1, 2, 2]  # the final training is spared


def run_out_of_memory(tmp_path: Path, trials: int) -> None:
    """Nearly a third of the candidates want more than there is. The process that searches stays as it was."""
    held: list[int] = []

    class Weighs(Observer):
        def ended(self, trial: Trial) -> None:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            held.append(pages * os.sysconf("SC_PAGE_SIZE"))

    run = nasengine.search(
        "chain", "random", evaluator=perilous(tmp_path / "marks", "memory", share=0.3), trials=trials, baseline=0,
        out=tmp_path / "run", workers=2, memory_per_trial="300m", observer=Weighs(),
    )  # fmt: skip
    states = Counter(trial.state for trial in run.all_trials if trial.purpose == "search")
    assert set(states) == {"done", "out_of_memory"}
    assert states.total() == trials
    assert 0.1 * trials < states["out_of_memory"] < 0.5 * trials
    assert max(held) - held[len(held) // 3] < 50 * 2**20


def test_candidates_out_of_memory_are_trials_and_the_search_stays_as_light_as_it_was(tmp_path: Path) -> None:
    run_out_of_memory(tmp_path, 30)


@pytest.mark.slow
def test_a_third_of_500_candidates_out_of_memory_leave_the_search_as_light_as_it_was(tmp_path: Path) -> None:
    run_out_of_memory(tmp_path, 500)


def kill_workers(folder: Path, marks: Path, every: float, over: threading.Event) -> None:
    """kill -9, every so many seconds, of the process that worked last."""
    while not over.wait(every):
        newest = max(marks.iterdir(), key=lambda mark: mark.stat().st_mtime, default=None)
        if newest is not None:
            try:
                os.kill(int(newest.read_text().split()[-1]), signal.SIGKILL)
            except (ProcessLookupError, IndexError):
                continue


def survive(tmp_path: Path, trials: int, seconds: float, every: float) -> None:
    evaluator = perilous(tmp_path / "marks", "none", seconds=seconds)
    over = threading.Event()
    killer = threading.Thread(target=kill_workers, args=(tmp_path / "run", tmp_path / "marks", every, over))
    killer.start()
    witness = Witness()
    try:
        run = nasengine.search(
            CHAIN, "random", evaluator=evaluator, trials=trials, baseline=0, out=tmp_path / "run", workers=2,
            observer=witness, max_failures=0,
        )  # fmt: skip
    finally:
        over.set()
        killer.join()
    assert len(run.all_trials) == trials + 1
    assert {trial.state for trial in run.all_trials} == {"done"}
    assert len(witness.told) == trials + 1
    assert len(witness.losses) > 0
    assert max(len(pids) for pids in tries(tmp_path / "marks")) <= 3


@pytest.mark.slow
def test_workers_killed_again_and_again_cost_no_trial(tmp_path: Path) -> None:
    survive(tmp_path, trials=20, seconds=0.3, every=1.5)


@pytest.mark.slow
def test_workers_killed_every_two_seconds_cost_none_of_500_trials(tmp_path: Path) -> None:
    survive(tmp_path, trials=500, seconds=0.2, every=2.0)


def test_a_search_goes_on_elsewhere_from_its_last_epoch(tmp_path: Path) -> None:
    log = tmp_path / "log"
    witness = Witness(reports=7)
    asked: dict[str, Any] = {"evaluator": f"{EPOCHS}:log={log}", "trials": 6, "baseline": 0}
    with pytest.raises(Interrupted, match="Go on with: nas resume"):
        nasengine.search(CHAIN, "random", out=tmp_path / "run", workers=2, observer=witness, **asked)
    begun = Counter(log.read_text().splitlines())
    assert not Run(tmp_path / "run").finished
    run = nasengine.resume(tmp_path / "run", workers=1)
    assert run.finished
    epochs = Counter(log.read_text().splitlines())
    assert set(epochs.values()) == {1}, "an epoch was worked through twice"
    assert len(epochs) == 5 * len({trial.number for trial in run.all_trials if trial.same_as is None})
    assert set(begun) < set(epochs)
    whole = nasengine.search(CHAIN, "random", out=tmp_path / "whole", **(asked | {"evaluator": f"{EPOCHS}:log={log}2"}))
    assert [(t.number, t.architecture, dict(t.metrics), t.curve) for t in run.all_trials] == [
        (t.number, t.architecture, dict(t.metrics), t.curve) for t in whole.all_trials
    ]


@pytest.mark.slow
def test_a_search_begun_alone_goes_on_with_more_workers(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(Interrupted):
        nasengine.search(
            CHAIN, "evolution:population=3", evaluator=f"{EPOCHS}:log={log}", trials=8, baseline=0,
            out=tmp_path / "run", observer=Witness(reports=8),
        )  # fmt: skip
    run = nasengine.resume(tmp_path / "run", workers=3)
    assert run.finished
    assert set(Counter(log.read_text().splitlines()).values()) == {1}
    assert len({trial.worker for trial in run.all_trials}) > 2


def test_restarts_of_a_one_shot_search_learn_side_by_side(tmp_path: Path) -> None:
    run = nasengine.search(
        CHAIN, "darts:epochs=2,restarts=2", evaluator="train:epochs=1", out=tmp_path / "run", workers=2, baseline=0
    )
    learnt = [trial for trial in run.all_trials if trial.derived is not None]
    assert [trial.state for trial in learnt] == ["done", "done"]
    assert {trial.worker for trial in learnt} == {"w0", "w1"}
    assert all(len(trial.curve) == 2 for trial in learnt)


@pytest.mark.slow
def test_a_supernet_on_another_worker_derives_what_the_constraints_allow(tmp_path: Path) -> None:
    space = "nasbench201:cells=1,channels=4"
    run = nasengine.search(
        space, "darts:epochs=1,batch_size=512", evaluator="train:epochs=1", baseline=0, constraints="parameters<=7k",
        out=tmp_path / "run", workers=1, ray="local",
    )  # fmt: skip
    assert run.best.metrics["parameters"] <= 7_000


def test_checkpoints_and_models_may_stay_where_all_workers_reach_them(tmp_path: Path) -> None:
    store = tmp_path / "store"
    asked: dict[str, Any] = {"evaluator": "train:epochs=2", "trials": 2, "baseline": 0}
    run = nasengine.search(CHAIN, "random", out=tmp_path / "run", workers=2, storage=f"file://{store}", **asked)
    kept = [path for path in store.rglob("*") if path.is_file()]
    assert [path.name for path in kept] == [f"{run.best.number}.safetensors"]
    assert kept[0].parent.parent.name.startswith("run-")
    measured = run.task.metrics(run.best_model(), "test")
    assert measured["accuracy"] == pytest.approx(run.best.metrics["test_accuracy"])


class Twice(nasengine.Strategy):
    """Asks for the same architecture again and again, without waiting."""

    def prepare(self) -> None:
        self.first = self.domain.sample(self.rng)

    def ask(self) -> Request | None:
        return self.evaluate(self.first)

    def tell(self, trial: Trial) -> None:
        pass


def test_a_network_that_is_on_its_way_is_not_judged_twice(tmp_path: Path) -> None:
    evaluator = perilous(tmp_path / "marks", "none", seconds=0.3)
    run = nasengine.search(CHAIN, Twice(), evaluator=evaluator, trials=5, baseline=0, out=tmp_path / "run", workers=3)
    search = [trial for trial in run.all_trials if trial.purpose == "search"]
    assert [trial.same_as for trial in search] == [None, 0, 0, 0, 0]
    assert len(list((tmp_path / "marks").iterdir())) == 2  # the search's, and the final one


@pytest.mark.slow
def test_a_network_that_failed_is_tried_again_by_the_one_that_waited_for_it(tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()

    class Moody(Evaluator):
        """Fails for the first trial only."""

        def evaluate(self, architecture: Architecture, fidelity: Fidelity, context: Context) -> Metrics:
            time.sleep(0.3)
            if context.seed == trial_seed(0, 0):
                raise ValueError("not today")
            return {"accuracy": 0.5}

    run = nasengine.search(CHAIN, Twice(), evaluator=Moody(), trials=4, baseline=0, out=tmp_path / "run", workers=2)
    search = [(trial.state, trial.same_as) for trial in run.all_trials if trial.purpose == "search"]
    assert search == [("failed", None), ("done", None), ("done", 1), ("done", 1)]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"cpus_per_trial": 99}, r"cpus_per_trial is 99, and this machine has \d+; ask for fewer"),
        ({"cpus_per_trial": 99, "ray": "auto"}, "a worker asks for 99 CPUs, and no machine here has that; .*: 4 CPUs"),
        ({"gpus_per_trial": 1}, r"a worker asks for .* and 1 GPUs, and no machine here has that"),
        ({"gpus_per_trial": 1.5}, "expected a fraction of one GPU, or a whole number"),
        ({"cpus_per_trial": 1, "workers": 9}, "9 workers with 1 CPUs each were asked for, .* has room for 4"),
    ],
)
def test_what_the_machine_has_not_is_a_sentence_before_the_search(
    asked: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=says):
        nasengine.search(CHAIN, "random", evaluator=CHEAP, out=tmp_path / "run", **{"workers": 2, **asked})


def test_a_cluster_that_is_not_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: (_ for _ in ()).throw(ConnectionError("nobody answers")))
    with pytest.raises(ConfigError, match=r"no Ray cluster can be joined at 'auto' .*nobody answers"):
        nasengine.search(CHAIN, "random", evaluator=CHEAP, out=tmp_path / "run", ray="auto")
    with pytest.raises(ConfigError, match=r"no Ray cluster can be joined at '127.0.0.1:1' .*refused"):
        nasengine.search(CHAIN, "random", evaluator=CHEAP, out=tmp_path / "other", ray="127.0.0.1:1")


def test_a_mistake_that_only_workers_can_meet_ends_the_run_in_a_sentence(tmp_path: Path) -> None:
    class Strict(Evaluator):
        def evaluate(self, architecture: Architecture, fidelity: Fidelity, context: Context) -> Metrics:
            raise ConfigError("this evaluator wants to be asked politely")

    with pytest.raises(ConfigError, match="wants to be asked politely"):
        nasengine.search(CHAIN, "random", evaluator=Strict(), out=tmp_path / "run", workers=2)


@pytest.mark.slow
def test_threads_follow_the_share_of_processors(tmp_path: Path) -> None:
    class Threads(Evaluator):
        def evaluate(self, architecture: Architecture, fidelity: Fidelity, context: Context) -> Metrics:
            import torch

            return {"accuracy": 0.5, "threads": float(torch.get_num_threads())}

    for cpus, threads in ((2.0, 2), (0.5, 1)):
        run = nasengine.search(
            CHAIN, "random", evaluator=Threads(), out=tmp_path / f"{cpus}", workers=2, cpus_per_trial=cpus, trials=2,
            baseline=0,
        )  # fmt: skip
        assert {trial.metrics["threads"] for trial in run.all_trials} == {threads}
