"""What happens to the record when the process, the disk, a checkpoint or the clock fails.

The numbers in comments are the rows of the table of faults in docs/reliability.md.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pytest

import nasengine
from nasengine import Observer, Run, Trial
from nasengine.errors import LedgerError, RunInUse
from nasengine.ledger import FILE, FORMAT, Ledger, RunLock
from nasengine.testing import TinySpace, TinyTask

PARTS = Path(__file__).parent / "parts"
CHEAP = f"{PARTS / 'cheap.py'}:Cheap"
STEPWISE = f"{PARTS / 'cheap.py'}:Stepwise"
CHAIN = "chain:stages=1,layers=2,widths=[4,8],"
CHAIN += "kernels=[3],activations=[relu],norms=[batch],dropouts=[0.0],heads=[average],hidden_layers=0"


def table(run: Run) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in run.rows()]


class StopsAfter(Observer):
    """Interrupts the process when a number of trials have ended."""

    def __init__(self, trials: int) -> None:
        self.trials = trials

    def ended(self, trial: Trial) -> None:
        self.trials -= 1
        if self.trials == 0:
            raise KeyboardInterrupt


def interrupted(folder: Path, trials: int = 3, **settings: Any) -> Path:
    """A run that was interrupted when so many trials had ended."""
    asked: dict[str, Any] = {"space": CHAIN, "strategy": "random", "evaluator": CHEAP, "trials": 6, "baseline": 1}
    with pytest.raises(KeyboardInterrupt):
        nasengine.search(**(asked | settings), out=folder, observer=StopsAfter(trials))
    return folder


# 2, 10: each write is the last one


def hurt_everywhere(search: str, how: str, folder: Path, step: int) -> int:
    """How many places a search was hurt at, after each of which it resumed to the same end."""
    done = subprocess.run(
        [sys.executable, str(PARTS / "dying.py"), search, how, str(folder), str(step)],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["wrong"] == []
    return int(result["times"])


@pytest.mark.parametrize(("search", "step"), [("judging", 9), ("learning", 30)])
@pytest.mark.usefixtures("warm_python")
def test_a_search_that_dies_at_a_write_resumes_to_the_same_end(search: str, step: int, tmp_path: Path) -> None:
    assert hurt_everywhere(search, "die", tmp_path, step) > 2


def test_a_run_whose_settings_file_was_being_written_resumes(tmp_path: Path) -> None:
    run = interrupted(tmp_path / "run")
    (run / "config.yaml").write_text("")
    assert nasengine.resume(run).finished


@pytest.mark.slow
@pytest.mark.parametrize("search", ["judging", "training", "learning"])
def test_a_search_that_dies_at_any_write_resumes_to_the_same_end(search: str, tmp_path: Path) -> None:
    assert hurt_everywhere(search, "die", tmp_path, 1) > 50


@pytest.mark.usefixtures("warm_python")
def test_a_search_whose_disk_is_full_from_a_write_on_resumes_to_the_same_end(tmp_path: Path) -> None:
    assert hurt_everywhere("training", "full", tmp_path, 10) > 1


@pytest.mark.slow
@pytest.mark.parametrize("search", ["judging", "training", "learning"])
def test_a_search_whose_disk_is_full_from_any_write_on_resumes_to_the_same_end(search: str, tmp_path: Path) -> None:
    assert hurt_everywhere(search, "full", tmp_path, 1) > 10


@pytest.mark.slow
@pytest.mark.parametrize("search", ["judging", "training"])
def test_a_search_whose_files_may_not_grow_beyond_any_size_resumes_to_the_same_end(search: str, tmp_path: Path) -> None:
    assert hurt_everywhere(search, "limit", tmp_path, 1) > 20


# 3: the record's bytes

Everything: TypeAlias = tuple[dict[str, Any], list[tuple[Any, ...]], list[Any]]


class Bytes:
    """A run's record as files: whole when it ended, and, with its write-ahead log, as a killed process leaves it."""

    def __init__(self, folder: Path) -> None:
        self.ended, self.killed, self.hurt = folder / "run", folder / "killed", folder / "hurt"
        self.truths: dict[Path, Everything] = {}
        bytes_ = self

        class Copies(Observer):
            def ended(self, trial: Trial) -> None:
                if trial.number == 9:
                    shutil.copytree(bytes_.ended, bytes_.killed)

        nasengine.search(
            CHAIN, "random", evaluator=STEPWISE, trials=12, baseline=1, out=self.ended, observer=Copies()
        )  # fmt: skip
        with sqlite3.connect(self.ended / FILE) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()

    def size(self, source: Path, name: str) -> int:
        return (source / name).stat().st_size

    def after(self, source: Path, name: str, change: Callable[[bytearray], object]) -> str:
        """What a reader makes of the record with one file changed: refused, right, a beginning, or wrong."""
        shutil.rmtree(self.hurt, ignore_errors=True)
        shutil.copytree(source, self.hurt, ignore=shutil.ignore_patterns("*-shm", "lock"))
        content = bytearray((source / name).read_bytes())
        change(content)
        (self.hurt / name).write_bytes(content)
        try:
            found = everything(self.hurt)
        except LedgerError:
            return "refused"
        if source not in self.truths:
            self.truths[source] = everything(source)
        truth = self.truths[source]
        if found == truth:
            return "right"
        if found[:2] == truth[:2]:
            fewer = all(report in own for some, own in zip(found[2], truth[2], strict=True) for report in some)
            return "right but for reports" if fewer else "wrong"
        events, told = found[1], found[0] | {name: truth[0].get(name) for name in ("elapsed", "events")}
        return "a beginning" if told == truth[0] and events == truth[1][: len(events)] else "wrong"


