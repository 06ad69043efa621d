"""Runs one small search again and again, hurts it at its first write, its second, … its last, and resumes it.

    python dying.py SEARCH HOW FOLDER STEP

HOW it is hurt: `die` ends the process at the write, as a kill would; `full` lets no file be written any more from there
on; `limit` lets no file grow beyond so many kB. Each search is a fork of this process, which imports torch only once.
Prints as JSON how often it hurt and, in sentences, what was not as in the search that nobody hurt.
"""

from __future__ import annotations

import builtins
import errno
import io
import itertools
import json
import os
import resource
import shutil
import signal
import sqlite3
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import nasengine
from nasengine import Observer, Run, Trial
from nasengine.errors import NasError
from nasengine.ledger import FILE, Ledger
from nasengine.plan import trial_seed

CHEAP = f"{Path(__file__).with_name('cheap.py')}:Cheap"
HEIRS = "nasengine.strategies.large_scale_evolution:LargeScaleEvolution"
TINY: dict[str, Any] = {"space": "nasengine.testing:TinySpace", "task": "nasengine.testing:TinyTask"}
SEARCHES: dict[str, dict[str, Any]] = {
    "judging": {
        "space": "chain:stages=1,layers=2,widths=[4,8]", "strategy": "evolution:population=2,sample=1", "trials": 4,
        "baseline": 1,
    },
    "training": {**TINY, "strategy": "random", "evaluator": "train:epochs=2", "trials": 2, "baseline": 1},
    "inheriting": {
        **TINY, "strategy": f"{HEIRS}:population=2,reset_weights=0.0", "evaluator": "train:epochs=1",
        "trials": 4, "baseline": 0,
    },
    "learning": {
        **TINY, "strategy": "darts:epochs=2,batch_size=24", "evaluator": "train:epochs=1", "trials": 1, "baseline": 0,
    },
}  # fmt: skip
DEAD, UNHURT, STOPPED, BROKEN = 9, 7, 3, 1


class Acknowledged(Observer):
    """Notes the trials whose end it was told of, where no death can take it back."""

    def __init__(self, path: Path) -> None:
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def ended(self, trial: Trial) -> None:
        os.write(self.file, f"{trial.number}\n".encode())


def settings(name: str, folder: Path) -> dict[str, Any]:
    judged = {"evaluator": f"{CHEAP}:log={folder}.log"} if name == "judging" else {}
    return {**SEARCHES[name], **judged, "threads": 1, "out": folder}


def at_each_write(struck: Callable[[], None], folder: Path, dying: bool) -> None:
    """Calls before each change to a file of the run's folder, and after a file was opened (and emptied).

    dying: also before what a full disk does not hinder: deleting, and statements of SQL, which SQLite answers for.
    """
    really_open, really_sync, really_connect = io.open, os.fsync, sqlite3.connect
    changes = ("os.rename", "os.mkdir", "os.remove", "os.truncate") if dying else ("os.rename", "os.mkdir")

    def within(path: object) -> bool:
        return f"{path}/".startswith(f"{folder}/")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in changes and within(arguments[0]):
            struck()

    def open_(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if not set(mode) & set("wax+") or not within(file):
            return really_open(file, mode, *arguments, **options)
        struck()
        opened = really_open(file, mode, *arguments, **options)
        struck()
        return opened

    def sync(file: Any) -> None:
        struck()
        really_sync(file)

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = really_connect(*arguments, **options)
        connection.set_trace_callback(lambda statement: struck())
        return connection

    sys.addaudithook(hook)
    builtins.open = io.open = open_
    os.fsync = sync  # type: ignore[assignment]
    if dying:
        sqlite3.connect = connect  # type: ignore[assignment]


def hurt(how: str, count: int, folder: Path) -> Callable[[], bool]:
    """Prepares this process, a fork, for what is to happen to it. Gives what says whether it has happened."""
    left = count

    def die() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os._exit(DEAD)

    def refuse() -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if how == "limit":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * count, resource.RLIM_INFINITY))
    else:
        at_each_write(die if how == "die" else refuse, folder, how == "die")
    return lambda: left <= 0


def hasten() -> None:
    """A clock by which every epoch takes so long that a checkpoint is due."""
    really, readings = time.monotonic, itertools.count()
    time.monotonic = lambda: really() + 60 * next(readings)


def forked(work: Callable[[], object], errors: Path) -> int:
    """What a fork that does this work ends with: 0, or why it did not finish."""
    sys.stdout.flush()
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    _in_child(work, os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))


def _in_child(work: Callable[[], object], errors: int) -> NoReturn:
    try:
        work()
        os._exit(0)
    except NasError as error:
        os.write(errors, str(error).encode())
        os._exit(STOPPED)
    except BaseException:
        os.write(errors, traceback.format_exc().encode()[-600:])
        os._exit(BROKEN)


def table(folder: Path) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in Run(folder).rows()]


def numbers(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


class Case:
    """One search that is hurt once, in a folder of its own."""

    def __init__(self, name: str, how: str, count: int, folder: Path) -> None:
        self.name, self.how, self.count, self.folder = name, how, count, folder
        self.evaluated, self.told, self.errors = (folder.with_suffix(f".{end}") for end in ("log", "told", "errors"))

    def search(self) -> None:
        observer = Acknowledged(self.told)
        hasten()
        happened = hurt(self.how, self.count, self.folder)
        nasengine.search(**settings(self.name, self.folder), observer=observer)
        if not happened():
            os._exit(UNHURT)

    def go_on(self) -> None:
        if self.begun:
            nasengine.resume(self.folder, observer=Acknowledged(self.told))
        else:  # the same command begins it
            nasengine.search(**settings(self.name, self.folder))

    @property
    def begun(self) -> bool:
        return (self.folder / FILE).exists()

    def run(self) -> int:
        return forked(self.search, self.errors)

    def faults(self, ended: int, whole: list[dict[str, Any]]) -> Iterator[str]:
        """Resumes it, and says what is not as it should be."""
        if ended == BROKEN:
            yield f"a traceback: {self.errors.read_text()}"
        known = {trial.number for trial in Run(self.folder).all_trials} if self.begun else set()
        if lost := set(numbers(self.told)) - known:
            yield f"the trials {lost}, which were acknowledged, are lost"
        before = len(numbers(self.evaluated))
        if forked(self.go_on, self.errors):
            yield f"it does not resume: {self.errors.read_text()}"
            return
        if table(self.folder) != whole:
            yield f"it came to another end: {table(self.folder)}"
        finished = {trial_seed(0, number) for number in known}
        if again := finished & set(numbers(self.evaluated)[before:]):
            yield f"{len(again)} finished evaluations were run again"
        ledger = Ledger.read(self.folder)
        told = [event.number for event in ledger.events() if event.kind == "tell"]
        ledger.close()
        if len(set(told)) < len(told):
            yield f"a trial is there twice: {told}"

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        for file in (self.evaluated, self.told, self.errors):
            file.unlink(missing_ok=True)


def main(name: str, how: str, folder: Path, step: int) -> None:
    nasengine.search(**settings(name, folder / "whole"))
    whole, said = table(folder / "whole"), []
    for times in itertools.count():
        case = Case(name, how, 1 + times * step, folder / "hurt")
        ended = case.run()
        said += [f"{how} {case.count}: {fault}" for fault in case.faults(ended, whole)]
        case.clear()
        if ended == UNHURT:  # there were fewer writes than that
            break
    print(json.dumps({"times": times, "wrong": said}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
