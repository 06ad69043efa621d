"""The ledger: a run's record on disk. What was asked and what was told, in order, before anything is acknowledged.

One SQLite file: written ahead (WAL), synchronous=FULL, one commit for all events of a turn of the loop. One owner at a
time, by a lock that the kernel drops when the owner dies; readers at any time. Each event carries a checksum: a damaged
record is refused, never silently wrong.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

from .errors import LedgerError, RunError, RunInUse

FORMAT = 2
FILE = "ledger.sqlite"

EventKind: TypeAlias = Literal["ask", "tell", "end", "final", "finished", "failed"]
"""ask: the strategy asked (number is None where it had nothing to ask); tell: a trial's result; end: the search is
over and why; final: a request made after the search; finished: the run is; failed: it ended without a result."""


@dataclass(frozen=True, slots=True)
class Event:
    id: int
    kind: EventKind
    number: int | None
    elapsed: float
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Start:
    """Who works on a request, or did last. at: when it was handed out, in seconds since 1970, for people only."""

    number: int
    worker: str
    at: float
    attempt: int


class RunLock:
    """Ownership of a run's folder, dropped by the kernel when the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        path = folder / "lock"
        try:
            # through no link, which would let whoever laid it choose the file that is emptied
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
            self._file = open(handle, "a+", encoding="ascii")  # noqa: SIM115 (held open for the run's life)
        except OSError as error:
            why = "it is a link" if path.is_symlink() else error.strerror
            raise RunError(f"the run's folder {folder} cannot be used: its lock cannot be written: {why}") from None
        for patience in (0.05, 0.1, None):  # `owner` takes the lock for a moment to see whether it is free
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if patience is not None:
                    time.sleep(patience)
                    continue
                self._file.seek(0)
                pid = self._file.read().strip() or "unknown"
                self._file.close()
                raise RunInUse(
                    f"the run {folder} is in use by process {pid}; watch it with: nas watch {folder}"
                ) from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def release(self) -> None:
        self._file.truncate(0)
        self._file.close()


def owner(folder: Path) -> str | None:
    """The process that works on the run now, as the text of its number; None where none does."""
    try:
        with open(folder / "lock", encoding="ascii") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return file.read().strip() or "unknown"
            return None
    except OSError:
        return None


