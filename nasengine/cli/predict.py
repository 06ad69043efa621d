"""`nas predict`: what a trained model says of the user's own files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .run import Json, Quiet

if TYPE_CHECKING:
    from ..prediction import Prediction

ROWS = 40


def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A finished run's folder, or what nas export made of one: .safetensors, .onnx.", show_default=False)],
    inputs: Annotated[list[Path], typer.Argument(metavar="FILE|FOLDER...", help="Image files, folders of them (or of a folder a class), or .npz files.", show_default=False)],
    top: Annotated[int, typer.Option(metavar="N", help="How many of the likeliest classes.")] = 3,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all of them to a table, too.")] = None,
    every: Annotated[bool, typer.Option("--all", help=f"Every row, not the first {ROWS} only.")] = False,
    task: Annotated[str | None, typer.Option(help="The task's plugin, where the model's file names one that is not installed.", show_default=False)] = None,
    space: Annotated[str | None, typer.Option(help="The space's plugin, likewise.", show_default=False)] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Let a trained model say what is in images of any size.

    They are resized and standardised as the training data was. Where the class is known, being the name of the folder
    or in the .npz, it says how many were right.

    `nas predict runs/flowers holiday/*.jpg`, `nas predict flowers.safetensors held-out.npz --json`.
    """
    from rich.console import Console

    from ..errors import ConfigError
    from ..prediction import predict as judged

    if csv is not None and (csv.is_dir() or not csv.parent.is_dir()):
        raise ConfigError(f"{csv} cannot be written: it is a folder, or in none that is there; choose another")
    with Console(stderr=True, quiet=quiet).status("reading the model") as status:
        found = judged(
            model, inputs, top=top, task=task, space=space, step=lambda count: status.update(f"{count:,} judged")
        )
    rows = _rows(found)
    if csv is not None:
        _write(csv, _numbers(found))
    if json:
        import json as encoder

        typer.echo(encoder.dumps([_json(one) for one in found], indent=2))
    else:
        typer.echo("\n".join(_lines(rows, found, every)))


def _json(one: Prediction) -> dict[str, Any]:
    known = {} if one.label is None else {"label": one.label, "right": one.right}
    return {"name": one.name, "classes": [{"class": name, "probability": p} for name, p in one.classes], **known}


def _rows(found: list[Prediction]) -> list[list[str]]:
    """The table, with its head: name, what it is where that is known, the likeliest classes."""
    labelled = any(one.label is not None for one in found)
    places = max(len(one.classes) for one in found)
    head = ["file", *(["is"] if labelled else []), "found", "probability"]
    head += [part for place in range(2, places + 1) for part in (f"{place}.", "")]
    rows = [head]
    for one in found:
        row = [one.name, *([one.label or ""] if labelled else [])]
        rows.append(row + [part for name, share in one.classes for part in (name, f"{100 * share:.1f} %")])
    return rows


def _numbers(found: list[Prediction]) -> list[list[str]]:
    """The same for programs: a name for every column, probabilities as numbers."""
    places = max(len(one.classes) for one in found)
    head = ["file", "is", "found", "probability"]
    rows = [head + [f"{name}_{place}" for place in range(2, places + 1) for name in ("found", "probability")]]
    for one in found:
        rows.append([one.name, one.label or "", *(part for name, p in one.classes for part in (name, f"{p:.6f}"))])
    return rows


def _lines(rows: list[list[str]], found: list[Prediction], every: bool) -> list[str]:
    from .show import columns

    shown = rows if every else rows[: ROWS + 1]
    lines = columns(shown)
    if len(shown) < len(rows):
        lines.append(f"… and {len(rows) - len(shown):,} more; --all shows them, --csv FILE writes them")
    known = [one for one in found if one.right is not None]
    if known:
        right = sum(bool(one.right) for one in known)
        lines += ["", f"{right:,} of {len(known):,} are right: {100 * right / len(known):.2f} %"]
    return lines


def _write(path: Path, rows: list[list[str]]) -> None:
    import csv
    import io

    from ..errors import RunError
    from ..storage import write_atomically

    text = io.StringIO()
    csv.writer(text).writerows(rows)
    try:
        write_atomically(path, text.getvalue().encode())
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}") from None
