"""`nas list`: the plugins that are installed."""

from __future__ import annotations

from typing import Annotated

import typer

from .run import Json

KINDS = {"spaces": "space", "strategies": "strategy", "evaluators": "evaluator", "tasks": "task"}


def list_plugins(
    kind: Annotated[
        str | None, typer.Argument(metavar="[spaces|strategies|evaluators|tasks]", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """List the plugins that are installed. Nothing is imported, so a broken plugin is listed as well."""
    from ..errors import ConfigError, near_miss
    from ..registry import installed

    if kind is not None and kind not in KINDS and kind not in KINDS.values():
        raise ConfigError(f"{kind!r} is no kind of plugin.{near_miss(kind, KINDS)} Kinds: {', '.join(KINDS)}")
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
