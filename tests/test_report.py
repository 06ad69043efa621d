"""Figures, drawings and the report: what they say is so, they stay legible, and nothing of a user's own breaks them."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from torch import nn

import nasengine
from nasengine import (
    Architecture,
    Chooser,
    Comparison,
    Context,
    Derivation,
    Evaluator,
    Fidelity,
    Metrics,
    Observer,
    OneShotStrategy,
    Run,
    RunError,
    RunFailed,
    SearchSpace,
    Supernet,
    Task,
)
from nasengine.config import Config
from nasengine.report import drawing, facts, html, layout, plots, style
from nasengine.report.importance import FEWEST, importance
from nasengine.search_spaces.cell import CellSpace
from nasengine.search_spaces.chain import ChainSpace
from nasengine.testing import TinySpace, TinyTask
from nasengine.wording import gain

PARTS = Path(__file__).parent / "parts" / "cheap.py"
CHAIN = "chain:stages=1,layers=2,widths=[4,8],"
CHAIN += "kernels=[3],activations=[relu],norms=[batch],dropouts=[0.0],heads=[average],hidden_layers=0"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = "<script>alert(\"1\")</script> & 'x' $\\frac{ \x07 \N{SNOWMAN}"

Box = tuple[float, float, float, float]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished search of two objectives, with curves."""
    return nasengine.search(
        CHAIN, "random", evaluator=Judge(), trials=30, baseline=3, durable=False,
        objectives=("accuracy:max", "latency:min"), out=tmp_path_factory.mktemp("finished") / "run",
    )  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished search whose report is soon made."""
    return nasengine.search(
        CHAIN, "random", evaluator=Judge(), trials=2, baseline=0, durable=False,
        out=tmp_path_factory.mktemp("small") / "run",
    )  # fmt: skip


@pytest.fixture(scope="module")
def page(finished: Run) -> str:
    """Its report."""
    return html.page(finished)


class Judge(Evaluator):
    """Two numbers from an architecture's id, by four epochs."""

    def evaluate(self, architecture: Architecture, fidelity: Fidelity, context: Context) -> Iterator[Metrics]:  # type: ignore[override]
        one, two = int(architecture.id[:8], 16) / 16**8, int(architecture.id[8:16], 16) / 16**8
        for epoch in context.epochs(4):
            yield {"accuracy": one * (epoch + 1) / 4, "latency": 0.01 + two}
        return {"accuracy": one, "latency": 0.01 + two}  # type: ignore[return-value]


class Grid(SearchSpace):
    """Three decisions of three options each."""

    def build(self, choose: Chooser, task: Task) -> nn.Module:
        layers = [choose.one(name, {o: nn.Identity for o in "xyz"}) for name in ("much", "little", "nothing")]
        return nn.Sequential(nn.Flatten(), *layers, nn.Linear(16, task.classes))


class Planted(Evaluator):
    """3 a + b, of which by the analysis of variance a explains nine tenths and b one."""

    def evaluate(self, architecture: Architecture, fidelity: Fidelity, context: Context) -> Metrics:
        return {
            "accuracy": (
                "xyz".index(str(architecture.picks["much"])) * 3 + "xyz".index(str(architecture.picks["little"]))
            )
            / 8
        }


