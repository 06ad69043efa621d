"""The surrogate: a regression against references, when it evaluates all the same, and searches that go on alike."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm, spearmanr
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF

import nasengine
from nasengine import (
    Architecture,
    ConfigError,
    Context,
    Domain,
    Evaluate,
    Evaluator,
    Fidelity,
    Objective,
    Observer,
    Run,
    Trial,
)
from nasengine.evaluators.regression import NOISE, WIDTH, Ensemble, Regression, squared_distances
from nasengine.evaluators.surrogate import Surrogate
from nasengine.evaluators.train import Train
from nasengine.registry import make
from nasengine.search_spaces.chain import ChainSpace
from nasengine.search_spaces.nasbench201 import NASBench201Space
from nasengine.testing import EvaluatorContract, TinySpace, TinyTask

TINY, TINY_TASK = "nasengine.testing:TinySpace", "nasengine.testing:TinyTask"
NB201 = Path(__file__).parents[1].parent / "shared" / "data" / "nas" / "nas_bench_201.csv.gz"
ACCURACY, SIZE = Objective("accuracy"), Objective("parameters", "min")


class TestSurrogateOfATraining(EvaluatorContract):
    def make(self) -> Evaluator:
        return Surrogate(evaluator={"train": {"epochs": 3, "patience": 2}})


class TestSurrogateOfSharedWeights(EvaluatorContract):
    def make(self) -> Evaluator:
        return Surrogate(evaluator="weight_sharing:epochs=1")


# The regression


def samples(count: int, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2, (count, 12)).astype(float)
    y = np.stack([x @ np.arange(12) + x[:, 0] * x[:, 1] * 9 + rng.normal(size=count), -np.exp(x[:, 3])], axis=1)
    return x, y


def test_it_is_the_gaussian_process_of_scikit_learn_on_normal_scores() -> None:
    (x, y), (asked, _) = samples(40), samples(25, seed=1)
    found = Regression(x, y)
    mean, spread = found.predict(asked)
    for kind in range(2):
        rank = [np.sum(y[:, kind] < value) + (np.sum(y[:, kind] == value) + 1) / 2 for value in y[:, kind]]
        scores = norm.ppf((np.array(rank) - 0.5) / 40)
        distances = [((a - b) ** 2).sum() for index, a in enumerate(x) for b in x[:index]]
        kernel = RBF(math.sqrt(WIDTH * float(np.median(distances)) / 2))
        reference = GaussianProcessRegressor(kernel, alpha=NOISE, optimizer=None).fit(x, scores - scores.mean())
        expected, deviation = reference.predict(asked, return_std=True)
        inverse = np.linalg.inv(kernel(x) + NOISE * np.eye(40))
        scale = math.sqrt((scores - scores.mean()) @ inverse @ (scores - scores.mean()) / 40)
        assert mean[:, kind] == pytest.approx(expected + scores.mean(), abs=1e-9)
        assert spread[:, kind] == pytest.approx(scale * deviation, abs=1e-9)


def test_its_error_is_that_of_foretelling_each_result_from_all_the_others() -> None:
    x, y = samples(15)
    found = Regression(x, y)
    scores, errors = found.scores - found.mean, []
    for index in range(15):
        rest = [other for other in range(15) if other != index]
        kernel = np.exp(-squared_distances(x, x[rest]) / found.width)
        weights = np.linalg.solve(kernel[rest] + NOISE * np.eye(14), scores[rest])
        errors.append((kernel[index] @ weights - scores[index]) ** 2)
    assert found.error == pytest.approx(np.mean(errors))


def test_only_the_order_of_results_counts_and_predictions_are_values_among_them() -> None:
    (x, y), (asked, _) = samples(30), samples(10, seed=1)
    plain, bent = Regression(x, y), Regression(x, np.exp(y / 10))
    mean, _ = plain.predict(asked)
    assert bent.predict(asked)[0] == pytest.approx(mean)
    assert plain.values(plain.scores) == pytest.approx(y)
    assert bent.values(bent.scores) == pytest.approx(np.exp(y / 10))
    assert plain.values(np.full((1, 2), 99.0))[0] == pytest.approx(y.max(0))


def test_results_that_are_all_alike_are_foretold_without_a_doubt() -> None:
    x, _ = samples(10)
    mean, spread = Regression(x, np.full((10, 1), 0.5)).predict(x)
    assert mean == pytest.approx(0)
    assert spread == pytest.approx(0)


def test_equal_inputs_are_survived() -> None:
    found = Regression(np.ones((6, 3)), np.arange(6.0)[:, None])
    mean, spread = found.predict(np.ones((1, 3)))
    assert np.isfinite(mean).all()
    assert np.isfinite(spread).all()


def test_an_ensemble_is_the_mixture_of_its_members() -> None:
    """Mean and standard deviation as those of draws from the mixture itself."""
    (x, y), (asked, _) = samples(30), samples(5, seed=1)
    found = Ensemble([x, x[:, :2]], y)
    assert found.shares[0] > 0.5 > found.shares[1] > 0
    assert found.shares.sum() == pytest.approx(1)
    mean, spread = found.predict([asked, asked[:, :2]])
    rng = np.random.default_rng(0)
    draws = []
    for member, share, inputs in zip(found.members, found.shares, (asked, asked[:, :2]), strict=True):
        middle, deviation = member.predict(inputs)
        draws.append(rng.normal(middle, deviation, (round(share * 100_000), *middle.shape)))
    drawn = np.concatenate(draws)
    assert mean == pytest.approx(drawn.mean(0), abs=0.02)
    assert spread == pytest.approx(drawn.std(0), abs=0.02)
    assert Ensemble([x], y).predict([asked])[1] == pytest.approx(found.members[0].predict(asked)[1])


def heard(domain: Domain, judge: Any, count: int, seed: int = 0, **options: Any) -> tuple[Any, list[Architecture]]:
    """A surrogate that was told so many results, and other architectures."""
    rng = np.random.default_rng(seed)
    surrogate = Surrogate(**{"every": 10**6, **options})
    surrogate.start(domain, rng, [ACCURACY])
    drawn = domain.sample_different(count + 200, rng)
    for number, architecture in enumerate(drawn[:count]):
        surrogate.tell(Trial(number, Evaluate(architecture), "done", {"accuracy": judge(architecture)}))
    return surrogate, drawn[count:]


@pytest.mark.skipif(not NB201.is_file(), reason=f"needs the benchmark's table, {NB201}")
def test_on_nas_bench_201_it_ranks_cells_that_it_does_not_know() -> None:
    """0.73 over twenty seeds after 100 results, as its docstring says."""
    accuracy = pd.read_csv(NB201).set_index("arch_str")["c10_valid_ep12"].to_dict()
    space: Any = NASBench201Space()
    domain = space.domain(TinyTask())
    surrogate, others = heard(domain, lambda a: accuracy[space.notation(a)] / 100, 100, tolerance=9.0)
    known = surrogate._known[Fidelity()]
    ensemble, encodings = surrogate._fit(known)
    mean, _ = ensemble.predict([np.stack([encode(other) for other in others]) for encode in encodings])
    assert spearmanr(mean[:, 0], [accuracy[space.notation(other)] for other in others]).statistic > 0.6


@pytest.mark.skipif(not NB201.is_file(), reason=f"needs the benchmark's table, {NB201}")
def test_on_nas_bench_201_what_beats_all_that_is_known_is_evaluated_and_most_others_are_not() -> None:
    accuracy = pd.read_csv(NB201).set_index("arch_str")["c10_valid_ep12"].to_dict()
    space: Any = NASBench201Space()
    domain, rng = space.domain(TinyTask()), np.random.default_rng(0)
    drawn = domain.sample_different(1_150, rng)
    truth = [accuracy[space.notation(architecture)] / 100 for architecture in drawn]
    surrogate = Surrogate(every=10**6)
    surrogate.start(domain, rng, [ACCURACY])
    for number in range(150):
        surrogate.tell(Trial(number, Evaluate(drawn[number]), "done", {"accuracy": truth[number]}))
    evaluated = {place for place in range(150, 1_150) if surrogate.foresee(drawn[place], Fidelity()) is None}
    better = {place for place in range(150, 1_150) if truth[place] > max(truth[:150])}
    assert len(better) >= 5
    assert len(better & evaluated) >= 0.6 * len(better)
    assert len(evaluated) <= 150


# When it foresees


def worth(architecture: Architecture) -> float:
    """Between 0 and 1: the width, the depth and the convolutions count."""
    picks = architecture.picks
    value = 0.5 * (picks["width"] == 4) + 0.2 * (picks["depth"] == 2)
    return value + 0.1 * sum(pick == "conv" for pick in picks.values())


def tiny() -> Domain:
    return TinySpace().domain(TinyTask())


def test_it_foresees_what_is_surely_worse_and_evaluates_what_could_be_best() -> None:
    domain = tiny()
    everyone = sorted(domain.enumerate(), key=worth)
    surrogate = Surrogate(every=10**6)
    surrogate.start(domain, np.random.default_rng(0), [ACCURACY])
    for number, place in enumerate(np.random.default_rng(0).permutation(250)[:80]):
        surrogate.tell(Trial(number, Evaluate(everyone[place]), "done", {"accuracy": worth(everyone[place])}))
    worst = [surrogate.foresee(architecture, Fidelity()) for architecture in everyone[:40]]
    best = [surrogate.foresee(architecture, Fidelity()) for architecture in everyone[-40:]]
    assert sum(found is not None for found in worst) > 30
    assert sum(found is not None for found in best) < 10
    for architecture, found in zip(everyone, worst, strict=False):
        if found is not None:
            assert found["accuracy"] == pytest.approx(worth(architecture), abs=0.25)
            assert set(found) == {"accuracy", "accuracy_spread"}
            assert found["accuracy_spread"] >= 0


def test_nothing_is_foreseen_by_few_results_or_without_tolerance() -> None:
    domain = tiny()
    cases: list[tuple[int, dict[str, Any]]] = [(19, {}), (60, {"tolerance": 0.0})]
    for count, options in cases:
        surrogate, others = heard(domain, worth, count, **options)
        assert all(surrogate.foresee(other, Fidelity()) is None for other in others[:50])


def test_a_larger_tolerance_foresees_more() -> None:
    counts = []
    for tolerance in (0.2, 0.4, 0.8):
        surrogate, others = heard(tiny(), worth, 40, tolerance=tolerance)
        counts.append(sum(surrogate.foresee(other, Fidelity()) is not None for other in others))
    assert counts == sorted(counts)
    assert counts[0] < counts[2]


def test_after_so_many_foreseen_the_next_is_evaluated_all_the_same() -> None:
    surrogate, others = heard(tiny(), lambda _: 0.5, 30, every=4)
    said = []
    for number, other in enumerate(others[:16]):
        found = surrogate.foresee(other, Fidelity())
        metrics = {"accuracy": 0.5} if found is None else {**found, "predicted": 1.0}
        surrogate.tell(Trial(100 + number, Evaluate(other), "done", metrics))
        said.append(found is not None)
    assert said == [True, True, True, False] * 4


def test_results_of_another_fidelity_and_of_stopped_or_failed_trials_are_not_learnt_from() -> None:
    domain = tiny()
    surrogate = Surrogate(initial=5)
    surrogate.start(domain, np.random.default_rng(0), [ACCURACY])
    drawn = domain.sample_different(40, np.random.default_rng(0))
    for number, architecture in enumerate(drawn[:30]):
        trial = Trial(number, Evaluate(architecture, Fidelity(epochs=2)), "done", {"accuracy": 0.5})
        surrogate.tell(trial)
        for state in ("pruned", "failed"):
            surrogate.tell(replace(trial, request=Evaluate(architecture), state=state))
        surrogate.tell(replace(trial, request=Evaluate(architecture), metrics={"accuracy": math.nan}))
    assert surrogate.foresee(drawn[-1], Fidelity()) is None
    assert surrogate.foresee(drawn[-1], Fidelity(epochs=2)) is not None


def test_several_objectives_are_foreseen_and_evaluated_where_nothing_measured_beats_both() -> None:
    domain = tiny()
    surrogate = Surrogate(every=10**6, optimism=1.0)
    surrogate.start(domain, np.random.default_rng(0), [ACCURACY, SIZE])
    drawn = domain.sample_different(300, np.random.default_rng(0))

    def size(architecture: Architecture) -> float:
        return 100.0 * (architecture.picks["width"] == 4) + sum(p == "conv" for p in architecture.picks.values())

    for number, architecture in enumerate(drawn[:150]):
        metrics = {"accuracy": worth(architecture), "parameters": size(architecture)}
        surrogate.tell(Trial(number, Evaluate(architecture), "done", metrics))
    foreseen = [(other, found) for other in drawn[150:] if (found := surrogate.foresee(other, Fidelity())) is not None]
    assert len(foreseen) > 20
    for other, found in foreseen:
        assert set(found) == {"accuracy", "accuracy_spread", "parameters", "parameters_spread"}
        assert any(worth(known) >= worth(other) and size(known) <= size(other) for known in drawn[:150])
    assert np.corrcoef([found["parameters"] for _, found in foreseen], [size(o) for o, _ in foreseen])[0, 1] > 0.9


def test_what_paths_cannot_tell_apart_the_picks_do() -> None:
    """In a row of layers every network has a single path of its own: all are equally far from each other."""
    space: Any = ChainSpace(stages=1, layers=4, widths=(4, 8))
    domain = space.domain(TinyTask())
    deep = [name for name, decision in domain.decisions.items() if decision.kind == "one"][:6]

    def judge(architecture: Architecture) -> float:
        picked = [(architecture.picks[n], domain.decisions[n].options[0]) for n in deep if n in architecture.picks]
        return float(sum(one == first for one, first in picked))

    surrogate, _ = heard(domain, judge, 40)
    ensemble, _ = surrogate._fit(surrogate._known[Fidelity()])
    picks, paths = ensemble.members
    assert picks.error < paths.error
    assert ensemble.shares == pytest.approx(np.array([paths.error, picks.error]) / (picks.error + paths.error))
    for encodings in ("one_hot", "path"):
        surrogate, _ = heard(domain, judge, 40, encodings=encodings)
        alone, _ = surrogate._fit(surrogate._known[Fidelity()])
        assert [member.error for member in alone.members] == [{"one_hot": picks, "path": paths}[encodings].error]


# Its evaluator


def test_a_true_evaluation_is_the_other_evaluators_curve_and_all() -> None:
    space, task = TinySpace(), TinyTask()
    architecture = space.domain(task).complete({})
    found = []
    for evaluator in (Train(epochs=3), Surrogate(evaluator="train:epochs=3")):
        judged: Any = evaluator.evaluate(architecture, Fidelity(), Context(space, task, torch.device("cpu"), 0))
        curve = []
        while True:
            try:
                curve.append(next(judged))
            except StopIteration as ended:
                found.append((curve, ended.value))
                break
    assert found[0] == found[1]
    assert len(found[0][0]) == 3


def test_it_is_what_its_evaluator_is() -> None:
    assert Surrogate().own_epochs is None
    assert Surrogate(evaluator={"train": {"epochs": 7, "patience": 3}}).own_epochs == 7
    assert Surrogate(evaluator="zero_cost:proxy=naswot").objectives == ("naswot:max",)
    kinds = [Surrogate(evaluator=name) for name in ("train", "weight_sharing", "tabular:table=x.csv")]
    assert [kind.provisional for kind in kinds] == [False, True, False]
    assert [kind.learns for kind in kinds] == [False, True, False]
    assert [kind.simulates for kind in kinds] == [False, False, True]


def test_what_its_evaluator_needs_is_asked_for_before_the_run(tmp_path: Path) -> None:
    class NoClassifier(TinyTask):
        classes = 1

    with pytest.raises(ConfigError, match="the evaluator 'zero_cost' needs a task that sorts"):
        nasengine.search(TinySpace(), "random", NoClassifier(), Surrogate(evaluator="zero_cost"), out=tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"initial": 1}, "initial = 1 and every = 10; expected at least 2 and 1"),
        ({"every": 0}, "every = 0; expected at least 2 and 1"),
        ({"tolerance": -0.1}, "tolerance = -0.1; expected 0 or more"),
        ({"optimism": -1.0}, "optimism = -1.0; expected 0 or more"),
        ({"tolerance": math.nan}, "tolerance = nan; expected 0 or more"),
        ({"encodings": "graph"}, r"encodings = 'graph'; expected one_hot\+path, one_hot, path"),
        ({"evaluator": "surrogate"}, "evaluator = surrogate, which foresees results itself"),
        ({"evaluator": {"train": 3}}, "is no evaluator; expected its name, or its name and a mapping"),
        ({"evaluator": "train:epochs=no"}, "the option 'epochs' of the evaluator 'train' is 'no'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Surrogate(**options)


# Whole searches


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """What every architecture of the tiny space is worth; a minute each."""
    path, everyone = tmp_path / "tiny.csv", list(tiny().enumerate())
    notations = [TinySpace().notation(architecture) for architecture in everyone]
    values = np.array([worth(architecture) for architecture in everyone]) / 2
    frame = {"architecture": notations, "accuracy": values, "test_accuracy": values / 2, "seconds": 60.0}
    pd.DataFrame(frame).to_csv(path, index=False)
    return path


def search(table: Path, out: Path, options: Mapping[str, Any] | None = None, **asked: Any) -> Run:
    evaluator = Surrogate(**{"evaluator": {"tabular": {"table": str(table)}}, "initial": 15, **(options or {})})
    settings: dict[str, Any] = {"strategy": "random", "trials": 80, "baseline": 1, **asked}
    return nasengine.search(TINY, task=TINY_TASK, evaluator=evaluator, out=out, **settings)


def test_a_search_measures_first_and_then_where_it_must_and_finds_something_measured(
    table: Path, tmp_path: Path
) -> None:
    run = search(table, tmp_path / "run")
    searched = [trial for trial in run.all_trials if trial.purpose == "search"]
    foreseen = ["predicted" in trial.metrics for trial in searched]
    assert len(searched) == 80
    assert not any(foreseen[:15])
    assert sum(foreseen) > 15
    assert "1" * 10 not in "".join(str(int(one)) for one in foreseen)
    assert {trial.worker for trial, one in zip(searched, foreseen, strict=True) if one} == {"foreseen"}
    measured = [t for t, one in zip(searched, foreseen, strict=True) if not one]
    assert run.best.architecture == max(measured, key=lambda t: t.metrics["accuracy"]).architecture
    assert run.best.metrics["test_accuracy"] == pytest.approx(run.best.metrics["accuracy"] / 2)
    assert run.simulated == 60 * len([trial for trial in measured if trial.same_as is None])
    assert not any("predicted" in trial.metrics for trial in [*run.front(), *run.all_trials[80:]])


class StopsAt(Observer):
    """Ends the run, as ctrl-C does, when so many trials have ended."""

    def __init__(self, ended: int) -> None:
        self.left = ended

    def ended(self, trial: Trial) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("ended", [7, 40])
def test_a_search_stopped_anywhere_resumes_to_the_same_end(ended: int, table: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"strategy": "evolution:population=8", "trials": 60, "options": {"every": 5}}
    whole = search(table, tmp_path / "whole", **asked)
    with pytest.raises(KeyboardInterrupt):
        search(table, tmp_path / "stopped", observer=StopsAt(ended), **asked)
    resumed = nasengine.resume(tmp_path / "stopped")
    results = [
        [(t.architecture, t.worker == "foreseen", dict(t.metrics)) for t in run.all_trials] for run in (whole, resumed)
    ]
    assert results[0] == results[1]
    assert any(foreseen for _, foreseen, _ in results[0][:ended]) == (ended > 15)


def test_a_front_has_measured_networks_only(table: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(table)
    frame.assign(parameters=[n.count("conv") + 10.0 for n in frame["architecture"]]).to_csv(table, index=False)
    run = search(table, tmp_path / "run", objectives=("accuracy:max", "parameters:min"), trials=120)
    assert any("predicted" in trial.metrics for trial in run.all_trials)
    assert run.front()
    assert not any("predicted" in trial.metrics for trial in run.front())


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_on_two_workers_what_is_foreseen_takes_none(table: Path, tmp_path: Path) -> None:
    run = search(table, tmp_path / "run", workers=2)
    searched = [trial for trial in run.all_trials if trial.purpose == "search"]
    assert {trial.worker for trial in searched} == {"w0", "w1", "foreseen"}
    assert all(("predicted" in trial.metrics) == (trial.worker == "foreseen") for trial in searched)


def test_the_command_line_names_the_evaluator_within() -> None:
    from nasengine.registry import split

    made: Any = make("evaluator", *split("surrogate:evaluator=train:epochs=5,initial=10"))
    assert (made.inner.settings["epochs"], made.initial) == (5, 10)
