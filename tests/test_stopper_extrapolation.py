"""Extrapolated learning curves: families, fits, the sampler and the posterior against independent references."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, log
from typing import Any

import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.stats import t as student

from nasengine import Architecture, Evaluate, Objective, Trial
from nasengine.evaluators.stoppers.ensemble import stretched
from nasengine.evaluators.stoppers.extrapolation import Extrapolation
from nasengine.evaluators.stoppers.families import FAMILIES, at_places, fitted
from nasengine.evaluators.stoppers.foresight import Foresight, foresee, scale_of
from nasengine.evaluators.stoppers.posterior import LARGEST_NOISE, SMALLEST_NOISE, Posterior

REQUEST = Evaluate(Architecture("any", {}, {}))
END = 30
EPOCHS = np.arange(1.0, END + 1)

PAPER: dict[str, Callable[..., float]] = {  # Domhan et al. 2015, table 1
    "vapor_pressure": lambda x, a, b, c: exp(a + b / x + c * log(x)),
    "pow3": lambda x, c, a, alpha: c - a * x**-alpha,
    "log_log_linear": lambda x, a, b: log(a * log(x) + b),
    "hill3": lambda x, y, k, eta: y * x**eta / (exp(k) ** eta + x**eta),
    "log_power": lambda x, a, b, c: a / (1 + (x / exp(b)) ** c),
    "pow4": lambda x, c, a, b, alpha: c - (a * x + b) ** -alpha,
    "mmf": lambda x, alpha, beta, k, delta: alpha - (alpha - beta) / (1 + (exp(k) * x) ** delta),
    "exp4": lambda x, c, a, b, alpha: c - exp(-exp(a) * x**alpha + b),
    "janoschek": lambda x, alpha, beta, k, delta: alpha - (alpha - beta) * exp(-exp(k) * x**delta),
    "weibull": lambda x, alpha, beta, k, delta: alpha - (alpha - beta) * exp(-((exp(k) * x) ** delta)),
    "ilog2": lambda x, c, a: c - a / log(x + 1),
}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_each_family_is_the_papers(family: Any) -> None:
    rng = np.random.default_rng(0)
    lower, upper = np.array(family.lower), np.array(family.upper)
    for places in rng.random((20, len(lower))):
        expected = [PAPER[family.name](float(x), *(lower + (upper - lower) * places)) for x in EPOCHS]
        assert at_places(family, places[None], EPOCHS)[0] == pytest.approx(expected, rel=1e-9, abs=1e-12)


def learning_curve(family: Any, rng: np.random.Generator) -> np.ndarray:
    """A member of the family that looks like accuracies: it rises by a tenth or more, ever more slowly."""
    while True:
        curve: np.ndarray = at_places(family, rng.random((1, len(family.lower))), EPOCHS)[0]
        slows = bool((np.diff(curve) >= -1e-9).all() and (np.diff(curve, 2) <= 1e-9).all())
        if slows and 0.05 <= curve[0] <= 0.7 and curve[0] + 0.1 < curve[-1] <= 0.99:
            return curve


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_fits_are_as_good_as_scipys(family: Any) -> None:
    rng = np.random.default_rng(1)
    y = learning_curve(family, rng)[:12] + 0.01 * rng.standard_normal(12)
    x = EPOCHS[:12]
    ours = fitted(family, x, y, rng)[1].min()
    theirs = min(
        2 * least_squares(lambda p: at_places(family, p[None], x)[0] - y, start, bounds=(0, 1)).cost
        for start in rng.uniform(0.05, 0.95, (4, len(family.lower)))
    )
    assert ours <= 1.05 * theirs + 1e-6


def test_stretch_moves_sample_a_gaussian() -> None:
    rng = np.random.default_rng(0)
    mean, factor = np.array([1.0, -2.0, 0.5]), np.array([[2.0, 0, 0], [1.5, 0.5, 0], [0, -1, 0.1]])
    precision = np.linalg.inv(factor @ factor.T)

    def density(points: np.ndarray) -> np.ndarray:
        distance = points - mean
        return np.array(-0.5 * np.einsum("ij,jk,ik->i", distance, precision, distance))

    walkers, kept = rng.standard_normal((100, 3)), []
    for step in range(2000):
        for mine, others in ((slice(50), slice(50, 100)), (slice(50, 100), slice(50))):
            proposed, correction = stretched(walkers[mine], walkers[others], rng)
            accepted = np.log(rng.random(50)) < correction + density(proposed) - density(walkers[mine])
            walkers[mine] = np.where(accepted[:, None], proposed, walkers[mine])
        if step >= 200:
            kept.append(walkers.copy())
    found = np.concatenate(kept)
    assert found.mean(0) == pytest.approx(mean, abs=0.1)
    assert np.cov(found.T) == pytest.approx(factor @ factor.T, abs=0.25)


@pytest.mark.parametrize("name", ["ilog2", "log_log_linear"])
def test_the_posterior_of_one_family_is_that_of_a_grid(name: str) -> None:
    """Two parameters and the noise, integrated over the whole box."""
    family = next(family for family in FAMILIES if family.name == name)
    rng = np.random.default_rng(2)
    y = learning_curve(family, rng)[:6] + 0.02 * rng.standard_normal(6)
    posterior = Posterior(y, END, 1.0, [family])
    samples = posterior.samples(100, 1000, rng)
    assert samples is not None

    side = (np.arange(300) + 0.5) / 300
    places = np.stack([axis.ravel() for axis in np.meshgrid(side, side)], 1)
    curves = at_places(family, places, np.append(EPOCHS[:6], END))
    weights, spread = np.zeros(len(places)), 0.0
    for noise in np.linspace(SMALLEST_NOISE, LARGEST_NOISE, 120):
        squares = ((curves[:, :-1] - y) ** 2).sum(1)
        mass = np.exp(-6 * noise - squares / (2 * np.exp(2 * noise)) - 20)
        mass *= (curves[:, -1] >= curves[:, -2]) & (curves[:, -1] > curves[:, 0]) & (curves[:, -1] <= 1)
        weights += mass
        spread += mass.sum() * np.exp(noise)
    ends, share = curves[:, -1], weights / weights.sum()
    mean = float((share * ends).sum())
    deviation = float(np.sqrt((share * (ends - mean) ** 2).sum()))
    assert samples[0].mean() == pytest.approx(mean, abs=0.1 * deviation)
    assert samples[0].std() == pytest.approx(deviation, rel=0.1)
    assert samples[1].mean() == pytest.approx(spread / weights.sum(), rel=0.1)
    order = np.argsort(ends)
    for quantile in (0.05, 0.5, 0.95):
        exact = ends[order][np.searchsorted(np.cumsum(share[order]), quantile)]
        assert np.quantile(samples[0], quantile) == pytest.approx(exact, abs=0.2 * deviation)


def covered(count: int, steps: int, seed: int) -> float:
    """How often the 90 % interval holds the value at the end, of curves of all families in turn."""
    rng = np.random.default_rng(seed)
    inside = 0
    for index in range(count):
        noise, now = float(np.exp(rng.uniform(log(0.003), log(0.03)))), int(rng.integers(5, 20))
        values = learning_curve(FAMILIES[index % 11], rng) + noise * rng.standard_normal(END)
        samples = Posterior(values[:now], END).samples(100, steps, rng)
        assert samples is not None
        low, high = np.quantile(samples[0] + samples[1] * rng.standard_normal(samples.shape[1]), [0.05, 0.95])
        inside += bool(low <= values[-1] <= high)
    return inside / count


def test_intervals_mostly_hold_the_value_at_the_end() -> None:
    assert covered(11, 400, seed=0) >= 0.7


@pytest.mark.slow
def test_nine_tenths_intervals_hold_the_value_at_the_end_nine_times_in_ten_or_nearly() -> None:
    assert 0.8 <= covered(220, 800, seed=1) <= 0.97


def started(metric: str = "accuracy:max", **options: Any) -> Any:
    stopper = Extrapolation(**options)
    stopper.start([Objective.parse(metric)], np.random.default_rng(0), END)
    return stopper


def verdicts(stopper: Any, values: np.ndarray, best: float, metric: str = "accuracy") -> list[int]:
    """The epochs after which the stopper would end the trial."""
    stopper.tell(Trial(0, REQUEST, "done", {metric: best}))
    curve = [{metric: float(value)} for value in values]
    return [e for e in range(1, len(curve) + 1) if stopper.stop(1, REQUEST, curve[:e], len(curve)) is not None]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_curve_that_will_be_better_is_not_stopped(seed: int) -> None:
    noise = 0.01 * np.random.default_rng(seed).standard_normal(END)
    values = 0.92 - 0.6 * EPOCHS**-0.8 + noise
    assert verdicts(started(steps=300, interval=6), values, best=0.88) == []


def test_a_hopeless_curve_is_stopped_at_the_first_check() -> None:
    values = 0.5 - 0.3 * EPOCHS**-1.0 + 0.005 * np.random.default_rng(0).standard_normal(END)
    stopper = started(steps=300, interval=20)
    assert verdicts(stopper, values, best=0.9)[:1] == [5]
    why = stopper.stop(1, REQUEST, [{"accuracy": float(value)} for value in values[:5]], END)
    assert why.startswith("after 5 epochs of 30 it is not expected to beat 0.9 (P ")


def test_a_curve_that_learns_nothing_is_stopped() -> None:
    assert verdicts(started(steps=100, interval=30), np.full(8, 0.1), best=0.9) == [5]


def test_an_error_is_judged_as_the_accuracy_that_it_leaves() -> None:
    values = 0.8 - 0.5 * EPOCHS**-0.9 + 0.01 * np.random.default_rng(3).standard_normal(END)
    options: dict[str, Any] = {"steps": 40, "interval": 6}
    for best in (0.75, 0.82, 0.9):
        straight = verdicts(started(**options), values, best)
        turned = verdicts(started("error:min", **options), 1 - values, 1 - best, "error")
        assert straight == turned


def test_the_chance_falls_as_the_best_rises_and_is_even_for_the_median() -> None:
    values = 0.8 - 0.5 * EPOCHS[:8] ** -0.9 + 0.01 * np.random.default_rng(3).standard_normal(8)
    bests = [0.5, 0.7, 0.75, 0.8, 0.9, 1.1]
    foresight = foresee(values, END, 1.0, 100, 200, np.random.default_rng(0))
    assert foresight is not None
    found = [foresight.chance(best) for best in bests]
    assert found == sorted(found, reverse=True)
    assert found[0] > 0.99
    assert found[-1] < 0.01
    assert foresight.chance(float(np.median(foresight.ends))) == pytest.approx(0.5, abs=0.05)
    assert foresight.chance(foresight.middle) == pytest.approx(0.5, abs=0.02)


def test_errors_of_others_correct_what_is_foreseen_as_a_t_test_would() -> None:
    """Against scipy's prediction: the next of so many normal numbers."""
    foresight = Foresight(np.zeros(1), np.ones(1), middle=0.6, spread=0.1)
    errors = [0.1, -0.2, 0.4, 0.0, 0.3]
    spread = float(np.std(errors, ddof=1)) * (1 + 1 / 5) ** 0.5
    expected = student(4, loc=0.6 + 0.1 * float(np.mean(errors)), scale=0.1 * spread)
    assert foresight.interval_after(errors) == pytest.approx(expected.interval(0.9))
    assert foresight.chance_after(errors, 0.65) == pytest.approx(expected.sf(0.65))
    assert foresight.error(0.65) == pytest.approx(0.5)


