"""Seconds until a command is there, in fresh processes, beside what `import torch` alone takes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from report import by_turns, machine, parser, print_head, print_table, ratios, spread, versions

TORCH = "import torch"
NAS = Path(sys.executable).with_name("nas")
INSTANT = f"{Path(__file__).with_name('instant.py')}:Instant"


def seconds_of(command: Sequence[str], _: int) -> float:
    """Wall time of a process, in an empty folder. Raises CalledProcessError where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, cwd=folder)
        return time.perf_counter() - started


def main() -> None:
    given = parser(__doc__, repetitions=15).parse_args()
    repetitions = 1 if given.quick else given.repetitions
    nas = [str(NAS)] if NAS.exists() else [sys.executable, "-m", "nasengine"]
    search = [
        "run", "--space", "chain", "--strategy", "random", "--evaluator", INSTANT, "--trials", "1", "--baseline", "0",
        "--quiet", "--out", "run",
    ]  # fmt: skip
    commands = {
        "bare Python": [sys.executable, "-c", "pass"],
        TORCH: [sys.executable, "-c", "import torch"],
        "import nasengine": [sys.executable, "-c", "import nasengine"],
        "nas --help": [*nas, "--help"],
        "nas list": [*nas, "list"],
        "nas run, 1 trial that costs nothing": [*nas, *search],
    }
    facts = {
        "machine": machine(),
        "versions": versions(),
        "seeds": "0, the default",
        "repetitions": f"{repetitions}, by turns, files in the system's cache; all numbers as median (min–max)",
        "threads": os.environ.get("OMP_NUM_THREADS", "as many as there are cores"),
    }
    print_head("Start-up, in fresh processes", facts, given.markdown)
    if not given.quick:
        for command in commands.values():
            seconds_of(command, 0)  # fills the system's cache, not counted
    cases: dict[str, Callable[[int], float]] = {
        name: partial(seconds_of, command) for name, command in commands.items()
    }
    results = by_turns(cases, repetitions)
    rows = [[name, spread(times), spread(ratios(times, results[TORCH]))] for name, times in results.items()]
    print_table(["what", "seconds", f"time, × {TORCH}"], rows, given.markdown)


if __name__ == "__main__":
    main()
