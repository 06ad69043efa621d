"""The loop: what it records, what it survives, and that a resumed search is the search it would have been."""

from __future__ import annotations

import ctypes
import itertools
import json
import shutil
import sqlite3
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nasengine
from nasengine import (
    Architecture,
    ConfigError,
    Context,
    Evaluate,
    Evaluator,
    Fidelity,
    Learn,
    Observer,
    Request,
    Run,
    RunError,
    RunFailed,
    Strategy,
    Trial,
)
from nasengine.errors import LedgerError, ReplayError, RunInUse
from nasengine.hardware import joules
from nasengine.ledger import RunLock
from nasengine.search_spaces.chain import ChainSpace
from nasengine.strategies.darts import DARTS
from nasengine.strategies.evolution import RegularizedEvolution
from nasengine.testing import TinySpace, TinyTask

PARTS = Path(__file__).parent / "parts" / "cheap.py"
CHEAP = f"{PARTS}:Cheap"
CHAIN = "chain:stages=1,layers=2,widths=[4,8],"
CHAIN += "kernels=[3],activations=[relu],norms=[batch],dropouts=[0.0],heads=[average],hidden_layers=0"
CELL = "cell:layers=3,channels=2,nodes=2"


def faulty(how: str, every: int = 2) -> str:
    return f"{PARTS}:Faulty:how={how},every={every}"


