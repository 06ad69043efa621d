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
    """List the plugins that are installed, spaces and tasks by the family of models that they are for.

    Nothing is imported, so a broken plugin is listed as well.

    `nas list references` lists the well-known networks that are points of the installed spaces.
    """
    from ..errors import ConfigError, near_miss
    from ..families import family_of
    from ..registry import installed

    if kind in ("reference", "references"):
        return _references(json)
    if kind is not None and kind not in KINDS and kind not in KINDS.values():
        kinds = [*KINDS, "references"]
        raise ConfigError(f"{kind!r} is no kind of plugin.{near_miss(kind, kinds)} Kinds: {', '.join(kinds)}")
    wanted = [name for plural, name in KINDS.items() if kind in (None, plural, name)]
    rows = [plugin for name in wanted for plugin in installed(name)]  # type: ignore[arg-type]
    families = [family_of(row.target) if row.kind in ("space", "task") else "" for row in rows]
    if json:
        import json as encoder
        from dataclasses import asdict

        shown = [{**asdict(row), "family": family} for row, family in zip(rows, families, strict=True)]
        typer.echo(encoder.dumps(shown, indent=2))
        return
    widths = [max((len(row.kind) for row in rows), default=0) + 2, max((len(row.name) for row in rows), default=0) + 2]
    groups = sorted(set(families), key=lambda family: (not family, family))  # what has no family is for all, and last
    for group in groups:
        if len(groups) > 1:
            typer.echo(f"{'' if group == groups[0] else chr(10)}{group or 'for all families'}")
        for row, family in zip(rows, families, strict=True):
            if family == group:
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
