"""`nas serve`: a run in optuna-dashboard, on this machine only, from a copy that follows the run."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import nasengine
from nasengine import ConfigError, Observer, Run
from nasengine.cli import Stopped, app
from nasengine.integrations.dashboard import Copy, Server
from nasengine.testing import TinySpace, TinyTask
from nasengine.trial import Trial

CHEAP = f"{Path(__file__).parent / 'parts' / 'cheap.py'}:Cheap"
CHAIN = "chain:stages=1,layers=2,widths=[4,8],"
CHAIN += "kernels=[3],activations=[relu],norms=[batch],dropouts=[0.0],heads=[average],hidden_layers=0"


class Interrupts(Observer):
    """Interrupts the process at the nth trial."""

    def __init__(self, trials: int) -> None:
        self.left = trials

    def ended(self, trial: Trial) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def interrupted(folder: Path, trials: int, **settings: Any) -> Run:
    """A run of eight trials that was interrupted after so many."""
    given = {"space": CHAIN, "strategy": "random", "evaluator": CHEAP, "trials": 8, "baseline": 0, **settings}
    with pytest.raises(KeyboardInterrupt):
        nasengine.search(**given, out=folder, observer=Interrupts(trials))
    return Run(folder)


def fetch(url: str, **headers: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        return bytes(answer.read())


def served_trials(base: str) -> list[Any]:
    """The trials that the dashboard gives to a browser."""
    studies = json.loads(fetch(f"{base}/api/studies"))["study_summaries"]
    identity = studies[0]["study_id"]
    return list(json.loads(fetch(f"{base}/api/studies/{identity}?after=0"))["trials"])


def eventually(base: str, count: int) -> list[Any]:
    """The served trials, once there are so many: the dashboard remembers its answers for two seconds."""
    deadline = time.monotonic() + 30
    while len(trials := served_trials(base)) < count and time.monotonic() < deadline:
        time.sleep(0.1)
    return trials


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Copy]]:
    """An interrupted run of three trials, served: its address, and the copy."""
    copy = Copy(interrupted(tmp_path / "run", 3), tmp_path)
    server = Server(copy.storage, "127.0.0.1", 0)
    yield server.url.removesuffix("/dashboard"), copy
    server.close()


def test_the_runs_trials_are_served_and_later_ones_appear(served: tuple[str, Copy]) -> None:
    base, copy = served
    trials = served_trials(base)
    assert [t["values"][0] for t in trials] == [t.metrics["accuracy"] for t in copy.run.all_trials]
    assert {p["name"] for p in trials[0]["params"]} == set(copy.run.space.domain(copy.run.task).decisions)
    assert b"<html" in fetch(f"{base}/dashboard")
    nasengine.resume(copy.run.folder)
    assert len(served_trials(base)) == 3
    assert copy.follow() == 5
    assert copy.follow() == 0
    searched = [t.metrics["accuracy"] for t in copy.run.all_trials if t.purpose == "search"]
    assert [t["values"][0] for t in eventually(base, 8)] == searched


def test_what_is_deleted_in_the_dashboard_is_still_in_the_run(served: tuple[str, Copy]) -> None:
    base, copy = served
    ledger = copy.run.folder / "ledger.sqlite"
    before = hashlib.sha256(ledger.read_bytes()).digest()
    study = json.loads(fetch(f"{base}/api/studies"))["study_summaries"][0]["study_id"]
    request = urllib.request.Request(f"{base}/api/studies/{study}", method="DELETE", data=b"{}")
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 204
    assert json.loads(fetch(f"{base}/api/studies"))["study_summaries"] == []
    assert hashlib.sha256(ledger.read_bytes()).digest() == before
    assert len(Run(copy.run.folder).all_trials) == 3


def test_a_page_of_somebody_elses_is_not_answered(served: tuple[str, Copy]) -> None:
    base, _ = served
    with pytest.raises(urllib.error.HTTPError, match="403"):
        fetch(f"{base}/api/studies", Host="attacker.example:80")


def test_a_space_that_cannot_be_made_again_is_followed_too(tmp_path: Path) -> None:
    class Local(TinySpace):
        pass

    parts = {"space": Local(), "task": TinyTask()}
    run = interrupted(tmp_path / "run", 1, **parts)
    copy = Copy(run, tmp_path)
    nasengine.resume(tmp_path / "run", **parts)  # type: ignore[arg-type]
    copy.follow()
    server = Server(copy.storage, "127.0.0.1", 0)
    trials = served_trials(server.url.removesuffix("/dashboard"))
    server.close()
    assert len(trials) == 8
    assert len({tuple(sorted(p["name"] for p in trial["params"])) for trial in trials}) == 1


@pytest.mark.usefixtures("warm_python")
def test_nas_serve_says_where_follows_the_run_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    interrupted(tmp_path / "run", 3)
    arguments = ["serve", str(tmp_path / "run"), "--port", "0"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-m", "nasengine", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url.startswith("http://127.0.0.1:")
            base = url.removesuffix("/dashboard")
            assert len(served_trials(base)) == 3
            nasengine.resume(tmp_path / "run")
            assert len(eventually(base, 8)) == 8
            assert list(tmp_path.glob("nas-serve-*"))
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130
    assert "the dashboard has ended; the run is as it was" in said
    assert "Traceback" not in said
    assert list(tmp_path.glob("nas-serve-*")) == []


def test_nas_serve_listens_to_this_machine_only_unless_told_what_that_means(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(tmp_path / "run", 2)
    arguments = ["serve", str(tmp_path / "run"), "--port", "0", "--host", "0.0.0.0"]
    refused = CliRunner().invoke(app, arguments)
    assert isinstance(refused.exception, ConfigError)
    assert "To allow it: --allow-public" in str(refused.exception)

    def ends(self: Copy) -> int:
        raise Stopped(130)

    monkeypatch.setattr(Copy, "follow", ends)
    monkeypatch.setattr("nasengine.cli.serve.SECONDS_BETWEEN_LOOKS", 0.01)
    allowed = CliRunner().invoke(app, ["dashboard", *arguments[1:], "--allow-public"])
    assert allowed.exit_code == 130
    assert "warning: listening on 0.0.0.0, without a password" in allowed.stderr
    assert allowed.stdout.startswith("http://0.0.0.0:")


def test_a_taken_port_and_a_folder_without_a_run_are_sentences(tmp_path: Path) -> None:
    run = interrupted(tmp_path / "run", 2)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError) as refused:
        Server(Copy(run, tmp_path).storage, "127.0.0.1", port := taken.getsockname()[1])
    reason = "Address already in use"
    assert str(refused.value) == f"127.0.0.1:{port} cannot be listened on ({reason}); choose another with --port"
    assert "is no run's folder" in str(CliRunner().invoke(app, ["serve", str(tmp_path)]).exception)