def table(run: Run) -> list[Any]:
    """What a search came to, without what may differ between two runs of it: the time."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in run.rows()]


@pytest.mark.parametrize(
    ("space", "strategy"),
    list(itertools.product([CELL, CHAIN], ["random", "evolution", "darts:epochs=1", "darts:epochs=1,order=2"])),
)
def test_random_search_evolution_and_darts_search_a_cell_space_and_a_chain(
    space: str, strategy: str, tmp_path: Path
) -> None:
    run = nasengine.search(
        space, strategy, evaluator="train:epochs=1", trials=2, baseline=1, fidelity="data=0.1", out=tmp_path / "run"
    )
    assert run.finished
    assert 0 <= run.best.metrics["test_accuracy"] <= 1
    assert run.best.purpose == "final"
    assert run.comparison() is not None


def test_the_test_data_is_read_once_for_each_final_model_and_never_in_the_search(tmp_path: Path) -> None:
    run = nasengine.search(TinySpace(), "random", TinyTask(), trials=3, baseline=2, out=tmp_path / "run")
    for trial in run.all_trials:
        assert ("test_accuracy" in trial.metrics) == (trial.purpose != "search")


def test_own_objects_work_everywhere_a_name_does(tmp_path: Path) -> None:
    run = nasengine.search(
        space=TinySpace(),
        strategy=RegularizedEvolution(population=3, sample=2),
        task=TinyTask(),
        trials=6,
        baseline=1,
        out=tmp_path / "run",
    )
    frame = run.trials()
    assert list(frame.index) == list(range(len(frame)))
    assert frame.loc[0, "state"] == "done"
    model = run.best_model()
    assert model(TinyTask().example()).shape == (2, 2)
    assert not model.training


def test_the_best_model_is_the_one_whose_test_accuracy_was_measured(tmp_path: Path) -> None:
    run = nasengine.search(TinySpace(), "random", TinyTask(), trials=2, baseline=0, out=tmp_path / "run")
    assert TinyTask().metrics(run.best_model(), "test")["accuracy"] == run.best.metrics["test_accuracy"]


def test_the_same_seed_gives_the_same_search_and_another_seed_another(tmp_path: Path) -> None:
    first, second, other = (
        nasengine.search(
            CHAIN, "evolution", evaluator="train:epochs=1", fidelity="data=0.2", trials=6, seed=seed, baseline=1,
            out=tmp_path / name,
        )
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )  # fmt: skip
    assert table(first) == table(second)
    assert table(first) != table(other)


class StopsAt(Observer):
    """Interrupts the process at the nth thing that it is told."""

    def __init__(self, stop: int) -> None:
        self.left = stop

    def count(self, *_: object) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    opened = began = started = reported = ended = count  # type: ignore[assignment]


@pytest.mark.parametrize(
    "strategy",
    ["evolution:population=4", pytest.param("random", marks=pytest.mark.slow), "darts:epochs=3,batch_size=16"],
)
def test_a_search_stopped_anywhere_resumes_to_the_same_end(strategy: str, tmp_path: Path) -> None:
    def settings(name: str) -> dict[str, Any]:
        return {"space": TinySpace(), "task": TinyTask(), "trials": 3, "baseline": 1, "out": tmp_path / name}

    whole = nasengine.search(strategy=strategy, **settings("whole"))
    for stop in itertools.count(1):
        name = f"stopped{stop}"
        try:
            run = nasengine.search(strategy=strategy, observer=StopsAt(stop), **settings(name))
            break
        except KeyboardInterrupt:
            run = nasengine.resume(tmp_path / name, observer=Observer())
        assert table(run) == table(whole), f"stopped at event {stop}"
    assert stop > 10
    assert run.finished


def test_a_search_survives_being_stopped_again_and_again(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"space": CHAIN, "strategy": "evolution:population=4", "evaluator": CHEAP, "trials": 12}
    whole = nasengine.search(**settings, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        nasengine.search(**settings, out=tmp_path / "run", observer=StopsAt(3))
    rng = np.random.default_rng(0)
    while not Run(tmp_path / "run").finished:
        try:
            nasengine.resume(tmp_path / "run", observer=StopsAt(int(rng.integers(2, 8))))
        except KeyboardInterrupt:
            continue
    assert table(Run(tmp_path / "run")) == table(whole)


def test_a_finished_run_resumes_to_itself(tmp_path: Path) -> None:
    run = nasengine.search(CHAIN, "random", evaluator=CHEAP, trials=3, out=tmp_path / "run")
    before = (tmp_path / "run" / "ledger.sqlite").read_bytes()
    assert table(nasengine.resume(tmp_path / "run")) == table(run)
    assert (tmp_path / "run" / "ledger.sqlite").read_bytes() == before


@pytest.mark.parametrize(
    ("how", "state", "says"),
    [
        ("raise", "failed", "ValueError: this candidate is not for us"),
        ("memory", "out_of_memory", "MemoryError"),
        ("allocate", "out_of_memory", "can't allocate memory"),
        ("nan", "failed", "the metric 'accuracy' is nan, not a finite number"),
        ("text", "failed", "the metric 'accuracy' is 'high', not a finite number"),
        ("nothing", "failed", "the evaluator returned no metrics"),
        ("other", "failed", "the evaluator gave no 'accuracy', which is an objective; it gave: precision"),
    ],
)
def test_a_candidate_that_fails_is_a_trial_and_the_next_one_starts(
    how: str, state: str, says: str, tmp_path: Path
) -> None:
    run = nasengine.search(
        CHAIN, "evolution:population=4", evaluator=faulty(how, 3), trials=8, baseline=0, out=tmp_path / "run"
    )
    states = [trial.state for trial in run.all_trials if trial.purpose == "search"]
    assert states.count(state) == 2  # type: ignore[arg-type]
    assert states.count("done") == 6
    assert says in (run.all_trials[2].error or "")
    assert np.isfinite(run.best.metrics["accuracy"])


def test_training_that_diverges_is_a_failed_trial_that_says_so(tmp_path: Path) -> None:
    evaluator = "train:epochs=2,learning_rate=1e20"
    with pytest.raises(RunFailed, match=r"the first \(0\) with: the training loss is (nan|inf) in epoch 1"):
        nasengine.search(CHAIN, "random", evaluator=evaluator, trials=2, out=tmp_path / "run")


def test_when_everything_fails_the_run_stops_early_and_says_why(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"10 of 10 trials failed, the first \(0\) with: ValueError: this candidate"):
        nasengine.search(CHAIN, "random", evaluator=faulty("raise", 1), trials=100, out=tmp_path / "run")
    with pytest.raises(RunFailed, match="10 of 10"):
        nasengine.resume(tmp_path / "run")


def test_a_short_run_in_which_everything_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"no candidate could be judged\. 2 of 2 trials failed"):
        nasengine.search(CHAIN, "random", evaluator=faulty("nan", 1), trials=2, out=tmp_path / "run")


def test_the_next_best_is_trained_when_the_final_training_fails(tmp_path: Path) -> None:
    # four trials: 2 and 4 fail; the final training is the evaluator's fifth call, then its sixth (which fails)
    run = nasengine.search(CHAIN, "random", evaluator=faulty("raise", 5), trials=4, baseline=0, out=tmp_path / "run")
    final = [trial for trial in run.all_trials if trial.purpose == "final"]
    assert [trial.state for trial in final] == ["failed", "done"]
    assert final[0].architecture != final[1].architecture
    assert run.best is not None
    assert run.best.number == final[1].number


class Repeats(Strategy):
    """Asks for one architecture, again and again."""

    def ask(self) -> Request | None:
        return self.evaluate(self.domain.sample(np.random.default_rng(0)))

    def tell(self, trial: Trial) -> None:
        pass


def test_the_same_network_is_not_trained_twice(tmp_path: Path) -> None:
    log = tmp_path / "log"
    run = nasengine.search(CHAIN, Repeats(), evaluator=f"{CHEAP}:log={log}", trials=5, baseline=0, out=tmp_path / "run")
    assert len(log.read_text().splitlines()) == 2  # once in the search, once in the final training
    assert [row["same_as"] for row in run.rows()] == [None, 0, 0, 0, 0, None]


class Rude(Strategy):
    """Does what a strategy must not."""

    def __init__(self, *, how: str = "raise") -> None:
        self.how = how

    def ask(self) -> Request | None:
        if self.how == "invalid":
            return Evaluate(Architecture("chain", {}, {"no such": 1}))
        if self.how == "nonsense":
            return "an architecture, please"  # type: ignore[return-value]
        if self.how == "learn":
            return Learn()
        if self.how == "ask":
            raise RuntimeError("no idea")
        return self.evaluate(self.domain.sample(self.rng))

    def tell(self, trial: Trial) -> None:
        raise RuntimeError("I will not hear it")


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("ask", "failed in ask: RuntimeError: no idea"),
        ("tell", "failed in tell: RuntimeError: I will not hear it"),
        ("invalid", "asked for an invalid architecture: the space 'chain' has no decision 'no such'"),
        ("nonsense", "asked for 'an architecture, please'; expected Evaluate, Learn or None"),
    ],
)
def test_a_strategy_that_misbehaves_ends_the_run_in_a_sentence_that_names_it(
    how: str, says: str, tmp_path: Path
) -> None:
    with pytest.raises(RunFailed) as caught:
        nasengine.search(CHAIN, Rude(how=how), evaluator=CHEAP, out=tmp_path / "run")
    assert "Rude" in str(caught.value)
    assert says in str(caught.value)


class Fickle(Strategy):
    """Asks for something else each time the process is new: what replay must not let pass."""

    generation = 0

    def ask(self) -> Request | None:
        rng = np.random.default_rng(int(self.rng.integers(1000)) + Fickle.generation)
        return self.evaluate(self.domain.sample(rng))

    def tell(self, trial: Trial) -> None:
        pass


def test_a_strategy_that_asks_differently_on_replay_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        nasengine.search(CHAIN, Fickle(), evaluator=CHEAP, out=tmp_path / "run", observer=StopsAt(8))
    Fickle.generation = 1
    with pytest.raises(ReplayError, match="does not ask again what it asked for trial 0"):
        nasengine.resume(tmp_path / "run", strategy=Fickle())


def test_the_search_ends_when_the_space_is_exhausted(tmp_path: Path) -> None:
    space = ChainSpace(
        stages=1, layers=1, widths=(4,), operations=("convolution", "separable", "identity"), kernels=(3, 5),
        activations=("relu",), norms=("batch",), dropouts=(0.0,), heads=("average",), hidden_layers=0,
    )  # fmt: skip
    run = nasengine.search(space, "random", evaluator=CHEAP, trials=100, baseline=10, out=tmp_path / "run")
    searched = [trial for trial in run.all_trials if trial.purpose == "search"]
    assert len(searched) == len({trial.architecture for trial in searched}) == 5
    assert sum(trial.purpose == "baseline" for trial in run.all_trials) == 5


def test_a_time_limit_ends_the_search_and_the_final_training_follows(tmp_path: Path) -> None:
    run = nasengine.search(
        CHAIN, "random", evaluator=f"{PARTS}:Stepwise:seconds=0.05", trials=1000, time_limit=1.0, baseline=1,
        out=tmp_path / "run",
    )  # fmt: skip
    searched = [trial for trial in run.all_trials if trial.purpose == "search"]
    assert 1 <= len(searched) < 30
    assert searched[-1].state in ("done", "pruned")
    assert run.best.purpose == "final"


def test_learning_cut_short_by_the_time_limit_gives_what_it_would_derive_then(tmp_path: Path) -> None:
    run = nasengine.search(
        TinySpace(), DARTS(epochs=100_000, batch_size=8), TinyTask(), time_limit=1.0, baseline=0, out=tmp_path / "run"
    )
    learnt = run.all_trials[0]
    assert learnt.state == "pruned"
    assert learnt.error == "stopped by the run's time limit"
    assert run.best.architecture == learnt.derived


def test_several_restarts_are_evaluated_and_the_best_is_kept(tmp_path: Path) -> None:
    run = nasengine.search(
        TinySpace(), DARTS(epochs=1, batch_size=8, restarts=3), TinyTask(), baseline=0, out=tmp_path / "run"
    )
    kinds = [type(trial.request).__name__ for trial in run.all_trials]
    assert kinds == ["Learn"] * 3 + ["Evaluate"] * 4
    evaluated = [t for t in run.all_trials if isinstance(t.request, Evaluate) and t.purpose == "search"]
    best = max(evaluated, key=lambda trial: trial.metrics["accuracy"])
    assert run.best.architecture == best.architecture


def test_several_objectives_give_a_front_that_nothing_dominates(tmp_path: Path) -> None:
    run = nasengine.search(
        CHAIN, "random", evaluator="train:epochs=1", fidelity="data=0.2", trials=8, baseline=0,
        objectives=("accuracy:max", "parameters:min"), out=tmp_path / "run",
    )  # fmt: skip
    front = run.front()
    points = [(t.metrics["accuracy"], -t.metrics["parameters"]) for t in front]
    everyone = [(t.metrics["accuracy"], -t.metrics["parameters"]) for t in run.all_trials if t.purpose == "search"]
    assert points
    for point in points:
        assert not any(a >= point[0] and p >= point[1] and (a, p) != point for a, p in everyone)


def test_a_strategy_for_one_objective_refuses_two_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="looks at one objective only, and 2 were asked for"):
        nasengine.search(objectives=("accuracy", "parameters:min"), strategy="evolution", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_fidelity_that_the_task_cannot_scale_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot scale resolution"):
        nasengine.search(TinySpace(), "random", TinyTask(), fidelity="resolution=4", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_space_without_a_supernet_says_so_to_a_strategy_that_needs_one(tmp_path: Path) -> None:
    class NoSupernet(TinySpace):
        def build(self, choose: Any, task: Any) -> Any:
            choose.value("rate", (0.1, 0.2))
            return super().build(choose, task)

    with pytest.raises(nasengine.SpaceError, match="has no supernet: it does not say how its value 'rate'"):
        nasengine.search(NoSupernet(), "darts", TinyTask(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    run = nasengine.search(NoSupernet(), "random", TinyTask(), trials=2, baseline=0, out=tmp_path / "other")
    assert run.finished


def test_a_folder_that_holds_a_run_is_not_used_for_another(tmp_path: Path) -> None:
    nasengine.search(CHAIN, "random", evaluator=CHEAP, trials=1, out=tmp_path / "run")
    with pytest.raises(RunError, match=r"holds a run; go on with it: nas resume .* --out"):
        nasengine.search(CHAIN, "random", evaluator=CHEAP, trials=1, out=tmp_path / "run")


def test_a_run_has_one_owner_and_others_are_told_who(tmp_path: Path) -> None:
    import os

    with pytest.raises(KeyboardInterrupt):
        nasengine.search(CHAIN, "random", evaluator=CHEAP, out=tmp_path / "run", observer=StopsAt(4))
    lock = RunLock(tmp_path / "run")
    with pytest.raises(RunInUse, match=f"in use by process {os.getpid()}"):
        nasengine.resume(tmp_path / "run")
    lock.release()
    assert nasengine.resume(tmp_path / "run").finished


def test_a_changed_setting_is_refused_with_the_difference_named(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        nasengine.search(CHAIN, "random", evaluator=CHEAP, out=tmp_path / "run", observer=StopsAt(4))
    path = tmp_path / "run" / "config.yaml"
    path.write_text(path.read_text().replace("seed: 0", "seed: 1"))
    with pytest.raises(RunError, match="says seed = 1, but the run was started with 0"):
        nasengine.resume(tmp_path / "run")


def test_changed_plugin_code_is_refused(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(PARTS.read_text())
    with pytest.raises(KeyboardInterrupt):
        nasengine.search(CHAIN, "random", evaluator=f"{mine}:Cheap", out=tmp_path / "run", observer=StopsAt(4))
    mine.write_text(PARTS.read_text() + "\n# changed\n")
    with pytest.raises(RunError, match=r"was started with the evaluator .* of sha256"):
        nasengine.resume(tmp_path / "run")


def test_a_run_of_an_object_in_memory_asks_for_it_again(tmp_path: Path) -> None:
    class Local(TinySpace):
        pass

    with pytest.raises(KeyboardInterrupt):
        nasengine.search(Local(), "random", TinyTask(), trials=2, out=tmp_path / "run", observer=StopsAt(4))
    with pytest.raises(RunError, match=r"go on from Python: nasengine.resume\(folder, space=…\)"):
        nasengine.resume(tmp_path / "run")
    assert nasengine.resume(tmp_path / "run", space=Local()).finished


@pytest.mark.parametrize("damage", ["bit", "tail", "text", "empty"])
def test_a_damaged_record_is_refused_and_never_silently_wrong(damage: str, tmp_path: Path) -> None:
    run = nasengine.search(CHAIN, "random", evaluator=CHEAP, trials=30, out=tmp_path / "run")
    path = tmp_path / "run" / "ledger.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if damage == "bit":
        body = connection.execute("SELECT body FROM events WHERE kind = 'tell' AND number = 3").fetchone()[0]
        changed = json.loads(body)
        changed["metrics"]["accuracy"] = 0.99999
        connection.execute("UPDATE events SET body = ? WHERE kind = 'tell' AND number = 3", (json.dumps(changed),))
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    content = path.read_bytes()
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    if damage == "tail":
        path.write_bytes(content[: len(content) // 2])
    if damage == "text":
        path.write_text("this is no database")
    if damage == "empty":
        path.write_bytes(b"")
    with pytest.raises(LedgerError):
        Run(run.folder)
    with pytest.raises(LedgerError):
        nasengine.resume(run.folder)


def test_a_record_of_a_later_release_is_refused(tmp_path: Path) -> None:
    nasengine.search(CHAIN, "random", evaluator=CHEAP, trials=1, out=tmp_path / "run")
    with sqlite3.connect(tmp_path / "run" / "ledger.sqlite") as connection:
        connection.execute("UPDATE about SET value = '99' WHERE name = 'format'")
    with pytest.raises(LedgerError, match="has format 99; this release reads format 2"):
        Run(tmp_path / "run")


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path) -> None:
    from nasengine.checkpoint import read_checkpoint, remove_checkpoint, write_checkpoint
    from nasengine.storage import storage_at

    for storage in (storage_at(tmp_path / "folder"), storage_at(f"file://{tmp_path}/url")):
        assert read_checkpoint(storage, 7) is None
        write_checkpoint(storage, 7, {"epoch": 1})
        write_checkpoint(storage, 7, {"epoch": 2})
        assert read_checkpoint(storage, 7) == {"epoch": 2}
        content = bytearray(storage.read("checkpoints/7.pt") or b"")
        content[len(content) // 2] ^= 1
        storage.write("checkpoints/7.pt", bytes(content))
        assert read_checkpoint(storage, 7) == {"epoch": 1}
        storage.write("checkpoints/7.before.pt", b"")
        assert read_checkpoint(storage, 7) is None
        remove_checkpoint(storage, 7)
        assert storage.read("checkpoints/7.pt") is storage.read("checkpoints/7.before.pt") is None


def test_a_hostile_checkpoint_runs_no_code(tmp_path: Path) -> None:
    import hashlib
    import io

    import torch

    from nasengine.checkpoint import read_checkpoint
    from nasengine.storage import storage_at

    class Hostile:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "pwned",))

    buffer = io.BytesIO()
    torch.save({"epoch": Hostile()}, buffer)
    content = buffer.getvalue()
    storage = storage_at(tmp_path)
    storage.write("checkpoints/0.pt", hashlib.sha256(content).digest() + content)
    assert read_checkpoint(storage, 0) is None
    assert not (tmp_path / "pwned").exists()


def test_a_run_can_be_read_while_it_is_written(tmp_path: Path) -> None:
    seen: list[int] = []

    class Reads(Observer):
        def ended(self, trial: Trial) -> None:
            seen.append(len(Run(tmp_path / "run").all_trials))

    nasengine.search(CHAIN, "random", evaluator=CHEAP, trials=5, baseline=0, out=tmp_path / "run", observer=Reads())
    assert seen == [1, 2, 3, 4, 5, 6]  # what an observer is told has been recorded


def test_a_run_in_a_folder_with_an_odd_name(tmp_path: Path) -> None:
    folder = tmp_path / "ein Lauf?#% ünï 'quoted'"
    run = nasengine.search(CHAIN, "random", evaluator=CHEAP, trials=2, out=folder)
    assert len(Run(folder).rows()) == len(run.rows())


def test_checkpoints_are_gone_when_their_trials_have_ended(tmp_path: Path) -> None:
    run = nasengine.search(TinySpace(), "darts", TinyTask(), baseline=1, out=tmp_path / "run")
    assert not list((run.folder / "checkpoints").glob("*")) if (run.folder / "checkpoints").exists() else True


def test_a_fidelity_of_one_epoch_is_kept(tmp_path: Path) -> None:
    class Stops(Observer):
        def ended(self, trial: Trial) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nasengine.search(
            CHAIN, "random", evaluator="train:epochs=3", trials=2, baseline=0, fidelity="epochs=1",
            final_fidelity="epochs=1", out=tmp_path / "run", observer=Stops(),
        )  # fmt: skip
    run = nasengine.resume(tmp_path / "run")
    assert [len(trial.curve) for trial in run.all_trials] == [1, 1, 1]


def test_a_plugin_file_in_a_folder_with_a_colon_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a:b"
    folder.mkdir()
    shutil.copy(Path(__file__).parent / "parts" / "cheap.py", folder / "mine.py")
    monkeypatch.chdir(folder)
    run = nasengine.search(CHAIN, "random", evaluator="./mine.py:Cheap", trials=1, baseline=0, out=tmp_path / "run")
    assert Run(run.folder).finished


def test_a_checkpoint_of_another_run_in_the_same_place_is_not_taken(tmp_path: Path) -> None:
    from nasengine.checkpoint import write_checkpoint
    from nasengine.storage import Folder

    foreign: dict[str, Any] = {"of": "another", "context": {}, "curve": [{"accuracy": 1.0}], "derived": None}
    write_checkpoint(Folder(tmp_path / "run"), 0, foreign)
    run = nasengine.search(CHAIN, "random", evaluator=CHEAP, trials=1, baseline=0, out=tmp_path / "run")
    assert [trial.state for trial in run.all_trials] == ["done", "done"]
    assert all(trial.curve == () for trial in run.all_trials)


def test_the_model_is_fetched_also_by_a_run_that_was_interrupted_before(tmp_path: Path) -> None:
    class Stops(Observer):
        def ended(self, trial: Trial) -> None:
            if trial.purpose == "final":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nasengine.search(
            CHAIN, "random", evaluator="train:epochs=1", trials=1, baseline=0, out=tmp_path / "run",
            storage=f"file://{tmp_path}/store", observer=Stops(),
        )  # fmt: skip
    run = nasengine.resume(tmp_path / "run")
    assert run.has_model
    assert run.best_model() is not None


def test_memory_is_limited_for_a_whole_trial_not_for_each_epoch(tmp_path: Path) -> None:
    class Hoards(Evaluator):
        def evaluate(self, architecture: Architecture, fidelity: Fidelity, context: Context) -> Any:
            held = []
            for epoch in range(20):
                held.append(bytearray(40 * 2**20))
                yield {"accuracy": epoch / 20}
            return {"accuracy": 0.5}

    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)  # what this process freed before would be had beyond the limit
    with pytest.raises(RunFailed, match="MemoryError"):
        nasengine.search(
            CHAIN, "random", evaluator=Hoards(), trials=1, baseline=0, out=tmp_path / "run", memory_per_trial="150m"
        )
    (trial,) = Run(tmp_path / "run").all_trials
    assert trial.state == "out_of_memory"
    # limited anew for each epoch, it would have all 800 MB
    assert 1 < len(trial.curve) < 12


def test_options_whose_keys_the_record_would_change_are_refused(tmp_path: Path) -> None:
    from nasengine.config import Config

    with pytest.raises(ConfigError, match="texts as keys"):
        Config.of({"strategy": {"random": {"schedule": {1: 0.1}}}})


def test_a_run_that_failed_says_so_and_why_until_it_goes_on(tmp_path: Path) -> None:
    flag = tmp_path / "mended"

    class Waits(Evaluator):
        def evaluate(self, architecture: Architecture, fidelity: Fidelity, context: Context) -> Any:
            if not flag.exists():
                raise ValueError("not before it is mended")
            return {"accuracy": 0.5}

    with pytest.raises(RunFailed):
        nasengine.search(CHAIN, "random", evaluator=Waits(), trials=12, baseline=0, out=tmp_path / "run")
    failed = Run(tmp_path / "run")
    assert not failed.finished
    assert "not before it is mended" in (failed.failure or "")
    flag.touch()
    with pytest.raises(RunFailed):  # too many have failed already, and that does not change
        nasengine.resume(tmp_path / "run", evaluator=Waits())


def test_a_mistake_that_shows_only_when_work_begins_leaves_no_run_behind(tmp_path: Path) -> None:
    """Here: energy, which this machine does not tell. The command with another objective finds the place free."""
    if joules():
        pytest.skip("this machine tells the energy of its processors")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    for folder in ("new", "run"):
        with pytest.raises(ConfigError, match="energy cannot be measured here"):
            nasengine.search(
                TinySpace(), "random", TinyTask(), CHEAP, objectives=("energy:min",), out=tmp_path / folder
            )
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "notes.txt"]
    assert nasengine.search(TinySpace(), "random", TinyTask(), CHEAP, trials=1, baseline=0, out=tmp_path / "run")
