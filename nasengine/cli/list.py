"""`nas list`: the plugins that are installed, and the well-known networks of the search spaces."""

from __future__ import annotations

from typing import Annotated

import typer

from .run import Json

KINDS = {
    "spaces": "space",
    "strategies": "strategy",
    "evaluators": "evaluator",
    "tasks": "task",
    "stoppers": "stopper",
}


def list_plugins(
    kind: Annotated[
        str | None,
        typer.Argument(metavar="[spaces|strategies|evaluators|tasks|stoppers|references]", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """List the plugins that are installed. Nothing is imported, so a broken plugin is listed as well.

    `nas list references` lists the well-known networks that are points of the installed spaces.
    """
    from ..errors import ConfigError, near_miss
    from ..registry import installed

    if kind in ("reference", "references"):
        return _references(json)
    if kind is not None and kind not in KINDS and kind not in KINDS.values():
        kinds = [*KINDS, "references"]
        raise ConfigError(f"{kind!r} is no kind of plugin.{near_miss(kind, kinds)} Kinds: {', '.join(kinds)}")
    wanted = [name for plural, name in KINDS.items() if kind in (None, plural, name)]
    rows = [plugin for name in wanted for plugin in installed(name)]  # type: ignore[arg-type]
    if json:
        import json as encoder
        from dataclasses import asdict

        typer.echo(encoder.dumps([asdict(row) for row in rows], indent=2))
        return
    widths = [max((len(row.kind) for row in rows), default=0) + 2, max((len(row.name) for row in rows), default=0) + 2]
    for row in rows:
        typer.echo(f"{row.kind:<{widths[0]}}{row.name:<{widths[1]}}{row.distribution} {row.version}")
    if not rows:
        typer.echo("none are installed")


def _references(json: bool) -> None:
    from ..reference import references

    found = references()
    if json:
        import json as encoder

        typer.echo(encoder.dumps([{"name": name, **a.to_dict()} for name, a in found.items()], indent=2))
        return
    width = max(map(len, found), default=0) + 2
    for name, architecture in found.items():
        typer.echo(f"{name:<{width}}{architecture.space}")
