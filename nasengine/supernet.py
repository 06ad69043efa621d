"""What `choose` builds: every option between gates (the supernet), or only what was picked (a plain model).

Both nest their modules under the options' names, so parameter names agree and a model inherits a supernet's weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .architecture import Architecture, Pick
from .decision import Decision
from .domain import Domain
from .errors import SpaceError
from .partial import narrow, partly
from .sharing import shared, sharing
from .widths import inherited


class Gate:
    """How much each option of a decision counts, set by a strategy and shared by all places where the decision is met.

    weights: shape (options,), or None where every active option counts fully.
    active: the indices of the options that are computed at all.
    """

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self.used = decision.kind != "value" or decision.count == 1
        self.weights: Tensor | None = None
        self.active: tuple[int, ...] = ()
        self.open()

    def open(self) -> None:
        """Every option counts the same: 1/n each; all of a k-of-n choice."""
        n = len(self.decision.options)
        self.set(None if self.decision.kind == "some" else torch.full((n,), 1 / n, device="cpu"))

    def set(self, weights: Tensor | None, active: Sequence[int] | None = None) -> None:
        """Soft weights (they may carry gradients), over all options unless `active` names the ones to compute."""
        self.weights = weights
        self.active = tuple(range(len(self.decision.options))) if active is None else tuple(active)

    def pick(self, pick: Pick) -> None:
        """Exactly what the pick keeps, as in a model of its own."""
        self.set(None, self.decision.indices(pick))

    def scale(self, index: int, value: Tensor) -> Tensor:
        return value if self.weights is None else value * self.weights[index].to(value)

    def mix(self, values: Mapping[int, Tensor]) -> Tensor:
        """The weighted sum of the active options' values."""
        total: Tensor | None = None
        for index, value in values.items():
            if total is None:
                total = self.scale(index, value)
            elif self.weights is None:
                total = total + value
            else:
                total = torch.addcmul(total, value, self.weights[index].to(value))
        if total is None:
            raise SpaceError(f"no option of the decision {self.decision.name!r} is active")
        return total


class _Options(nn.Module):
    """Modules under their options' names; `gate` is None in a plain model."""

    def __init__(self, decision: Decision, kept: Mapping[int, nn.Module], gate: Gate | None) -> None:
        super().__init__()
        self.names = {index: str(decision.options[index]) for index in kept}
        self.gate = gate
        for index, module in kept.items():
            try:
                self.add_module(self.names[index], module)
            except KeyError as error:
                name, why = self.names[index], error.args[0]
                raise SpaceError(f"the decision {decision.name!r} cannot have an option {name!r}: {why}") from None

    def option(self, index: int) -> nn.Module:
        return self.get_submodule(self.names[index])

    @property
    def active(self) -> tuple[int, ...]:
        return tuple(self.names) if self.gate is None else self.gate.active


class One(_Options):
    """One of n modules, or their weighted sum."""

    partial = 1
    """1/partial of the channels pass the options; see `Supernet.pass_partially`."""

    def forward(self, *inputs: Any, **named: Any) -> Any:
        if self.partial > 1:
            return partly(self._mixed, inputs[0], self.partial)
        return self._mixed(*inputs, **named)

    def _mixed(self, *inputs: Any, **named: Any) -> Any:
        if self.gate is None or (self.gate.weights is None and len(self.active) == 1):
            return self.option(self.active[0])(*inputs, **named)
        # an option that only gives zeros costs nothing in a sum that has another term
        active = [i for i in self.active if not getattr(self.option(i), "gives_zero", False)] or self.active[:1]
        return self.gate.mix({index: shared(self.option(index), *inputs, **named) for index in active})


class Several(_Options):
    """k of n modules, or all of them with their weights."""

    def items(self) -> Iterator[tuple[str, Callable[..., Any]]]:
        """The names and modules kept, in the space's order."""
        for index in self.active:
            option = self.option(index)
            weighted = self.gate is not None and self.gate.weights is not None
            yield self.names[index], (_Weighted(option, self.gate, index) if weighted and self.gate else option)

    def shares(self) -> dict[str, Tensor | float]:
        """How much each kept option counts, by name: 1 in a plain model; in a supernet its weight, or k/n of n."""
        weights = None if self.gate is None else self.gate.weights
        if weights is not None:
            return {self.names[index]: weights[index] for index in self.active}
        even = 1.0 if self.gate is None else min(1.0, self.gate.decision.k / len(self.active))
        return {self.names[index]: even for index in self.active}

    def forward(self, *inputs: Any) -> Any:
        raise SpaceError("a k-of-n choice is not called: loop over its items() and merge what they give")


