"""What a training loop is made of, by the recipe: the optimiser, its learning rate, averaged weights, and what hangs on
a model only while it learns: an auxiliary head and drop path."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .errors import ConfigError

if TYPE_CHECKING:
    from .task import Recipe, Task


def supernet_recipe(paper: Recipe, task: Task, changes: Mapping[str, Any]) -> Recipe:
    """How a supernet's weights learn: as the strategy's paper says; but where the task's models learn by another
    optimiser than the paper's, as the task recommends. What was asked for counts above both (see `Recipe.changed`).

    Of the task's recipe count the optimiser and its settings; batches, epochs and how the rate falls are the
    strategy's own.
    """
    optimizer = changes.get("optimizer") or task.recipe.optimizer
    recommended = optimizer == task.recipe.optimizer != paper.optimizer
    return (task.recipe if recommended else paper).changed(changes)


def optimizer_of(
    weights: Iterable[Tensor], recipe: Recipe, nesterov: bool = True, fused: bool = True
) -> torch.optim.Optimizer:
    """The recipe's optimiser. Weight decay is for all weights, as in the code of DARTS and of NAS-Bench-201.

    fused: not where some weights get no gradient at first: torch's fused SGD cannot begin the momentum of one weight
    later than another's.
    """
    if recipe.optimizer != "sgd":
        adam = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
        betas = (recipe.momentum, 0.999)
        return adam(weights, recipe.learning_rate, betas, weight_decay=recipe.weight_decay, fused=True)
    return torch.optim.SGD(
        weights, recipe.learning_rate, recipe.momentum, weight_decay=recipe.weight_decay,
        nesterov=nesterov and recipe.momentum > 0, fused=fused,
    )  # fmt: skip


def learning_rate(recipe: Recipe, epoch: int, epochs: int) -> float:
    """In an epoch (from 0) of so many: a linear rise while it warms up, then what the schedule says.

    A training that is shorter than the recipe's has a warm-up that is shorter in proportion. `one_cycle` rises for 0.3
    of the epochs where the recipe does not say for how many (Smith, Topin 2018, "Super-Convergence"; falling by a
    cosine, as PyTorch's).
    """
    rise = recipe.warmup * epochs / recipe.epochs
    if recipe.schedule == "one_cycle" and not rise:
        rise = 0.3 * epochs
    if epoch < rise:
        return recipe.learning_rate * (epoch + 1) / (rise + 1)
    if recipe.schedule == "constant":
        return recipe.learning_rate
    return recipe.learning_rate * (1 + math.cos(math.pi * (epoch - rise) / (epochs - rise))) / 2


class Average:
    """The exponential moving average of a model's weights, normalisation statistics among them; a decay of 0: none.

    The model holds the weights that learn while it learns, and the averaged ones while it is judged, kept, or written
    into a checkpoint: `swap` changes over. Early on the decay is (1 + t)/(10 + t) after t steps, where that is less, so
    that the first weights are soon forgotten (as TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        tensors = model.state_dict().values() if decay else ()
        self._model = [tensor for tensor in tensors if tensor.is_floating_point()]
        self._other = [tensor.clone() for tensor in self._model]

    @torch.no_grad()
    def swap(self) -> None:
        for tensor, other in zip(self._model, self._other, strict=True):
            held = tensor.clone()
            tensor.copy_(other)
            other.copy_(held)

    @torch.no_grad()
    def update(self) -> None:
        """After each step of the optimiser."""
        if self._other:
            self.steps += 1
            decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
            torch._foreach_lerp_(self._other, self._model, 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "other": self._other}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        for tensor, kept in zip(self._other, state["other"], strict=True):
            tensor.copy_(kept)


class Auxiliary(nn.Module):
    """A second classifier that reads the model at the place that `model.auxiliary_input` names, while it learns.

    Called as the model is, after the model: then it gives the scores of what the model has just seen. The head is that
    of DARTS (its released code), but that its pooling adapts to the size: (N, C, H, W) → (N, classes).
    """

    def __init__(self, model: nn.Module, task: Task) -> None:
        super().__init__()
        place = getattr(model, "auxiliary_input", None)
        if not isinstance(place, str):
            raise ConfigError(
                f"the recipe has an auxiliary head, and the model ({type(model).__name__}) does not say where one may "
                f"read (its attribute auxiliary_input, the path of a module); leave `auxiliary` out"
            )
        self.seen: Tensor | None = None
        self.hook = model.get_submodule(place).register_forward_hook(self._see)
        device = next(model.parameters()).device
        with torch.no_grad():
            model.eval()(task.example().to(device))
        seen = self.seen
        if seen is None or seen.ndim != 4:
            raise ConfigError(f"the module {place!r} gives no images for an auxiliary head to read; leave it out")
        self.head: nn.Module = nn.Sequential(
            nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Conv2d(seen.shape[1], 128, 1, bias=False), nn.BatchNorm2d(128),
            nn.ReLU(), nn.Conv2d(128, 768, 2, bias=False), nn.BatchNorm2d(768), nn.ReLU(), nn.Flatten(),
            nn.Linear(768, task.classes),
        ).to(device)  # fmt: skip

    def _see(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.seen = output

    def forward(self, *inputs: Any) -> Tensor:
        return self.head(self.seen)  # type: ignore[no-any-return]


class DropPath:
    """Leaves paths out of the network at random, an example at a time, and scales those that stay (Larsson et al. 2017,
    "FractalNet", ICLR; as in the evaluation of NASNet and DARTS).

    The paths are what modules with a method `paths` name; those that change nothing (an identity) are never left out.
    """

    def __init__(self, model: nn.Module) -> None:
        naming = [paths for module in model.modules() if (paths := getattr(module, "paths", None))]
        paths = [path for named in naming for path in named() if not _is_identity(path)]
        if not naming:
            raise ConfigError(
                f"the recipe has drop path, and no module of the model ({type(model).__name__}) names `paths` that may "
                f"be left out; leave `drop_path` out"
            )
        self.kept = torch.ones((), device=next(model.parameters()).device)
        self.hooks = [path.register_forward_hook(self._drop) for path in paths]

    def _drop(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        if not module.training:
            return output
        draws = torch.rand((len(output), *(1,) * (output.ndim - 1)), device=output.device)
        return output * ((draws < self.kept) / self.kept).to(output.dtype)


def _is_identity(path: nn.Module) -> bool:
    return all(isinstance(part, nn.Identity) for part in path.modules() if not list(part.children()))


class Attached(nn.Module):
    """What hangs on a model only while it learns."""

    def __init__(self, model: nn.Module, task: Task, recipe: Recipe) -> None:
        super().__init__()
        self.auxiliary = Auxiliary(model, task) if recipe.auxiliary else None
        self.drop = DropPath(model) if recipe.drop_path else None

    def set_drop_path(self, rate: float) -> None:
        if self.drop is not None:
            self.drop.kept.fill_(1 - rate)

    def remove(self) -> None:
        for hook in (*([self.auxiliary.hook] if self.auxiliary else ()), *(self.drop.hooks if self.drop else ())):
            hook.remove()


@contextmanager
def attached(model: nn.Module, task: Task, recipe: Recipe) -> Iterator[Attached]:
    """Inside, the recipe's auxiliary head and drop path hang on the model; afterwards it is as it was.

    Raises ConfigError where the model does not say where they can.
    """
    extras = Attached(model, task, recipe)
    try:
        yield extras
    finally:
        extras.remove()
