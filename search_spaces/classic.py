"""Classic networks as points of the chain space, each in a space that leaves open what one would search around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nasengine import Architecture

if TYPE_CHECKING:
    from .chain import ChainSpace

VGG = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
"""Layers a stage (Simonyan and Zisserman 2015, table 1: configurations A, B, D and E)."""

BASIC = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
BOTTLENECK = {"resnet50": (3, 4, 6, 3)}
"""Blocks a stage (He et al. 2016, "Deep Residual Learning for Image Recognition", table 1)."""


def references(chain: type[ChainSpace]) -> Mapping[str, Architecture]:
    return {
        "softmax_regression": perceptron(chain, ()),
        "mlp": perceptron(chain, (300, 100)),
        "lenet5": lenet5(chain),
        **{name: vgg(chain, layers) for name, layers in VGG.items()},
        **{name: resnet(chain, blocks, bottleneck=False) for name, blocks in BASIC.items()},
        **{name: resnet(chain, blocks, bottleneck=True) for name, blocks in BOTTLENECK.items()},
        "densenet40": densenet40(chain),
    }


def _point(space: ChainSpace, picks: Mapping[str, Any]) -> Architecture:
    """An architecture, without the picks that the space's options leave no choice for."""
    return Architecture("chain", space.recorded_settings(), picks)


def perceptron(chain: type[ChainSpace], units: Sequence[int]) -> Architecture:
    """Fully connected layers: with none, the softmax regression; (300, 100) is that of LeCun et al. 1998, table 1."""
    space = chain(
        stages=0, stem="none", heads=("flatten",), hidden_layers=3, hidden_widths=(50, 100, 300, 500),
        activations=("relu", "tanh", "sigmoid", "gelu"), dropouts=(0.0, 0.2),
    )  # fmt: skip
    picks: dict[str, Any] = {"head.layers": str(len(units))}
    picks |= {f"head.layer{index}.width": width for index, width in enumerate(units)}
    picks |= {"head.activation": "relu", "head.dropout": "none"} if units else {}
    return _point(space, picks)


def lenet5(chain: type[ChainSpace]) -> Architecture:
    """LeCun, Bottou, Bengio, Haffner 1998, "Gradient-Based Learning Applied to Document Recognition", section II.B,
    as it is built today: full connections between the maps, plain average pooling, a softmax at the end."""
    space = chain(
        stages=2, layers=1, widths=(6, 12, 16, 32), operations=("convolution",), kernels=(5,), padding="valid",
        activations=("tanh", "relu", "gelu"), norms=("none", "batch"), dropouts=(0.0, 0.2), stem="none",
        reductions=("average_pool", "max_pool"), heads=("average_pool_flatten", "max_pool_flatten"),
        hidden_layers=2, hidden_widths=(84, 120, 256),
    )  # fmt: skip
    picks: dict[str, Any] = {"stage1.reduction": "average_pool", "head": "average_pool_flatten", "head.layers": "2"}
    for stage, width in enumerate((6, 16)):
        picks |= {f"stage{stage}.depth": 1, **_layer(f"stage{stage}.layer0", width, norm="none", activation="tanh")}
    picks |= {"head.layer0.width": 120, "head.layer1.width": 84, "head.activation": "tanh", "head.dropout": "none"}
    return _point(space, picks)


