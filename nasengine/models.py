"""Trained models in a run's folder: one safetensors file each, named by the trial's number."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import RunError, StorageError, one_line
from .storage import Storage, fetch

if TYPE_CHECKING:
    from torch import Tensor, nn


def model_path(folder: Path, number: int) -> Path:
    return folder / model_name(number)


def model_name(number: int) -> str:
    return f"models/{number}.safetensors"


def weights(model: nn.Module) -> dict[str, Tensor]:
    """The model's state on the CPU, each tensor contiguous and with memory of its own."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}


def save_model(storage: Storage, number: int, model: nn.Module) -> None:
    from safetensors.torch import save

    storage.write(model_name(number), save(weights(model)))


def fetch_models(storage: Storage, folder: Path, numbers: Iterable[int]) -> None:
    """The models of these trials into the run's folder, where workers left them elsewhere. Raises StorageError."""
    for name in map(model_name, numbers):
        if not (folder / name).exists():
            try:
                fetch(storage, name, folder)
            except OSError as error:
                raise StorageError(f"the model found cannot be fetched: {one_line(error)}") from error


def load_weights(folder: Path, number: int) -> dict[str, Tensor]:
    """Raises RunError where the file is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = model_path(folder, number)
    try:
        return load(path.read_bytes())
    except OSError as error:
        why = "the run's evaluator saved none" if isinstance(error, FileNotFoundError) else error.strerror
        raise RunError(f"there is no trained model {path}: {why}") from None
    except SafetensorError as error:
        raise RunError(f"{path} is damaged ({error})") from None
