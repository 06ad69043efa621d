"""A chain's picks read again: its layers in order, as text, as a graph, and without those that do nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nasengine import Architecture

from .chain import CONVOLUTIONS

if TYPE_CHECKING:
    import networkx as nx

SHORT = {"convolution": "conv", "separable": "sep", "dilated": "dil", "grouped": "group"}


def rate_name(rate: float) -> str:
    """A rate of dropout as an option's name, which holds no point: `none`, `20%`."""
    return f"{100 * rate:g}%".replace(".", "_") if rate else "none"


@dataclass(frozen=True, slots=True)
class Picked:
    """One layer: what its picks, or the space's only options, say of it."""

    name: str
    architecture: Architecture

    def of(self, what: str) -> str:
        """The pick for the layer's `what`, or the only option there is; nothing where neither is one."""
        return _of(
            self.architecture,
            f"{self.name}.{what}",
            {"kernel": "kernels", "operation": "operations"}.get(what, f"{what}s"),
        )

    @property
    def label(self) -> str:
        """`conv 3×3, 32`, with normalisation, activation and dropout where these are picks."""
        operation, width = self.of("operation"), self.of("width")
        width += f", stride {self.of('stride')}" if self.of("stride") not in ("", "1") else ""
        if operation not in CONVOLUTIONS:
            return f"{operation.replace('_', ' ')}, {width}"
        kernel = self.of("kernel")
        around = [self.architecture.picks.get(f"{self.name}.{what}") for what in ("norm", "activation", "dropout")]
        shown = [str(pick) for pick in around[:2] if pick not in (None, "none")]
        shown += [f"dropout {around[2]}"] if around[2] not in (None, "none") else []
        return ", ".join([f"{SHORT[operation]} {kernel}×{kernel}, {width}", *shown])

    def ways(self) -> Iterator[tuple[int, str]]:
        """Shortcuts and joins: (index of the state that they come from, what they are)."""
        index = int(self.name.rpartition("layer")[2])
        for name, pick in self.architecture.picks.items():
            if name.startswith(f"{self.name}.skip") and pick != "none":
                yield index + 1 - int(name.rpartition("skip")[2]), str(pick)
            elif name.startswith(f"{self.name}.takes") and pick:
                yield int(name.rpartition("takes")[2]), "join"


def _of(architecture: Architecture, name: str, option: str) -> str:
    if name in architecture.picks:
        return str(architecture.picks[name])
    allowed = architecture.options.get(option, ())
    return str(allowed[0]) if isinstance(allowed, tuple) and len(allowed) == 1 else ""


def stages(architecture: Architecture) -> list[tuple[str, list[Picked]]]:
    """Each stage's reduction (nothing where it has none), and its layers."""
    found: list[tuple[str, list[Picked]]] = []
    while (depth := architecture.picks.get(f"stage{(stage := len(found))}.depth")) is not None:
        layers = [Picked(f"stage{stage}.layer{index}", architecture) for index in range(int(str(depth)))]
        reduction = _of(architecture, f"stage{stage}.reduction", "reductions") if stage > 0 else ""
        if width := _of(architecture, f"stage{stage}.transition.width", "") if stage > 0 else "":
            reduction = f"conv 1×1, {width}, {reduction}"
        found.append((reduction.replace("_", " "), layers))
    return found


def head(architecture: Architecture) -> str:
    """`flatten, 2 × fully connected 120, 84`: what comes after the stages."""
    kind = _of(architecture, "head", "heads").replace("_", " ")
    count = int(str(architecture.picks.get("head.layers", 0)))
    widths = [_of(architecture, f"head.layer{index}.width", "hidden_widths") for index in range(count)]
    return ", ".join([kind, *(f"fully connected {width}" for width in widths)])


