"""Task: the data and what good means; Recipe: how its models are trained."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias

from .errors import ConfigError, TrainingDiverged
from .plugin import Plugin

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from .context import Context
    from .evaluator import Fidelity

Batch: TypeAlias = Any
Split: TypeAlias = Literal["train", "valid", "test"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is trained from scratch; the defaults: SGD with Nesterov momentum, the rate falling by a cosine.

    epochs: at most; early stopping may end sooner. patience: epochs without a better validation result after which it
    does; 0 for never. gradient_clip: the largest norm of the gradient, 0 for none.
    search_epochs: how long a one-shot strategy learns in a supernet, unless it is told.
    schedule: of the learning rate, epoch by epoch: it falls to zero by a `cosine`, rises before by `one_cycle`, or
    stays `constant`. warmup: the epochs in which it rises at the beginning. momentum: SGD's, or the first of Adam's
    betas. weight_decay: a term of the loss for `sgd` and `adam`; `adamw` takes it off the weights.
    label_smoothing: the share of each label that is spread over all classes. augment: names that the task knows, joined
    by +; `none`; `auto` for what the task holds to be right for its data. ema: the decay of a moving average of the
    weights, which is then what is judged and kept; 0 for none.
    auxiliary: the weight of an auxiliary head's loss, and drop_path: the rate, reached at the end, at which paths are
    left out; both for models that say where. precision: of the training; the model is judged and kept in float32.
    compile: whether the model is compiled for its training.

    Raises ConfigError for numbers and names that cannot be.
    """

    epochs: int = 30
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 3e-4
    gradient_clip: float = 5.0
    search_epochs: int = 50
    schedule: Literal["cosine", "one_cycle", "constant"] = "cosine"
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    warmup: int = 0
    label_smoothing: float = 0.0
    augment: str = "auto"
    ema: float = 0.0
    auxiliary: float = 0.0
    drop_path: float = 0.0
    precision: Literal["float32", "bf16"] = "float32"
    compile: bool = False
    patience: int = 5

    def __post_init__(self) -> None:
        for name, allowed in NAMES_IN_A_RECIPE.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"the recipe has {name} = {getattr(self, name)!r}; expected {' or '.join(allowed)}")
        for name in ("epochs", "batch_size", "learning_rate", "search_epochs"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"the recipe has {name} = {getattr(self, name)}; expected a positive number")
        for name in ("weight_decay", "gradient_clip", "warmup", "auxiliary", "patience"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"the recipe has {name} = {getattr(self, name)}; expected 0 or more")
        for name in ("momentum", "label_smoothing", "ema", "drop_path"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"the recipe has {name} = {getattr(self, name)}; expected at least 0, less than 1")
        if self.warmup > self.epochs:
            raise ConfigError(f"the recipe has warmup = {self.warmup}; expected at most its epochs, {self.epochs}")

    def changed(self, changes: Mapping[str, Any]) -> Recipe:
        """With what is asked for, None asking for nothing. Another optimiser comes with what is usual for it."""
        asked = {name: value for name, value in changes.items() if value is not None}
        optimizer = asked.get("optimizer", self.optimizer)
        usual = USUAL.get(optimizer, {}) if optimizer != self.optimizer else {}
        return replace(self, **{**usual, **asked})


@dataclass(frozen=True, slots=True)
class Input:
    """One example from a user's file. values: what a model is called with, without the batch. label: the name of its
    class, where the file tells it."""

    name: str
    values: Any
    label: str | None = None


NAMES_IN_A_RECIPE: Mapping[str, tuple[str, ...]] = {
    "schedule": ("cosine", "one_cycle", "constant"),
    "optimizer": ("sgd", "adam", "adamw"),
    "precision": ("float32", "bf16"),
}


USUAL: Mapping[str, Mapping[str, float]] = {
    "sgd": {"learning_rate": Recipe().learning_rate, "weight_decay": Recipe().weight_decay},
    "adam": {"learning_rate": 0.003, "weight_decay": 0.0},
    "adamw": {"learning_rate": 0.003, "weight_decay": 0.05},
}
"""What an optimiser is used with, where a recipe is for another one."""


