"""The cells that were found in the NASNet space and published: NASNet-A and AmoebaNet-A."""

from __future__ import annotations

from collections.abc import Mapping

Edge = tuple[int, str]
"""One half of a block: (index of the state it comes from, operation); states 0 and 1 are the cell's inputs."""
Block = tuple[Edge, Edge]
Cell = list[Block]

NASNET_A: Mapping[str, Cell] = {
    "normal": [
        ((1, "sep_conv_5x5"), (0, "sep_conv_3x3")),
        ((0, "sep_conv_5x5"), (0, "sep_conv_3x3")),
        ((1, "avg_pool_3x3"), (0, "identity")),
        ((0, "avg_pool_3x3"), (0, "avg_pool_3x3")),
        ((1, "sep_conv_3x3"), (1, "identity")),
    ],
    "reduce": [
        ((1, "sep_conv_5x5"), (0, "sep_conv_7x7")),
        ((1, "max_pool_3x3"), (0, "sep_conv_7x7")),
        ((1, "avg_pool_3x3"), (0, "sep_conv_5x5")),
        ((3, "identity"), (2, "avg_pool_3x3")),
        ((2, "sep_conv_3x3"), (1, "max_pool_3x3")),
    ],
}
"""Figure 4."""

AMOEBANET_A: Mapping[str, Cell] = {
    "normal": [
        ((1, "avg_pool_3x3"), (1, "max_pool_3x3")),
        ((0, "sep_conv_3x3"), (0, "identity")),
        ((1, "identity"), (0, "avg_pool_3x3")),
        ((1, "sep_conv_3x3"), (2, "sep_conv_5x5")),
        ((5, "avg_pool_3x3"), (1, "sep_conv_3x3")),
    ],
    "reduce": [
        ((0, "sep_conv_3x3"), (1, "avg_pool_3x3")),
        ((1, "max_pool_3x3"), (2, "sep_conv_7x7")),
        ((0, "max_pool_3x3"), (1, "max_pool_3x3")),
        ((4, "sep_conv_3x3"), (1, "conv_1x7_7x1")),
        ((0, "avg_pool_3x3"), (1, "sep_conv_7x7")),
    ],
}
"""Real, Aggarwal, Huang, Le 2019, "Regularized Evolution for Image Classifier Architecture Search", AAAI: figure 5,
with the inputs as the authors' code has them."""

NASNET_A_JOINS = {"normal_joins": (0,), "reduce_joins": (3,)}
AMOEBANET_A_JOINS = {"normal_joins": (0,), "reduce_joins": (2, 4)}
"""The states that the authors' code joins although blocks use them (`used_hiddenstates`, in TensorFlow's
models/research/slim/nets/nasnet and tpu/models/official/amoeba_net)."""
