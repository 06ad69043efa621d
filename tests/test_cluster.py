"""Ray as a user meets it: a cluster of our own behind `nas run`, and one whose machines come and go."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nasengine import Run

PARTS = Path(__file__).parent / "parts"
NAS = [sys.executable, "-m", "nasengine"]


def search(folder: Path, *more: str) -> subprocess.Popen[str]:
    arguments = [
        "--space", "chain:stages=1,layers=3,widths=[4,8]", "--strategy", "random", "--trials", "40", "--baseline", "0",
        "--evaluator", f"{PARTS / 'perilous.py'}:Epochs:log={folder}.log,seconds=0.1", "--workers", "2",
        "--out", str(folder), *more,
    ]  # fmt: skip
    return subprocess.Popen([*NAS, "run", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(true: Callable[[], object], seconds: float = 120) -> None:
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit, "it did not happen"
        time.sleep(0.05)


def told(folder: Path) -> int:
    return len(Run(folder).all_trials) if (folder / "ledger.sqlite").exists() else 0


def children(pid: int) -> set[int]:
    """All processes below one, dead ones that nobody has collected left out."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if state != "Z":
                parents.setdefault(int(parent), []).append(int(entry.name))
    found, fresh = set(), [pid]
    while fresh:
        below = parents.get(fresh.pop(), [])
        found.update(below)
        fresh += below
    return found


def alive(pids: set[int]) -> set[int]:
    living = set()
    for pid in pids:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                living.add(pid)
        except OSError:
            continue
    return living


def name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode().strip()
    except OSError:
        return ""  # it has gone in the meantime


def listening(pids: set[int]) -> set[str]:
    """The addresses on which these processes listen, as the kernel writes them."""
    sockets = set()
    for pid in pids:
        try:
            links = [os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            continue
        sockets |= {link[8:-1] for link in links if link.startswith("socket:[")}
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                found.add(fields[1].partition(":")[0])
    return found


AGENTS = {"ray::DashboardAgent", "ray::RuntimeEnvAgent", ""}
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's tables of processes and sockets")
@pytest.mark.usefixtures("warm_python")
def test_a_run_on_rays_own_cluster_listens_to_this_machine_only_and_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = search(folder)
    until(lambda: told(folder) >= 2 or process.poll() is not None)
    below = children(process.pid)
    assert len(below) > 3
    addresses = listening(below)
    assert addresses
    assert addresses <= LOOPBACK

    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 143
    assert f"everything finished so far is kept. Go on with: nas resume {folder}" in errors
    assert "Traceback" not in errors
    until(lambda: not alive(below), seconds=30)  # 10 where the machine does nothing else than this
    goes_on_alone(folder)


@pytest.mark.slow
def test_a_run_that_is_killed_takes_its_ray_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = search(folder)
    until(lambda: told(folder) >= 2 or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    kept = told(folder)
    resumed = subprocess.Popen(
        [*NAS, "resume", str(folder), "--workers", "2", "--quiet"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    until(lambda: told(folder) >= kept + 2 or resumed.poll() is not None)
    below = children(resumed.pid)
    resumed.kill()
    resumed.communicate()
    # Ray's two agents of a machine stay until their connection to its dead heart times out, a minute later
    until(lambda: {name(pid) for pid in alive(below)} <= AGENTS, seconds=20)
    goes_on_alone(folder)


def goes_on_alone(folder: Path) -> None:
    """Without Ray, to the end, and nothing is missing."""
    finished = subprocess.run(
        [*NAS, "resume", str(folder), "--workers", "1", "--json"], capture_output=True, text=True, check=True
    )
    assert json.loads(finished.stdout)["finished"] is True
    trials = Run(folder).all_trials
    assert [trial.number for trial in trials] == list(range(41))
    assert {trial.state for trial in trials} == {"done"}


def test_a_dashboard_for_everybody_wants_to_be_meant(tmp_path: Path) -> None:
    process = search(tmp_path / "run", "--dashboard", "--dashboard-host", "0.0.0.0")
    _, errors = process.communicate()
    assert process.returncode == 2
    assert "whoever reaches Ray's dashboard can run code as you" in errors
    assert "--allow-public" in errors


def come_and_go(folder: Path, trials: int, removals: int) -> dict[str, Any]:
    command = [sys.executable, str(PARTS / "nodes.py"), str(folder), str(trials), str(removals)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    return result


@pytest.mark.slow
def test_machines_that_leave_and_join_cost_no_trial(tmp_path: Path) -> None:
    result = come_and_go(tmp_path, trials=20, removals=1)
    assert result["trials"] == result["done"] == 21
    assert result["told_once"]
    assert result["removed"] == 1
    assert result["lost"]


@pytest.mark.slow
def test_thirty_machines_that_leave_cost_none_of_500_trials(tmp_path: Path) -> None:
    result = come_and_go(tmp_path, trials=500, removals=30)
    assert result["trials"] == result["done"] == 501
    assert result["told_once"]
    assert result["removed"] == 30