class _Weighted:
    """One kept option of k, times its weight."""

    def __init__(self, option: nn.Module, gate: Gate, index: int) -> None:
        self.option, self.gate, self.index = option, gate, index

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        return self.gate.scale(self.index, shared(self.option, *inputs, **named))


class Depth(nn.Module):
    """The first d of n layers, or the weighted sum of what comes out after each possible d."""

    def __init__(self, layers: Sequence[nn.Module], gate: Gate | None) -> None:
        super().__init__()
        self.gate = gate
        for index, layer in enumerate(layers):
            self.add_module(str(index), layer)

    def shares(self) -> list[Tensor | float]:
        """How much each layer counts: 1 in a plain model; in a supernet the weight of all depths that reach it."""
        if self.gate is None:
            return [1.0 for _ in self.children()]
        gate, depths = self.gate, self.gate.decision.options
        one = 1.0 if gate.weights is None else torch.ones((), device=gate.weights.device)
        counts: list[Tensor | float] = []
        for layer, _ in enumerate(self.children()):
            reached = [index for index in gate.active if int(depths[index]) > layer]
            counts.append(sum((one if gate.weights is None else gate.weights[i] for i in reached), start=0.0 * one))
        return counts

    def forward(self, value: Any, *rest: Any) -> Any:
        if self.gate is None:
            for layer in self.children():
                value = layer(value, *rest)
            return value
        wanted = {int(self.gate.decision.options[index]): index for index in self.gate.active}
        outputs: dict[int, Any] = {}
        layers = list(self.children())
        for depth in range(max(wanted) + 1):
            if depth > 0:
                value = layers[depth - 1](value, *rest)
            if depth in wanted:
                outputs[wanted[depth]] = value
        return self.gate.mix(outputs)


class Supernet(nn.Module):
    """A space's network with every option built, and a gate for every decision."""

    def __init__(self, module: nn.Module, domain: Domain, gates: Mapping[str, Gate]) -> None:
        super().__init__()
        self.module = module
        self.domain = domain
        self.gates = gates

    def forward(self, *inputs: Any, **named: Any) -> Any:
        with sharing():
            return self.module(*inputs, **named)

    def pick(self, architecture: Architecture) -> None:
        """Sets every gate to exactly this architecture."""
        self.domain.validate(architecture)
        for name, gate in self.gates.items():
            if name in architecture.picks:
                gate.pick(architecture.picks[name])
            else:  # so that nothing depends on what was picked before
                gate.open()

    def freeze_affine(self) -> None:
        """Stops batch normalisation inside options from learning a scale, which would undo the gates' weights.

        (DARTS, appendix A.1: no learnable affine parameters while searching.) The parameters stay in place, at one
        and zero, so that names still agree with a plain model.
        """
        for mixed in self.modules():
            if isinstance(mixed, _Options):
                for module in mixed.modules():
                    if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
                        module.weight.requires_grad_(False)
                        module.bias.requires_grad_(False)

    def pass_partially(self, k: int, example: Any) -> int:
        """Lets only 1/k of the channels through the options of each one-of-n choice; the others go by, and all are
        shuffled (Xu et al. 2020, section 3.2). How many choices that could be done with.

        Options are made anew, k times as narrow, so a plain model cannot inherit from the supernet any more. Choices
        stay as they are where the channels are not divisible by k or chosen themselves, where an option changes their
        number or is made of other layers than torch's convolutions, batch normalisations, poolings and activations,
        and where no option has parameters. example: an input, on the supernet's device.
        """
        choices = [module for module in self.modules() if isinstance(module, One) and module.gate is not None]
        return narrow(self, choices, k, example) if k != 1 else len(choices)


def inherit(model: nn.Module, supernet: Supernet) -> None:
    """Gives a plain model the supernet's weights. Where the model is narrower, it takes the leading channels, and the
    middle of a kernel.

    Raises SpaceError where a tensor of the model has no counterpart: the space's `build` depends on something other
    than its choices.
    """
    source = supernet.module.state_dict()
    tensors = {}
    for name, tensor in model.state_dict().items():
        found = None
        if name in source:
            found = inherited(name, model, supernet.module, source[name], tensor.shape)
        if found is None:
            raise SpaceError(f"the model's tensor {name!r} {tuple(tensor.shape)} has no counterpart in the supernet")
        tensors[name] = found
    model.load_state_dict(tensors)
