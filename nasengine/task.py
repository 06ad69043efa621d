"""Task: the data and what good means; Recipe: how its models are trained."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from .errors import ConfigError, TrainingDiverged
from .plugin import Plugin

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from .context import Context
    from .evaluator import Fidelity

Batch: TypeAlias = Any
Split: TypeAlias = Literal["train", "valid", "test"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is trained from scratch: SGD with Nesterov momentum.

    schedule: the learning rate falls to zero by a `cosine`, or stays `constant`.
    epochs: at most; early stopping may end sooner. gradient_clip: the largest norm of the gradient, 0 for none.
    search_epochs: how long a one-shot strategy learns in a supernet, unless it is told.
    """

    epochs: int = 30
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 3e-4
    gradient_clip: float = 5.0
    search_epochs: int = 50
    schedule: Literal["cosine", "constant"] = "cosine"


class Task(Plugin, ABC):
    """Data in three separate parts, a loss, metrics, and a recipe.

    A search reads `train` and `valid`. The engine reads `test` once, when the search is over.
    """

    input_shape: tuple[int, ...]
    """The shape of one example, without the batch: (channels, height, width) for images."""
    classes: int
    recipe: Recipe = Recipe()
    objectives: tuple[str, ...] = ("accuracy:max",)
    scales: ClassVar[frozenset[str]] = frozenset({"epochs", "data"})
    """The fields of Fidelity that the task can scale; asking for another is refused before the run."""
    found: str = ""
    """What data was found, in a sentence, for people."""

    def to(self, device: torch.device) -> None:
        """Puts the data where training will read it."""

    @abstractmethod
    def train_batches(
        self, batch_size: int, generator: torch.Generator, part: tuple[float, float] = (0.0, 1.0)
    ) -> Iterator[Batch]:
        """The training data once, shuffled by the generator. `part` limits it to the examples between two fractions
        of the whole, always the same ones, classes balanced: DARTS takes (0, 0.5) and (0.5, 1)."""

    @abstractmethod
    def valid_batches(self) -> Iterator[Batch]:
        """The validation data once, in order."""

    @abstractmethod
    def test_batches(self) -> Iterator[Batch]:
        """The test data once, in order."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The scalar to minimise, the mean over the batch."""

    @abstractmethod
    def metrics(self, model: nn.Module, split: Split) -> Mapping[str, float]:
        """What the model is worth on a split, in evaluation mode."""

    def example(self) -> Any:
        """What a model is called with, as a batch of two on the CPU: for export and for checks. Default: noise."""
        import torch

        return torch.randn(2, *self.input_shape, generator=torch.Generator().manual_seed(0))

    def description(self) -> dict[str, Any]:
        """What a user of an exported model must know: shapes, classes, how inputs are prepared. JSON values."""
        return {"input_shape": list(self.input_shape), "classes": self.classes}

    def fit(
        self, model: nn.Module, fidelity: Fidelity, context: Context, recipe: Recipe | None = None
    ) -> Iterator[Mapping[str, float]]:
        """Trains the model by the recipe; yields the validation metrics and `train_loss` after each epoch.

        Raises TrainingDiverged where the loss is not finite. Override it where training is special.
        """
        import torch

        recipe = recipe or self.recipe
        epochs = fidelity.epochs or recipe.epochs
        optimizer = torch.optim.SGD(
            model.parameters(), recipe.learning_rate, recipe.momentum, weight_decay=recipe.weight_decay,
            nesterov=recipe.momentum > 0, fused=True,
        )  # fmt: skip
        schedule: torch.optim.lr_scheduler.LRScheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        if recipe.schedule == "constant":
            schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
        context.keep(model=model, optimizer=optimizer, schedule=schedule)
        for epoch in context.epochs(epochs):
            model.train()
            total = torch.zeros((), device=context.device)
            batches = 0
            for batch in self.train_batches(recipe.batch_size, context.generator, part=(0.0, fidelity.data)):
                loss = self.loss(model, batch)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                if recipe.gradient_clip:
                    torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_clip)
                optimizer.step()
                total += loss.detach()
                batches += 1
            schedule.step()
            mean = total.item() / max(batches, 1)
            if not math.isfinite(mean):
                raise TrainingDiverged(f"the training loss is {mean} in epoch {epoch + 1}")
            yield {"train_loss": mean, **self.metrics(model, "valid")}

    def check(self, fidelity: Fidelity) -> None:
        """Raises ConfigError where the fidelity scales something that this task cannot."""
        for name, value in fidelity.to_dict().items():
            if value not in (None, 1.0) and name not in self.scales:
                can = ", ".join(sorted(self.scales))
                raise ConfigError(
                    f"the task {self.known_as!r} cannot scale {name} (asked for {value}); it can scale: {can}"
                )
