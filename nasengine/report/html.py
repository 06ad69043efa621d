"""A run as one page of HTML that needs nothing else: to keep, to send, to print. No script, no request to anywhere."""

from __future__ import annotations

import io
import re
import warnings
from base64 import b64encode
from collections.abc import Callable
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..calibration import table as worth_table
from ..errors import NasError, RunError
from ..pictures import pictures
from ..wording import duration, figures, gain, judged_on
from . import facts, plots
from .drawing import Direction, draw
from .importance import importance

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup
    from matplotlib.figure import Figure

    from ..run import Run
    from ..trial import Trial

SCREEN, PHONE = 10.0, 0.0  # inches up to which a drawing's parts stand side by side: their text stays readable


def write(run: Run, path: Path | None = None) -> Path:
    """The report as a file, by default `report.html` in the run's folder. Raises RunError if it cannot be written."""
    path = path or run.folder / "report.html"
    text = page(run)
    try:
        path.write_bytes(text.encode("utf-8", "replace"))
    except OSError as error:
        raise RunError(f"the report {path} cannot be written: {error.strerror}") from None
    return path


def page(run: Run) -> str:
    """The report's HTML. What cannot be drawn is left out with a sentence of why."""
    best = facts.found(run)
    weighed = importance(run)
    comparison = run.comparison()
    causes, more_causes = facts.failures(run)
    several = len(run.objectives) > 1
    notes: list[str] = []
    return _template("template.html").render(
        run=run,
        title=facts.title(run.config),
        alone=facts.trained(run.config) is not None,
        best=best,
        tiles=_tiles(run, best),
        verdict=facts.verdict(comparison) if comparison else None,
        gain=f"{gain(comparison)}{judged_on(comparison)}" if comparison else None,
        found=_architecture(run, best, notes) if best else None,
        others=[_architecture(run, trial, notes) for trial in facts.runners_up(run)],
        notes=list(dict.fromkeys(notes)),
        pictures=[(path.stem, b64encode(path.read_bytes()).decode()) for path in pictures(run.folder)],
        said=facts.notes(run),
        best_so_far=_figure(lambda: plots.best_so_far(run), "Best value so far over the trials"),
        over_time=_figure(lambda: plots.best_so_far(run, "seconds"), "Best value so far over the seconds of the run"),
        curves=_figure(lambda: plots.curves(run), "Learning curves"),
        front=_figure(lambda: plots.front(run), "Pareto front") if several else None,
        front_rows=[_values(run, trial) for trial in run.front()] if several else [],
        importance=_figure(lambda: plots.importance(run, weighed), "Importance of the decisions"),
        weighed=weighed,
        funnel=facts.stages(run) if len(run.stages) > 1 else [],
        worth=worth_table(run.calibration()),
        calibration=_figure(run.plot_calibration, "Cheap judgements against dear ones")
        if len(run.stages) > 1
        else None,
        against=_figure(lambda: plots.against_random(run), "The architecture found and random ones"),
        comparison=comparison,
        states=_figure(lambda: plots.states(run), "Trials by state"),
        by_state=facts.by_state(run),
        costs=facts.costs(run),
        causes=causes,
        more_causes=more_causes,
        table=facts.table(run),
        settings=facts.settings(run),
        plugins=facts.plugins(run),
        machine=list(run.about["environment"].items()),
        in_memory=run.about.get("in_memory", []),
        command=facts.command(run.config),
        yaml=facts.shareable(run.config.to_yaml()),
        duration=duration(run.seconds),
        today=datetime.now().strftime("%Y-%m-%d %H:%M"),
    )


def card(run: Run) -> str:
    """A few lines of HTML with two figures, for a notebook."""
    best = facts.found(run)
    comparison = run.comparison()
    return _template("card.html").render(
        run=run,
        title=facts.title(run.config),
        alone=facts.trained(run.config) is not None,
        tiles=_tiles(run, best),
        verdict=facts.verdict(comparison) if comparison else None,
        found=_architecture(run, best, []) if best else None,
        best_so_far=_figure(lambda: plots.best_so_far(run), "Best value so far over the trials"),
    )


def svg(figure: Figure, label: str) -> Markup:
    """A figure as an SVG element to stand within HTML: text as text, nothing that names another place."""
    import matplotlib
    from markupsafe import Markup, escape

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "nasengine"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's browser has other fonts
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = re.sub(r"^.*?(?=<svg )|<metadata>.*?</metadata>|<!--.*?-->", "", buffer.getvalue(), flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    used = set(re.findall(r'(?:href="|url\()#([\w-]+)', text))
    text = re.sub(r' id="([\w.-]+)"', lambda match: match[0] if match[1] in used else "", text)
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0]), text)  # 1/100 point is fine enough
    width, height = (72 * inches for inches in figure.get_size_inches())
    size = f'viewBox="0 0 {width:.2f} {height:.2f}" style="--width: {width:.0f}"'
    opening = f'<svg role="img" aria-label="{escape(label)}" {size}'
    return Markup(re.sub(r"\s+", " ", re.sub(r"^<svg [^>]*", opening, text)).replace("> <", "><"))


def _figure(make: Callable[[], Figure], label: str) -> dict[str, Any]:
    """The figure, or the sentence that says why there is none."""
    try:
        return {"svg": svg(make(), label), "why": None}
    except NasError as error:
        return {"svg": None, "why": str(error)}


def _architecture(run: Run, trial: Trial, notes: list[str]) -> dict[str, Any]:
    """A trial's architecture: drawn for a wide and for a narrow page, described, measured."""
    architecture = trial.architecture
    if architecture is None:
        return {"trial": trial, "wide": None, "narrow": None, "lines": "", "figures": [], "id": ""}
    try:
        _ = run.space
    except NasError as error:
        notes.append(f"The picks are shown as they are, for the space cannot be made again: {error}")
    label = f"Architecture {architecture.short}"
    drawn: dict[str, Markup | None] = {}
    ways: tuple[tuple[str, Direction, float], ...] = (("wide", "right", SCREEN), ("narrow", "down", PHONE))
    for name, direction, page in ways:
        try:
            drawn[name] = svg(draw(run, architecture, direction, page), label)
        except NasError as error:
            notes.append(f"The architecture could not be drawn: {error}")
            drawn[name] = None
    lines = run.describe(architecture)
    return {"trial": trial, **drawn, "lines": lines, "figures": figures(run, trial), "id": architecture.short}


def _tiles(run: Run, best: Trial | None) -> list[tuple[str, str]]:
    """The numbers on top."""
    measured = figures(run, best) if best else []
    measured.sort(key=lambda item: not item[0].startswith("test "))
    return [*measured, ("trials", f"{len(run.all_trials):,}"), ("time", duration(run.seconds))]


def _values(run: Run, trial: Trial) -> list[str]:
    from ..wording import metric

    values = [metric(objective.metric, trial.metrics[objective.metric]) for objective in run.objectives]
    return [str(trial.number), *values, trial.architecture.short if trial.architecture else ""]


def _template(name: str) -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(files(__package__).joinpath(name).read_text(encoding="utf-8"))
