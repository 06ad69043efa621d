"""A step of a dilated convolution as PyTorch computes it, and as ordinary ones of every second pixel.

Forward and backward, a batch of 64, dilation 2, channels last, one thread, after some steps that are not counted.
Seconds are the processor's, so that others who use the machine count for less.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from report import by_turns, machine, parser, print_head, print_table, ratios, spread, versions
from torch import Tensor, nn

from nasengine.device import keep_freed_memory
from nasengine.dilation import DilatedConv2d

SHAPES = [
    ("dense", 4, 3, 1), ("dense", 8, 3, 1), ("dense", 8, 5, 1), ("dense", 8, 5, 2), ("dense", 32, 5, 2),
    ("depthwise", 4, 3, 1), ("depthwise", 8, 3, 1), ("depthwise", 8, 5, 1), ("depthwise", 32, 3, 1),
    ("depthwise", 8, 5, 2), ("depthwise", 32, 5, 2),
]  # fmt: skip
"""Kind, side of the image, kernel, stride."""
CHANNELS = 32


def seconds(layer: nn.Module, x: Tensor, steps: int, repetition: int) -> float:
    """Of one step."""
    for step in range(steps + 3):
        if step == 3:
            began = time.process_time()
        layer.zero_grad()
        layer(x).sum().backward()
    return (time.process_time() - began) / steps


def layers(kind: str, kernel: int, stride: int) -> dict[str, nn.Conv2d]:
    groups = CHANNELS if kind == "depthwise" else 1
    made = {
        name: kind_of_layer(CHANNELS, CHANNELS, kernel, stride, kernel - 1, 2, groups, bias=False)
        for name, kind_of_layer in (("PyTorch's", nn.Conv2d), ("nasengine's", DilatedConv2d))
    }
    for layer in made.values():
        layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return made


def main() -> None:
    options = parser(__doc__, repetitions=5)
    options.add_argument("--steps", type=int, default=50, help="of a turn (default: %(default)s)")
    given = options.parse_args()
    repetitions, steps = (1, 2) if given.quick else (given.repetitions, given.steps)
    torch.set_num_threads(1)
    keep_freed_memory()
    facts = {
        "machine": machine(),
        "versions": versions(),
        "seeds": "none: the numbers of a layer do not change its time",
        "shapes": f"{CHANNELS} channels, batches of 64, dilation 2",
        "repetitions": f"{repetitions}, by turns, {steps} steps each; median (min–max)",
    }
    print_head("Dilated convolutions: forward and backward", facts, given.markdown)
    rows = []
    for kind, side, kernel, stride in SHAPES:
        x = torch.randn(64, CHANNELS, side, side).contiguous(memory_format=torch.channels_last).requires_grad_()
        cases: dict[str, Callable[[int], float]] = {
            name: partial(seconds, layer, x, steps) for name, layer in layers(kind, kernel, stride).items()
        }
        results = by_turns(cases, repetitions)
        reference = results["PyTorch's"]
        for name, values in results.items():
            what = f"{kind} {kernel}×{kernel}, stride {stride}, {side}×{side}"
            rows.append([what, name, spread([1000 * value for value in values]), spread(ratios(reference, values))])
    print_table(["convolution", "computed as", "ms a step", "speed, × PyTorch's"], rows, given.markdown)


if __name__ == "__main__":
    main()
