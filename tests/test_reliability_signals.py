"""A search that is asked to end, once or twice, or that nobody listens to any more: kept, and said how to go on.

Row 20 of the table of faults in docs/reliability.md.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nasengine import Run

PARTS = Path(__file__).parent / "parts" / "cheap.py"
CHAIN = "chain:stages=1,layers=2,widths=[4,8],"
CHAIN += "kernels=[3],activations=[relu],norms=[batch],dropouts=[0.0],heads=[average],hidden_layers=0"
NAS = [sys.executable, "-m", "nasengine"]


def command(seconds: float, trials: int = 50) -> list[str]:
    """A search whose epochs take that long, until it is to go on to its end."""
    evaluator = f"{PARTS}:Stepwise:seconds={seconds},until=to_its_end"
    return [
        *NAS, "run", "--space", CHAIN, "--strategy", "random", "--evaluator", evaluator,
        "--trials", str(trials), "--baseline", "0", "--out", "run",
    ]  # fmt: skip


def launch(folder: Path, arguments: list[str], **pipes: Any) -> subprocess.Popen[str]:
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | pipes
    # a session of its own, as a terminal gives: whoever is left in it afterwards is an orphan of the search
    return subprocess.Popen(arguments, cwd=folder, text=True, start_new_session=True, **both)


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def judged(folder: Path, trials: int) -> bool:
    return (folder / "run" / "ledger.sqlite").exists() and len(Run(folder / "run").all_trials) >= trials


def orphans(session: int) -> list[int]:
    """The processes of a session that are still there."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.getsid(int(entry.name)) == session:
                found.append(int(entry.name))
        except ProcessLookupError:
            continue
    return found


def goes_on(folder: Path, kept: int) -> None:
    """What was judged is there, and the run resumes to its end."""
    (folder / "to_its_end").touch()
    before = Run(folder / "run").rows()
    assert len(before) >= kept
    done = subprocess.run([*NAS, "resume", "run", "--json", "-q"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["finished"]
    assert Run(folder / "run").rows()[: len(before)] == before


@pytest.mark.parametrize(
    ("sent", "code", "times"),
    [
        (signal.SIGTERM, 143, 1),
        (signal.SIGINT, 130, 2),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (
            (signal.SIGINT, 130, 1), (signal.SIGTERM, 143, 2), (signal.SIGHUP, 129, 1), (signal.SIGHUP, 129, 2),
        )),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("warm_python")
def test_a_search_that_is_asked_to_end_leaves_nothing_running_and_says_how_to_go_on(
    sent: signal.Signals, code: int, times: int, tmp_path: Path
) -> None:
    process = launch(tmp_path, command(0.2))
    wait_for(lambda: judged(tmp_path, 1))
    for _ in range(times):
        process.send_signal(sent)
        time.sleep(0.1)
    began = time.monotonic()
    _, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert time.monotonic() - began < 10
    assert "nas resume run" in err
    assert "Traceback" not in err
    assert orphans(process.pid) == []
    if times == 1:
        goes_on(tmp_path, 1)


def test_a_second_ctrl_c_ends_a_search_whose_candidate_does_not_come_to_an_end(tmp_path: Path) -> None:
    process = launch(tmp_path, command(600))
    wait_for((tmp_path / "run" / "ledger.sqlite").exists)
    time.sleep(1)  # until the candidate sleeps
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    _, err = process.communicate(timeout=8)
    assert process.returncode == 130
    assert "nas resume run" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_search_whose_candidate_does_not_come_to_an_end_is_ended_after_ten_seconds(tmp_path: Path) -> None:
    process = launch(tmp_path, command(600))
    wait_for((tmp_path / "run" / "ledger.sqlite").exists)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 143
    assert "nas resume run" in err


@pytest.mark.parametrize("closed", ["stdout", pytest.param("stderr", marks=pytest.mark.slow)])
@pytest.mark.usefixtures("warm_python")
def test_a_search_that_nobody_listens_to_any_more_loses_nothing(closed: str, tmp_path: Path) -> None:
    process = launch(tmp_path, command(0.2))
    wait_for(lambda: judged(tmp_path, 1))
    stream = process.stdout if closed == "stdout" else process.stderr
    assert stream is not None
    stream.close()
    (tmp_path / "to_its_end").touch()
    other = process.stderr if closed == "stdout" else process.stdout
    assert other is not None
    said = other.read()
    assert process.wait(timeout=30) in (0, 1)
    assert "Traceback" not in said
    assert "Exception ignored" not in said
    goes_on(tmp_path, 1)


@pytest.mark.parametrize(
    "closing",
    [">&-", *(pytest.param(closing, marks=pytest.mark.slow) for closing in ("2>&-", "<&-", ">&- 2>&- <&-"))],
)
def test_a_search_without_standard_streams_finishes(closing: str, tmp_path: Path) -> None:
    done = subprocess.run(["bash", "-c", f"{shlex.join(command(0, 2))} {closing}"], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert Run(tmp_path / "run").finished


def test_a_table_that_is_read_halfway_ends_without_a_word(tmp_path: Path) -> None:
    done = subprocess.run(["bash", "-c", f"{' '.join(NAS)} list | head -n 1"], cwd=tmp_path, capture_output=True)
    assert done.stderr == b""
