"""What the layers of a graph network are chosen from, by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from .graph import OnNodes
from .message_passing import Attention, Convolution, Isomorphism, Pooling, Recurrent, linear

CONVOLUTIONS = (
    "gcn", "sgc", "cheb", "arma", "graph", "gin", "sage_mean", "sage_max", "sage_lstm", "gat1", "gat2", "gat4", "gat8",
    "linear", "skip",
)  # fmt: skip
OUTPUTS: Mapping[str, str] = {"linear": "linear", "gcn": "gcn", "gat": "gat1", "sage_mean": "sage_mean"}
"""The last layer's, and the convolution that each is."""
ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "none": nn.Identity,
}


warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")


class Nothing(nn.Module):
    """Zeros."""

    gives_zero = True

    def forward(self, x: Tensor) -> Tensor:
        return x * 0.0


def convolutions(
    channels_in: int, channels_out: int, dropout: Callable[[], nn.Module], first: bool = False
) -> dict[str, Callable[[], nn.Module]]:
    """All of them: (N, channels_in), Edges → (N, channels_out).

    dropout: makes that of attention's weights. first: whether channels_in are the features.

    Kipf, Welling 2017 (gcn); Wu et al. 2019, "Simplifying Graph Convolutional Networks" (sgc, two hops); Defferrard,
    Bresson, Vandergheynst 2016 (cheb, K = 2, largest eigenvalue 2, whose minus sign is left to the weights); Bianchi
    et al. 2021 (arma, one stack of one layer); Morris et al. 2019 (graph); Xu et al. 2019 (gin); Hamilton et al. 2017
    (sage); Veličković et al. 2018 (gat).
    """
    sizes = (channels_in, channels_out)
    plain = partial(Convolution, *sizes)
    return {
        "gcn": partial(plain, norm="symmetric", looped=True, root=False),
        "sgc": partial(plain, norm="symmetric", looped=True, root=False, hops=2),
        "cheb": partial(plain, norm="symmetric"),
        "arma": partial(plain, norm="symmetric", activation=nn.functional.relu),
        "graph": partial(plain, norm="ones"),
        "gin": partial(Isomorphism, *sizes),
        "sage_mean": partial(plain, norm="mean"),
        "sage_max": partial(Pooling, *sizes),
        "sage_lstm": partial(Recurrent, *sizes),
        **{f"gat{heads}": partial(_attention, *sizes, heads, dropout) for heads in (1, 2, 4, 8)},
        "linear": lambda: OnNodes(linear(*sizes)),
        "skip": lambda: OnNodes(linear(*sizes, bias=False) if first else nn.Identity()),
    }


def _attention(channels_in: int, channels_out: int, heads: int, dropout: Callable[[], nn.Module]) -> nn.Module:
    return Attention(channels_in, channels_out, heads, dropout())


class Dropout(nn.Dropout):
    """Dropout that on a CPU draws 16 bits a number, and, where the input are features, for those only that are not
    zero: of a bag of words, one in a hundred. Drawing as torch does, 64 bits for all, takes longer than the rest of a
    step. The rate is off by no more than 2⁻¹⁷.

    sparse: whether it then gives a sparse tensor, where nine in ten are zero: for where only linear layers follow.
    """

    def __init__(self, rate: float, sparse: bool = False) -> None:
        super().__init__(rate)
        self.sparse = sparse

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not self.p or input.device.type != "cpu":
            return super().forward(input)
        if input.requires_grad:
            return input * _kept(input.shape, self.p, input.dtype)
        version, where = _nonzero.get(input, (None, input))
        if version != input._version:
            where = input.flatten().nonzero().squeeze(1)
            _nonzero[input] = input._version, where
        kept = input.flatten()[where]
        kept = kept * _kept(kept.shape, self.p, kept.dtype)
        if self.sparse and input.dim() == 2 and 10 * len(where) <= input.numel():
            count, features = input.shape
            ends = torch.bincount(where // features, minlength=count).cumsum(0)
            begins = torch.cat([ends.new_zeros(1), ends])
            return torch.sparse_csr_tensor(begins, where % features, kept, input.shape, check_invariants=False)
        return torch.zeros_like(input).flatten().index_copy_(0, where, kept).view_as(input)


def _kept(shape: torch.Size, rate: float, dtype: torch.dtype) -> Tensor:
    """1 / (1 − rate) for what stays, and 0 for what is dropped."""
    count = shape.numel()
    bits = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    stays = bits.view(torch.int16)[:count].view(shape) >= round(rate * 2**16) - 2**15
    return stays.to(dtype).mul_(1 / (1 - rate))


_nonzero: MutableMapping[Tensor, tuple[int, Tensor]] = WeakTensorKeyDictionary()
"""Where features are not zero, as long as they are there and nobody writes into them."""


def dropouts(rates: Sequence[float]) -> dict[str, Callable[[], nn.Module]]:
    return {rate_name(rate): partial(Dropout, rate) if rate else nn.Identity for rate in rates}


def rate_name(rate: float) -> str:
    """A rate of dropout as an option's name, which holds no point: `none`, `20%`."""
    return f"{100 * rate:g}%".replace(".", "_") if rate else "none"