class Page(HTMLParser):
    """What stands on a page: its elements, the text outside of style, addresses, and the ids named and given."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.words: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self._inside: list[str] = []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self._inside.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.add(value or "")
            elif name in ("href", "src", "xlink:href", "action", "data"):
                self.links.add(value or "")
            self.links |= set(re.findall(r"url\((.*?)\)", value or ""))

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" not in self._inside:
            self.words.append(data)


# the page


def test_the_page_needs_no_network_no_script_and_no_other_file(page: str) -> None:
    text, page_read = page, Page(page)
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & set(page_read.elements)
    assert page_read.elements.count("svg") > 8
    assert page_read.links
    assert all(link.startswith("#") and link[1:] in page_read.ids for link in page_read.links), (
        "a link leads out of the page"
    )
    assert "://" not in text
    assert "@import" not in text


def test_the_page_says_what_was_found_how_it_compares_and_what_was_tried(finished: Run, page: str) -> None:
    text = Page(page).text
    comparison = finished.comparison()
    assert comparison is not None
    assert facts.verdict(comparison) in text
    assert f"{100 * finished.best.metrics['accuracy']:.2f} %" in text
    for trial in [finished.best, *finished.front(), *facts.runners_up(finished)]:
        assert trial.architecture is not None
        assert trial.architecture.short in text
    for expected in ("finished", "30 done", "Seed 0", "widths = 4, 8", "accuracy:max, latency:min", "Python"):
        assert expected in text
    assert "unfinished" not in text


def test_two_reports_of_a_run_differ_in_their_date_alone(finished: Run, page: str) -> None:
    again = html.page(Run(finished.folder, {"evaluator": Judge()}))
    first, second = (re.sub(r"Made on [\d: -]+", "", text) for text in (page, again))
    assert first == second


@pytest.mark.parametrize(
    ("found", "others", "says"),
    [
        (0.95, (0.80, 0.81, 0.82), "a gain of 14.0 points, more than the ± 1.0 points by which they vary"),
        (0.95, (0.94, 0.97, 0.93), "no clear gain, for random architectures alone vary by ± 2.1 points"),
        (0.70, (0.80, 0.81, 0.82), "they did as well or better"),
        (0.95, (0.90,), "a gain of 5.0 points, though a single one is little to compare with"),
        (0.80, (0.90,), "it did as well or better"),
    ],
)
def test_the_verdict_is_honest(found: float, others: tuple[float, ...], says: str) -> None:
    mean, spread = float(np.mean(others)), float(np.std(others, ddof=1)) if len(others) > 1 else 0.0
    verdict = facts.verdict(Comparison("test_accuracy", found, others, found - mean, spread))
    assert says in verdict
    assert f"{100 * found:.2f} %" in verdict
    assert f"{100 * mean:.2f} %" in verdict
    assert verdict.endswith(".")
    assert "\n" not in verdict


def test_a_gain_that_rounds_to_nothing_has_no_minus() -> None:
    assert "+0.0 points" in gain(Comparison("test_accuracy", 0.9889, (0.9893,), -0.0004, 0.0))


class HostileSpace(SearchSpace):
    """Names that are markup, formulas and bells."""

    def __init__(self, seen: object) -> None:
        self.seen = seen

    def build(self, choose: Chooser, task: Task) -> nn.Module:
        options = {f"{HOSTILE} {i}": nn.Identity for i in range(4)}
        return nn.Sequential(nn.Flatten(), choose.one(HOSTILE, options), nn.Linear(16, task.classes))


class HostileJudge(Evaluator):
    def __init__(self) -> None:
        self.count = 0

    def evaluate(self, architecture: Architecture, fidelity: Fidelity, context: Context) -> Metrics:
        self.count += 1
        if self.count % 2:
            raise ValueError(f"{HOSTILE} {'long' * 100} \ud800")
        return {HOSTILE: float(self.count), "accuracy": 0.5}


def test_names_and_errors_of_the_users_own_are_text_and_nothing_else(tmp_path: Path) -> None:
    run = nasengine.search(
        HostileSpace(object()), "random", TinyTask(), evaluator=HostileJudge(), trials=6, baseline=0, max_failures=1,
        objectives=(f"{HOSTILE.replace(':', '')}:max", "accuracy"), out=tmp_path / "<b>run</b>",
    )  # fmt: skip
    page = Page(html.write(run, tmp_path / "page.html").read_bytes().decode())
    assert "script" not in page.elements
    assert '<script>alert("1")</script>' in page.text
    assert "<b>run</b>" in page.text
    card = Page(run._repr_html_())
    assert "script" not in card.elements
    for figure in (run.draw(), run.plot_best(), run.plot_front(), plots.states(run)):
        figure.savefig(tmp_path / "figure.png")


def test_an_unfinished_run_has_a_report_that_says_so(tmp_path: Path) -> None:
    class Stops(Observer):
        left = 4

        def ended(self, trial: nasengine.Trial) -> None:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nasengine.search(
            CHAIN, "random", evaluator=f"{PARTS}:Stepwise", trials=9, observer=Stops(), out=tmp_path / "run"
        )
    text = Page(html.page(Run(tmp_path / "run"))).text
    assert "unfinished" in text
    assert f"Go on with: nas resume {tmp_path / 'run'}" in text
    assert "it has not been compared with random architectures" in text
    assert "The architecture that is best so far" in text


def test_a_run_without_a_usable_trial_has_a_report_with_the_causes(tmp_path: Path) -> None:
    with pytest.raises(RunFailed):
        nasengine.search(CHAIN, "random", evaluator=f"{PARTS}:Faulty:how=raise,every=1", trials=3, out=tmp_path / "run")
    run = Run(tmp_path / "run")
    text = Page(html.page(run)).text
    assert "no trial has given a usable result" in text
    assert "ValueError: this candidate is not for us 3 trials: 0, 1, 2" in text
    assert "No architecture was judged" in text
    assert "<svg" not in run._repr_html_()
    for figure in (run.plot_best, run.plot_curves, run.plot_front, run.plot_importance, run.draw):
        with pytest.raises(RunError):
            figure()


class Unnamed(TinySpace):
    def __init__(self, made_by: object) -> None:
        self.made_by = made_by


def test_a_space_that_cannot_be_made_again_is_drawn_from_its_picks_and_the_page_says_so(tmp_path: Path) -> None:
    given = nasengine.search(Unnamed(object()), "random", TinyTask(), trials=3, baseline=1, out=tmp_path / "run")
    run = Run(given.folder)
    page = Page(html.page(run))
    assert "the space cannot be made again" in page.text
    assert "repeat the run from Python" in page.text
    architecture = run.best.architecture
    assert architecture is not None
    shown = texts(run.draw())
    assert all(any(name in text for text in shown) for name in architecture.picks)


def test_the_page_of_a_long_run_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nasengine.report.importance.MOST", 50)  # the page is not larger for it, only slower
    run = nasengine.search(
        "chain", "random", evaluator=f"{PARTS}:Cheap", trials=650, baseline=0, durable=False, out=tmp_path / "run"
    )
    assert len(run.all_trials) > 640
    best = plots.best_so_far(run).axes[0].lines
    assert all(len(xs(line)) < 2 * plots.POINTS for line in best)
    scores = [t.metrics["accuracy"] for t in run.all_trials if t.purpose == "search"]
    drawn = ys(best[1])
    assert set(drawn) == set(100 * np.maximum.accumulate(scores)), "thinning must keep every step"
    assert len(html.page(run)) < 250_000


def test_the_command_on_the_page_asks_for_the_same_run() -> None:
    from typer.main import get_command

    from nasengine.cli import app

    config = Config.of(
        {
            "space": {"chain": {"stages": 1, "widths": [4, 8]}}, "strategy": "evolution:population=4", "task": "digits",
            "evaluator": {"./it's mine.py:Mine": {"note": "two words, no=yes"}}, "seed": 7, "trials": 9,
            "time_limit": "1.5h", "objectives": ("accuracy", "parameters:min"), "fidelity": "epochs=2,data=0.5",
            "baseline": 0, "max_failures": 0.25, "workers": 2, "time_per_trial": "90s", "dashboard": True,
        }
    )  # fmt: skip
    command = facts.command(config.model_copy(update={"evaluator": Config().evaluator}))
    assert command is not None
    import shlex

    words = shlex.split(command)
    assert words[:2] == ["nas", "run"]
    context = get_command(app).commands["run"].make_context("run", words[2:])  # type: ignore[attr-defined]
    given = {name: value for name, value in context.params.items() if name in Config.model_fields and value is not None}
    given["objectives"] = tuple(context.params["objective"])
    assert Config.of(given) == config.model_copy(update={"evaluator": Config().evaluator})
    assert facts.command(config) is None, "an option that a command would take for two must not be offered as one"


def test_a_training_alone_is_reported_as_one_and_not_as_a_search(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = nasengine.train("mlp", "digits", "train:epochs=1", options="multiplier=0.5", out=out, threads=1)
    command = facts.command(run.config)
    assert command == "nas train mlp --evaluator train:epochs=1 --options multiplier=0.5 --threads 1"
    text = html.page(run)
    assert "mlp trained on digits" in text
    for search in ("searched by", "random", "Which decisions mattered", "1 trials"):
        assert search not in text.split("<body>")[1].split("What was asked")[0]


def test_no_command_is_given_for_what_stands_in_no_command() -> None:
    table = {"format": "nasengine latency table 1"}
    assert facts.command(Config().model_copy(update={"latency_table": table})) is None
    assert facts.command(Config().model_copy(update={"start_from": ({"space": "cell"},), "trials": 0})) is None
    final = Config.of({"final": "layers=20,channels=36"})
    assert "--final layers=20,channels=36" in str(facts.command(final))


def test_passwords_in_addresses_stay_out_of_the_page() -> None:
    assert facts.shareable("data: s3://me:secret@host/x, http://host/@y") == "data: s3://…@host/x, http://host/@y"


# the figures


def xs(line: Any) -> list[float]:
    values: list[float] = np.asarray(line.get_xdata(), float).tolist()
    return values


def ys(line: Any) -> list[float]:
    values: list[float] = np.asarray(line.get_ydata(), float).tolist()
    return values


def test_the_best_so_far_is_the_running_best(finished: Run) -> None:
    scores = [t.metrics["accuracy"] for t in finished.all_trials if t.purpose == "search"]
    dots, line, _ = plots.best_so_far(finished).axes[0].lines
    assert ys(dots) == pytest.approx([100 * score for score in scores])
    assert ys(line) == pytest.approx(list(100 * np.maximum.accumulate(scores)))
    assert xs(line) == list(range(1, 31))
    times = xs(plots.best_so_far(finished, "seconds").axes[0].lines[1])
    assert times == sorted(times)
    assert times[-1] <= finished.seconds


def test_the_best_of_what_is_to_be_small_is_the_smallest(tmp_path: Path) -> None:
    run = nasengine.search(
        CHAIN, "random", evaluator=Judge(), trials=12, baseline=0, objectives=("latency:min",), out=tmp_path / "run"
    )
    line = ys(run.plot_best().axes[0].lines[1])
    assert line == sorted(line, reverse=True)
    assert line[-1] == min(t.metrics["latency"] for t in run.all_trials if t.purpose == "search")


def test_the_front_is_marked_and_every_other_trial_is_faint(finished: Run) -> None:
    points = [(t.metrics["latency"], 100 * t.metrics["accuracy"]) for t in finished.all_trials if t.purpose == "search"]
    beaten = {p for p in points if any(q[0] <= p[0] and q[1] >= p[1] and q != p for q in points)}
    faint, marked = finished.plot_front().axes[0].lines
    assert set(zip(xs(faint), ys(faint), strict=True)) == beaten
    assert set(zip(xs(marked), ys(marked), strict=True)) == set(points) - beaten


def test_the_knee_of_a_front_is_where_it_bends() -> None:
    assert plots._knee([(0, 0, 1), (1, 90, 2), (50, 95, 3), (100, 100, 4)]) == 1


def test_axes_name_their_units_and_fractions_are_in_percent(finished: Run) -> None:
    axes = plots.front(finished).axes[0]
    assert (axes.get_title(loc="left"), axes.get_xlabel()) == ("accuracy (%)", "latency (ms)")
    for figure in (plots.best_so_far, plots.curves, plots.against_random):
        axes = figure(finished).axes[0]
        assert "accuracy (%)" in (axes.get_title(loc="left"), axes.get_xlabel())
        highest = max(value for line in axes.lines for value in xs(line) + ys(line))
        assert highest > 1


def test_what_was_found_is_drawn_against_each_random_architecture(finished: Run) -> None:
    comparison = finished.comparison()
    assert comparison is not None
    _, random, found = plots.against_random(finished).axes[0].lines
    assert sorted(xs(random)) == pytest.approx(sorted(100 * value for value in comparison.baseline))
    assert xs(found) == pytest.approx([100 * comparison.found])


def test_a_supernets_learning_has_its_curve(tmp_path: Path) -> None:
    run = nasengine.search(
        TinySpace(), "darts:epochs=3", TinyTask(), evaluator=f"{PARTS}:Cheap", baseline=0, out=tmp_path / "run"
    )
    axes, below, *_ = run.plot_curves().axes
    assert "supernet" in below.get_xlabel()
    assert all(len(xs(line)) == 3 for line in axes.lines)
    assert {line.get_label() for line in axes.lines} == {"train loss", "valid loss"}


class Guarded(OneShotStrategy):
    """Three epochs with the numbers of a guard, made up; as many of them as are named."""

    def __init__(self, *, names: tuple[str, ...] = ("parameter_free", "eigenvalue"), restarts: int = 1) -> None:
        self.names, self.restarts = names, restarts

    def learn(self, supernet: Supernet, task: Task, context: Context) -> Iterator[Derivation]:
        context.keep()
        made_up = {"parameter_free": (0.25, 0.5, 1.0), "eigenvalue": (0.02, -0.3, 0.0)}
        for epoch in context.epochs(3):
            numbers = {name: made_up[name][epoch] for name in self.names}
            yield Derivation(supernet.domain.complete({}), {"train_loss": 1 / (1 + epoch), **numbers})


@pytest.mark.parametrize("names", [("parameter_free", "eigenvalue"), ("parameter_free",), ("eigenvalue",), ()])
@pytest.mark.parametrize("restarts", [1, 2])
def test_what_the_guard_measured_stands_below_the_losses_where_it_measured(
    names: tuple[str, ...], restarts: int, tmp_path: Path
) -> None:
    run = nasengine.search(
        TinySpace(), Guarded(names=names, restarts=restarts), TinyTask(), f"{PARTS}:Cheap", baseline=0, trials=4,
        durable=False, out=tmp_path / "run",
    )  # fmt: skip
    losses, *below = run.plot_curves().axes
    assert [len(xs(line)) for line in losses.lines] == [3] * restarts
    assert len(below) == len(names)
    assert [axes.get_xlabel() != "" for axes in (losses, *below[:1])] == ([False, True] if names else [True])
    for name, axes in zip(names, below, strict=True):
        assert len(axes.lines) == restarts
        for line, loss in zip(axes.lines, losses.lines, strict=True):
            assert line.get_color() == loss.get_color() or restarts == 1
            if name == "parameter_free":
                assert (axes.get_yscale(), axes.get_title("left")) == ("linear", "operations without parameters")
                assert (xs(line), ys(line)) == ([1, 2, 3], [0.25, 0.5, 1.0])
                assert axes.get_ylim()[0] <= 0 < 1 <= axes.get_ylim()[1]
            else:  # its size, and none where it is 0
                assert axes.get_yscale() == "log"
                assert "eigenvalue, dashed" in (axes.get_title("left"), axes.get_title("right"))
                assert (xs(line), ys(line), line.get_linestyle()) == ([1, 2], [0.02, 0.3], "--")


@pytest.mark.parametrize("values", [[0.31, 0.48], [2.0, 2.0], [1e-7, 3.0], [1e-12, 1e9], [7.0, 9.9]])
def test_a_logarithmic_axis_has_a_few_plain_numbers(values: list[float]) -> None:
    made = style.figure()
    axes = made.subplots()
    style.powers(axes, values)
    made.draw_without_rendering()
    low, high = axes.get_ylim()
    assert low < min(values) <= max(values) < high
    ticks = zip(axes.get_yticklabels(), axes.get_yticks(), strict=True)
    seen = [label.get_text() for label, place in ticks if low <= place <= high]
    assert 2 <= len(seen) <= 5
    assert all(float(text) > 0 for text in seen)


def test_figures_leave_matplotlib_as_it_was_and_never_load_pyplot(finished: Run) -> None:
    code = (
        "import sys, matplotlib\n"
        "before = matplotlib.rcParams.copy()\n"
        "from nasengine import Run\n"
        f"run = Run({str(finished.folder)!r}, plugins={{}})\n"
        "run.plot_best(), run.plot_front(), run.draw(), run._repr_html_()\n"
        "assert matplotlib.rcParams.copy() == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# the importance of decisions


def test_the_importance_of_planted_decisions_is_found(tmp_path: Path) -> None:
    run = nasengine.search(
        Grid(), "random", TinyTask(), evaluator=Planted(), trials=120, baseline=0, durable=False, out=tmp_path / "run"
    )
    weighed = run.importance()
    assert weighed.trials == 27
    assert list(weighed.shares)[:2] == ["much", "little"]
    assert weighed.shares["much"] == pytest.approx(0.9, abs=0.08)
    assert weighed.shares["little"] == pytest.approx(0.1, abs=0.08)
    assert weighed.shares["nothing"] < 0.02
    assert weighed == importance(Run(run.folder, {"space": Grid(), "task": TinyTask()}))
    labels = [label.get_text() for label in run.plot_importance().axes[0].get_yticklabels()]
    assert labels == list(weighed.shares)


def test_too_few_or_equal_trials_have_no_importance_but_a_reason(tmp_path: Path) -> None:
    few = nasengine.search(
        CHAIN, "random", evaluator=f"{PARTS}:Cheap", trials=FEWEST - 1, baseline=0, out=tmp_path / "few"
    )
    assert few.importance().shares == {}
    assert f"{FEWEST - 1} architectures were judged" in few.importance().note

    class Same(Evaluator):
        def evaluate(self, architecture: Architecture, fidelity: Fidelity, context: Context) -> Metrics:
            return {"accuracy": 0.5}

    same = nasengine.search(CHAIN, "random", evaluator=Same(), trials=12, baseline=0, out=tmp_path / "same")
    assert "have the same accuracy" in same.importance().note
    with pytest.raises(RunError, match="have the same accuracy"):
        same.plot_importance()


def test_choosing_some_of_many_counts_by_option(tmp_path: Path) -> None:
    run = nasengine.search(
        "cell:nodes=2",
        "random",
        evaluator=f"{PARTS}:Cheap",
        trials=FEWEST + 2,
        baseline=0,
        durable=False,
        out=tmp_path / "run",
    )
    assert {"normal.node1.inputs: 0", "normal.node1.inputs: 2"} <= set(run.importance().shares)


# the drawing


def texts(figure: Any) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def boxes(figure: Any) -> list[Box]:
    """The boxes of nodes and labels, in inches: left, top, right, bottom."""
    from matplotlib.patches import FancyBboxPatch

    found = []
    for patch in figure.axes[0].patches:
        if isinstance(patch, FancyBboxPatch):
            extent = patch.get_path().get_extents()
            found.append((extent.x0, extent.y0, extent.x1, extent.y1))
    return found


def apart(a: Box, b: Box) -> bool:
    return a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


@pytest.mark.parametrize("direction", ["right", "down"])
@pytest.mark.parametrize(
    "space", [CellSpace(), ChainSpace(stages=3, layers=5), TinySpace()], ids=lambda s: type(s).__name__
)
def test_an_architecture_is_drawn_whole_with_nothing_on_top_of_anything(space: SearchSpace, direction: Any) -> None:
    domain, rng = space.domain(TinyTask()), np.random.default_rng(0)
    for _ in range(6):
        graph = space.graph(domain.sample(rng))
        figure = drawing.draw_graph(graph, direction)
        expected = [data["label"] for _, data in graph.nodes(data=True)]
        expected += [data["label"] for _, _, data in graph.edges(data=True) if data.get("label")]
        drawn = boxes(figure)
        assert sorted(t for t in texts(figure) if t not in ("Normal cell", "Reduction cell")) == sorted(expected)
        assert len(drawn) == len(expected)
        assert all(apart(a, b) for a, b in itertools.combinations(drawn, 2))
        width, height = figure.get_size_inches()
        assert all(a[0] >= 0 and a[1] >= 0 and a[2] <= width + 1e-6 and a[3] <= height + 1e-6 for a in drawn)
        assert width < 11


def test_the_cells_of_a_cell_space_stand_one_below_the_other() -> None:
    space = CellSpace()
    graph = space.graph(space.domain(TinyTask()).sample(np.random.default_rng(1)))
    figure = drawing.draw_graph(graph)
    titles = {t.get_text(): t.get_position()[1] for t in figure.axes[0].texts if t.get_text().endswith("cell")}
    assert titles["Normal cell"] < titles["Reduction cell"]


def test_a_run_draws_what_it_found_or_any_trial(finished: Run) -> None:
    assert texts(finished.draw()) == texts(finished.draw(finished.best.number))
    with pytest.raises(RunError, match="trial 999"):
        finished.draw(999)


def place(graph: nx.DiGraph) -> layout.Layout:
    return layout.lay_out(graph, lambda node: (0.5, 0.3), lambda u, v: (0.8, 0.3))


def test_layers_follow_the_longest_path_and_edges_lead_forward() -> None:
    graph = nx.DiGraph([("a", "b"), ("b", "c"), ("a", "c"), ("c", "d"), ("a", "d")])
    found = place(graph)
    assert [found.nodes[node].layer for node in "abcd"] == [0, 1, 2, 3]
    assert all(found.nodes[u].end < found.nodes[v].start for u, v in graph.edges)
    assert [len(found.through[edge]) for edge in (("a", "b"), ("a", "c"), ("a", "d"))] == [0, 1, 2]


def test_edges_that_need_not_cross_do_not() -> None:
    pairs = [("a", "z"), ("b", "y"), ("c", "x")]
    graph = nx.DiGraph()
    graph.add_nodes_from("abcxyz")  # an order in which all three cross
    graph.add_edges_from([*pairs, *(("s", node) for node in "abc"), *((node, "t") for node in "xyz")])
    order = {node: where.across for node, where in place(graph).nodes.items()}
    assert all((order[a] - order[b]) * (order[z] - order[y]) > 0 for (a, z), (b, y) in itertools.combinations(pairs, 2))


def test_the_nearest_rising_sequence_is_that_of_isotonic_regression() -> None:
    from sklearn.isotonic import isotonic_regression

    rng = np.random.default_rng(3)
    for _ in range(20):
        values = rng.normal(size=12)
        assert layout._rising(values) == pytest.approx(isotonic_regression(values))


def test_graphs_of_any_shape_are_drawn() -> None:
    circle = nx.DiGraph([(0, 1), (1, 2), (2, 0), (2, 2)])
    crossing = nx.DiGraph([("a", "b")])
    nx.set_node_attributes(crossing, {"a": "one", "b": "two"}, "part")
    wide = nx.DiGraph([(0, i) for i in range(1, 40)] + [(i, 99) for i in range(1, 40)])
    for graph in (nx.DiGraph(), nx.path_graph(60, nx.DiGraph), circle, crossing, wide):
        for direction in ("right", "down"):
            figure = drawing.draw_graph(graph, direction)
            assert len(texts(figure)) == len(graph)


def test_a_long_row_is_broken_into_rows_that_fit() -> None:
    graph = nx.path_graph(30, nx.DiGraph)
    nx.set_node_attributes(graph, {node: f"operation {node}" for node in graph}, "label")
    figure = drawing.draw_graph(graph)
    rows = sorted({round(box[1], 3) for box in boxes(figure)})
    assert len(rows) > 2
    assert figure.get_size_inches()[0] < drawing.WIDEST + 1


# the command and the notebook


def test_nas_report_writes_into_the_runs_folder_or_where_it_is_told(nas: Callable[..., Any], small: Run) -> None:
    code, out, _ = nas("report", small.folder)
    assert code == 0
    assert out.startswith(str(small.folder / "report.html"))
    assert (small.folder / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    code, _, _ = nas("report", small.folder, "-o", "mine.html")
    assert code == 0
    assert Path("mine.html").read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["RUN", "-o", "."], "the report . cannot be written: Is a directory"),
        (
            ["RUN", "-o", "no/such/page.html"],
            "the report no/such/page.html cannot be written: No such file or directory",
        ),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    arguments: list[str], says: str, nas: Callable[..., Any], small: Run
) -> None:
    code, out, err = nas("report", *(str(small.folder) if a == "RUN" else a for a in arguments))
    assert (code, out) == (2, "")
    assert says in err
    assert len(err.strip().splitlines()) == 1


def test_help_and_import_load_nothing_heavy() -> None:
    heavy = "[n for n in ('matplotlib', 'jinja2', 'torch', 'pandas', 'optuna', 'networkx') if n in sys.modules]"
    code = (
        "import sys, nasengine\nfrom nasengine.cli import main\nsys.argv = ['nas', 'report', '--help']\n"
        f"try:\n    main()\nexcept SystemExit:\n    pass\nprint({heavy}, file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "as one HTML page" in ran.stdout
    assert ran.stderr.strip().endswith("[]")


def test_a_notebook_shows_a_run_as_a_card_with_its_pictures(finished: Run) -> None:
    page = Page(finished._repr_html_())
    assert page.elements.count("svg") == 2
    assert "chain searched by random, on digits" in page.text
    assert "html" not in page.elements


# the browser


@pytest.fixture(scope="module")
def wide_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with all that is wide: cells, long words in errors, a long path, two objectives."""
    folder = tmp_path_factory.mktemp("wide")
    run = nasengine.search(
        "cell", "random", evaluator=LongWinded(), trials=14, baseline=2, durable=False, max_failures=1,
        objectives=("accuracy", "latency:min"), out=folder / ("a-long-name-of-a-folder-" * 5),
    )  # fmt: skip
    return html.write(run, folder / "report.html")


