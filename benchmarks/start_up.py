"""Seconds until a command is there, in fresh processes, beside what `import torch` alone takes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from report import by_turns, machine, parser, print_head, print_table, ratios, spread, versions

import nasengine
from nasengine.errors import Interrupted

TORCH = "import torch"
OPTIMIZER = "import torch; torch.optim.SGD([torch.zeros(1)])"
RESUME = "nas resume, after 1,000 trials"
NAS = Path(sys.executable).with_name("nas")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""A user's Python keeps what it compiled."""
INSTANT = f"{Path(__file__).with_name('instant.py')}:Instant"


def seconds_of(command: Sequence[str], _: int, beside: Path | None = None) -> float:
    """Wall time of a process, in a folder with a copy of `beside`, or an empty one. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as folder:
        if beside is not None:
            shutil.copytree(beside, folder, dirs_exist_ok=True)
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, cwd=folder, env=ENVIRONMENT)
        return time.perf_counter() - started


def stopped_search(folder: Path, trials: int) -> None:
    """Leaves in `folder` a run that was ended after so many trials, one before its last."""

    class Stops(nasengine.Observer):
        left = trials

        def ended(self, trial: nasengine.Trial) -> None:
            self.left -= 1
            self.stop_requested = self.left <= 0

    with suppress(Interrupted):
        nasengine.search(
            "chain", "evolution", evaluator=INSTANT, trials=trials + 1, baseline=0, out=folder, observer=Stops(),
            durable=False,
        )  # fmt: skip


def main() -> None:
    given = parser(__doc__, repetitions=15).parse_args()
    repetitions = 1 if given.quick else given.repetitions
    nas = [str(NAS)] if NAS.exists() else [sys.executable, "-m", "nasengine"]
    search = [
        *nas, "run", "--space", "chain", "--strategy", "random", "--trials", "1", "--baseline", "0", "--quiet",
        "--out", "run", "--evaluator",
    ]  # fmt: skip
    commands = {
        "bare Python": [sys.executable, "-c", "pass"],
        TORCH: [sys.executable, "-c", "import torch"],
        "import torch, an optimizer": [sys.executable, "-c", OPTIMIZER],
        "import nasengine": [sys.executable, "-c", "import nasengine"],
        "nas --help": [*nas, "--help"],
        "nas list": [*nas, "list"],
        "nas run, 1 trial that costs nothing": [*search, INSTANT],
        "nas run, 1 trial and the final training, an epoch each": [*search, "train:epochs=1"],
    }
    resume = [*nas, "resume", "run", "--quiet"]
    facts = {
        "machine": machine(),
        "versions": versions(),
        "seeds": "0, the default",
        "repetitions": f"{repetitions}, by turns, files compiled and cached; all numbers as median (min–max)",
        "threads": os.environ.get("OMP_NUM_THREADS", "as many as there are cores"),
    }
    print_head("Start-up, in fresh processes", facts, given.markdown)
    if not given.quick:
        for command in commands.values():
            seconds_of(command, 0)  # fills the system's cache, not counted
    cases: dict[str, Callable[[int], float]] = {
        name: partial(seconds_of, command) for name, command in commands.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        stopped_search(Path(folder) / "run", 10 if given.quick else 1_000)
        cases[RESUME] = partial(seconds_of, resume, beside=Path(folder))
        results = by_turns(cases, repetitions)
    rows = [[name, spread(times), spread(ratios(times, results[TORCH]))] for name, times in results.items()]
    print_table(["what", "seconds", f"time, × {TORCH}"], rows, given.markdown)


if __name__ == "__main__":
    main()
