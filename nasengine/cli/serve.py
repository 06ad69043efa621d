"""`nas serve`, also `nas dashboard`: a run in optuna-dashboard, in a browser on this machine."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .resume import RunFolder

SECONDS_BETWEEN_LOOKS = 2.0


def serve(
    folder: RunFolder,
    port: Annotated[int, typer.Option(help="Where to listen; 0 for any that is free.")] = 8080,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    allow_public: Annotated[
        bool,
        typer.Option(
            "--allow-public", help="Let --host be another than this machine's: whoever reaches it sees the run."
        ),
    ] = False,
) -> None:
    """Open a run in optuna-dashboard, while it goes on or after.

    What is served is a copy that follows the run: nothing done in the dashboard changes the run. Ctrl-C ends it.
    """
    from importlib.util import find_spec
    from tempfile import TemporaryDirectory

    from ..errors import ConfigError
    from ..run import Run
    from . import Stopped

    run = Run(folder)
    if find_spec("optuna_dashboard") is None:
        raise ConfigError("the dashboard needs a package: pip install 'nasengine[dashboard]'")
    from pathlib import Path

    from ..integrations.dashboard import LOOPBACK
    from ..integrations.dashboard import serve as until_interrupted

    if host not in LOOPBACK:
        if not allow_public:
            raise ConfigError(
                f"--host is {host!r}; expected 127.0.0.1: the dashboard asks for no password, and whoever reaches it "
                f"sees the run. To allow it: --allow-public"
            )
        print(
            f"nas: warning: listening on {host}, without a password and unencrypted: whoever reaches this machine sees "
            f"the run's settings, architectures and results, and can change this copy of them",
            file=sys.stderr,
        )
    with TemporaryDirectory(prefix="nas-serve-") as temporary:
        try:
            until_interrupted(run, Path(temporary), host, port, _say, SECONDS_BETWEEN_LOOKS)
        except Stopped as stopped:
            print("\nnas: the dashboard has ended; the run is as it was.", file=sys.stderr)
            raise typer.Exit(stopped.code) from None


def _say(url: str) -> None:
    typer.echo(url)
    sys.stdout.flush()
    print("Ctrl-C ends the dashboard, not the run.", file=sys.stderr)