class LongWinded(Evaluator):
    def __init__(self) -> None:
        self.count = 0

    def evaluate(self, architecture: Architecture, fidelity: Fidelity, context: Context) -> Metrics:
        self.count += 1
        if self.count % 5 == 0:
            raise ValueError("unbreakable" * 40)
        return {"accuracy": int(architecture.id[:8], 16) / 16**8, "latency": int(architecture.id[8:16], 16) / 16**8}


def browse(page: Path, profile: Path, *flags: str) -> str:
    """What headless Chromium prints for a page, at the size of a phone."""
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
        f"--user-data-dir={profile}", "--window-size=390,844", *flags, page.as_uri(),
    ]  # fmt: skip
    environment = {**os.environ, "HOME": str(profile)}
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment)
    return ran.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
def test_a_browser_shows_the_page_and_nothing_overflows_on_a_phone(wide_page: Path, tmp_path: Path) -> None:
    from PIL import Image

    picture = tmp_path / "page.png"
    browse(wide_page, tmp_path / "profile", f"--screenshot={picture}")
    colours = Image.open(picture).convert("RGB").resize((195, 422)).getcolors(100_000)
    assert colours is not None
    assert len(colours) > 50, "the page is blank"
    measure = "<script>document.body.dataset.width = document.documentElement.scrollWidth + '/' + innerWidth;</script>"
    copy = tmp_path / "measured.html"
    copy.write_text(wide_page.read_text(encoding="utf-8").replace("</body>", f"{measure}</body>"), encoding="utf-8")
    shown = browse(copy, tmp_path / "profile", "--dump-dom")
    assert "cell searched by random, on digits" in Page(shown).text
    measured = re.search(r'data-width="(\d+)/(\d+)"', shown)
    assert measured is not None
    assert int(measured[2]) <= 500
    assert int(measured[1]) <= int(measured[2]), "something is wider than the screen"