class Task(Plugin, ABC):
    """Data in three separate parts, a loss, metrics, and a recipe.

    A search reads `train` and `valid`. The engine reads `test` once, when the search is over.
    """

    input_shape: tuple[int, ...]
    """The shape of one example, without the batch: (channels, height, width) for images."""
    classes: int
    family: ClassVar[str] = ""
    """The models that learn it: `CNN`, `GNN`, `GAN` or a word of your own, as a literal; empty where any may."""
    recipe: Recipe = Recipe()
    objectives: tuple[str, ...] = ("accuracy:max",)
    metric_names: tuple[str, ...] = ()
    """What `metrics`, and `fit` beside it, report. Where it is said, an objective that is none of it is refused before
    the run, rather than found missing after it."""
    scales: ClassVar[frozenset[str]] = frozenset({"epochs", "data"})
    """Which of the fidelity's `epochs`, `data` and `resolution` the task can scale; the others are refused before the
    run. One that can scale `resolution` has `at`."""
    exports: ClassVar[tuple[str, ...]] = ("py", "onnx", "safetensors")
    """The formats that `nas export` can write a trained model in, the most useful first."""
    found: str = ""
    """What data was found, in a sentence, for people."""
    _full_shape: tuple[int, ...] | None = None

    @property
    def full_shape(self) -> tuple[int, ...]:
        """The `input_shape` at full resolution. By it a space that fits itself to the images chooses depth, widths and
        strides: a fidelity of smaller images then trains the same network."""
        return self._full_shape or tuple(self.input_shape)

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
        """What a model is called with, as a batch of two on the CPU: for export, for checks, and to count with.
        Default: noise. What is no tensor is taken for one example, and needs `to` and `nbytes`, as a tensor has."""
        import torch

        return torch.randn(2, *self.input_shape, generator=torch.Generator().manual_seed(0))

    def examples(self) -> Sequence[Any]:
        """What a model may be called with, in different sizes, `example` first: those in which they differ may be any
        in an exported model, which must give on each what the model gives. Default: batches of two and of three, where
        the example is a tensor. It may be a dataclass that holds tensors: these are the exported model's inputs, by
        their names, and what else it has must follow from them."""
        from .inputs import of_other_sizes

        return of_other_sizes(self.example())

    def rows(self, batch: Batch) -> Tensor:
        """Which rows of the first tensor that a model is called with are each example's, (examples, most), −1 where it
        has fewer: for judgements that hold a batch's examples against each other. Default: each row is an example."""
        import torch

        from .inputs import tensors_of

        first = next(iter(tensors_of(batch[0]).values()))
        return torch.arange(len(first), device=first.device).unsqueeze(1)

    def inputs(self, count: int, generator: torch.Generator) -> Tensor:
        """What a model is called with to make so many examples, where models make some: for `nas dissect`. Default:
        normal numbers of the shape that `example` has."""
        import torch

        return torch.randn(count, *self.example().shape[1:], generator=generator)

    def segments(self, images: Tensor) -> Mapping[str, Tensor]:
        """What is where in images (N, C, H, W) that a model made: by name, (N, H, W) of yes and no, always the same
        names. Raises ConfigError where the task cannot tell."""
        raise ConfigError(
            f"the task {self.known_as!r} cannot tell what is where in images; give a function that can, as "
            f"--segmenter ./mine.py:segments"
        )

    def description(self) -> dict[str, Any]:
        """What a user of an exported model must know: shapes, classes, how inputs are prepared. JSON values."""
        return {"input_shape": list(self.input_shape), "classes": self.classes}

    def pictures(self, model: nn.Module) -> Mapping[str, NDArray[np.uint8]]:
        """What a trained model does, to look at: by name, arrays of bytes, (height, width), or (height, width, 3) in
        colour. Made on the CPU for the model that a run has found; here: none."""
        return {}

    @classmethod
    def read_inputs(cls, path: Path, about: Mapping[str, Any]) -> Iterator[Input]:
        """What a trained model is to judge, from a user's file or folder, prepared as `about` says: the `description`
        of the task that the model was trained on, maybe elsewhere.

        Raises DataError for files that cannot be read, ConfigError where there is no reading them: here, always.
        """
        raise ConfigError(
            "models of this kind of task cannot be given files to judge; call them from Python: "
            "nasengine.Run(FOLDER).best_model()"
        )

    def augment(self, batch: Batch, recipe: Recipe, generator: torch.Generator) -> Batch:
        """A training batch as the recipe wants it: augmented, its labels smoothed. Here: as it is.

        Raises ConfigError where the recipe asks for more than the task can.
        """
        if recipe.augment not in ("auto", "none") or recipe.label_smoothing:
            raise ConfigError(
                f"the task {self.known_as!r} can neither augment its data nor smooth labels; the recipe has augment = "
                f"{recipe.augment!r} and label_smoothing = {recipe.label_smoothing}"
            )
        return batch

    def fit(
        self, model: nn.Module, fidelity: Fidelity, context: Context, recipe: Recipe | None = None
    ) -> Iterator[Mapping[str, float]]:
        """Trains the model by the recipe; yields the validation metrics and `train_loss` after each epoch.

        Raises TrainingDiverged where the loss is not finite. Override it where training is special.
        """
        import torch

        from .training import Average, attached, learning_rate, optimizer_of

        recipe = recipe or self.recipe
        epochs = fidelity.epochs or recipe.epochs
        with attached(model, self, recipe) as extras:
            weights = [*model.parameters(), *extras.parameters()]
            optimizer = optimizer_of(weights, recipe)
            average = Average(model, recipe.ema)
            context.keep(model=model, optimizer=optimizer, average=average, extras=extras)
            learner: Any = torch.compile(model) if recipe.compile else model
            for epoch in context.epochs(epochs):
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(recipe, epoch, epochs)
                extras.set_drop_path(recipe.drop_path * epoch / epochs)
                average.swap()
                model.train()
                total = torch.zeros((), device=context.device)
                batches = 0
                for given in self.train_batches(recipe.batch_size, context.generator, part=(0.0, fidelity.data)):
                    batch = self.augment(given, recipe, context.generator)
                    with torch.autocast(context.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
                        loss = self.loss(learner, batch)
                        if extras.auxiliary is not None:
                            loss = loss + recipe.auxiliary * self.loss(extras.auxiliary, batch)
                    optimizer.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    if recipe.gradient_clip:
                        torch.nn.utils.clip_grad_norm_(weights, recipe.gradient_clip)
                    optimizer.step()
                    average.update()
                    total += loss.detach()
                    batches += 1
                average.swap()
                mean = total.item() / max(batches, 1)
                if not math.isfinite(mean):
                    raise TrainingDiverged(f"the training loss is {mean} in epoch {epoch + 1}")
                yield {"train_loss": mean, **self.metrics(model, "valid")}

    def check_recipe(self, recipe: Recipe, shape: Callable[[], nn.Module]) -> None:
        """Called before a run that trains by another recipe than the task's. Raises ConfigError where it asks for what
        this task cannot, or its networks cannot: `shape` makes one, on torch's `meta` device."""
        import torch

        from .training import attached

        if recipe.label_smoothing or recipe.augment not in ("auto", "none"):
            generator = torch.Generator().manual_seed(0)
            self.augment(next(iter(self.train_batches(2, generator))), recipe, generator)
        if recipe.auxiliary or recipe.drop_path:
            with attached(shape(), self, recipe):
                pass

    def at(self, resolution: int) -> Self:
        """The task with images of that height and width. Raises ConfigError where they would be larger."""
        raise NotImplementedError

    def at_fidelity(self, fidelity: Fidelity) -> Self:
        """The task at the fidelity's resolution, which remembers its own; itself where the fidelity says none. Raises
        ConfigError."""
        if fidelity.resolution is None:
            return self
        smaller = self.at(fidelity.resolution)
        smaller._full_shape = self.full_shape
        return smaller

    def check(self, fidelity: Fidelity) -> None:
        """Raises ConfigError where the fidelity scales something that this task cannot."""
        for name, value in fidelity.reductions.items():
            if name in ("epochs", "data", "resolution") and name not in self.scales:
                can = ", ".join(sorted(self.scales))
                raise ConfigError(
                    f"the task {self.known_as!r} cannot scale {name} (asked for {value}); it can scale: {can}"
                )
