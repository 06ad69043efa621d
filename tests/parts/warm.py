"""A process that has imported what `nas` imports, torch above all, and becomes `nas` by forking when it is asked to.

    python warm.py HANDLE                      is asked, through a socket that it inherits, until its stdin ends
    python warm.py SOCKET ARGUMENTS…           asks for `python ARGUMENTS…`, in this process's folder, environment and
                                               streams, waits for its end, and ends as it did

tests/conftest.py starts it, and asks it, too.

Importing costs a `nas run` one to four seconds of a core, and most tests of the command ask something else than whether
it can be imported. A fork is a process like any other: it has its own id, streams, signals and end, and what it does
begins at the first line of `nasengine/__main__.py`.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

ended: list[int] = []  # with which code
MOST = 1 << 18  # bytes of a request


def ask(connection: socket.socket, request: dict[str, Any], streams: list[int]) -> int:
    """The answer to a request: the number of the process, or what it ended with."""
    socket.send_fds(connection, [json.dumps(request).encode()], streams)
    answer = int(connection.recv(MOST))
    connection.recv(MOST)  # nothing: whoever was between has gone
    return answer


def forked(listener: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Answers requests; returns in each process that was asked for, with what it is to be and its three streams."""
    between: list[int] = []
    while True:
        if sys.stdin in select.select([listener, sys.stdin], [], [])[0]:
            os._exit(0)  # the tests have ended
        connection, _ = listener.accept()
        content, streams, _, _ = socket.recv_fds(connection, MOST, 3)
        request = json.loads(content)
        # a process between, whose end leaves the new one to whoever takes in orphans: the test
        between.append(os.fork())
        if between[-1] == 0:
            process = os.fork()
            if process == 0:
                return request, streams
            answer = process if request["adopted"] else os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            connection.send(str(answer).encode())
            os._exit(0)
        for stream in streams:
            os.close(stream)
        if request["adopted"]:
            os.waitpid(between.pop(), 0)
        connection.close()
        between = [process for process in between if os.waitpid(process, os.WNOHANG) == (0, 0)]


def become(request: dict[str, Any], streams: list[int]) -> None:
    """Is what `python ARGUMENTS` is from here on."""
    import runpy
    import tempfile

    if request["new_session"]:
        os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        by_line = name == "stderr" or (name == "stdout" and os.isatty(number))
        mode, errors = "w" if number else "r", "backslashreplace" if name == "stderr" else None
        file = open(number, mode, buffering=1 if by_line else -1, errors=errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, file)
        setattr(sys, f"__{name}__", file)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None  # wherever the environment says
    program, *arguments = request["arguments"]
    named = arguments.pop(0) if program in ("-m", "-c") else ""
    sys.argv = [program, *arguments]  # for a module, runpy fills in its file
    more = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    first = {"-m": os.getcwd(), "-c": ""}.get(program, os.path.dirname(program))
    sys.path[:1] = [first, *more]
    try:
        if program == "-m":
            runpy.run_module(named, run_name="__main__", alter_sys=True)
        elif program == "-c":
            exec(named, {"__name__": "__main__"})  # noqa: S102
        else:
            runpy.run_path(program, run_name="__main__")
        ended.append(0)
    except SystemExit as left:
        if left.code is None or isinstance(left.code, int):
            ended.append(left.code or 0)
        raise


def leave() -> None:
    """Ends a process that has come to its end, all of `atexit` included: taking torch apart would cost it 0.4 s."""
    with suppress(OSError):
        if ended:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(ended[0])


def client(path: str, arguments: list[str]) -> None:
    request = {
        "arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ), "new_session": False,
        "adopted": False,
    }  # fmt: skip
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(path)
        code = ask(connection, request, [0, 1, 2])
    if code < 0:
        os.kill(os.getpid(), -code)
    sys.exit(code)


def server(handle: int) -> None:
    atexit.register(leave)  # first, to be the last

    import gc

    import sklearn.datasets  # noqa: F401
    import torch._dynamo  # noqa: F401  torch's optimizers import it

    import nasengine.cli  # noqa: F401

    gc.freeze()  # what nobody touches stays shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    become(*forked(socket.socket(fileno=handle)))


if __name__ == "__main__":
    client(sys.argv[1], sys.argv[2:]) if sys.argv[2:] else server(int(sys.argv[1]))
