"""What a cheap judgement is worth: how well it agrees in rank with a dearer one, on this very problem.

Of the architectures that a funnel judged at two stages, or that `nas calibrate` judged in all ways, Spearman's and
Kendall's rank correlation (τ-b) between the two judgements, each with a 95 % interval by the percentile bootstrap over
architectures (Efron 1979). The numbers of parameters and FLOPs stand beside them: what does not beat counting is worth
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .cost import METRICS as COUNTED

if TYPE_CHECKING:
    from .run import Run
    from .trial import Trial

FEWEST = 5
"""Fewer architectures say nothing about a correlation."""
RESAMPLES = 1000
AT_ONCE = 2_000_000
"""Pairs of architectures that are compared at a time, to bound the memory."""
SURE = 0.975
"""The share of resamples in which a metric must beat counting to be called better."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate, and the bounds of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well a metric foretells the judgement of a later stage.

    cheap, dear: the names of the two judgements, `synflow (zero_cost)`. pairs: the two values of each architecture, the
    cheap one signed so that higher is better. counted: whether it is a baseline that only counts. spearman, kendall:
    rank correlations. beats: the share of resamples in which its Spearman correlation is above that of the best
    counted one; None for these, and where none was counted. seconds: what the cheap judgement took on average.
    """

    cheap: str
    dear: str
    pairs: tuple[tuple[float, float], ...]
    counted: bool
    spearman: Interval
    kendall: Interval
    beats: float | None
    seconds: float | None

    @property
    def verdict(self) -> str:
        """Whether the metric is worth its price, in a few words."""
        if self.counted or self.beats is None:
            return "baseline" if self.counted else ""
        if self.beats > SURE:
            return "better than counting"
        return "no better than counting" if self.beats < 0.5 else "not told apart from counting"


def calibration(run: Run, resamples: int = RESAMPLES, seed: int = 0) -> list[Agreement]:
    """Each stage of the run's funnel against each later one, best first; empty where too few were judged twice."""
    stages = [_judged(run, stage) for stage in range(len(run.stages))]
    found: list[Agreement] = []
    for late in range(1, len(stages)):
        target = run.by_stage[late]
        truth = {key: score for key, trial in stages[late].items() if (score := target.score(trial)) is not None}
        cheap: dict[str, Judgement] = {}
        for early in range(late):
            seconds = [stages[early][key].seconds for key in truth if key in stages[early]]
            for metric, sign in _metrics(run, early):
                values = np.array([_value([stages[early].get(key)], metric) for key in truth])
                cheap[_label(run, metric, early)] = Judgement(
                    sign * values, float(np.mean(seconds)) if seconds else None
                )
        for metric in COUNTED:
            values = np.array([_value([stage.get(key) for stage in stages[: late + 1]], metric) for key in truth])
            cheap[metric] = Judgement(values, None, counted=True)
        dear = _label(run, target.metric, late)
        found += _agreements(np.array([*truth.values()]), cheap, dear, resamples, seed)
    return found


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a metric says of some architectures, higher is better, and what that took."""

    values: NDArray[np.float64]
    seconds: float | None
    counted: bool = False

    @property
    def whole(self) -> bool:
        """Whether it says something of all of them, and not the same."""
        return bool(np.isfinite(self.values).all()) and len(np.unique(self.values)) > 1


def _agreements(
    truth: NDArray[np.float64], cheap: Mapping[str, Judgement], dear: str, resamples: int, seed: int
) -> list[Agreement]:
    """The metrics that say something of the same architectures, best first; the baselines last."""
    whole = {name: judgement for name, judgement in cheap.items() if judgement.whole}
    if len(truth) < FEWEST or len(np.unique(truth)) < 2:
        return []
    count = len(truth)
    draws = np.vstack([np.arange(count), np.random.default_rng(seed).integers(count, size=(resamples, count))])
    rhos = {name: spearman(one.values[draws], truth[draws]) for name, one in whole.items()}
    best = max((name for name, one in whole.items() if one.counted), key=lambda name: rhos[name][0], default=None)
    found = []
    for name, one in whole.items():
        beats = None if one.counted or best is None else float(np.mean(rhos[name][1:] > rhos[best][1:]))
        pairs = tuple(zip(one.values.tolist(), truth.tolist(), strict=True))
        tau = _interval(kendall(one.values[draws], truth[draws]))
        found.append(Agreement(name, dear, pairs, one.counted, _interval(rhos[name]), tau, beats, one.seconds))
    return sorted(found, key=lambda agreement: (agreement.counted, -agreement.spearman.value))


def spearman(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spearman's rank correlation of each row, shape (rows,), ties by their mean rank; 0 where all values of one are
    equal. ours, theirs: shape (rows, architectures)."""
    from scipy.stats import rankdata

    a, b = (ranks - ranks.mean(1, keepdims=True) for ranks in (rankdata(ours, axis=1), rankdata(theirs, axis=1)))
    return _ratio((a * b).sum(1), (a * a).sum(1) * (b * b).sum(1))