def everything(folder: Path) -> Everything:
    """What the record says: about the run, its events, and what its trials reported while they ran."""
    ledger = Ledger.read(folder)
    try:
        events = [(event.kind, event.number, event.elapsed, dict(event.body)) for event in ledger.events()]
        return ledger.about(), events, [ledger.reports(number) for number in range(14)]
    finally:
        ledger.close()


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Bytes:
    return Bytes(tmp_path_factory.mktemp("record"))


def shorten(at: int, content: bytearray) -> None:
    del content[at:]


def cut_everywhere(record: Bytes, step: int) -> tuple[Counter[str], Counter[str]]:
    """What comes of cutting the record, and its write-ahead log, at each byte of their last three pages."""

    def cut(source: Path, name: str) -> Counter[str]:
        size = record.size(source, name)
        places = range(max(0, size - 3 * 4120), size, step)
        return Counter(record.after(source, name, partial(shorten, at)) for at in places)

    return cut(record.ended, FILE), cut(record.killed, f"{FILE}-wal")


def check_cuts(record: Bytes, step: int) -> None:
    whole, log = cut_everywhere(record, step)
    assert set(whole) == {"refused"}
    assert set(log) == {"a beginning"}  # as after a death in the middle of a write: what was whole before it


def test_a_record_cut_in_its_tail_is_refused_or_read_as_far_as_it_goes(record: Bytes) -> None:
    check_cuts(record, 61)


@pytest.mark.slow
def test_a_record_cut_at_each_byte_of_its_tail_is_refused_or_read_as_far_as_it_goes(record: Bytes) -> None:
    check_cuts(record, 1)


def flip(rng: random.Random) -> Callable[[bytearray], None]:
    def change(content: bytearray) -> None:
        place = rng.randrange(8 * len(content))
        content[place // 8] ^= 1 << place % 8

    return change


def check_flips(record: Bytes, flips: int) -> None:
    rng = random.Random(0)
    whole = Counter(record.after(record.ended, FILE, flip(rng)) for _ in range(flips))
    log = Counter(record.after(record.killed, f"{FILE}-wal", flip(rng)) for _ in range(flips))
    # a lost report is an epoch less to look at while a trial runs: its result holds its curve
    assert set(whole) <= {"right", "right but for reports", "refused"}, whole
    assert set(log) <= {"right", "right but for reports", "refused", "a beginning"}, log
    assert whole["refused"]


def test_a_flipped_bit_of_the_record_is_never_silently_wrong(record: Bytes) -> None:
    check_flips(record, 400)


@pytest.mark.slow
def test_ten_thousand_flipped_bits_of_the_record_are_never_silently_wrong(record: Bytes) -> None:
    check_flips(record, 10_000)


def test_a_run_whose_record_lost_its_tail_goes_on_with_the_same_search(tmp_path: Path) -> None:
    class Copies(Observer):
        def ended(self, trial: Trial) -> None:
            if trial.number == 4:
                shutil.copytree(tmp_path / "run", tmp_path / "killed")

    whole = nasengine.search(
        CHAIN, "evolution:population=3,sample=2", evaluator=CHEAP, trials=9, out=tmp_path / "run", observer=Copies()
    )
    log = (tmp_path / "killed" / f"{FILE}-wal").read_bytes()
    for kept in (len(log), len(log) - 1, len(log) * 2 // 3, len(log) // 3, 0):
        run = tmp_path / f"kept{kept}"
        shutil.copytree(tmp_path / "killed", run, ignore=shutil.ignore_patterns("*-shm", "lock"))
        (run / f"{FILE}-wal").write_bytes(log[:kept])
        assert table(nasengine.resume(run)) == table(whole)


# 11: checkpoints


@pytest.fixture
def learning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Run]:
    """A run interrupted while it learnt, with two checkpoints, and the run that it would have been."""
    really, readings = time.monotonic, itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: really() + 60 * next(readings))  # each epoch takes long
    settings: dict[str, Any] = {
        "space": "nasengine.testing:TinySpace", "task": "nasengine.testing:TinyTask",
        "strategy": "darts:epochs=4,batch_size=24", "evaluator": "train:epochs=1", "baseline": 0,
    }  # fmt: skip

    class StopsInEpoch3(Observer):
        def reported(self, report: Any) -> None:
            if report.epoch == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nasengine.search(**settings, out=tmp_path / "run", observer=StopsInEpoch3())
    return tmp_path / "run", nasengine.search(**settings, out=tmp_path / "whole")