class Ledger:
    """Writes and reads the record. Events gather in memory until `commit` makes them durable, all or none."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self._path = connection, path
        self._events: list[tuple[int, str, int | None, float, str, int]] = []
        self._reports: list[tuple[int, int, str, int]] = []
        self._starts: list[tuple[int, str, float, int]] = []
        self._last: int | None = None

    @classmethod
    def create(cls, folder: Path, about: Mapping[str, Any], durable: bool = True) -> Self:
        """A new ledger in an existing folder. `durable=False` survives a killed process, but not a power cut."""
        path, beside = folder / FILE, folder / f".{FILE}.new"
        beside.unlink(missing_ok=True)
        with _sentences(path):
            connection = sqlite3.connect(beside)
            with connection:
                connection.execute("BEGIN")  # else each table is a transaction of its own, and waits for the disk
                connection.execute(
                    "CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL, checksum INTEGER NOT NULL)"
                )
                connection.execute(
                    "CREATE TABLE events (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, number INTEGER, "
                    "elapsed REAL NOT NULL, body TEXT NOT NULL, checksum INTEGER NOT NULL)"
                )
                connection.execute(
                    "CREATE TABLE reports (number INTEGER, epoch INTEGER, body TEXT NOT NULL, "
                    "checksum INTEGER NOT NULL, PRIMARY KEY (number, epoch)) WITHOUT ROWID"
                )
                connection.execute(
                    "CREATE TABLE starts (number INTEGER PRIMARY KEY, worker TEXT NOT NULL, at REAL NOT NULL, "
                    "attempt INTEGER NOT NULL)"
                )
                texts = {name: json.dumps(value) for name, value in {"format": FORMAT, **about}.items()}
                rows = [(name, text, _checksum(name, text)) for name, text in texts.items()]
                connection.executemany("INSERT INTO about VALUES (?, ?, ?)", rows)
            connection.close()
            os.replace(beside, path)  # a ledger is there whole or not at all
        return cls.open(folder, durable)

    @classmethod
    def open(cls, folder: Path, durable: bool = True) -> Self:
        """The ledger of a run, for its owner. Raises RunError or LedgerError."""
        path = _existing(folder)
        with _sentences(path):
            ledger = cls(_connect(path, durable), path)
            ledger._check()
        return ledger

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The ledger of a run, to look at only, also while its owner writes."""
        path = _existing(folder)
        with _sentences(path):
            try:
                connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10)
                connection.execute("SELECT 1 FROM about").fetchone()
            except sqlite3.OperationalError:  # a folder that cannot be written to holds no place for WAL's index
                connection = sqlite3.connect(f"{path.resolve().as_uri()}?immutable=1", uri=True)
            ledger = cls(connection, path)
            ledger._check()
        return ledger

    def record(self, kind: EventKind, number: int | None, elapsed: float, body: Mapping[str, Any]) -> int:
        """Takes an event down for the next commit; its id, by which `event` finds it again."""
        if self._last is None:
            with _sentences(self._path):
                self._last = self._connection.execute("SELECT COALESCE(MAX(id), 0) FROM events").fetchone()[0]
        text, elapsed = json.dumps(body, allow_nan=False), float(elapsed)
        self._last += 1
        checksum = _checksum(self._last, kind, number, elapsed, text)
        self._events.append((self._last, kind, number, elapsed, text, checksum))
        return self._last

    def report(self, number: int, epoch: int, body: Mapping[str, Any]) -> None:
        text = json.dumps(body)
        self._reports.append((number, epoch, text, _checksum(number, epoch, text)))

    def start(self, start: Start) -> None:
        self._starts.append((start.number, start.worker, start.at, start.attempt))

    def commit(self, elapsed: float | None = None) -> None:
        """Makes everything recorded since the last commit durable. Raises LedgerError where the disk refuses.

        elapsed: the seconds that the run has worked, over all its processes.
        """
        if not self._events and not self._reports and not self._starts and elapsed is None:
            return
        insert = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)"
        with _sentences(self._path), self._connection:
            self._connection.executemany(insert, self._events)
            self._connection.executemany("INSERT OR REPLACE INTO reports VALUES (?, ?, ?, ?)", self._reports)
            self._connection.executemany("INSERT OR REPLACE INTO starts VALUES (?, ?, ?, ?)", self._starts)
            said = {"elapsed": elapsed, "events": self._last if self._events else None}
            rows = [(name, str(value), _checksum(name, value)) for name, value in said.items() if value is not None]
            self._connection.executemany("INSERT OR REPLACE INTO about VALUES (?, ?, ?)", rows)
        self._events, self._reports, self._starts = [], [], []

    def about(self) -> dict[str, Any]:
        with _sentences(self._path):
            rows = self._connection.execute("SELECT name, value, checksum FROM about").fetchall()
            for name, value, checksum in rows:
                self._verify(checksum, f"what it says about {name!r}", name, value)
            return {name: json.loads(value) for name, value, _ in rows}

    def elapsed(self) -> float:
        """The seconds that the run has worked, over all its processes."""
        return self._said("elapsed")

    def _said(self, name: str) -> float:
        """A number that each commit brings up to date; 0 before the first."""
        with _sentences(self._path):
            query = "SELECT value, checksum FROM about WHERE name = ?"
            row = self._connection.execute(query, (name,)).fetchone()
            if row is None:
                return 0.0
            self._verify(row[1], f"what it says about {name!r}", name, row[0])
            return float(row[0])

    def events(self, after: int = 0) -> Iterator[Event]:
        """The events whose id is greater than `after`, oldest first. Raises LedgerError at one that is damaged."""
        last, expected = self._said("events"), after + 1
        with _sentences(self._path):
            query = "SELECT id, kind, number, elapsed, body, checksum FROM events WHERE id > ? ORDER BY id"
            for row in self._connection.execute(query, (after,)):
                if row[0] != expected:
                    break
                yield self._event(row)
                expected += 1
            else:
                if expected > last:
                    return
        raise LedgerError(f"the record {self._path} is damaged: event {expected} is missing")

    def event(self, number: int) -> Event:
        """The event of that id, committed or not. Raises LedgerError where it is damaged or missing."""
        for row in reversed(self._events):
            if row[0] == number:
                return self._event(row)
        with _sentences(self._path):
            query = "SELECT id, kind, number, elapsed, body, checksum FROM events WHERE id = ?"
            row = self._connection.execute(query, (number,)).fetchone()
            if row is None:
                raise LedgerError(f"the record {self._path} is damaged: event {number} is missing")
            return self._event(row)

    def _event(self, row: tuple[int, Any, int | None, float, str, int]) -> Event:
        index, kind, number, elapsed, body, checksum = row
        self._verify(checksum, f"event {index} ({kind})", index, kind, number, elapsed, body)
        return Event(index, kind, number, elapsed, json.loads(body))

    def start_of(self, number: int) -> Start | None:
        """Who works on a request, or did last; None where it was not handed out yet."""
        with _sentences(self._path):
            query = "SELECT number, worker, at, attempt FROM starts WHERE number = ?"
            row = self._connection.execute(query, (number,)).fetchone()
            return Start(*row) if row else None

    def reports(self, number: int) -> list[tuple[int, dict[str, Any]]]:
        """What a trial reported, as (epoch, metrics)."""
        query = "SELECT epoch, body, checksum FROM reports WHERE number = ? ORDER BY epoch"
        with _sentences(self._path):
            rows = self._connection.execute(query, (number,)).fetchall()
            for epoch, body, checksum in rows:
                self._verify(checksum, f"epoch {epoch} of trial {number}", number, epoch, body)
            return [(epoch, json.loads(body)) for epoch, body, _ in rows]

    def close(self) -> None:
        self._connection.close()

    def _verify(self, checksum: object, what: str, *parts: object) -> None:
        if _checksum(*parts) != checksum:
            raise LedgerError(f"the record {self._path} is damaged: {what} fails its checksum")

    def _check(self) -> None:
        row = self._connection.execute("SELECT value FROM about WHERE name = 'format'").fetchone()
        found = json.loads(row[0]) if row else None
        if found != FORMAT:
            raise LedgerError(f"the record {self._path} has format {found!r}; this release reads format {FORMAT}")


def _connect(path: Path, durable: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'OFF'}")
    return connection


def _existing(folder: Path) -> Path:
    path = folder / FILE
    try:
        if path.is_file():
            return path
        what = "is no run's folder" if folder.is_dir() else "does not exist"
    except (OSError, ValueError) as error:  # a name that cannot be: too long, or with NUL in it
        raise RunError(f"{str(folder)[:80]!r} is no run's folder: {error}") from None
    raise RunError(f"{folder} {what}: it should hold {FILE}")


def _checksum(*parts: object) -> int:
    return zlib.crc32(" ".join(map(str, parts)).encode())


@contextmanager
def _sentences(path: Path) -> Iterator[None]:
    """SQLite's and the disk's complaints as LedgerError."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise LedgerError(f"the record {path} cannot be used ({error}); nothing recorded so far is lost") from error
    except (sqlite3.DatabaseError, ValueError, TypeError, OverflowError) as error:
        raise LedgerError(f"the record {path} is damaged ({error})") from error
    except OSError as error:
        raise LedgerError(f"the record {path} cannot be used: {error.strerror}") from error
