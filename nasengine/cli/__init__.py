"""The command `nas`: verbs first, one file a command. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections import deque
from contextlib import suppress
from types import FrameType
from typing import Annotated, Any, NoReturn, cast

import typer

from .. import __version__
from ..errors import Interrupted, NasError
from . import (
    calibrate,
    compare,
    dissect,
    draw,
    export,
    grafana,
    list,
    predict,
    profile,
    report,
    resume,
    run,
    serve,
    show,
    train,
    watch,
)

# the root of click's errors, which typer does not export
CLICK_ERROR: type[Any] = cast(type[Any], typer.BadParameter.__mro__[2])
SECONDS_TO_STOP = 6.0
"""How long a search that was asked to end may take until it is ended."""
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}

app = typer.Typer(
    name="nas",
    help="Neural architecture search: `nas run --space cell --strategy darts`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("train")(train.train)
app.command("resume")(resume.resume)
app.command("watch")(watch.watch)
app.command("show")(show.show)
app.command("list")(list.list_plugins)
app.command("export")(export.export)
app.command("predict")(predict.predict)
app.command("report")(report.report)
app.command("draw")(draw.draw)
app.command("compare")(compare.compare)
app.command("calibrate")(calibrate.calibrate)
app.command("profile")(profile.profile)
app.command("dissect")(dissect.dissect)
app.command("grafana")(grafana.grafana)
app.command("serve")(serve.serve)
app.command("dashboard", hidden=True)(serve.serve)


class Stopped(BaseException):
    """A signal asks the process to end, which it does from wherever it is: what is on disk is always whole.

    Not a KeyboardInterrupt, which typer takes for itself.
    """

    def __init__(self, code: int) -> None:
        self.code = code


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nasengine {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which release.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; works behind any command, too.")] = False,
) -> None:
    """Neural architecture search: `nas run --space cell --strategy darts`."""


def main() -> NoReturn:
    """Exit codes: 0, 1 (the run failed), 2 (a mistake in what was asked), 130 (interrupted; resumable)."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]

    asked: deque[int] = deque()  # the codes to end with, one a signal

    def stop(number: int, frame: FrameType | None) -> None:
        """The first signal asks a search to end, the second ends it; what is no search ends at once."""
        asked.append(EXIT_CODES[signal.Signals(number)])
        observer = run.current.observer
        if observer is None or run.current.folder is None or len(asked) > 1:
            raise Stopped(asked[0])
        observer.stop_requested = True
        with suppress(OSError, RuntimeError):  # whoever read us is gone; or we were just writing
            observer.note("stopping: nothing new is begun, what runs leaves a checkpoint. Once more: at once.")
        insist = threading.Timer(SECONDS_TO_STOP, os.kill, (os.getpid(), number))
        insist.daemon = True
        insist.start()

    for number in EXIT_CODES:
        signal.signal(number, stop)
    try:
        code = app(arguments, standalone_mode=False) or 0
        sys.stdout.flush()
    except Interrupted as interrupted:
        print(f"\nnas: {interrupted}", file=sys.stderr)
        code = asked[0] if asked else interrupted.exit_code
    except NasError as error:
        if debug:
            traceback.print_exc()
        print(f"nas: {error}", file=sys.stderr)
        code = error.exit_code
    except Stopped as stopped:
        folder = run.current.folder
        kept = (
            f"everything finished so far is kept. Go on with: nas resume {folder}" if folder else "nothing had begun."
        )
        print(f"\nnas: interrupted; {kept}", file=sys.stderr)
        code = stopped.code
    except BrokenPipeError:  # `nas list | head`: whoever read us has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except typer.Exit as ended:
        code = ended.exit_code
    except CLICK_ERROR as error:
        error.show()
        code = 2
    except MemoryError:
        print("nas: out of memory", file=sys.stderr)
        code = 1
    for number in EXIT_CODES:  # the answer is given: nothing that comes now may change it
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)