def test_intervals_after_the_errors_of_a_few_hold_the_next_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    foresight = Foresight(np.zeros(1), np.ones(1), middle=0.0, spread=1.0)
    draws = 0.3 + 0.2 * rng.standard_normal((2000, 11))
    held = [low <= row[-1] <= high for row in draws for low, high in [foresight.interval_after(row[:-1].tolist())]]
    assert np.mean(held) == pytest.approx(0.9, abs=0.03)


def scheduled(final: float, rng: np.random.Generator) -> np.ndarray:
    """A curve as a falling learning rate leaves it: its noise falls from 0.1 to 0.002."""
    rise = final - 0.5 * EPOCHS**-1.2
    return np.minimum(rise + 0.1 * np.exp(-EPOCHS / END * 4) * rng.standard_normal(END), 1.0)


def finished_runs(stopper: Any, count: int) -> list[np.ndarray]:
    """Tells the stopper of trials with such curves, whose ends are 0.75 to 0.85."""
    rng = np.random.default_rng(5)
    curves = [scheduled(final, rng) for final in np.linspace(0.75, 0.85, count)]
    for number, curve in enumerate(curves):
        points = tuple({"accuracy": float(value)} for value in curve)
        stopper.tell(Trial(number, REQUEST, "done", points[-1], points))
    return curves


