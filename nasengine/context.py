"""Context: what a worker hands to the code that trains: device, randomness, checkpoints, and where the model goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from .architecture import Architecture
from .device import keep_freed_memory
from .dilation import split_dilated
from .inheritance import take_over

if TYPE_CHECKING:
    from .space import SearchSpace
    from .supernet import Supernet
    from .task import Task


class Context:
    """One request's surroundings.

    seed: the trial's. generator: for shuffling (torch, CPU). rng: for everything else (numpy). final: whether the
    search is over and this judgement may read the test data. inherited: the weights to begin with, by name, on the CPU;
    none where the request names no parent, or the parent left none. learnt: the weights of what the evaluator learnt
    before its first candidate, by name, on the CPU; none where it learnt nothing.
    """

    def __init__(
        self,
        space: SearchSpace,
        task: Task,
        device: torch.device,
        seed: int,
        final: bool = False,
        checkpoint: dict[str, Any] | None = None,
        inherited: Mapping[str, Tensor] | None = None,
        learnt: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.space, self.task, self.device, self.seed, self.final = space, task, device, seed, final
        self.inherited: Mapping[str, Tensor] = inherited or {}
        self.learnt: Mapping[str, Tensor] = learnt or {}
        self.saved: nn.Module | None = None
        self.planned: int | None = None
        self.generator = torch.Generator().manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        self._checkpoint = checkpoint
        self._kept: dict[str, Any] = {}
        self._epoch = self._training = 0
        self._trainings = 1
        # the one place where a worker seeds torch: initial weights and dropout follow from the trial's seed
        # (not torch.manual_seed, which keeps a stack trace for each kind of device that is not there)
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.manual_seed_all(seed)
        else:
            keep_freed_memory()

    def model(self, architecture: Architecture) -> nn.Module:
        """The architecture as a module on the device: initialised from the trial's seed, then given what is inherited,
        where names and shapes agree."""
        model: nn.Module = self._placed(self.space.model(architecture, self.task))
        take_over(model, self.inherited)
        return model

    def supernet(self) -> Supernet:
        """The space's supernet on the device. Raises SpaceError where the space has none."""
        supernet: Supernet = self._placed(self.space.supernet(self.task))
        return supernet

    def keep(self, **things: Any) -> None:
        """Names what a checkpoint holds: tensors, or objects with `state_dict` and `load_state_dict`.

        Where the trial goes on from a checkpoint, the states are put back at once. Call it before `epochs`.
        """
        self._kept.update(things)
        if self._checkpoint is None:
            return
        for name, thing in things.items():
            state = self._checkpoint["kept"].get(name)
            if isinstance(thing, Tensor):
                with torch.no_grad():
                    thing.copy_(state)
            else:
                thing.load_state_dict(state)

    def epochs(self, count: int) -> Iterator[int]:
        """0 … count − 1, beginning after the checkpoint's last epoch. The one epoch counter of a training."""
        self.planned = count * self._trainings
        if self._checkpoint is not None:
            self._epoch = self._checkpoint["epoch"]
            self.generator.set_state(self._checkpoint["generator"])
            torch.set_rng_state(self._checkpoint["torch"])
            self.rng.bit_generator.state = _numpy_state(self._checkpoint["numpy"])
            self._checkpoint = None  # another training of this trial begins anew
        while self._epoch < count:
            self._epoch += 1  # so that a checkpoint taken while the caller yields counts this epoch as done
            yield self._epoch - 1

    def trainings(self, count: int) -> Iterator[int]:
        """0 … count − 1, for a trial that trains more than once: each training has a `keep` and an `epochs` of its own.
        Begins with the one that the checkpoint was written in."""
        self._trainings = count
        if self._checkpoint is not None:
            self._training = self._checkpoint["training"]
        while self._training < count:
            yield self._training
            self._training += 1
            self._epoch = 0

    def save(self, model: nn.Module) -> None:
        """Hands over the model: for the test reading, for the run's folder where the trial is final, and for children
        that inherit its weights. Handed over before it is trained, it has heirs where the trial is stopped, too."""
        self.saved = model

    def state(self) -> dict[str, Any]:
        """A checkpoint: tensors, numbers and strings only, so that it loads without unpickling code."""
        kept = {n: t.detach().clone() if isinstance(t, Tensor) else t.state_dict() for n, t in self._kept.items()}
        return {
            "epoch": self._epoch,
            "training": self._training,
            "kept": kept,
            "generator": self.generator.get_state(),
            "torch": torch.get_rng_state(),
            "numpy": {k: str(v) for k, v in _flat(self.rng.bit_generator.state).items()},
        }

    def _placed(self, module: Any) -> Any:
        split_dilated(module)
        images = len(self.task.input_shape) == 3
        return module.to(self.device, memory_format=torch.channels_last) if images else module.to(self.device)


def _flat(state: Any) -> dict[str, Any]:
    """numpy's PCG64 state as one level of a dict: its 128-bit integers travel as strings."""
    return {**state["state"], "has_uint32": state["has_uint32"], "uinteger": state["uinteger"]}


def _numpy_state(flat: dict[str, str]) -> dict[str, Any]:
    numbers = {name: int(value) for name, value in flat.items()}
    state = {name: numbers.pop(name) for name in ("state", "inc")}
    return {"bit_generator": "PCG64", "state": state, **numbers}
