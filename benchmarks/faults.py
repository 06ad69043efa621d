"""What a search survives: each row of docs/reliability.md as the tests that show it, at its full target.

    python benchmarks/faults.py --rows 1 2 3

Runs them row by row, and prints a table. `--quick` runs the small ones, as `make test` does.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from report import machine, parser, print_head, print_table, versions

TESTS = Path(__file__).resolve().parents[1] / "tests"


@dataclass(frozen=True)
class Row:
    """A fault, what is promised of it, and the tests that show it: files, and within them words of their names."""

    fault: str
    target: str
    files: tuple[str, ...]
    words: str


RECORD, INPUT, PLUGINS = "test_reliability_record", "test_reliability_input", "test_reliability_plugins"
ENDURANCE, SIGNALS = "test_reliability_endurance", "test_reliability_signals"
ROWS = {
    1: Row("driver killed -9 at random",
        "1,000 kills: 0 lost, 0 run again, resumes sooner than it ran",
        ("test_killing", ENDURANCE), "killed or resuming"),
    2: Row("death at the k-th write", "every k recovers", (RECORD,), "dies_at"),
    3: Row("record cut or bits flipped",
        "opens, or names what is damaged; never silently wrong", (RECORD,), "cut or flipped or lost_its_tail"),
    4: Row("workers killed -9 every 2 s",
        "500 trials done, each once, in 3 tries at most", ("test_ray",), "workers_killed or every_worker"),
    5: Row("a machine removed 30 times", "0 lost", ("test_cluster",), "machines"),
    6: Row("out of memory in 30 % of trials",
        "its state says so, tries are capped, the search stays light", ("test_ray",), "memory"),
    7: Row("a metric that is no finite number", "never best; the trial says what it got", (INPUT,), "no_finite_number"),
    8: Row("a candidate hangs and ignores SIGTERM", "gone at its limit + 5 s", ("test_ray",), "hangs"),
    9: Row("everything fails",
        "stops at the failure budget, exit 1, the cause named", (INPUT, "test_cli"), "more_fail or run_that_fails"),
    10: Row("disk full", "once space is freed, resume loses nothing", (RECORD, "test_cli"), "disk or may_not_grow"),
    11: Row("damaged checkpoint", "the one before it is used", (RECORD,), "damaged_checkpoints"),
    12: Row("20 processes on one run",
        "one owner; the others refuse within 1 s, naming it", (RECORD, "test_cli"), "in_use or twenty"),
    13: Row("duplicates", "0 evaluated twice in 100,000 proposals", (ENDURANCE,), "evaluated_twice"),
    14: Row("the clock jumps by years", "nothing expires", (RECORD,), "clock"),
    15: Row("100,000 mutated configurations",
        "0 tracebacks; key and choices are named", (INPUT,), "configuration or has_a_form or no_names or numpys"),
    16: Row("100,000 hostile architecture files", "0 tracebacks, 0 code, little memory", (INPUT,), "architecture_file"),
    17: Row("hostile checkpoints and models", "0 executed", (INPUT,), "hostile_checkpoint or hostile_model"),
    18: Row("names with .., links, NUL", "0 bytes outside the target", (INPUT,), "link or cannot_be or impossible"),
    19: Row("plugin that raises, exits, loops or lies",
        "the rest works, the plugin is named", (PLUGINS, "test_plugins"), "test"),
    20: Row("Ctrl-C once, twice; SIGTERM; SIGHUP; nobody listens",
        "state kept, nothing left running after 10 s, exit 130/143/129", (SIGNALS,), "test"),
    21: Row("odd paths, read-only folders, older records",
        "work, or one sentence", (INPUT, RECORD), "any_name or read_only or another_release or lacks"),
    22: Row("100,000 trials", "flat memory, flat time a trial", (ENDURANCE,), "takes_as_long or flat"),
}  # fmt: skip
"""By their numbers in docs/reliability.md. A row more is a line more."""


@dataclass(frozen=True)
class Outcome:
    passed: int
    failed: int
    known: int
    """How many show a fault that is known, and not yet mended."""
    seconds: float


def shown(row: Row, quick: bool) -> Outcome:
    files = [str(TESTS / f"{name}.py") for name in row.files]
    marked = ["-m", "not slow and not gpu" if quick else "not gpu"]
    began = time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "pytest",
        *files,
        *marked,
        "-k",
        row.words,
        "-q",
        "--tb=line",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=TESTS.parent)
    counts = {what: int(number) for number, what in re.findall(r"(\d+) (passed|failed|errors?|xfailed)", done.stdout)}
    if done.returncode not in (0, 1) or not counts:
        raise SystemExit(f"the tests of {row.fault!r} do not run:\n{done.stdout}{done.stderr}")
    failed = sum(counts.get(what, 0) for what in ("failed", "error", "errors"))
    return Outcome(counts.get("passed", 0), failed, counts.get("xfailed", 0), time.perf_counter() - began)


def main() -> None:
    options = parser(__doc__)
    options.add_argument(
        "--rows", type=int, nargs="+", choices=ROWS, default=list(ROWS), metavar="N", help="which rows"
    )
    given = options.parse_args()
    facts = {
        "machine": machine(),
        "versions": versions(),
        "seeds": "fixed in each test",
        "repetitions": "1",
        "tests": "the small ones" if given.quick else "all, at the full target",
    }
    print_head("Faults, and what came of them", facts, given.markdown)
    table = []
    for number in given.rows:
        row = ROWS[number]
        print(f"row {number}: {row.fault}", file=sys.stderr)
        outcome = shown(row, given.quick)
        counted = {"passed": outcome.passed, "failed": outcome.failed, "known not to hold": outcome.known}
        happened = ", ".join(f"{count} {what}" for what, count in counted.items() if count)
        holds = "no" if outcome.failed else "in part" if outcome.known else "yes"
        table.append([str(number), row.fault, row.target, happened, f"{outcome.seconds:.0f}", holds])
    print_table(["row", "fault", "target", "tests", "seconds", "holds"], table, given.markdown)


if __name__ == "__main__":
    main()
