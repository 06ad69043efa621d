"""What a run on Ray exports for Prometheus. `METRICS` is the one list of it: the dashboard is made from the same.

Ray's node agents collect what is recorded here and publish it, `ray_` before each name, `_bucket` behind a histogram's
(its `_sum` is only an estimate from the buckets, so nothing is drawn from that).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..plan import Observer, Plan
from ..run import Run
from ..trial import Evaluate, Report, Request, Trial

logger = logging.getLogger(__name__)

RUN_TAGS = ("run", "space", "strategy")
SECONDS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0, 30000.0)
"""The upper edges of the histogram of durations."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric and how it is drawn.

    tags: those beside RUN_TAGS. title, unit: of its panel, as Grafana writes units. queries: PromQL, and the legend
    of what it gives.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    about: str
    tags: tuple[str, ...]
    title: str
    unit: str
    queries: Mapping[str, str]


METRICS = (
    Metric(
        "nas_best_metric", "gauge", "The best value of the search so far, of the first objective", ("metric",),
        "Best so far", "short",
        {'max by (run, metric) (ray_nas_best_metric{run=~"$run"})': "{{run}} {{metric}}"},
    ),
    Metric(
        "nas_trials_budget", "gauge", "How many trials the search may make", (),
        "Share of the budget used", "percentunit",
        {
            'sum by (run) (ray_nas_trials_total{run=~"$run", purpose="search"})'
            ' / max by (run) (ray_nas_trials_budget{run=~"$run"})': "{{run}}"
        },
    ),
    Metric(
        "nas_trials_total", "counter", "Trials that came back, also before the run was resumed", ("purpose", "state"),
        "Trials a minute", "short",
        {'60 * sum by (run, state) (rate(ray_nas_trials_total{run=~"$run"}[5m]))': "{{run}} {{state}}"},
    ),
    Metric(
        "nas_trials_running", "gauge", "Requests that workers work on now", (),
        "Running now", "short",
        {'sum by (run) (ray_nas_trials_running{run=~"$run"})': "{{run}}"},
    ),
    Metric(
        "nas_trial_seconds", "histogram", "How long a trial took", ("state",),
        "Seconds a trial takes", "s",
        {
            f'histogram_quantile({quantile}, sum by (run, le) (rate(ray_nas_trial_seconds_bucket{{run=~"$run"}}[5m])))':
                f"{{{{run}}}} {name}"
            for quantile, name in ((0.5, "median"), (0.95, "95 %"))
        },
    ),
    Metric(
        "nas_workers_lost_total", "counter", "Workers that were lost; their requests ran again", (),
        "Workers lost", "short",
        {'sum by (run) (ray_nas_workers_lost_total{run=~"$run"})': "{{run}}"},
    ),
    Metric(
        "nas_gpu_memory_bytes", "gauge", "The most GPU memory that a worker's trial has held", ("worker", "trial"),
        "GPU memory by worker", "bytes",
        {'max by (run, worker) (ray_nas_gpu_memory_bytes{run=~"$run"})': "{{run}} {{worker}}"},
    ),
)  # fmt: skip


def made(name: str, tags: tuple[str, ...] = RUN_TAGS) -> Any:
    """Ray's object for the metric of that name, to record with."""
    from ray.util import metrics as kinds

    metric = next(metric for metric in METRICS if metric.name == name)
    keys = (*tags, *metric.tags)
    if metric.kind == "histogram":
        return kinds.Histogram(name, metric.about, boundaries=list(SECONDS), tag_keys=keys)
    return (kinds.Counter if metric.kind == "counter" else kinds.Gauge)(name, metric.about, tag_keys=keys)


