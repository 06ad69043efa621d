"""What a run on Ray exports, read as Prometheus reads it, and the dashboard that is made for it."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

import nasengine
from nasengine import Evaluate, Learn, Observer, Trial
from nasengine.executors.grafana import dashboard
from nasengine.executors.metrics import METRICS, RayMetrics, gpu_memory
from nasengine.plan import Plan
from nasengine.testing import TinySpace, TinyTask

CHEAP = f"{Path(__file__).parent / 'parts' / 'cheap.py'}:Cheap"
SAMPLE = re.compile(r"^(\w+)\{(.*)\} (\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Opened(Observer):
    """Keeps what an observer is told at first."""

    def opened(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """A small finished search."""
    opened = Opened()
    folder = tmp_path_factory.mktemp("metrics") / "first-run"
    nasengine.search(
        TinySpace(), "random", TinyTask(), evaluator=CHEAP, trials=4, baseline=1, out=folder, observer=opened
    )
    return opened


def scraped(run: str, wanted: set[str], seconds: float = 40) -> list[tuple[str, dict[str, str], float]]:
    """What Ray's agent publishes of a run, as (name, labels, value), once all of the wanted names are there."""
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    address = f"http://127.0.0.1:{nodes[0]['MetricsExportPort']}/metrics"
    deadline = time.monotonic() + seconds
    while True:
        with urllib.request.urlopen(address, timeout=10) as answer:
            found = [SAMPLE.match(line) for line in answer.read().decode().splitlines()]
        samples = [(m[1], dict(LABEL.findall(m[2])), float(m[3])) for m in found if m]
        samples = [sample for sample in samples if sample[1].get("run") == run]
        if wanted <= {name for name, _, _ in samples}:
            return samples
        assert time.monotonic() < deadline, f"never published: {wanted - {name for name, _, _ in samples}}"
        time.sleep(0.3)


def named(expression: str) -> set[str]:
    """The metrics that a PromQL expression reads."""
    return set(re.findall(r"\bray_\w+", expression))


def queries() -> set[str]:
    return {target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]}


def test_everything_that_the_dashboard_reads_is_published(ray_cluster: None, finished: Opened) -> None:
    (plan, trials) = finished.plan, nasengine.Run(finished.folder).all_trials
    architecture = trials[0].architecture
    assert architecture is not None
    metrics = RayMetrics()
    metrics.opened(finished.folder, plan)
    metrics.began("search")  # a run that is resumed: its totals go on
    metrics.started(6, Evaluate(architecture))
    metrics.started(7, Evaluate(architecture))
    metrics.lost(7, "the worker's process died")
    metrics.ended(Trial(6, Evaluate(architecture), "failed", seconds=2.0, error="ValueError: no"))
    gpu_memory(finished.folder.name, "0", 6, 1000)
    gpu_memory(finished.folder.name, "0", 7, 2**30)
    wanted = set().union(*map(named, queries()))
    assert len(wanted) == len(METRICS)
    samples = scraped(finished.folder.name, wanted)

    def value(name: str, **labels: str) -> float:
        return sum(v for n, found, v in samples if n == name and labels.items() <= found.items())

    assert value("ray_nas_trials_total", purpose="search", state="done") == 4
    assert value("ray_nas_trials_total", purpose="search", state="failed") == 1
    assert value("ray_nas_trials_total", purpose="baseline") == 1
    assert value("ray_nas_trials_budget") == 4
    assert value("ray_nas_trials_running") == 1
    assert value("ray_nas_workers_lost_total") == 1
    assert value("ray_nas_trial_seconds_bucket", le="1.0") == 0
    assert value("ray_nas_trial_seconds_bucket", le="3.0", state="failed") == 1
    assert value("ray_nas_gpu_memory_bytes", trial="7", worker="0") == 2**30
    assert value("ray_nas_gpu_memory_bytes", trial="6", worker="0") == 0
    best = max(trial.metrics["accuracy"] for trial in trials if trial.purpose == "search")
    assert value("ray_nas_best_metric", metric="accuracy") == pytest.approx(best)
    labels = next(found for name, found, _ in samples if name == "ray_nas_trials_budget")
    assert (labels["space"], labels["strategy"]) == (plan.space.known_as, "random")


