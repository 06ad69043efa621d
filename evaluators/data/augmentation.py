"""Augmentation in whole batches, on the device where the images are: no loop over images, one draw a batch.

`crop` and `flip` as for CIFAR in He et al. 2016 ("Deep Residual Learning", section 4.2): moved by up to an eighth of
the side (4 pixels of 32), what comes in from outside is of value zero, mirrored in half of the cases. `cutout` of
DeVries and Taylor 2017: a square of half the side (16 of 32), its centre anywhere in the image, is set to the data's
mean. `mixup` of Zhang et al. 2018: pairs of images and labels are mixed, by a share that is uniform between 0 and 1
(their α = 1), one a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from nasengine import ConfigError

NAMES = ("crop", "flip", "cutout", "mixup")


def chosen(text: str, channels: int) -> tuple[str, ...]:
    """The augmentations that a text such as `crop+flip` names; `auto` means crop for images in colour, none for grey
    ones (which are often letters and digits, centred by who made the data). Raises ConfigError."""
    if text in ("auto", "none"):
        return ("crop",) if text == "auto" and channels > 1 else ()
    names = tuple(name.strip() for name in text.split("+"))
    if unknown := [name for name in names if name not in NAMES]:
        raise ConfigError(f"there is no augmentation {unknown[0]!r}; expected {', '.join(NAMES)}, or none, or auto")
    return names


def augmented(images: Tensor, names: tuple[str, ...], outside: Tensor, generator: torch.Generator) -> Tensor:
    """The images, (N, C, H, W), cropped, flipped and cut out as named. outside: a pixel beyond them, (1, C, 1, 1)."""
    count, _, height, width = images.shape
    draws = torch.rand(5, count, generator=generator).to(images.device)
    if "crop" in names or "flip" in names:
        reach = (height // 8, width // 8) if "crop" in names else (0, 0)
        down, right = ((draw * (2 * most + 1)).long() - most for draw, most in zip(draws[:2], reach, strict=True))
        mirrored = (draws[2] < 0.5) if "flip" in names else torch.zeros_like(down, dtype=torch.bool)
        images = moved(images, down, right, mirrored, reach, outside)
    if "cutout" in names:
        row, column = (draws[3] * height).long(), (draws[4] * width).long()
        images = cut_out(images, row, column, (height // 2, width // 2))
    return images


def moved(
    images: Tensor, down: Tensor, right: Tensor, mirrored: Tensor, reach: tuple[int, int], outside: Tensor
) -> Tensor:
    """Each image moved by its own number of pixels, (N,) whole numbers from −reach to reach, then mirrored where it
    says so: one gathering of pixels."""
    count, channels, height, width = images.shape
    above, left = reach
    padded = images
    if above or left:
        padded = outside.expand(count, channels, height + 2 * above, width + 2 * left).contiguous(
            memory_format=torch.channels_last
        )
        padded[:, :, above : above + height, left : left + width] = images
    rows = torch.arange(height, device=images.device) + above - down[:, None]
    columns = torch.arange(width, device=images.device) + left - right[:, None]
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    each = torch.arange(count, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cut_out(images: Tensor, row: Tensor, column: Tensor, size: tuple[int, int]) -> Tensor:
    """A rectangle of each image set to zero, from `size` // 2 pixels before its centre on; part may be outside."""

    def covered(centre: Tensor, side: int, length: int) -> Tensor:
        first = centre[:, None] - length // 2
        places = torch.arange(side, device=images.device)
        return (places >= first) & (places < first + length)

    down = covered(row, images.shape[2], size[0])[:, None, :, None]
    across = covered(column, images.shape[3], size[1])[:, None, None, :]
    return images.masked_fill(down & across, 0.0)


def mixed(images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images, (N, C, H, W), and targets, (N, classes), each mixed with another of the batch."""
    share = float(torch.rand((), generator=generator))
    other = torch.randperm(len(images), generator=generator).to(images.device)
    return torch.lerp(images[other], images, share), torch.lerp(targets[other], targets, share)


def smoothed(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """Labels, (N,), as probabilities, (N, classes), a share of each spread evenly over all classes."""
    return functional.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes
