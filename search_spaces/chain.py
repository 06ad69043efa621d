"""The chain space: layers one after the other, in stages; how many, which operations, how wide and how is open.

The oldest space of neural architecture search (Elsken, Metzen, Hutter 2019, "Neural Architecture Search: A Survey",
section 2, figure 2, left), with the elements of later networks where asked for: shortcuts (He et al. 2016) and dense
connections (Huang et al. 2017) between any layers of a stage (the figure's right side). Between two stages the image is
halved. Layers of different width and kernel share the supernet's weights: they are built at the largest, and a smaller
one uses the leading channels and the middle of the kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from torch import nn

from nasengine import Architecture, Chooser, ConfigError, SearchSpace, Task

from .classic import references
from .operations import chain as layers_of
from .operations.chain_network import ChainNetwork
from .operations.chain_picks import describe, graph, rate_name, without_identities

if TYPE_CHECKING:
    import networkx as nx

OPERATIONS = ("convolution", "separable", "dilated", "grouped", "max_pool", "average_pool", "identity")
HEADS = ("average", "flatten", "max_pool_flatten", "average_pool_flatten")
STEMS = ("auto", "none", "convolution", "imagenet")


class ChainSpace(SearchSpace):
    """Stages of layers, one after the other; depth, operations, widths, and what stands around a convolution are open.

    Options:
        stages: how many; the image is halved between two. 0 leaves the head alone: a perceptron.
        layers: the largest depth of a stage.
        widths: the numbers of channels that a layer may have.
        operations: what a layer may be, of convolution, separable, dilated, grouped, max_pool, average_pool, identity.
        kernels: the sizes of convolutions, odd ones.
        strides: that any layer may have, as (1, 2), beside the halving between stages. With more than one the space has
            no supernet: layers of different strides give images of different sizes.
        activations: of relu, sigmoid, tanh, leaky_relu, prelu, swish, gelu.
        norms: of batch, layer, group, instance, none (a bias).
        dropouts: the rates of dropout behind a convolution, and between the fully connected layers.
        reductions: how the image is halved: max_pool, average_pool, or stride (of the stage's first layer).
        skips: how many layers a shortcut may reach back, as (2, 3); each may then be none, identity or projection.
        dense: whether a layer may also take what any earlier layer of its stage gave, joined along the channels; the
            stage gives all of it, and a 1×1 convolution leads to the next.
        transitions: the widths of these 1×1 convolutions; by default those of the layers.
        order: post (convolution, normalisation, activation) or pre (the convolution last).
        padding: same, or valid where each stage has one convolution of one kernel.
        stem: auto (a 3×3 convolution with normalisation, after others of stride 2 for large images), none, convolution
            (3×3, without normalisation), or imagenet (7×7 and max pooling, each of stride 2).
        stem_width: of the stem; by default the largest of the widths.
        heads: how the image becomes a vector: average (over all pixels), flatten, max_pool_flatten,
            average_pool_flatten (a 2×2 pooling first).
        hidden_layers: the largest number of fully connected layers before the classifier.
        hidden_widths: the numbers of their units.
        multiplier: of all widths, rounded down: 0.5 builds every network with half of its channels and units.
    """

    family = "CNN"

    def __init__(
        self,
        *,
        stages: int = 2,
        layers: int = 3,
        widths: tuple[int, ...] = (16, 32),
        operations: tuple[str, ...] = OPERATIONS,
        kernels: tuple[int, ...] = (1, 3, 5, 7),
        strides: tuple[int, ...] = (1,),
        activations: tuple[str, ...] = tuple(layers_of.ACTIVATIONS),
        norms: tuple[str, ...] = layers_of.NORMS,
        dropouts: tuple[float, ...] = (0.0, 0.2),
        reductions: tuple[str, ...] = ("max_pool", "average_pool", "stride"),
        skips: tuple[int, ...] = (),
        dense: bool = False,
        transitions: tuple[int, ...] = (),
        order: str = "post",
        padding: str = "same",
        stem: str = "auto",
        stem_width: int | None = None,
        heads: tuple[str, ...] = ("average", "flatten"),
        hidden_layers: int = 1,
        hidden_widths: tuple[int, ...] = (64, 128),
        multiplier: float = 1.0,
    ) -> None:
        self.multiplier = multiplier
        self.stages, self.layers, self.hidden_layers, self.dense = stages, layers, hidden_layers, dense
        self.order, self.padding, self.stem, self.stem_width = (
            order,
            padding,
            stem,
            stem_width or max(widths, default=1),
        )
        self.widths, self.transitions = _numbers("widths", widths), _numbers("transitions", transitions or widths)
        self.kernels, self.hidden_widths = _numbers("kernels", kernels), _numbers("hidden_widths", hidden_widths)
        self.strides, self.skips = _numbers("strides", strides), _numbers("skips", skips) if skips else ()
        self.operations = _names("operations", operations, OPERATIONS)
        self.activations = _names("activations", activations, layers_of.ACTIVATIONS)
        self.norms = _names("norms", norms, layers_of.NORMS)
        self.reductions = _names("reductions", reductions, (*layers_of.POOLS, "stride"))
        self.heads = _names("heads", heads, HEADS)
        self.dropouts = {rate_name(rate): rate for rate in dropouts}
        for name, value, allowed in (
            ("order", order, ("post", "pre")), ("padding", padding, ("same", "valid")), ("stem", stem, STEMS),
        ):  # fmt: skip
            _names(name, [value], allowed)
        if stages < 0 or layers < 1 or hidden_layers < 0 or self.stem_width < 1:
            raise ConfigError(
                f"the space 'chain' has stages = {stages}, layers = {layers}, hidden_layers = {hidden_layers}, "
                f"stem_width = {stem_width}; expected at least 0, 1, 0 and 1"
            )
        if not 0 < multiplier < float("inf"):
            raise ConfigError(f"the space 'chain' has multiplier = {multiplier}; expected a positive number")
        if not dropouts or any(not 0 <= rate < 1 for rate in dropouts):
            raise ConfigError(f"the space 'chain' has dropouts = {list(dropouts)}; expected rates from 0 to below 1")
        if even := [kernel for kernel in self.kernels if kernel % 2 == 0]:
            raise ConfigError(f"the space 'chain' has a kernel of {even[0]}; expected odd ones")
        if padding == "valid" and (layers > 1 or len(self.kernels) > 1 or self.operations != ("convolution",)):
            raise ConfigError(
                "the space 'chain' has padding = valid, where the image's size depends on what is picked; expected "
                "layers = 1, one kernel, and operations = [convolution] with it"
            )
        strided = "stride" in self.reductions or self.strides != (1,)
        if dense and (strided or self.skips or padding == "valid" or stages == 0):
            raise ConfigError(
                "the space 'chain' has dense = true; expected stages, reductions by pooling only, strides of 1, and no "
                "skips with it"
            )
        if dense and order == "pre" and {"layer", "group"} & set(self.norms):
            raise ConfigError(
                "the space 'chain' has dense = true and order = pre, where a normalisation would mix what is joined; "
                "expected norms of batch, instance, none with them"
            )

    @classmethod
    def references(cls) -> Mapping[str, Architecture]:
        """LeNet-5, VGG, ResNet, DenseNet, a perceptron and the softmax regression, at their published sizes."""
        return references(cls)

    def sizes(self, task: Task) -> Mapping[str, float]:
        return {"multiplier": self.multiplier}

    def build(self, choose: Chooser, task: Task) -> nn.Module:
        return ChainNetwork(self, choose, task).build()

    def canonical(self, architecture: Architecture) -> Architecture:
        """Without the identities of unchanged width behind a stage's first layer: they change nothing."""
        return architecture if self.skips or self.dense else without_identities(architecture)

    def graph(self, architecture: Architecture) -> nx.DiGraph:
        """The layers in a row, a colour for each operation; shortcuts and what is joined as edges beside it."""
        return graph(architecture)

    def describe(self, architecture: Architecture) -> str:
        """The layers from input to output, a stage a line."""
        return describe(architecture)


def _numbers(name: str, values: Sequence[int]) -> tuple[int, ...]:
    if not values or min(values) < 1 or len(set(values)) != len(values):
        raise ConfigError(f"the space 'chain' has {name} = {list(values)}; expected different numbers of at least 1")
    return tuple(values)


def _names(name: str, values: Sequence[str], allowed: Iterable[str]) -> tuple[str, ...]:
    known = list(allowed)
    if not values or len(set(values)) != len(values) or not set(values) <= set(known):
        raise ConfigError(f"the space 'chain' has {name} = {', '.join(values)}; expected different ones of {known}")
    return tuple(values)
