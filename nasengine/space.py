"""SearchSpace: a network written once, as PyTorch code that says `choose` where its author is unsure."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import cached_property
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeAlias, TypeVar

from .architecture import Architecture
from .decision import Decision
from .domain import Domain
from .errors import ConfigError, SpaceError
from .plugin import Plugin

if TYPE_CHECKING:
    import networkx as nx
    from torch import nn

    from .cost import Constraint
    from .evaluator import Fidelity
    from .latency import LatencyTable
    from .supernet import Depth, Several, Supernet
    from .task import Task

Factory: TypeAlias = "Callable[[], nn.Module]"
Value = TypeVar("Value", int, float, str)

MOST_PATHS = 1000
"""Of an architecture, that are listed: with a shortcut over every layer there are twice as many with each layer."""


class Chooser(Protocol):
    """What `build` chooses with. The engine passes one of two: one keeps every option, one keeps what was picked.

    Options are factories and are called inside the verb. A decision made inside a factory is conditional on that
    option. The same name met twice is one decision, and must have the same options each time.
    """

    def one(self, name: str, options: Mapping[str, Factory]) -> nn.Module:
        """One of n modules, called as the option would be."""

    def some(self, name: str, options: Mapping[str, Factory], k: int) -> Several:
        """k of n modules. Loop over `.items()`: the names and modules kept; merging them is the caller's."""

    def depth(self, name: str, layers: Sequence[Factory], at_least: int = 1) -> Depth:
        """The first d of n layers, one after the other, d from `at_least` to n. All outputs from there on must have
        the same shape where every option is kept."""

    def value(self, name: str, values: Sequence[Value]) -> Value:
        """A number (width, kernel, rate). Where every option is kept it is the largest, and the space must say how to
        cut it down, with `mask_channels`; a space that does not has no supernet."""


