"""`nas export`: the model found, in a form that others can use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .resume import RunFolder


def export(
    folder: RunFolder,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where to write; its ending says the format.")],
    format: Annotated[str | None, typer.Option(metavar="json|safetensors|onnx|py", help="The format, if the ending does not say it.")] = None,
) -> None:  # fmt: skip
    """Write the architecture (.json), its weights (.safetensors), or the model (.onnx; .py, which needs only torch).

    A model of images takes batches of any size. One of graphs takes graphs of any size, as tensors: x (N, features), edge_index (2, E), and of several graphs batch (N,)."""
    from ..export import export as write
    from ..run import Run

    path = write(Run(folder), out, format)
    typer.echo(f"{path} ({path.stat().st_size:,} bytes)")
