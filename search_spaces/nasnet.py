"""The NASNet space: cells of five blocks, each the sum of two operations on two earlier states.

Zoph, Vasudevan, Shlens, Le 2018, "Learning Transferable Architectures for Scalable Image Recognition", CVPR: section 3
and figure 3. A cell has two inputs (the outputs of the two cells before it). Each block picks two states among the
inputs and the blocks before it, which may be one and the same, and an operation of thirteen for each. The cell's output
is the concatenation of the blocks that no other block uses. Cells at 1/3 and 2/3 of the depth are reduction cells: they
halve the image and double the channels.

What differs from the paper: its blocks may also concatenate their two halves, here they add them up, as all blocks of
the cells that it found do. Which states a cell joins beside the blocks that no other uses is an option: the authors'
code joins some that blocks do use. An operation is a decision of its own for each state that it may be applied to,
rather than one for a side of the block: the architectures are the same, and in a supernet the weights belong to an
edge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nasengine import Architecture, Chooser, ConfigError, SearchSpace, Task, join

from .cell import INPUTS, PARTS, CellNetwork
from .nasnet_cells import AMOEBANET_A, AMOEBANET_A_JOINS, NASNET_A, NASNET_A_JOINS, Block, Cell
from .operations.darts import FactorizedReduce, relu_conv_norm
from .operations.nasnet import OPERATIONS
from .operations.stem import Classifier, image_stem

if TYPE_CHECKING:
    import networkx as nx

    from nasengine import Several

SIDES = ("left", "right")


class Sum(nn.Module):
    """A block: two operations on states before it, added up. A list of such states, (N, C, H, W) → (N, C, H, W)."""

    def __init__(self, choose: Chooser, name: str, sources: int, channels: int, reduces: bool) -> None:
        super().__init__()

        def side(name: str) -> Several:
            edge = partial(_edge, choose, name, channels=channels, reduces=reduces)
            return choose.some(name, {str(source): partial(edge, source=source) for source in range(sources)}, k=1)

        self.left, self.right = side(f"{name}.left"), side(f"{name}.right")

    def paths(self) -> list[nn.Module]:
        """What drop path may leave out: the operations."""
        return [*self.left.children(), *self.right.children()]

    def leaves(self, state: int) -> Tensor | float:
        """How much of a state neither side uses: 1 or 0 in a plain model, and in a supernet where a pick is made.

        Where none is, the probability that neither side picks the state, if each picks by its shares.
        """
        return (1 - self.left.shares().get(str(state), 0.0)) * (1 - self.right.shares().get(str(state), 0.0))

    def forward(self, states: list[Tensor]) -> Tensor:
        edges = (*self.left.items(), *self.right.items())
        terms: list[Tensor] = [edge(states[int(source)]) for source, edge in edges]
        return sum(terms[1:], start=terms[0])


class NASNetCell(nn.Module):
    """(N, C₋₂, H, W) and (N, C₋₁, H, W) → (N, `width`, H, W), halved in height and width by a reduction.

    joins: the states that are in the output whoever uses them, beside the blocks that no other uses.
    width: `channels` for each state in the output; in a supernet, for each block.
    """

    def __init__(
        self,
        choose: Chooser,
        blocks: int,
        before: tuple[int, int],
        channels: int,
        reduces: bool,
        reduced_before: bool,
        joins: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.joins = frozenset(joins)
        kind = "reduce" if reduces else "normal"
        adapt = FactorizedReduce if reduced_before else relu_conv_norm
        self.first = adapt(before[0], channels)
        self.second = relu_conv_norm(before[1], channels)
        self.blocks = nn.ModuleList(
            Sum(choose, f"{kind}.block{block}", INPUTS + block, channels, reduces) for block in range(blocks)
        )
        self.kept = [state for state, share in enumerate(self.joined()) if not _is(share, 0)]
        self.width = join([channels if state in self.kept else 0 for state in range(INPUTS + blocks)])

    def joined(self) -> list[Tensor | float]:
        """How much of each state is in the output: of a block as much as no later one uses."""
        shares: list[Tensor | float] = [float(state in self.joins) for state in range(INPUTS)]
        for state in range(INPUTS, INPUTS + len(self.blocks)):
            later = [block.leaves(state) for block in self.blocks[state - INPUTS + 1 :]]  # type: ignore[operator]
            shares.append(1.0 if state in self.joins else prod(later))
        return shares

    def forward(self, before_last: Tensor, last: Tensor) -> Tensor:
        states = [self.first(before_last), self.second(last)]
        for block in self.blocks:
            states.append(block(states))
        joined = self.joined()
        outputs = [(states[state], joined[state]) for state in self.kept]
        return torch.cat([state if _is(share, 1) else state * share for state, share in outputs], dim=1)


def _is(share: Tensor | float, number: int) -> bool:
    """Whether it is exactly that, and no tensor, which would have to be asked."""
    return not isinstance(share, Tensor) and share == number


def _edge(choose: Chooser, side: str, source: int, channels: int, reduces: bool) -> nn.Module:
    """The operation on one edge; in a reduction cell, edges from the cell's inputs halve the image."""
    stride = 2 if reduces and source < INPUTS else 1
    options = {operation: partial(make, channels, stride) for operation, make in OPERATIONS.items()}
    return choose.one(f"{side}.from{source}", options)


