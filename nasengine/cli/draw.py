"""`nas draw`: an architecture as a picture."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import networkx as nx

    from ..architecture import Architecture
    from ..domain import Domain
    from ..space import SearchSpace


class Way(StrEnum):
    """Where the layers go."""

    RIGHT = "right"
    DOWN = "down"


def draw(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RUN|FILE|NAME|SPACE",
            help="A run's folder, an architecture's .json, a well-known network, or a space.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="Where to write: a .svg, .png or .pdf.  [default: NAME.svg, here]"
        ),
    ] = None,
    trial: Annotated[
        int | None, typer.Option(metavar="N", help="Of a run: that trial's architecture, not the one found.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of a space: another seed gives another architecture.")] = 0,
    task: Annotated[str, typer.Option(help="What a space or an architecture's .json is for.")] = "digits",
    direction: Annotated[Way, typer.Option(help="Where the layers go.")] = Way.RIGHT,
) -> None:
    """Draw an architecture, for a paper or a slide: `nas draw RUN -o found.pdf`.

    RUN: what a run has found so far, or one of its trials. FILE: an architecture's JSON, as `nas export` writes it.
    NAME: a well-known network, such as `vgg16`. SPACE: a random architecture of a space, such as `cell:nodes=3`;
    `space:NAME` where another thing has that name, too.

    Cells and other parts stand side by side where a page is wide enough. Text has one size, 9 points, in all pictures.
    """
    from ..errors import ConfigError
    from ..report.drawing import draw_graph, format_of, save

    if out is not None:
        format_of(out)
    path = Path(what).expanduser()
    if trial is not None and not path.is_dir():
        raise ConfigError(f"--trial {trial} is a trial of a run, and there is no run's folder {what}")
    if path.is_dir():
        name, graph = path.resolve().name, _of_run(path, trial)
        name += f"-trial-{trial}" if trial is not None else ""
    elif path.is_file():
        name, graph = path.stem, _of_file(path, task)
    else:
        name, graph = _of_name(what, seed, task)
    typer.echo(save(draw_graph(graph, direction.value), out or Path(f"{name}.svg")))


def _of_run(folder: Path, number: int | None) -> nx.DiGraph:
    from ..report.drawing import graph_of, trial_of
    from ..run import Run

    run = Run(folder)
    return graph_of(run, trial_of(run, number))


def _of_file(path: Path, task: str) -> nx.DiGraph:
    """Picks in a row where the architecture's space is not here. Raises NasError where there is no architecture."""
    from ..errors import ArchitectureError, NasError
    from ..parts import named_architecture
    from ..space import picks_in_a_row

    architecture = named_architecture(str(path))
    try:
        space = _space(architecture.space, architecture.options)
    except NasError as error:
        print(f"nas: the picks are drawn in a row, for the space cannot be made again: {error}", file=sys.stderr)
        return picks_in_a_row(architecture)
    try:
        _domain(space, task).validate(architecture)
    except ArchitectureError as error:
        raise ArchitectureError(
            f"{path} holds no architecture of the space {space.known_as!r} for the task {task!r}: {error}"
        ) from None
    return _graph(space, architecture)


def _of_name(what: str, seed: int, task: str) -> tuple[str, nx.DiGraph]:
    """A well-known network, or a sample of a space; the name of the picture, and its graph."""
    import numpy as np

    from ..errors import ConfigError, near_miss
    from ..reference import references
    from ..registry import installed, split

    name, options = split(what.removeprefix("space:"))
    known = {} if what.startswith("space:") else references()
    if name in known:
        if options:
            raise ConfigError(f"{name!r} is a well-known network, which has no options: {what!r}")
        return name, _graph(_space(known[name].space, known[name].options), known[name])
    spaces = [plugin.name for plugin in installed("space")]
    if not (what.startswith("space:") or name in spaces or ":" in name):
        raise ConfigError(
            f"there is no {what!r} to draw.{near_miss(name, [*known, *spaces])} It may be a run's folder, an "
            f"architecture's .json, or a name that these list: nas list references, nas list spaces"
        )
    space = _space(name, options)
    architecture = _domain(space, task).sample(np.random.default_rng(seed))
    sampled = f"a random architecture of the space {name!r} for the task {task!r}: seed {seed}, id {architecture.short}"
    print(sampled, file=sys.stderr)
    return Path(name.partition(":")[0]).stem, _graph(space, architecture)


def _space(name: str, options: Mapping[str, Any]) -> SearchSpace:
    from ..registry import make

    return make("space", name, dict(options))  # type: ignore[return-value]


def _domain(space: SearchSpace, task: str) -> Domain:
    """Raises PluginError where the space cannot be built for the task."""
    from ..errors import NasError, PluginError, one_line
    from ..registry import make, split

    made: Any = make("task", *split(task))
    try:
        return space.domain(made)
    except NasError:
        raise
    except Exception as error:
        raise PluginError(
            f"the space {space.known_as!r} cannot be built for the task {task!r} ({one_line(error)}); choose its task "
            f"with --task"
        ) from error


def _graph(space: SearchSpace, architecture: Architecture) -> nx.DiGraph:
    """Raises PluginError where the space fails to give one."""
    from ..errors import NasError, PluginError, one_line

    try:
        return space.graph(architecture)
    except NasError:
        raise
    except Exception as error:
        raise PluginError(
            f"the space {space.known_as!r} fails to draw {architecture.short}: {one_line(error)}"
        ) from error
