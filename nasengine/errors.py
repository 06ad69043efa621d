"""Every error that the engine raises on purpose.

    NasError
    ├── ConfigError            a setting is unknown, of the wrong type or out of range
    ├── PluginError            a plugin is unknown, ambiguous, broken or misused
    ├── SpaceError             a search space says something that cannot be built
    ├── ArchitectureError      an architecture does not belong to its space, or its file is damaged
    ├── DataError              a dataset is missing or unreadable
    ├── RunError               a run's folder is missing, taken, or does not fit what was asked
    │   ├── RunInUse           another process owns it
    │   ├── LedgerError        its record is damaged, or the disk refuses it (exit code 1)
    │   ├── StorageError       a model cannot be kept where workers keep them (exit code 1)
    │   └── ReplayError        its record cannot be played back with what is installed now
    ├── ExportError            a model cannot be written in the format asked for
    ├── Interrupted            somebody asked the run to end before its end; it can be resumed (exit code 130)
    ├── TrainingDiverged       a candidate's loss or metric is no finite number (a trial's error, not a run's)
    └── RunFailed              the search itself failed (exit code 1)

One sentence each: the value given, what was expected, what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NasError(Exception):
    """What a user can be told in a sentence. `exit_code` is the command's."""

    exit_code = 2


class ConfigError(NasError):
    """A setting is unknown, of the wrong type or out of range."""


class PluginError(NasError):
    """A plugin is unknown, ambiguous, broken or misused."""


class SpaceError(NasError):
    """A search space says something that cannot be built."""


class ArchitectureError(NasError):
    """An architecture does not belong to its space, or its file is damaged."""


class DataError(NasError):
    """A dataset is missing or unreadable."""


class RunError(NasError):
    """A run's folder is missing, taken, or does not fit what was asked."""


class RunInUse(RunError):
    """Another process owns the run's folder."""


class LedgerError(RunError):
    """The run's record is damaged, or the disk refuses it."""

    exit_code = 1


class StorageError(RunError):
    """A model cannot be kept where workers keep them."""

    exit_code = 1


class ReplayError(RunError):
    """The run's record cannot be played back with what is installed now."""


class ExportError(NasError):
    """A model cannot be written in the format asked for."""


class Interrupted(NasError):
    """Somebody asked the run to end before its end. What is on record is whole, and the run can be resumed."""

    exit_code = 130


class TrainingDiverged(NasError):
    """A candidate's loss or metric is no finite number."""


class RunFailed(NasError):
    """The search ended without a result."""

    exit_code = 1


def near_miss(given: str, allowed: Iterable[str]) -> str:
    """` Did you mean 'darts'?` with its leading space, or nothing where no name is near."""
    matches = difflib.get_close_matches(given, list(allowed), n=1, cutoff=0.6)
    return f" Did you mean {matches[0]!r}?" if matches else ""


def one_line(error: BaseException) -> str:
    """An exception of anybody's as one line: its type and the first line of what it says."""
    try:
        text = str(error).strip().splitlines()
    except Exception:  # anybody's exception, whose own words may be broken too
        text = []
    return f"{type(error).__name__}: {text[0][:300]}" if text else type(error).__name__