def test_a_mediocre_curve_is_stopped_once_finished_trials_show_how_far_it_can_be_trusted() -> None:
    values = scheduled(0.7, np.random.default_rng(7))[:8]
    curve = [{"accuracy": float(value)} for value in values]
    stopped = {}
    for calibrate in (0, 12):
        stopper = started(calibrate=calibrate, steps=100, min_epochs=8)
        finished_runs(stopper, 12)
        stopped[calibrate] = stopper.stop(20, REQUEST, curve, END)
    assert stopped[0] is None
    assert stopped[12].startswith("after 8 epochs of 30 it is not expected to beat 0.8")


def test_too_few_finished_trials_change_nothing() -> None:
    values = scheduled(0.7, np.random.default_rng(7))[:14]
    curve = [{"accuracy": float(value)} for value in values]
    reasons = []
    for calibrate in (0, 12):
        stopper = started(calibrate=calibrate, steps=40, min_epochs=14, delta=0.9)
        finished_runs(stopper, 11)
        reasons.append(stopper.stop(20, REQUEST, curve, END))
    assert reasons[0] == reasons[1] is not None


def test_a_resumed_run_foresees_the_same() -> None:
    """The stopper that was told everything anew, and asked once, says what the one says that was asked all along."""
    curve = [{"accuracy": float(value)} for value in scheduled(0.72, np.random.default_rng(8))]
    options: dict[str, Any] = {"steps": 40, "calibrate": 3, "delta": 0.9, "interval": 4}
    first, second = started(**options), started(**options)
    for stopper in (first, second):
        finished_runs(stopper, 4)
    said = [first.stop(9, REQUEST, curve[:count], END) for count in range(1, 14)]
    assert said[-1] is not None
    assert second.stop(9, REQUEST, curve[:13], END) == said[-1]