class SearchSpace(Plugin, ABC):
    """What can be built. Subclasses write `build`; everything else follows from it."""

    family: ClassVar[str] = ""
    """The models that it has: `CNN`, `GNN`, `GAN` or your own word, as a literal; empty where it suits any task."""
    constraints: Sequence[Constraint] = ()
    """What the run demands of an architecture's cost."""
    latency_table: LatencyTable | None = None
    """By which the run foretells an architecture's latency."""

    @abstractmethod
    def build(self, choose: Chooser, task: Task) -> nn.Module:
        """The network for the task's `input_shape` and `classes`: ordinary PyTorch, undecided where it says `choose`.

        It is run often and must do the same each time: take decisions through `choose` only.
        """

    def check(self, task: Task) -> None:
        """Called before a run that builds its networks for the task. Raises SpaceError where they are not for it; here:
        where both are of a family, and not of the same."""
        if self.family and task.family and self.family != task.family:
            raise SpaceError(
                f"the space {self.known_as!r} is of the family {self.family}, and the task {task.known_as!r} of the "
                f"family {task.family}; choose two of one family (see: nas list)"
            )

    @classmethod
    def references(cls) -> Mapping[str, Architecture]:
        """Well-known networks that are points of this space, by the names they are known by; here: none."""
        return {}

    def violation(self, architecture: Architecture) -> float:
        """How far the picks are from making sense together; 0 where they do, which here is everywhere.

        For rules that conditions between decisions cannot express, such as "at most nine edges". An architecture with a
        violation is never sampled, and refused where it is asked for.
        """
        return 0.0

    def count(self) -> int | None:
        """How many architectures have no violation, where the space knows; here: all are counted by their decisions."""
        return None

    def canonical(self, architecture: Architecture) -> Architecture:
        """One architecture for all that are the same network; here: the architecture itself."""
        return architecture

    def graph(self, architecture: Architecture) -> nx.DiGraph:
        """The architecture as an acyclic graph for drawing; here: its picks in a row.

        Nodes carry a `label`. They may carry a `group` (those of one group, such as an operation, get one colour) and,
        if all do, a `part` (parts, such as the cells of a cell space, are drawn under their names, side by side where
        they fit). An edge may carry a `label`, the operation that it is. A label may have up to four lines.
        """
        return picks_in_a_row(architecture)

    def paths(self, architecture: Architecture) -> frozenset[tuple[str, ...]]:
        """What lies on each way through `graph`, from a node without a predecessor to an output, up to MOST_PATHS ways.

        A way is its part, its first node's label, and then the operations in order: the labels of edges, and those of
        nodes that have a group, or of all nodes where no edge has a label. Outputs are the nodes without a successor;
        those labelled `output` only, if there are any.
        """
        import networkx as nx

        graph = self.graph(architecture)
        nodes = graph.nodes
        bare = not any("label" in data for _, _, data in graph.edges(data=True))
        ends = [node for node in graph if not graph.out_degree(node)]
        outputs = [node for node in ends if nodes[node].get("label") == "output"] or ends
        sources = [node for node in graph if not graph.in_degree(node)]
        ways = (way for source in sources for way in nx.all_simple_paths(graph, source, outputs))
        found = set()
        for way in islice(ways, MOST_PATHS):
            labels = [nodes[way[0]].get("part", ""), nodes[way[0]]["label"]]
            for edge in pairwise(way):
                labels += [graph.edges[edge]["label"]] if "label" in graph.edges[edge] else []
                labels += [nodes[edge[1]]["label"]] if bare or nodes[edge[1]].get("group") else []
            found.add(tuple(map(str, labels)))
        return frozenset(found)

    def describe(self, architecture: Architecture) -> str:
        """The architecture in a few lines of text; here: a line for each pick."""
        return "\n".join(lines_of(architecture))

    def notation(self, architecture: Architecture) -> str:
        """The architecture as one line of text, as those who made the space write it; here: its picks as JSON.

        By it the evaluator `tabular` finds what a table says of an architecture.
        """
        picks = architecture.to_dict()["picks"]
        return json.dumps(picks, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    def sizes(self, task: Task) -> Mapping[str, float]:
        """The options that only change the network's size, as they are for the task: `layers` (or `cells`), and
        `channels` or, where widths are what is chosen, a `multiplier` of them all, which a fidelity's `layers` and
        `width` change; here: none."""
        return {}

    def reduced(self, fidelity: Fidelity, task: Task) -> dict[str, float]:
        """The options with which the network has the fidelity's layers and width. Raises ConfigError where the space
        cannot change them."""
        sizes, changes = self.sizes(task), {}
        options = {"layers": ("layers", "cells"), "width": ("channels", "multiplier")}
        names = {field: [name for name in options[field] if name in sizes] for field in options}
        for field, asked in fidelity.reductions.items():
            if field not in names:
                continue
            if not names[field]:
                raise ConfigError(f"the space {self.known_as!r} cannot scale {field} (asked for {asked})")
            name = names[field][0]
            if asked > sizes[name]:
                raise ConfigError(f"the fidelity's {field} are {asked}; the networks have {sizes[name]} {name}")
            scaled = asked if field == "layers" else asked * sizes[name]
            changes[name] = scaled if name == "multiplier" else max(1, round(scaled))
        # a task of smaller images must not change the others
        return {**sizes, **changes} if {*fidelity.reductions} & {"layers", "width", "resolution"} else {}

    def check_supernet(self, task: Task) -> None:
        """Raises SpaceError where the space has no supernet, without building one."""
        from .choosers import EveryOption, shapes_only

        chooser = EveryOption()
        with shapes_only():
            self.for_recording(task).build(chooser, task)
        chooser.finished_gates(self.known_as)

    def for_recording(self, task: Task) -> Self:
        """A smaller space with the same decisions, recorded in this one's place to save time; here: itself."""
        return self

    def domain(self, task: Task) -> Domain:
        """All decisions of `build`, recorded on torch's `meta` device, where tensors have shapes but no memory."""
        from .choosers import EveryOption, shapes_only

        recorder = EveryOption()
        with shapes_only():
            self.for_recording(task).build(recorder, task)
        return self._domain(recorder.decisions, task)

    def model(self, architecture: Architecture, task: Task) -> nn.Module:
        """The architecture as a plain module on the CPU, freshly initialised, only the picked options built.

        Built with the architecture's own options of the space, where these differ. Raises ArchitectureError where the
        architecture lacks a pick.
        """
        from .choosers import OnlyPicked

        return self.at(architecture.options).build(OnlyPicked(architecture), task)

    def shape(self, architecture: Architecture, task: Task) -> nn.Module:
        """The same as `model` on the `meta` device: shapes without memory or values, to count with."""
        from .choosers import shapes_only

        with shapes_only():
            return self.model(architecture, task)

    def at(self, options: Mapping[str, Any]) -> Self:
        """The space with other options, without constraints; itself where all are its own."""
        changes = {name: value for name, value in options.items() if self._own_options.get(name) != value}
        return self._with(changes) if changes else self

    @cached_property
    def _own_options(self) -> Mapping[str, Any]:
        """As an architecture has them."""
        return Architecture("", self.recorded_settings(), {}).options

    def constrained(self, constraints: Sequence[str], table: LatencyTable | None = None) -> Self:
        """A copy that demands this of its architectures' costs, `parameters<=1e6`; without any where there are none.

        table: what foretells their latency from now on; the one that it has, where none is given.
        """
        from .cost import Constraint

        if not constraints and not self.constraints and table is None:
            return self
        space = copy(self)
        space.constraints = tuple(map(Constraint.parse, constraints))
        space.latency_table = table or self.latency_table
        return space

    def _with(self, changes: Mapping[str, Any]) -> Self:
        space = type(self)(**{**self.settings, **changes})
        space.known_as = self.known_as
        return space

    def supernet(self, task: Task) -> Supernet:
        """Every option at once, gates between them, on the CPU. Raises SpaceError where the space has none."""
        from .choosers import EveryOption
        from .supernet import Supernet

        chooser = EveryOption()
        module = self.build(chooser, task)
        return Supernet(module, self._domain(chooser.decisions, task), chooser.finished_gates(self.known_as))

    def _domain(self, decisions: Sequence[Decision], task: Task) -> Domain:
        violation = None if type(self).violation is SearchSpace.violation else self.violation
        if self.constraints:
            from .cost import Costs

            excess, own = Costs(self, task).violation(self.constraints), self.violation
            violation = lambda architecture: own(architecture) or excess(architecture)  # noqa: E731
        settings = self.recorded_settings()
        return Domain(self.known_as, settings, decisions, self.canonical, violation, self.count, self.paths)


def lines_of(architecture: Architecture) -> list[str]:
    """The picks, a line each, in the order of their names, `layer2` before `layer10`: the same however it was made."""
    picks = architecture.picks
    order = sorted(
        picks,
        key=lambda name: [
            (not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)
        ],
    )
    return [f"{name}: {' + '.join(pick) if isinstance(pick := picks[name], tuple) else pick}" for name in order]


def picks_in_a_row(architecture: Architecture) -> nx.DiGraph:
    """The graph of any architecture, whatever its space."""
    import networkx as nx

    labels = ["input", *lines_of(architecture), "output"]
    graph = nx.DiGraph()
    graph.add_nodes_from((index, {"label": label}) for index, label in enumerate(labels))
    nx.add_path(graph, range(len(labels)))
    return graph
