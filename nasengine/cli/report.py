"""`nas report`: a run as one page of HTML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .resume import RunFolder


def report(
    folder: RunFolder,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where to write.  [default: RUN/report.html]")
    ] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Write a run, finished or not, as one HTML page: to read on a phone, to send, to print.

    What was found and whether it beats random architectures, drawn; curves, the front, which decisions mattered, what
    it cost, what failed and why, and how to repeat it. The page needs no network and no other file.
    """
    from ..report.html import write
    from ..run import Run

    path = write(Run(folder), out)
    typer.echo(f"{path} ({path.stat().st_size:,} bytes)")
    if open_it:
        import webbrowser

        webbrowser.open(path.resolve().as_uri())
