"""Trained models in a run's folder: one safetensors file each, named by the trial's number."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .errors import RunError
from .storage import Storage

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