def vgg(chain: type[ChainSpace], layers: Sequence[int]) -> Architecture:
    """3×3 convolutions with biases and no normalisation, max pooling, two fully connected layers of 4,096 units."""
    space = chain(
        stages=5, layers=4, widths=(64, 128, 256, 512), operations=("convolution", "separable", "identity"),
        kernels=(1, 3, 5), activations=("relu", "gelu"), norms=("none", "batch"), dropouts=(0.0, 0.5), stem="none",
        reductions=("max_pool", "average_pool"), heads=("max_pool_flatten", "average"),
        hidden_layers=2, hidden_widths=(512, 4096),
    )  # fmt: skip
    picks: dict[str, Any] = {"head": "max_pool_flatten", "head.layers": "2"}
    for stage, (depth, width) in enumerate(zip(layers, (64, 128, 256, 512, 512), strict=True)):
        picks |= {f"stage{stage}.depth": depth} | ({f"stage{stage}.reduction": "max_pool"} if stage else {})
        for index in range(depth):
            name = f"stage{stage}.layer{index}"
            picks |= {f"{name}.operation": "convolution", f"{name}.kernel": 3}
            picks |= _layer(name, width, norm="none", activation="relu")
    picks |= {"head.layer0.width": 4096, "head.layer1.width": 4096, "head.activation": "relu", "head.dropout": "50%"}
    return _point(space, picks)


def resnet(chain: type[ChainSpace], blocks: Sequence[int], bottleneck: bool) -> Architecture:
    """Blocks of two 3×3 convolutions, or of 1×1, 3×3, 1×1 with four times the width at the end, each with a shortcut;
    it projects where the width changes. The stride is the first layer's, as in the paper."""
    length = 3 if bottleneck else 2
    widths = (64, 128, 256, 512, 1024, 2048) if bottleneck else (64, 128, 256, 512)
    space = chain(
        stages=4, layers=length * max(blocks), widths=widths, operations=("convolution", "grouped"), kernels=(1, 3, 5),
        activations=("relu", "gelu"), norms=("batch",), dropouts=(0.0,), stem="imagenet", stem_width=64,
        reductions=("stride",), skips=(length,), heads=("average",), hidden_layers=0,
    )  # fmt: skip
    picks: dict[str, Any] = {}
    for stage, count in enumerate(blocks):
        picks[f"stage{stage}.depth"] = length * count
        for index in range(length * count):
            name, place = f"stage{stage}.layer{index}", index % length
            wide = bottleneck and place == 2
            picks |= {f"{name}.width": 64 * 2**stage * (4 if wide else 1), f"{name}.operation": "convolution"}
            picks |= {f"{name}.kernel": 1 if bottleneck and place != 1 else 3, f"{name}.activation": "relu"}
            if index >= length - 1:
                changes = index == length - 1 and (stage > 0 or bottleneck)
                ends = place == length - 1
                picks[f"{name}.skip{length}"] = "none" if not ends else "projection" if changes else "identity"
    return _point(space, picks)


def densenet40(chain: type[ChainSpace]) -> Architecture:
    """Three blocks of 12 layers that take all before them, growth 12, no bottleneck, no compression (Huang, Liu, van
    der Maaten, Weinberger 2017, "Densely Connected Convolutional Networks", section 3 and table 2, for CIFAR)."""
    space = chain(
        stages=3, layers=12, widths=(12, 24), operations=("convolution",), kernels=(1, 3), activations=("relu",),
        norms=("batch",), dropouts=(0.0, 0.2), stem="convolution", stem_width=16, dense=True, order="pre",
        transitions=(80, 160, 304), reductions=("average_pool",), heads=("average",), hidden_layers=0,
    )  # fmt: skip
    picks: dict[str, Any] = {}
    for stage in range(3):
        picks[f"stage{stage}.depth"] = 12
        picks |= {f"stage{stage}.transition.width": (160, 304)[stage - 1]} if stage else {}
        picks |= {f"stage{stage}.transition.dropout": "none"} if stage else {}
        for index in range(12):
            name = f"stage{stage}.layer{index}"
            picks |= {f"{name}.width": 12, f"{name}.kernel": 3, f"{name}.dropout": "none"}
            picks |= {f"{name}.takes{source}": 1 for source in range(index)}
    return _point(space, picks)


def _layer(name: str, width: int, norm: str, activation: str) -> dict[str, Any]:
    return {f"{name}.width": width, f"{name}.norm": norm, f"{name}.activation": activation, f"{name}.dropout": "none"}