def checkpoints(folder: Path) -> list[Path]:
    """The newest first."""
    return sorted((folder / "checkpoints").glob("*.pt"), key=lambda path: "before" in path.name)


@pytest.mark.parametrize("damaged", [0, 1, 2])
@pytest.mark.parametrize("damage", ["bit", "cut", "empty", "gone"])
def test_a_run_with_damaged_checkpoints_resumes_to_the_same_end(
    damaged: int, damage: str, learning: tuple[Path, Run]
) -> None:
    run, whole = learning
    files = checkpoints(run)
    assert len(files) == 2
    for file in files[:damaged]:
        content = bytearray(file.read_bytes())
        content[len(content) // 3] ^= 4
        file.write_bytes({"bit": content, "cut": content[: len(content) // 2]}.get(damage, b""))
        if damage == "gone":
            file.unlink()
    epochs: list[int] = []

    class Notes(Observer):
        def reported(self, report: Any) -> None:
            epochs.append(report.epoch)

    assert table(nasengine.resume(run, observer=Notes())) == table(whole)
    assert epochs[0] == {0: 4, 1: 3, 2: 1}[damaged]  # the newest that is whole is where it goes on


# 12: many processes


def test_a_run_in_use_is_refused_within_a_second_and_names_its_owner(tmp_path: Path) -> None:
    run = interrupted(tmp_path / "run")
    lock = RunLock(run)
    for _ in range(3):
        began = time.perf_counter()
        with pytest.raises(RunInUse, match=rf"process {os.getpid()}\b"):
            nasengine.resume(run)
        assert time.perf_counter() - began < 1
    lock.release()


def test_of_twenty_at_once_one_owns_the_run_and_evaluates_everything_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    run = interrupted(tmp_path / "run", trials=2, evaluator=f"{CHEAP}:log={log},seconds=0.02")
    results: list[object] = []
    ready = threading.Barrier(20)

    def go_on() -> None:  # a lock of its own file description each: threads stand for processes
        ready.wait()
        try:
            results.append(nasengine.resume(run).finished)
        except RunInUse as error:
            results.append(str(error))

    threads = [threading.Thread(target=go_on) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count(True) + sum(isinstance(result, str) for result in results) == 20
    assert results.count(True) >= 1
    evaluated = log.read_text().splitlines()
    assert len(set(evaluated)) == len(evaluated) == len(Run(run).all_trials)


# 14: the clock


@pytest.mark.parametrize("years", [-50, 50])
def test_a_clock_that_jumps_by_years_ends_nothing(years: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really, readings = time.time, itertools.count()
    year = 365 * 86_400.0
    monkeypatch.setattr(time, "time", lambda: really() + years * year * (next(readings) % 3))
    run = interrupted(tmp_path / "run", time_limit="1h", evaluator=STEPWISE)
    for file in run.rglob("*"):
        os.utime(file, (really() - years * year, really() - years * year))
    resumed = nasengine.resume(run)
    assert [trial.state for trial in resumed.all_trials] == ["done"] * 8
    assert 0 <= resumed.seconds < 60
    monkeypatch.undo()
    whole = nasengine.search(CHAIN, "random", evaluator=STEPWISE, trials=6, baseline=1, out=tmp_path / "whole")
    assert table(resumed) == table(whole)


# 21: records of other releases


@pytest.mark.parametrize("said", ["0", str(FORMAT - 1), str(FORMAT + 1), "99", '"one"', "null", "[1]", "1.5"])
def test_a_record_of_another_release_is_refused_and_left_as_it_is(said: str, tmp_path: Path) -> None:
    run = interrupted(tmp_path / "run")
    with sqlite3.connect(run / FILE) as connection:
        connection.execute("UPDATE about SET value = ? WHERE name = 'format'", (said,))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    before = (run / FILE).read_bytes()
    for use in (Run, nasengine.resume):
        with pytest.raises(LedgerError, match="format"):
            use(run)
    assert (run / FILE).read_bytes() == before


@pytest.mark.parametrize("table_", ["about", "events"])
def test_a_record_that_lacks_a_table_is_a_sentence(table_: str, tmp_path: Path) -> None:
    run = interrupted(tmp_path / "run", evaluator=STEPWISE)
    with sqlite3.connect(run / FILE) as connection:
        connection.execute(f"DROP TABLE {table_}")
    connection.close()
    for use in (lambda: Run(run).curve(0), lambda: nasengine.resume(run)):
        with pytest.raises(LedgerError):
            use()


def test_own_parts_survive_as_well(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"space": TinySpace(), "task": TinyTask(), "evaluator": CHEAP}
    run = interrupted(tmp_path / "run", **settings)
    assert nasengine.resume(run, space=TinySpace()).finished
