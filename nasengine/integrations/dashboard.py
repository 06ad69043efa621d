"""A run in optuna-dashboard: served from a copy that follows the run, so that nothing done there can harm it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import optuna
import optuna_dashboard

from ..decision import Decision
from ..errors import ConfigError, NasError
from ..run import Run
from ..trial import Trial
from .encoding import distributions
from .optuna import add, decisions_of, empty_study, quiet

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Copy:
    """The run as a study in an SQLite file of its own; `follow` adds what has come back in the meantime."""

    def __init__(self, run: Run, folder: Path) -> None:
        self.run = run
        with quiet():
            self.storage = optuna.storages.RDBStorage(f"sqlite:///{folder / 'study.db'}")
        self._decisions = self._of_the_space()
        self._complete = self._decisions is not None
        self._study = empty_study(run, self.storage)
        self._added: set[int] = set()
        self._add(run.all_trials)

    def follow(self) -> int:
        """How many trials were added."""
        self.run.refresh()
        return self._add(trial for trial in self.run.all_trials if trial.number not in self._added)

    def _add(self, trials: Iterable[Trial]) -> int:
        new = list(trials)
        if new and not self._complete:  # only what was tried is known: an option that is new makes a new study
            seen = decisions_of(self.run)
            if self._added and distributions(seen) != distributions(self._decisions or ()):
                with quiet():
                    optuna.delete_study(study_name=self._study.study_name, storage=self.storage)
                self._study, new = empty_study(self.run, self.storage), self.run.all_trials
            self._decisions = seen
        self._added.update(trial.number for trial in new)
        return len(add(self._study, self.run, new, self._decisions))

    def _of_the_space(self) -> list[Decision] | None:
        try:
            return list(self.run.space.domain(self.run.task).decisions.values())
        except NasError:
            return None


class Server:
    """The dashboard of a storage, answering in threads of its own until it is closed.

    Raises ConfigError where the address is taken or is none of this machine.
    """

    def __init__(self, storage: optuna.storages.BaseStorage, host: str, port: int) -> None:
        application: Any = optuna_dashboard.wsgi(storage)
        if host in LOOPBACK:
            application = _for_this_machine(application)
        try:
            self._server = make_server(host, port, application, _Threads6 if ":" in host else _Threads, _Silent)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigError(f"{host}:{port} cannot be listened on ({reason}); choose another with --port") from None
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self._server.server_port}/dashboard"
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Threads(ThreadingMixIn, WSGIServer):
    """A page asks for several things at once."""

    daemon_threads = True


class _Threads6(_Threads):
    address_family = socket.AF_INET6


class _Silent(WSGIRequestHandler):
    """Keeps a line for each request out of the terminal."""

    def log_message(self, format: str, *args: object) -> None:
        pass


def _for_this_machine(application: WSGIApplication) -> WSGIApplication:
    """Answers to this machine's names only: a page of somebody else's may have a name that leads here."""

    def answer(environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if urlsplit(f"//{environment.get('HTTP_HOST', '')}").hostname not in LOOPBACK:
            start("403 Forbidden", [("Content-Type", "text/plain")])
            return [b"this dashboard answers to this machine only\n"]
        return application(environment, start)

    return answer


def serve(run: Run, folder: Path, host: str, port: int, said: Callable[[str], None], seconds: float) -> None:
    """Serves the run until it is interrupted, looking for new trials every so many seconds."""
    copy = Copy(run, folder)
    server = Server(copy.storage, host, port)
    said(server.url)
    nap = threading.Event()
    try:
        while not nap.wait(seconds):
            copy.follow()
    finally:
        server.close()
        copy.storage.remove_session()
