"""`nas grafana`: a dashboard of the metrics that a run on Ray exports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def grafana(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where to write.  [default: stdout]")
    ] = None,
) -> None:
    """Write a Grafana dashboard for the metrics of runs on Ray, as JSON to import."""
    import json

    from ..executors.grafana import dashboard

    text = json.dumps(dashboard(), indent=2)
    if out is None:
        typer.echo(text)
        return
    from ..errors import ConfigError

    try:
        out.write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"the dashboard {out} cannot be written: {error.strerror}") from None
    typer.echo(f"{out}: import it in Grafana (Dashboards, New, Import)")
