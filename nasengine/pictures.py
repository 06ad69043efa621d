"""Pictures of what a trained model does, as its task makes them: written when a run is over, shown in its report."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import one_line
from .storage import write_atomically
from .task import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from .run import Run


def pictures(folder: Path) -> list[Path]:
    """Those in a run's folder, by name."""
    return sorted((folder / "pictures").glob("*.png"))


def make_pictures(run: Run, note: Callable[[str], None]) -> None:
    """Of the model found, where its task makes some. note: told what went wrong, which is no harm to the run."""
    if type(run.task).pictures is Task.pictures or not run.has_model:
        return
    import torch

    try:
        run.task.to(torch.device("cpu"))
        for name, pixels in run.task.pictures(run.best_model()).items():
            write_atomically(run.folder / "pictures" / f"{Path(name).name}.png", _png(pixels))
    except Exception as error:  # a task is anybody's code, and the run is over
        note(f"the pictures of the model could not be made: {one_line(error)}")


def _png(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
