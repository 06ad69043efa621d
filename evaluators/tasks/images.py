"""The user's own images, in the format that they come in."""

from __future__ import annotations

from functools import cached_property

from nasengine import ConfigError, Recipe

from ..data import formats
from ..data.images import ImageSplits
from .classification import ImageClassification


class Images(ImageClassification):
    """Your own images: image folders, an .npz file, IDX files (MNIST and its kin), or binary CIFAR.

    The format is detected. A validation or test part that comes with the data is used as it is; one that does not is
    drawn from the training part, the same fraction of every class. Nothing is ever unpickled.

    Options:
        path: the folder, or the .npz file.
        valid: the fraction of the training data to validate on, where the data has no validation part.
        test: the fraction of the training data to test on, where the data has no test part.
        size: height and width to resize all images to; without it, images of various sizes get the median ones.
        split_seed: which random split; the same one for every run unless you change it.
        classes: how many of the classes, in their order: fewer make a simpler task, a proxy for the whole.

    With fewer than 2,048 training images its recipe has batches that are 16 to an epoch, of 16 images or more, and a
    learning rate that is as much smaller.
    """

    family = "CNN"

    def __init__(
        self,
        *,
        path: str,
        valid: float = 0.2,
        test: float = 0.2,
        size: int | None = None,
        split_seed: int = 0,
        classes: int | None = None,
    ) -> None:
        for name, fraction in (("valid", valid), ("test", test)):
            if not 0 < fraction < 1:
                raise ConfigError(f"the task 'images' has {name} = {fraction}; expected a fraction between 0 and 1")
        if valid + test >= 1:
            raise ConfigError(
                f"the task 'images' has valid = {valid} and test = {test}; expected less than 1 together, so that "
                f"something is left for training"
            )
        if size is not None and size < 1:
            raise ConfigError(f"the task 'images' has size = {size}; expected 1 or more pixels")
        if split_seed < 0:
            raise ConfigError(f"the task 'images' has split_seed = {split_seed}; expected 0 or more")
        self.path, self.valid, self.test, self.size, self.split_seed = path, valid, test, size, split_seed
        self.kept = classes

    @cached_property
    def recipe(self) -> Recipe:  # type: ignore[override]
        """Batches of 128, where that is 16 steps an epoch or more; else smaller ones, the learning rate in proportion
        (Goyal et al. 2017, "Accurate, Large Minibatch SGD", section 2.1)."""
        size = next((size for size in (128, 64, 32) if len(self.splits.train) >= 16 * size), 16)
        return Recipe(epochs=30, batch_size=size, learning_rate=0.1 * size / 128)

    def read(self) -> ImageSplits:
        splits = formats.splits(self.path, self.size, self.split_seed, self.valid, self.test)
        return splits if self.kept is None else splits.first(self.kept)