def test_a_trial_costs_less_than_a_tenth_of_a_millisecond(ray_cluster: None, finished: Opened, tmp_path: Path) -> None:
    trial = nasengine.Run(finished.folder).all_trials[0]
    metrics = RayMetrics()
    metrics.opened(finished.folder, finished.plan)
    metrics.began("search")
    took = []
    for _ in range(5):  # the quickest of them is what it costs; the others, what else the machine does
        began = time.perf_counter()
        for _ in range(200):
            metrics.started(trial.number, trial.request)
            metrics.ended(trial)
        took.append((time.perf_counter() - began) / 200)
    assert min(took) < 100e-6


def test_what_goes_wrong_in_the_metrics_never_reaches_the_search(
    finished: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = RayMetrics()
    metrics.started(0, Learn())  # told of a trial before the run was opened: nothing is there to record it with
    metrics.ended(Trial(0, Learn(), "done"))
    metrics.lost(0, "gone")
    gpu_memory("run", "0", 0, "much")  # type: ignore[arg-type]
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


class Counts(Observer):
    """Counts what it is told, by name."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name in ("opened", "began", "started", "reported", "lost", "ended"):
            self.told.append(name)
        return super().__getattribute__(name)


def test_the_observer_behind_the_metrics_is_told_everything_and_can_stop_the_run(tmp_path: Path) -> None:
    counts = Counts()
    metrics = RayMetrics(counts)
    stepwise = f"{Path(__file__).parent / 'parts' / 'cheap.py'}:Stepwise"
    nasengine.search(
        TinySpace(), "random", TinyTask(), evaluator=stepwise, trials=2, baseline=0, out=tmp_path / "run",
        observer=metrics,
    )  # fmt: skip
    metrics.lost(0, "gone")
    assert {name: counts.told.count(name) for name in counts.told} == {
        "opened": 1, "began": 2, "started": 3, "reported": 12, "ended": 3, "lost": 1,
    }  # fmt: skip
    counts.stop_requested = True
    assert metrics.stop_requested
    metrics.stop_requested = False
    assert not counts.stop_requested


def test_the_dashboard_is_complete_for_grafana() -> None:
    board = json.loads(json.dumps(dashboard()))
    assert board["schemaVersion"] >= 36
    assert {variable["name"]: variable["type"] for variable in board["templating"]["list"]} == {
        "datasource": "datasource", "run": "query",
    }  # fmt: skip
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        squares = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                   for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert not squares & taken, f"{panel['title']} covers another panel"
        assert place["x"] + place["w"] <= 24
        taken |= squares
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            assert 'run=~"$run"' in target["expr"]
            assert target["expr"].count("(") == target["expr"].count(")")
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= grouped(target["expr"])
    identities = [panel["id"] for panel in board["panels"]]
    assert len(identities) == len(set(identities)) == len(METRICS)


def grouped(expression: str) -> set[str]:
    """The labels that are left by the aggregation of an expression."""
    return {label.strip() for labels in re.findall(r"by \(([^)]*)\)", expression) for label in labels.split(",")}


def test_every_metric_has_a_panel_that_reads_it() -> None:
    suffix = {"histogram": "_bucket"}
    for metric in METRICS:
        read = set().union(*map(named, metric.queries))
        assert f"ray_{metric.name}{suffix.get(metric.kind, '')}" in read, metric.name
        assert metric.kind != "counter" or metric.name.endswith("_total"), "Prometheus would add it"


def test_the_book_names_every_metric_as_it_is_published() -> None:
    page = (Path(__file__).parents[1] / "docs" / "watching.md").read_text(encoding="utf-8")
    for metric in METRICS:
        published = f"ray_{metric.name}" + ("_bucket" if metric.kind == "histogram" else "")
        assert f"| `{published}` | {metric.kind} | {metric.about}" in page


def test_nas_grafana_writes_the_dashboard(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nas(*arguments: str) -> tuple[Any, str, str]:
        from nasengine.cli import main

        monkeypatch.setattr("sys.argv", ["nas", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return (ended.value.code, *capsys.readouterr())

    code, out, _ = nas("grafana")
    assert code == 0
    assert json.loads(out) == dashboard()
    file = tmp_path / "dashboard.json"
    assert nas("grafana", "-o", str(file))[0] == 0
    assert json.loads(file.read_text()) == dashboard()
    code, _, err = nas("grafana", "-o", str(tmp_path / "none" / "dashboard.json"))
    assert code == 2
    assert "dashboard.json cannot be written: No such file or directory" in err
