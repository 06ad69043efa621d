"""What several test modules share."""

from __future__ import annotations

import ctypes
import gc
import inspect
import json
import logging
import os
import shlex
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

PARTS = Path(__file__).parent / "parts"

# what is compiled is kept, whatever the environment says: else each of a hundred processes compiles it anew
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

IN_ONE_PROCESS = {
    "test_ray": "ray",
    "test_metrics": "ray",
    "test_integrations_tune": "ray",
    "test_main_job": "main job",
    "test_export": "ONNX",
    "test_predict": "ONNX",
    "test_integrations_optuna": "Optuna",
    "test_loggers": "loggers",
    "test_packaging": "wheel",
    "test_plugins": "installed plugin",
    "test_report": "Matplotlib",
    "test_serve": "Optuna",
}
"""Modules whose tests share something that is dear: a Ray, the main job's run, an installation, or an import."""


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Sends them to one process each, first of all, and every other test to whichever process is free.

    (xdist's own `loadgroup` does that by a mark, but not with pytest 9.)
    """
    from xdist.scheduler.loadscope import LoadScopeScheduling

    class Grouped(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return IN_ONE_PROCESS.get(PurePosixPath(nodeid.split("::")[0]).stem, nodeid)

    return Grouped(config, log)


def pytest_collection_finish() -> None:
    """Spares every garbage collection to come what was imported, which is a thousand times what a test makes."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def _ray_ends() -> Iterator[None]:
    """Ends what `ray_cluster` began, when all tests of the process are done."""
    yield
    import ray

    ray.shutdown()


@pytest.fixture
def ray_cluster(_ray_ends: None) -> None:
    """A Ray of four CPUs on this machine, for all tests of the process; see IN_ONE_PROCESS.

    Started once, and again where a test with a Ray of its own has ended it.
    """
    # workers are as welcome to the cores as the other tests are
    os.environ.setdefault("RAY_worker_niceness", "0")
    # a worker without a GPU keeps CUDA_VISIBLE_DEVICES as it is: Ray warns of the opposite otherwise
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if not ray.is_initialized():
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)


WARM = PARTS / "warm.py"
SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of prctl(2): orphans of our children become our children, whom we can wait for."""

WARM_COMMANDS = ("nas", "pytest")
"""What a shell finds warm."""


@pytest.fixture(scope="session")
def _warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a process that has imported torch and the command line; see tests/parts/warm.py."""
    path = tmp_path_factory.mktemp("warm") / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen()
        handle = listener.fileno()
        command = [sys.executable, str(WARM), str(handle)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[handle])
    for name in WARM_COMMANDS:
        asking = [sys.executable, "-IS", WARM, path, Path(sysconfig.get_path("scripts"), name)]
        path.with_name(name).write_text(f'#!/bin/sh\nexec {shlex.join(map(str, asking))} "$@"\n')
        path.with_name(name).chmod(0o755)
    yield path
    process.communicate()


class Warm(subprocess.Popen[Any]):
    """A process as ever; but this Python with a module, a file or `-c` is a fork of the process that `path` leads to.

    It differs from a fresh one in that what it imports is there already, hashes as in all other forks, and reads what
    is installed once.
    """

    path: Path

    def _execute_child(self, *given: Any) -> None:
        really = super()._execute_child  # type: ignore[misc]
        asked = inspect.signature(really).bind(*given).arguments
        program, *arguments = asked["args"] if isinstance(asked["args"], list) else [asked["args"]]
        if program != sys.executable or (arguments[0].startswith("-") and arguments[0] not in ("-m", "-c")):
            really(*given)
            return
        request = {
            "arguments": arguments, "folder": os.path.abspath(asked["cwd"] or "."),
            "environment": dict(asked["env"] or os.environ), "new_session": asked["start_new_session"], "adopted": True,
        }  # fmt: skip
        ends = [asked[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")]
        streams = [number if end == -1 else end for number, end in enumerate((ends[0], ends[3], ends[5]))]
        prctl = ctypes.CDLL(None).prctl
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.connect(str(self.path))
            prctl(SUBREAPER, 1, 0, 0, 0)
            socket.send_fds(connection, [json.dumps(request).encode()], streams)
            self.pid = int(connection.recv(100))
            connection.recv(1)  # nothing: the process between has ended, and the new one is ours
            prctl(SUBREAPER, 0, 0, 0, 0)
        self._child_created = True
        self._close_pipe_fds(*ends)  # type: ignore[attr-defined]


@pytest.fixture
def warm_python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares the Pythons of a test their imports, where it does not ask for these: each is forked from a warm process.

    Both what subprocess starts by `sys.executable` and `nas` by a shell. Not where a fresh process may make a
    difference: start-up, closed streams, nothing shared with the process before.
    """
    if sys.platform == "linux":
        path = request.getfixturevalue("_warm")
        monkeypatch.setattr(Warm, "path", path, raising=False)
        monkeypatch.setattr(subprocess, "Popen", Warm)
        monkeypatch.setenv("PATH", os.pathsep.join([str(path.parent), os.environ["PATH"]]))


@pytest.fixture
def nas(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Runs `nas` in this process, in an empty folder: its exit code, stdout and stderr."""
    from nasengine.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["nas", *map(str, arguments)])
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run