def kendall(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kendall's τ-b of each row, shape (rows,); 0 where all values of one are equal."""
    found = []
    step = max(1, AT_ONCE // ours.shape[1] ** 2)
    for first in range(0, len(ours), step):
        a, b = (
            np.sign(v[:, :, None] - v[:, None, :]) for v in (ours[first : first + step], theirs[first : first + step])
        )
        found.append(_ratio((a * b).sum((1, 2)), (a * a).sum((1, 2)) * (b * b).sum((1, 2))))
    return np.concatenate(found)


def _ratio(product: NDArray[np.float64], squares: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(product / np.sqrt(np.where(squares > 0, squares, np.inf)), -1.0, 1.0)


def _interval(correlations: NDArray[np.float64]) -> Interval:
    """Of all architectures, which come first, and of the resamples."""
    low, high = np.quantile(correlations[1:], (0.025, 0.975))
    return Interval(float(correlations[0]), float(low), float(high))


def _judged(run: Run, stage: int) -> dict[str, Trial]:
    """The stage's trials that have a result of their own, by architecture."""
    found: dict[str, Trial] = {}
    for trial in run.all_trials:
        usable = trial.state in ("done", "pruned") and "predicted" not in trial.metrics
        if usable and trial.purpose == "search" and trial.stage == stage and trial.architecture is not None:
            found.setdefault(trial.architecture.id, trial)
    return found


def _metrics(run: Run, stage: int) -> Iterator[tuple[str, int]]:
    """What the stage is judged by, with its sign. Where that is another metric than the task's, all that it says."""
    objective = run.by_stage[stage]
    yield objective.metric, 1 if objective.direction == "max" else -1
    if objective.metric != run.final_objectives[0].metric:
        first = next(iter(_judged(run, stage).values()), None)
        yield from ((name, 1) for name in (first.metrics if first else ()) if name not in (objective.metric, *COUNTED))


def _label(run: Run, metric: str, stage: int) -> str:
    """`synflow, zero_cost`; where stages share an evaluator, with its options, or else the stage's number."""
    choices = [given.evaluator for given in run.config.funnel] or [run.config.evaluator]
    names = [choice.name.rpartition(":")[2] for choice in choices]
    if names.count(names[stage]) == 1:
        return f"{metric}, {names[stage]}"
    given = [str(choice) for choice in choices]
    if given.count(given[stage]) > 1:
        return f"{metric}, {names[stage]} (stage {stage + 1})"
    return f"{metric}, {names[stage]}{given[stage].removeprefix(choices[stage].name)}"


def _value(trials: Sequence[Trial | None], metric: str) -> float:
    """What the first of the trials that has the metric says."""
    return next((trial.metrics[metric] for trial in trials if trial and metric in trial.metrics), float("nan"))


def table(agreements: Sequence[Agreement]) -> list[list[str]]:
    """The agreements as rows of text, headings first."""
    rows = [["judgement", "against", "n", "Spearman", "Kendall", "seconds each", ""]]
    for one in agreements:
        shown = [f"{i.value:+.2f} ({i.low:+.2f} to {i.high:+.2f})" for i in (one.spearman, one.kendall)]
        seconds = "" if one.seconds is None else f"{one.seconds:.2g}"
        rows.append([one.cheap, one.dear, str(len(one.pairs)), *shown, seconds, one.verdict])
    return rows


def as_json(agreements: Sequence[Agreement]) -> list[dict[str, Any]]:
    """The agreements as JSON values."""
    return [
        {
            "cheap": one.cheap, "dear": one.dear, "n": len(one.pairs), "counted": one.counted,
            "spearman": [one.spearman.value, one.spearman.low, one.spearman.high],
            "kendall": [one.kendall.value, one.kendall.low, one.kendall.high],
            "beats_counting": one.beats, "seconds": one.seconds,
        }
        for one in agreements
    ]  # fmt: skip
