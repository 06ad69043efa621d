"""A small classifier of the training data, trained once and then frozen: what it sees in an image are its features.

Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule", NeurIPS, section 4, take those of an ImageNet
classifier, which knows nothing of 8×8 digits.
"""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

FEATURES = 64
STEPS = (500, 2000)
"""At least, and at most; else twenty times through the data."""
BATCH = 64
VERSION = 2
"""Part of a cached classifier's name: it changes where the network, or how it is trained, does."""


class FeatureNetwork(nn.Module):
    """Images between −1 and 1, (N, C, H, W), to scores; `features` gives what they are read off, (N, 64), in units of
    its root mean square on the training data."""

    scale: Tensor

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()

        def layer(before: int, after: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU())

        self.body = nn.Sequential(
            layer(channels, 32), layer(32, 32), nn.MaxPool2d(2), layer(32, 64), nn.AdaptiveMaxPool2d(3), nn.Flatten(),
            nn.Linear(64 * 9, FEATURES), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(FEATURES, classes)
        self.register_buffer("scale", torch.ones(()))

    def features(self, images: Tensor) -> Tensor:
        return self.body(images) / self.scale  # type: ignore[no-any-return]

    def scores(self, features: Tensor) -> Tensor:
        return self.head(features * self.scale)  # type: ignore[no-any-return]

    def forward(self, images: Tensor) -> Tensor:
        return self.scores(self.features(images))


def feature_network(images: Tensor, labels: Tensor, classes: int) -> FeatureNetwork:
    """The classifier of this training data: from the user's cache (XDG_CACHE_HOME, else ~/.cache), or trained now."""
    path = _cache() / f"{_name(images, labels)}.safetensors"
    network = _blank(images.shape[1], classes)
    with suppress(Exception):  # a file that is missing or damaged is made again
        from safetensors.torch import load

        network.load_state_dict(load(path.read_bytes()))
        return network.eval().requires_grad_(False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several are slower on so small a network, and give another one
    try:
        network = _trained(images, labels, classes)
    finally:
        torch.set_num_threads(threads)
    with suppress(OSError):  # without a cache it is trained each time
        _keep(path, network.state_dict())
    return network


def _blank(channels: int, classes: int) -> FeatureNetwork:
    """Without values: those that torch draws would be missing from the trial's own chance."""
    with torch.device("meta"):
        network = FeatureNetwork(channels, classes)
    return network.to_empty(device="cpu")


def _trained(images: Tensor, labels: Tensor, classes: int) -> FeatureNetwork:
    network, generator = _blank(images.shape[1], classes), torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    steps = min(max(20 * len(images) // BATCH, STEPS[0]), STEPS[1])
    network.scale.fill_(1.0)
    adam = torch.optim.Adam(network.parameters())
    network.train()
    with torch.enable_grad():
        for step in range(steps):
            adam.param_groups[0]["lr"] = 3e-3 * math.sin(math.pi * (step + 1) / (steps + 1))
            chosen = torch.randint(len(images), (BATCH,), generator=generator)
            right, down = torch.randint(-1, 2, (2,), generator=generator).tolist()
            moved = functional.pad(images[chosen], (1, 1, 1, 1), value=-1.0)
            height, width = images.shape[2:]
            moved = moved[:, :, 1 + down : 1 + down + height, 1 + right : 1 + right + width]
            adam.zero_grad()
            functional.cross_entropy(network(moved), labels[chosen]).backward()  # type: ignore[no-untyped-call]
            adam.step()
    network.eval().requires_grad_(False)
    squares = torch.cat([network.features(some).square().mean(1) for some in images.split(BATCH)])  # type: ignore[no-untyped-call]
    network.scale.copy_(squares.mean().sqrt())
    return network


def _name(images: Tensor, labels: Tensor) -> str:
    content = hashlib.sha256(f"{VERSION} {tuple(images.shape)}".encode())
    content.update(images.numpy().tobytes())
    content.update(labels.numpy().tobytes())
    return content.hexdigest()[:32]


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "nasengine" / "features"


def _keep(path: Path, state: Mapping[str, Tensor]) -> None:
    """Whole or not at all: others may read it, or be writing it, now."""
    from safetensors.torch import save

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(save(dict(state)))
    os.replace(file.name, path)
