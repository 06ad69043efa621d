"""Weights handed down: what a trained candidate leaves in the run's storage for those that begin with it.

Real et al. 2017, "Large-Scale Evolution of Image Classifiers", section 3.4. The weights are written before the trial's
result is told, so that whoever knows of a parent finds them; where there was no room for them, its children begin anew.
They stay until the strategy says that it has no more use for them, and no request under way names them; what is left is
removed when the run has finished.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from .models import weights
from .storage import Storage
from .trial import Evaluate, Request, Trial

if TYPE_CHECKING:
    from torch import Tensor, nn


def weights_name(number: int) -> str:
    return f"weights/{number}.safetensors"


def learnt_name(stage: int) -> str:
    return f"learnt/{stage}.safetensors"


def forget_what_was_learnt(storage: Storage, stages: Iterable[int]) -> None:
    """Removes what the evaluators of these stages learnt: the run has finished."""
    for stage in stages:
        with suppress(OSError):  # what stays is only in the way
            storage.remove(learnt_name(stage))


def hand_down(storage: Storage, name: str, model: nn.Module) -> None:
    """Leaves the model's weights under the name. Raises OSError where there is no room for them."""
    from safetensors.torch import save

    storage.write(name, save(weights(model)))


def weights_of(storage: Storage, name: str) -> dict[str, Tensor]:
    """The weights that were left under the name; none where they are missing or damaged. Raises OSError where the
    storage does not answer."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(storage.read(name) or b"")
    except SafetensorError:
        return {}


def take_over(model: nn.Module, given: Mapping[str, Tensor]) -> None:
    """Gives the model what agrees with its own tensors in name and shape; the others stay as they are."""
    own = model.state_dict()
    model.load_state_dict(
        {name: tensor for name, tensor in given.items() if name in own and own[name].shape == tensor.shape},
        strict=False,
    )


class Legacies:
    """Whose weights may be in the storage, for the engine, which removes those that nobody can begin with."""

    def __init__(self, storage: Storage, inherits: bool) -> None:
        self._storage, self._inherits = storage, inherits
        self._left: set[int] = set()

    def add(self, trial: Trial) -> None:
        """A trial of the search has ended, however: one that failed at the last moment may have left weights, too."""
        if self._inherits and isinstance(trial.request, Evaluate) and trial.same_as is None:
            self._left.add(trial.number)

    def __contains__(self, parent: object) -> bool:
        return type(parent) is int and parent in self._left

    def settle(self, parents: Collection[int] | None, under_way: Iterable[Request]) -> None:
        """Removes what no request begins with: none under way, and none to come, which name one of the parents."""
        if parents is not None and self._left:
            named = {request.parent for request in under_way if isinstance(request, Evaluate)}
            self._remove(self._left - named.union(parents))

    def clear(self) -> None:
        """The run has finished."""
        self._remove(self._left)

    def _remove(self, numbers: set[int]) -> None:
        self._left = self._left - numbers
        for number in numbers:
            with suppress(OSError):  # what stays is only in the way
                self._storage.remove(weights_name(number))