def describe(architecture: Architecture) -> str:
    lines = []
    for number, (reduction, layers) in enumerate(stages(architecture)):
        parts = [f"({reduction})"] if reduction else []
        for layer in layers:
            ways = "".join(f" + {kind} of {_state(source)}" for source, kind in layer.ways() if kind != "join")
            joined = [str(source) for source, kind in layer.ways() if kind == "join"]
            parts.append(layer.label + ways + (f" (joins {_ranges(joined)})" if joined else ""))
        lines.append(f"stage {number}: {' → '.join(parts)}")
    return "\n".join([*lines, f"head: {head(architecture)} → classifier"])


def _state(index: int) -> str:
    return "the stage's input" if index == 0 else f"layer {index - 1}"


def _ranges(numbers: list[str]) -> str:
    """`0–10`, or `0, 2, 5`."""
    first, last = int(numbers[0]), int(numbers[-1])
    whole = len(numbers) > 2 and len(numbers) == last - first + 1
    return f"{first}–{last}" if whole else ", ".join(numbers)


def graph(architecture: Architecture) -> nx.DiGraph:
    import networkx as nx

    drawn = nx.DiGraph()
    drawn.add_node("input", label="input")
    last = "input"

    def then(node: str, label: str, group: str | None = None) -> None:
        nonlocal last
        drawn.add_node(node, label=label, group=group)
        drawn.add_edge(last, node)
        last = node

    for number, (reduction, layers) in enumerate(stages(architecture)):
        if reduction and reduction != "stride":
            then(f"reduction {number}", reduction, "reduction")
        states = [last]
        for layer in layers:
            stride = ", stride 2" if reduction == "stride" and len(states) == 1 else ""
            convolution, _, rest = (layer.label + stride).partition(", ")
            width, _, around = rest.partition(", ")
            then(layer.name, f"{convolution}, {width}" + (f"\n{around}" if around else ""), layer.of("operation"))
            for source, kind in layer.ways():
                drawn.add_edge(states[source], last, **({} if kind == "join" else {"label": kind}))
            states.append(last)
    for index, text in enumerate(head(architecture).split(", ")):
        then(f"head {index}", text)
    then("output", "classifier")
    return drawn


def without_identities(architecture: Architecture) -> Architecture:
    """The layers that follow an identity which changes nothing move up by one, and the stage is one less deep."""
    picks: Mapping[str, object] = architecture.picks
    if len(architecture.options["operations"]) > 1 and not _any_idle(architecture.picks):
        return architecture
    for stage, (_, layers) in enumerate(stages(architecture)):
        kept = [layer for i, layer in enumerate(layers) if i == 0 or not _does_nothing(layer, layers[i - 1])]
        if len(kept) == len(layers):
            continue
        prefix = f"stage{stage}.layer"
        moved = {name: pick for name, pick in picks.items() if not name.startswith(prefix)}
        for index, layer in enumerate(kept):
            own = {name: pick for name, pick in picks.items() if name.startswith(f"{layer.name}.")}
            moved |= {f"{prefix}{index}{name.removeprefix(layer.name)}": pick for name, pick in own.items()}
        picks = {**moved, f"stage{stage}.depth": len(kept)}
    if picks is architecture.picks:
        return architecture
    places = {name: place for place, name in enumerate(architecture.picks)}
    ordered = sorted(picks, key=lambda name: places.get(name, -1))
    return architecture.with_picks({name: picks[name] for name in ordered})  # type: ignore[misc]


def _any_idle(picks: Mapping[str, object]) -> bool:
    """Whether `_does_nothing` may say so of a layer, where operations are picked: a glance, for every draw is asked."""
    for name, pick in picks.items():
        if pick == "identity" and name.endswith(".operation"):
            layer = name.removesuffix(".operation")
            stage, _, index = layer.rpartition("layer")
            before = f"{stage}layer{int(index) - 1}"
            same = picks.get(f"{layer}.width") == picks.get(f"{before}.width")  # none is picked where there is but one
            if int(index) and same and picks.get(f"{layer}.stride", "1") in ("1", 1):
                return True
    return False


def _does_nothing(layer: Picked, before: Picked) -> bool:
    if layer.of("operation") != "identity":  # as nearly all are
        return False
    return layer.of("width") == before.of("width") and layer.of("stride") in ("", "1")
