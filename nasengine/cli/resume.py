"""`nas resume`: goes on with an interrupted run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .run import Json, Quiet, finish

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.", show_default=False)]


def resume(folder: RunFolder, json: Json = False, quiet: Quiet = False) -> None:
    """Go on with an interrupted run, to the end that it would have had.

    Nothing finished is run again; what was under way goes on from its last checkpoint.
    """
    from ..session import resume as go_on

    finish(lambda observer: go_on(folder, observer=observer), json, quiet)