@pytest.mark.parametrize(
    ("values", "limit", "expected"),
    [
        ([0.1, 0.5], 1.0, (0.0, 1.0)),  # an accuracy stays as it is
        ([-0.9, -0.5], 0.0, (-1.0, 1.0)),  # an error becomes an accuracy
        ([10.0, 50.0], 100.0, (10.0, 90.0)),
        ([-3.0, -1.0], None, (-4.0, 5.0)),
        ([2.0, 2.0], None, None),
        ([0.1, 0.1], 1.0, (0.0, 1.0)),
    ],
)
def test_values_are_scaled_to_the_unit_interval(
    values: list[float], limit: float | None, expected: tuple[float, float] | None
) -> None:
    assert scale_of(np.array(values), limit) == (pytest.approx(expected) if expected else None)


def test_nothing_is_checked_too_early_too_often_or_without_a_result_to_beat() -> None:
    values = np.linspace(0.1, 0.12, END) + 0.001 * np.random.default_rng(0).standard_normal(END)
    curve = [{"accuracy": float(value)} for value in values]
    stopper = started(steps=40, min_epochs=6, interval=4)
    assert stopper.stop(0, REQUEST, curve[:6], END) is None
    assert verdicts(stopper, values, best=0.9) == [6, 10, 14, 18, 22, 26]