class NASNetSpace(SearchSpace):
    """The NASNet space of normal and reduction cells (Zoph et al. 2018).

    Options:
        layers: how many cells are stacked; by default 3 for images up to 16 pixels, else 8 (the paper's search: three
            times two normal cells, and two reduction cells between them).
        channels: of the first cell's blocks; by default 8 for images up to 16 pixels, else 16 (the paper's search has
            32).
        blocks: in each cell; 5 in the paper.
        normal_joins: states that a normal cell's output joins whoever uses them, as numbers: 0 and 1 are the inputs
            before last and last, 2 is the first block.
        reduce_joins: the same for a reduction cell; its blocks only, since its inputs are larger.
    """

    family = "CNN"

    def __init__(
        self,
        *,
        layers: int | None = None,
        channels: int | None = None,
        blocks: int = 5,
        normal_joins: Sequence[int] = (),
        reduce_joins: Sequence[int] = (),
    ) -> None:
        for name, value in (("layers", layers), ("channels", channels), ("blocks", blocks)):
            if value is not None and value < 1:
                raise ConfigError(f"the space 'nasnet' has {name} = {value}; expected at least 1")
        for kind, joins, first in (("normal", normal_joins, 0), ("reduce", reduce_joins, INPUTS)):
            if not set(joins) <= set(range(first, INPUTS + blocks)):
                raise ConfigError(
                    f"the space 'nasnet' has {kind}_joins = {list(joins)}; expected states from {first} to "
                    f"{INPUTS + blocks - 1}"
                )
        self.layers, self.channels, self.blocks = layers, channels, blocks
        self.joins = {"normal": tuple(normal_joins), "reduce": tuple(reduce_joins)}
        self.reductions: tuple[int, ...] = ()  # at a third and two thirds, as long as it is empty

    @classmethod
    def references(cls) -> Mapping[str, Architecture]:
        """NASNet-A and AmoebaNet-A with the 20 cells and the widths that were trained on CIFAR-10 (N = 6; F = 32, 36).

        They join what the authors' code joins, and so have the published 3.3 M and 3.2 M parameters; without
        `normal_joins` and `reduce_joins` they would be those of the papers' rule and figures, of 3.06 M and 2.82 M.
        """
        return {
            "nasnet_a": _architecture(NASNET_A, layers=20, channels=32, **NASNET_A_JOINS),
            "amoebanet_a": _architecture(AMOEBANET_A, layers=20, channels=36, **AMOEBANET_A_JOINS),
        }

    def sizes(self, task: Task) -> Mapping[str, int]:
        small = max(task.full_shape[1:]) <= 16
        return {"layers": self.layers or (3 if small else 8), "channels": self.channels or (8 if small else 16)}

    def build(self, choose: Chooser, task: Task) -> nn.Module:
        layers, channels = self.sizes(task).values()
        width = 3 * channels  # the authors' stem multiplier
        stem = image_stem(task.full_shape, width)
        before, reduced_before = (width, width), False
        cells = []
        for index in range(layers):
            reduces = index in (self.reductions or (layers // 3, 2 * layers // 3))
            channels *= 2 if reduces else 1
            joins = self.joins["reduce" if reduces else "normal"]
            cells.append(NASNetCell(choose, self.blocks, before, channels, reduces, reduced_before, joins))
            before, reduced_before = (before[1], cells[-1].width), reduces
        return CellNetwork(stem, cells, nn.Sequential(nn.ReLU(), Classifier(before[1], task.classes)))

    def for_recording(self, task: Task) -> NASNetSpace:
        """A cell of each kind: more would take the same decisions."""
        if (self.layers or 3) < 3:
            return self
        space = self.at({"layers": 2})
        space.reductions = (1,)
        return space

    def canonical(self, architecture: Architecture) -> Architecture:
        """The smallest description among all orders of each cell's blocks and of their sides: isomorphic cells have
        one. Where blocks are joined by their numbers, these stay as they are, and only the sides are ordered."""
        picks: dict[str, str | tuple[str, ...]] = {}
        for kind, cell in _cells(architecture):
            if max(_joins(architecture, kind), default=0) < INPUTS:
                picks |= _picks(kind, _smallest(cell))
            else:
                picks |= _picks(kind, [(min(block), max(block)) for block in cell])
        return architecture.with_picks(picks)

    def graph(self, architecture: Architecture) -> nx.DiGraph:
        """Both cells as one graph of two parts; an edge's label is its operation, or both where a block uses one state
        twice. A block adds up what it gets, and those that no other uses are joined in the output."""
        import networkx as nx

        graph = nx.DiGraph()
        for kind, cell in _cells(architecture):
            names = [f"{kind} {_state(index)}" for index in range(INPUTS + len(cell))]
            graph.add_nodes_from((n, {"label": _state(i), "part": PARTS[kind]}) for i, n in enumerate(names))
            graph.add_node(f"{kind} output", label="output", part=PARTS[kind])
            for number, block in enumerate(cell, INPUTS):
                for source in sorted({source for source, _ in block}):
                    label = " + ".join(operation for other, operation in block if other == source)
                    graph.add_edge(names[source], names[number], label=label)
            for number in _joined(cell, _joins(architecture, kind)):
                graph.add_edge(names[number], f"{kind} output")
        return graph

    def describe(self, architecture: Architecture) -> str:
        """A line for each block, what it adds up, and one for the output, what it joins."""
        lines = []
        for kind, cell in _cells(architecture):
            for number, block in enumerate(cell, INPUTS):
                terms = [f"{operation}({_state(source)})" for source, operation in block]
                lines.append(f"{kind if number == INPUTS else '':<7} {_state(number)} = {' + '.join(terms)}")
            lines.append(f"{'':<7} output = {', '.join(map(_state, _joined(cell, _joins(architecture, kind))))}")
        return "\n".join(lines)


def _architecture(cells: Mapping[str, Cell], **options: Any) -> Architecture:
    picks: dict[str, str | tuple[str, ...]] = {}
    for kind, cell in cells.items():
        picks |= _picks(kind, cell)
    return Architecture("nasnet", NASNetSpace(**options).recorded_settings(), picks)


def _state(index: int) -> str:
    return ("input −2", "input −1")[index] if index < INPUTS else f"block {index - INPUTS}"


def _cells(architecture: Architecture) -> Iterator[tuple[str, Cell]]:
    """The cells that the architecture has, by kind."""
    picks = architecture.picks
    for kind in PARTS:
        cell: Cell = []
        while f"{kind}.block{len(cell)}.left" in picks:
            left, right = (
                (int(source), str(picks[f"{name}.from{source}"]))
                for name in (f"{kind}.block{len(cell)}.{side}" for side in SIDES)
                for source in picks[name]  # type: ignore[union-attr]
            )
            cell.append((left, right))
        if cell:
            yield kind, cell


def _picks(kind: str, cell: Cell) -> Mapping[str, str | tuple[str, ...]]:
    picks: dict[str, str | tuple[str, ...]] = {}
    for number, block in enumerate(cell):
        for side, (source, operation) in zip(SIDES, block, strict=True):
            name = f"{kind}.block{number}.{side}"
            picks |= {name: (str(source),), f"{name}.from{source}": operation}
    return picks


def _joins(architecture: Architecture, kind: str) -> Sequence[int]:
    """The states that the cells of a kind join whoever uses them."""
    return architecture.options.get(f"{kind}_joins", ())  # type: ignore[no-any-return]


def _joined(cell: Cell, joins: Sequence[int]) -> list[int]:
    """The states in the cell's output: the blocks that no other uses, and what is joined in any case."""
    unused = set(range(INPUTS, INPUTS + len(cell))) - {source for block in cell for source, _ in block}
    return sorted(unused.union(joins))


def _smallest(cell: Cell) -> Cell:
    """The cell with its blocks renamed and reordered, each after those it uses, so that it is first in order.

    Place by place, the smallest block that can stand there; where several are equal, each is followed up.
    """
    places: list[dict[int, int]] = [{state: state for state in range(INPUTS)}]
    smallest: Cell = []
    for place in range(INPUTS, INPUTS + len(cell)):
        found: dict[Block, list[dict[int, int]]] = {}
        for known in places:
            for state, block in enumerate(cell, INPUTS):
                if state not in known and all(source in known for source, _ in block):
                    left, right = sorted((known[source], operation) for source, operation in block)
                    found.setdefault((left, right), []).append({**known, state: place})
        smallest.append(min(found))
        places = found[smallest[-1]]
    return smallest
