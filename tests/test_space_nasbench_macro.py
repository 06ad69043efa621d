"""The space of NAS-Bench-Macro: its sizes, its notation, and which of its networks are the same."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from itertools import product
from pathlib import Path
from random import Random

import pytest
import torch
from torch import nn

import nasengine
from nasengine import Architecture, ArchitectureError, ConfigError, SearchSpace, Shapes
from nasengine.registry import make
from nasengine.search_spaces.nasbench_macro import NASBenchMacroSpace, from_nasbench_macro, to_nasbench_macro
from nasengine.testing import SpaceContract, TinySpace, TinyTask

CIFAR10 = Shapes((3, 32, 32), 10)
EVERY = ["".join(digits) for digits in product("012", repeat=8)]


class TestNASBenchMacroSpace(SpaceContract):
    def make(self) -> SearchSpace:
        return NASBenchMacroSpace(channels=2)


def block_parameters(digit: str, channels_in: int, channels_out: int, reduces: bool) -> int:
    """Convolutions without bias, two parameters a channel for normalisation."""
    if digit == "0":
        return channels_in * channels_out + 2 * channels_out if reduces else 0
    expansion, kernel = {"1": (3, 3), "2": (6, 5)}[digit]
    hidden = expansion * channels_in
    expand, depthwise = channels_in * hidden + 2 * hidden, kernel**2 * hidden + 2 * hidden
    return expand + depthwise + hidden * channels_out + 2 * channels_out


def parameters(text: str) -> int:
    """By the skeleton in the authors' code: 3×3 stem of 32 channels, three stages, a 1×1 convolution to 1280."""
    total, channels = 27 * 32 + 2 * 32 + 256 * 1280 + 2 * 1280 + 1280 * 10 + 10, 32
    for index, digit in enumerate(text):
        reduces = index in (0, 2, 5)
        total += block_parameters(digit, channels, channels * (2 if reduces else 1), reduces)
        channels *= 2 if reduces else 1
    return total


def test_networks_have_the_parameters_of_the_benchmarks_skeleton() -> None:
    space = NASBenchMacroSpace()
    for text in ["00000000", "22222222", *Random(0).sample(EVERY, 20)]:
        with torch.device("meta"):
            model: nn.Module = space.model(from_nasbench_macro(text), CIFAR10)
        assert sum(p.numel() for p in model.parameters()) == parameters(text)


def test_each_stage_halves_the_image() -> None:
    model: nn.Module = NASBenchMacroSpace(channels=2).model(from_nasbench_macro("01201201", channels=2), CIFAR10).eval()
    x, shapes = torch.zeros(1, 3, 32, 32), []
    for part in list(model.children())[:-1]:
        x = part(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(2, 32, 32), *[(4, 16, 16)] * 2, *[(8, 8, 8)] * 3, *[(16, 4, 4)] * 3, (80, 4, 4)]


def test_there_are_6561_networks_of_which_3969_are_different() -> None:
    space = NASBenchMacroSpace()
    assert space.domain(TinyTask()).size == len(EVERY) == 6_561
    different = {space.canonical(from_nasbench_macro(text)) for text in EVERY}
    assert len(different) == 3_969
    assert all(space.canonical(architecture) == architecture for architecture in different)


def test_networks_are_the_same_where_what_their_layers_do_is_the_same_in_order() -> None:
    """Independent of any rule of sorting: what computes, with what it computes on, in the order of the layers."""
    space = NASBenchMacroSpace()
    by_computation: dict[tuple[str, ...], str] = {}
    for text in EVERY:
        stages = text[:2], text[2:5], text[5:]
        computation = tuple(stage[0] + stage[1:].replace("0", "") for stage in stages)
        identity = space.canonical(from_nasbench_macro(text)).id
        assert by_computation.setdefault(computation, identity) == identity
    assert len(set(by_computation.values())) == len(by_computation)


@torch.no_grad()
def test_an_identity_may_stand_anywhere_behind_a_stages_first_layer() -> None:
    space = NASBenchMacroSpace(channels=2)
    one, other = (space.model(from_nasbench_macro(t, channels=2), TinyTask()) for t in ("12102201", "12120210"))
    for ours, theirs in zip(one.parameters(), other.parameters(), strict=True):
        theirs.copy_(ours)
    x = TinyTask().example()
    torch.testing.assert_close(one.eval()(x), other.eval()(x))
    assert to_nasbench_macro(space.canonical(from_nasbench_macro("12102201"))) == "12120210"


def test_every_network_is_read_and_written_in_the_benchmarks_notation() -> None:
    assert all(to_nasbench_macro(from_nasbench_macro(text)) == text for text in EVERY)
    space = make("space", "nasbench_macro", {"channels": 4})
    assert isinstance(space, SearchSpace)
    for architecture in list(space.domain(TinyTask()).enumerate())[::400]:
        assert from_nasbench_macro(to_nasbench_macro(architecture), channels=4) == architecture
    assert dict(from_nasbench_macro("02112021").picks)["layer1"] == "mb6_k5"


@pytest.mark.parametrize("text", ["", "0211202", "021120210", "02112023", "0211202 ", "٠2112021", "02112021\n"])
def test_what_is_no_network_of_the_benchmark_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(ArchitectureError, match="no network of NAS-Bench-Macro; expected 8 digits from 0 to 2"):
        from_nasbench_macro(text)


def test_an_architecture_of_another_space_has_no_such_notation() -> None:
    other = next(TinySpace().domain(TinyTask()).enumerate())
    with pytest.raises(ArchitectureError, match=r"of the space '.+TinySpace', not of NAS-Bench-Macro"):
        to_nasbench_macro(other)


def test_channels_below_one_are_refused() -> None:
    with pytest.raises(ConfigError, match="channels = 0; expected at least 1"):
        NASBenchMacroSpace(channels=0)


def test_the_description_has_the_stages_and_the_notation() -> None:
    assert NASBenchMacroSpace().describe(from_nasbench_macro("02112021")).splitlines() == [
        "stage 0: identity → mb6_k5",
        "stage 1: mb3_k3 → mb3_k3 → mb6_k5",
        "stage 2: identity → mb6_k5 → mb3_k3",
        "02112021",
    ]


@pytest.mark.parametrize("strategy", ["random", "evolution", "darts:epochs=1,batch_size=16"])
def test_strategies_find_networks(strategy: str, tmp_path: Path) -> None:
    space = NASBenchMacroSpace(channels=2)
    run = nasengine.search(
        space, strategy, TinyTask(), "train:epochs=1", out=tmp_path / "run", trials=3, baseline=0, threads=1
    )
    assert run.best is not None
    assert isinstance(run.best.architecture, Architecture)
    assert len(to_nasbench_macro(run.best.architecture)) == 8
