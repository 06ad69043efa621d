"""The README's main command: DARTS on the cell space, on real digits.

At every `make test` with fewer epochs, which cost a quarter; by `make test-all` as it is, too, with no further option.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COMMAND = "nas run --space cell --strategy darts"
SHORT = f"{COMMAND}:epochs=1 --evaluator train:epochs=3"


@dataclass(frozen=True)
class Job:
    """What a command left: the folder it ran in, its stdout and its stderr; and for how many epochs it searched."""

    folder: Path
    out: str
    err: str
    epochs: int


@pytest.fixture(
    scope="module",
    params=[pytest.param((SHORT, 1), id="short"), pytest.param((COMMAND, 8), id="whole", marks=pytest.mark.slow)],
)
def job(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Job:
    command, epochs = request.param
    folder = tmp_path_factory.mktemp("job")
    arguments = [sys.executable, "-m", "nasengine", *command.split()[1:]]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return Job(folder, done.stdout, done.stderr, epochs)


def run_of(folder: Path) -> str:
    (run,) = (folder / "runs").iterdir()
    return str(run.relative_to(folder))


def test_it_is_what_make_run_and_the_readme_run() -> None:
    assert f"$(BIN)/{COMMAND}\n" in (ROOT / "Makefile").read_text()
    assert COMMAND in (ROOT / "README.md").read_text()


def test_it_says_what_it_found_and_how_good_that_is(job: Job) -> None:
    folder, out = job.folder, job.out
    assert "normal  node 0 = " in out
    assert "reduce  node 0 = " in out
    assert out.count("node 3 = ") == 2
    for name in ("validation accuracy", "test accuracy"):
        found = re.search(rf"{name} +([\d.]+) %", out)
        assert found, out
        assert float(found[1]) > 90  # ten classes: chance is 10
    assert re.search(r"parameters +\d+,\d{3}\n", out)
    assert re.search(r"search gain [+-]\d+\.\d points over random \(n = 3, ± \d+\.\d\)", out)
    assert f"is in {run_of(folder)}\n" in out
    assert f"nas show {run_of(folder)} " in out
    assert f"nas export {run_of(folder)} -o model.py " in out


def test_it_shows_its_progress_as_plain_lines_where_there_is_no_terminal(job: Job) -> None:
    err = job.err
    assert "1,078 training, 360 validation and 359 test images" in err
    assert f"learning, epoch 1/{job.epochs}: train_loss" in err
    assert err.count("random: done, accuracy") == 3
    assert "\x1b" not in err


@pytest.mark.usefixtures("warm_python")
def test_it_derives_a_cell_with_two_edges_into_each_node_and_no_none(job: Job) -> None:
    folder = job.folder
    shown = subprocess.run(
        [sys.executable, "-m", "nasengine", "show", run_of(folder), "--json"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    picks = json.loads(shown.stdout)["best"]["architecture"]["picks"]
    assert sum(name.endswith(".inputs") for name in picks) == 8
    assert len(picks) == 8 + 16
    assert "none" not in picks.values()


@pytest.mark.usefixtures("warm_python")
def test_what_it_suggests_next_works(job: Job) -> None:
    folder, out = job.folder, job.out
    commands = [line.strip().split("   ")[0] for line in out.partition("Next:\n")[2].splitlines()]
    assert len(commands) == 2
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", "nasengine", *command.split()[1:]], cwd=folder, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    assert (folder / "model.py").exists()