class RayMetrics(Observer):
    """Records what happens in a run as metrics of the Ray cluster that this process is connected to.

    Stands before another observer, which is told everything first. Whatever goes wrong here is logged once, and ends
    the recording, not the search.
    """

    def __init__(self, observer: Observer | None = None) -> None:
        self._observer = observer or Observer()
        self._recorded: dict[str, Any] = {}
        self._running: set[int] = set()
        self._best: float | None = None
        self._failed = False

    @property
    def stop_requested(self) -> bool:
        """The other observer's."""
        return self._observer.stop_requested

    @stop_requested.setter
    def stop_requested(self, wanted: bool) -> None:
        self._observer.stop_requested = wanted

    def opened(self, folder: Path, plan: Plan) -> None:
        self._observer.opened(folder, plan)
        self._folder, self._plan = folder, plan

    def note(self, text: str) -> None:
        self._observer.note(text)

    def began(self, phase: str) -> None:
        """The first time, this process has just been connected to Ray."""
        self._observer.began(phase)
        if not self._recorded:
            self._attempt(self._begin)

    def started(self, number: int, request: Request) -> None:
        self._observer.started(number, request)
        self._running.add(number)
        self._attempt(self._set_running)

    def reported(self, report: Report) -> None:
        self._observer.reported(report)

    def lost(self, number: int, error: str) -> None:
        self._observer.lost(number, error)
        self._attempt(lambda: self._recorded["nas_workers_lost_total"].inc())

    def ended(self, trial: Trial) -> None:
        self._observer.ended(trial)
        self._running.discard(trial.number)
        self._attempt(lambda: self._end(trial))

    def _attempt(self, record: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            record()
        except Exception:  # a search must not end because its metrics cannot be recorded
            self._failed = True
            logger.warning("the run's metrics are no longer recorded", exc_info=True)

    def _begin(self) -> None:
        folder, plan = self._folder, self._plan
        self._objective = plan.objectives[0]
        tags = {"run": folder.resolve().name, "space": plan.space.known_as, "strategy": plan.strategy.known_as}
        for metric in METRICS:
            if metric.name != "nas_gpu_memory_bytes":  # which the workers record
                self._recorded[metric.name] = made(metric.name).set_default_tags(tags)
        self._recorded["nas_trials_budget"].set(plan.config.searched)
        self._set_running()
        before = Run(folder).all_trials  # of a resumed run: the totals go on
        for (purpose, state), count in Counter((trial.purpose, trial.state) for trial in before).items():
            self._recorded["nas_trials_total"].inc(count, {"purpose": purpose, "state": state})
        for trial in before:
            self._compare(trial)

    def _set_running(self) -> None:
        self._recorded["nas_trials_running"].set(len(self._running))

    def _end(self, trial: Trial) -> None:
        self._recorded["nas_trials_total"].inc(1, {"purpose": trial.purpose, "state": trial.state})
        if trial.same_as is None:
            self._recorded["nas_trial_seconds"].observe(trial.seconds, {"state": trial.state})
        self._set_running()
        self._compare(trial)

    def _compare(self, trial: Trial) -> None:
        searched = trial.purpose == "search" and isinstance(trial.request, Evaluate)
        score = self._objective.score(trial) if searched else None
        if score is not None and (self._best is None or score > self._best):
            self._best, name = score, self._objective.metric
            self._recorded["nas_best_metric"].set(trial.metrics[name], {"metric": name})


_gpu: dict[str, Any] = {}


def gpu_memory(run: str, worker: str, number: int, bytes: int) -> None:
    """Records, in a worker's process, the GPU memory that its trial has held. run: the name of the run's folder."""
    tags = {"run": run, "worker": worker, "trial": str(number)}
    try:
        gauge = _gpu.get("gauge") or _gpu.setdefault("gauge", made("nas_gpu_memory_bytes", ("run",)))
        if _gpu.get("tags", tags) != tags:  # the trial before holds none any more
            gauge.set(0, _gpu["tags"])
        _gpu["tags"] = tags
        gauge.set(bytes, tags)
    except Exception:  # as above: never into the search
        logger.warning("the GPU memory is not recorded", exc_info=True)
