"""The funnel, and what comes before a training or instead of one: stages, proxies, stoppers, evaluators that learn."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

import nasengine
from nasengine import ConfigError, Observer, Run, RunFailed
from nasengine.config import Config
from nasengine.testing import TinySpace, TinyTask
from nasengine.trial import Evaluate, Teach

PARTS = Path(__file__).parent / "parts" / "staged.py"
GUESS, TRUTH, FORESEES = f"{PARTS}:Guess", f"{PARTS}:Truth", f"{PARTS}:Foresees"
STOPPER = f"{PARTS}:BelowTheBest"


class StopsAt(Observer):
    """Interrupts the process at the nth thing that it is told."""

    def __init__(self, stop: int) -> None:
        self.left = stop

    def count(self, *_: object) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt

    opened = began = started = reported = ended = count  # type: ignore[assignment]


def table(run: Run) -> list[Any]:
    """What a search came to, without what may differ between two runs of it: the time."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in run.rows()]


def search(folder: Path, **settings: Any) -> Run:
    given = {"strategy": "random", "task": TinyTask(), "space": TinySpace(), "baseline": 1, "out": folder, **settings}
    return nasengine.search(**given)


def searched(run: Run, stage: int = 0) -> list[nasengine.Trial]:
    return [trial for trial in run.all_trials if trial.purpose == "search" and trial.stage == stage]


def test_show_has_what_every_stage_and_the_final_trainings_were_judged_by(nas: Any, tmp_path: Path) -> None:
    search(tmp_path / "run", funnel=f"{GUESS}:4,train:epochs=2:2")
    _, out, _ = nas("show", "run")
    table = out[out.index("trial  purpose") :].splitlines()
    head = table[0].split()
    assert head[:3] == ["trial", "purpose", "stage"]
    assert [name for name in ("guess", "accuracy", "test_accuracy") if name in head] == [
        "guess", "accuracy", "test_accuracy"
    ]  # fmt: skip
    place = table[0].index("  accuracy") + 2
    shown = {line.split()[1] + line.split()[2]: line[place : place + 8].strip() for line in table[1:8]}
    assert shown["search1"] == ""
    assert shown["search2"].endswith("%")
    assert any("accuracy by epoch" in line for line in table)


def test_each_stage_judges_the_best_of_the_one_before(tmp_path: Path) -> None:
    run = search(tmp_path / "run", funnel=f"{GUESS}:12,{TRUTH}:4,train:epochs=2:2")
    assert [len(searched(run, stage)) for stage in range(3)] == [12, 4, 2]
    for stage, metric in ((0, "guess"), (1, "accuracy")):
        best = sorted(searched(run, stage), key=lambda t: -t.metrics[metric])
        after = {t.architecture for t in searched(run, stage + 1)}
        distinct = list(dict.fromkeys(t.architecture for t in best))
        assert after == set(distinct[: len(after)])
    winner = max(searched(run, 2), key=lambda t: (t.metrics["accuracy"], -t.number))
    assert run.best.purpose == "final"
    assert run.best.architecture == winner.architecture
    assert run.has_model
    assert run.about["stages"] == [["guess:max"], ["accuracy:max"], ["accuracy:max"]]


def test_what_a_guess_finds_is_trained_in_the_end(tmp_path: Path) -> None:
    run = search(tmp_path / "run", evaluator=GUESS, trials=5)
    assert {tuple(t.metrics) for t in searched(run)} == {("guess",)}
    assert "test_accuracy" in run.best.metrics
    assert run.has_model
    comparison = run.comparison()
    assert comparison is not None
    assert comparison.metric == "test_accuracy"


def test_the_strategy_hears_of_the_first_stage_only(tmp_path: Path) -> None:
    class Listens(nasengine.Strategy):
        def prepare(self) -> None:
            self.told: list[str] = []

        def ask(self) -> Evaluate:
            return self.evaluate(self.domain.sample(self.rng))

        def tell(self, trial: nasengine.Trial) -> None:
            assert self.score(trial) == trial.metrics["guess"]
            self.told.append(str(trial.number))

    strategy = Listens()
    search(tmp_path / "run", strategy=strategy, funnel=f"{GUESS}:6,{TRUTH}:2")
    assert len(strategy.told) == 6


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_a_funnel_stopped_anywhere_resumes_to_the_same_end(step: int, tmp_path: Path) -> None:
    taught = f"{PARTS}:Taught:log={tmp_path / 'log'}"
    settings = {"funnel": f"{taught}:5,{FORESEES}:4,train:epochs=2:2", "stoppers": STOPPER}
    whole = search(tmp_path / "whole", **settings)
    for stop in itertools.count(3, step):
        folder = tmp_path / f"stopped{stop}"
        try:
            search(folder, **settings, observer=StopsAt(stop))
            break
        except KeyboardInterrupt:
            run = nasengine.resume(folder)
        assert table(run) == table(whole), f"stopped at event {stop}"
        assert not list(folder.glob("learnt/*"))
    assert stop > 20


def test_an_evaluator_learns_once_before_its_first_candidate(tmp_path: Path) -> None:
    log = tmp_path / "log"
    run = search(tmp_path / "run", funnel=f"{GUESS}:6,{PARTS}:Taught:log={log}:3,{TRUTH}:2")
    assert log.read_text().split() == ["0", "1", "2"]
    assert [t.metrics["learnt"] for t in searched(run, 1)] == [3.0, 3.0, 3.0]
    requests = list(run.requests.values())
    assert requests.index(Teach(1)) < min(i for i, r in enumerate(requests) if isinstance(r, Evaluate) and r.stage == 1)
    assert [point["learnt"] for point in run.all_trials[requests.index(Teach(1))].curve] == [1.0, 2.0, 3.0]


def test_an_evaluator_that_cannot_learn_ends_the_run_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="could not learn: ValueError: it is too hard"):
        search(tmp_path / "run", evaluator=f"{PARTS}:Taught:log={tmp_path / 'log'},fails=true", trials=2)


def test_what_is_foreseen_takes_no_worker_and_is_never_the_best(tmp_path: Path) -> None:
    run = search(tmp_path / "run", evaluator=FORESEES, trials=12)
    foreseen = [t for t in searched(run) if "predicted" in t.metrics]
    assert foreseen
    assert {t.worker for t in foreseen if t.same_as is None} == {"foreseen"}
    measured = [t for t in searched(run) if "predicted" not in t.metrics]
    assert run.best.architecture in {t.architecture for t in measured}


def test_a_stopped_trial_keeps_its_curve_and_says_why(tmp_path: Path) -> None:
    run = search(tmp_path / "run", evaluator=TRUTH, trials=10, stoppers=[STOPPER])
    stopped = [t for t in searched(run) if t.state == "pruned"]
    assert stopped
    assert all(len(t.curve) == 1 and "of 3 epochs" in (t.error or "") for t in stopped if t.same_as is None)
    values = [t.curve[-1]["accuracy"] for t in searched(run) if t.state == "done"]
    assert values == sorted(values)  # only what was better than all before came to its end
    assert all(t.state == "done" for t in run.all_trials if t.purpose != "search")


def test_a_stopper_that_breaks_ends_the_run_in_its_name(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"the stopper '.*BelowTheBest' failed: ValueError: no idea"):
        search(tmp_path / "run", evaluator=TRUTH, stoppers=f"{STOPPER}:breaks=true")


def test_what_is_measured_of_a_network_stands_in_its_curve(tmp_path: Path) -> None:
    """Whatever is measured, the training is the same, what it drops out by chance included."""
    space, curves = "chain:stages=1,layers=1,widths=[8],operations=[convolution],dropouts=[0.5]", []
    for folder, objectives in (("one", ("accuracy", "latency:min", "memory:min")), ("two", ("accuracy",))):
        run = search(tmp_path / folder, space=space, evaluator="train:epochs=2", trials=2, objectives=objectives)
        assert run.finished
        trials = [trial for trial in run.all_trials if trial.purpose == "search"]
        curves.append([point["train_loss"] for trial in trials for point in trial.curve])
        if folder == "one":
            assert all(point["latency"] == trial.metrics["latency"] > 0 for trial in trials for point in trial.curve)
            assert all(trial.metrics["memory"] > 0 for trial in trials)
    assert curves[0] == curves[1]


def test_a_trial_that_adds_nothing_by_what_is_measured_is_stopped(tmp_path: Path) -> None:
    run = search(
        tmp_path / "run", evaluator="train:epochs=4", trials=12, objectives=("parameters:min", "memory:min"),
        stoppers="hypervolume:n_startup_trials=2",
    )  # fmt: skip
    stopped = [trial for trial in run.all_trials if trial.state == "pruned"]
    assert stopped
    assert all(trial.metrics["memory"] > 0 for trial in stopped)


def test_a_stopper_without_a_curve_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a curve, and"):
        search(tmp_path / "run", evaluator=GUESS, stoppers=STOPPER)
    assert not (tmp_path / "run").exists()


def test_a_search_on_a_proxy_judges_the_finalists_on_the_task(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"space": "nasbench201:cells=1,channels=4", "proxy": "digits:split_seed=3"}
    funnel = f"{TRUTH}:6,{TRUTH}:3,train:epochs=1:2"
    run = search(tmp_path / "run", **settings, task="digits", funnel=funnel, fidelity="resolution=4")
    assert {t.metrics["images"] for stage in (0, 1) for t in searched(run, stage)} == {4.0}
    assert run.best.metrics["test_accuracy"] > 0


def test_a_proxy_that_opens_other_decisions_is_refused(tmp_path: Path) -> None:
    class BySize(TinySpace):
        def build(self, choose: Any, task: Any) -> Any:
            if task.input_shape[1] > 4:
                choose.one("more", {"a": lambda: nasengine_identity(), "b": lambda: nasengine_identity()})
            return super().build(choose, task)

    with pytest.raises(ConfigError, match="there is another decision, 'more'; set its options"):
        search(tmp_path / "run", space=BySize(), evaluator=TRUTH, proxy=f"{PARTS}:WideImages")


def nasengine_identity() -> Any:
    from torch import nn

    return nn.Identity()


@pytest.mark.parametrize(
    ("funnel", "says"),
    [
        ("train:5", "the funnel is one stage only; expected EVALUATOR:CANDIDATES,"),
        ("train:5,train:6", "the funnel is to grow from 5 candidates to 6"),
        ("train,train:6", "the funnel is one stage only"),
        ("train:5,train", "the funnel is 'train:5,train'"),
        ("train:5,train:0", "candidates is 0; expected"),
        ("train:5,trian:3", "no evaluator named 'trian'. Did you mean 'train'?"),
        (7, "the funnel is 7"),
    ],
)
def test_a_mistaken_funnel_is_refused_in_a_sentence(funnel: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(nasengine.NasError) as raised:
        search(tmp_path / "run", funnel=funnel)
    assert says in str(raised.value)


def test_a_funnel_says_what_the_evaluator_and_the_number_of_trials_are() -> None:
    config = Config.of({"funnel": "zero_cost:proxy=synflow,batch_size=8:100,train:epochs=3:5"})
    assert (str(config.evaluator), config.trials) == ("zero_cost:proxy=synflow,batch_size=8", 100)
    assert [str(stage) for stage in config.funnel] == ["zero_cost:proxy=synflow,batch_size=8:100", "train:epochs=3:5"]
    assert Config.of(config.to_dict()) == config
    for given, says in (({"trials": 7}, "trials is 7"), ({"evaluator": "tabular"}, "the evaluator is 'tabular'")):
        with pytest.raises(ConfigError, match=says):
            Config.of({"funnel": "train:5,train:2", **given})


def test_a_strategy_that_learns_in_a_supernet_takes_no_funnel(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="learns inside a supernet and proposes nothing that a funnel could judge"):
        search(tmp_path / "run", strategy="darts", funnel=f"{GUESS}:6,{TRUTH}:2")


def test_a_smaller_network_is_judged_and_the_whole_one_is_counted(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"space": "cell:layers=4,channels=8,nodes=2", "task": "digits", "trials": 1}
    settings |= {"evaluator": "train:epochs=1", "baseline": 0}
    small = search(tmp_path / "small", **settings, fidelity="layers=3,width=0.5,resolution=4,data=0.25")
    first, found = searched(small)[0], small.best
    assert first.metrics["parameters"] == found.metrics["parameters"]
    assert first.seconds < found.seconds


@pytest.mark.parametrize("space", ["chain:layers=1,stages=1", "mobile"])
def test_where_widths_are_chosen_all_of_them_are_scaled(space: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"space": space, "task": "digits", "trials": 1, "seed": 1}
    settings |= {"evaluator": "train:epochs=1", "baseline": 0}
    small = search(tmp_path / "small", **settings, fidelity="width=0.5,data=0.25")
    first, found = searched(small)[0], small.best
    assert first.state == "done"
    assert first.metrics["parameters"] == found.metrics["parameters"]


@pytest.mark.parametrize(
    ("space", "fidelity", "says"),
    [
        ("cell", "layers=9", "the fidelity's layers are 9; the networks have 3 layers"),
        ("mobile", "layers=1", "the space 'mobile' cannot scale layers"),
        ("cell", "resolution=16", "the fidelity's resolution is 16; the images of the task 'digits' have 8×8 pixels"),
        ("cell", "resolution=0", "the fidelity's resolution is 0; expected a whole number, at least 1"),
        ("cell", "width=0", "the fidelity's width is 0; expected a fraction"),
    ],
)
def test_what_cannot_be_scaled_is_a_sentence_before_the_run(
    space: str, fidelity: str, says: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as raised:
        search(tmp_path / "run", space=space, task="digits", fidelity=fidelity)
    assert says in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_any_part_of_the_data_holds_all_classes_alike() -> None:
    import torch

    from nasengine.registry import make

    task: Any = make("task", "digits", {})
    labels = torch.cat([batch[1] for batch in task.train_batches(64, torch.Generator(), (0.0, 0.25))])
    counts = torch.bincount(labels, minlength=10)
    assert int(counts.max() - counts.min()) <= 3
    again = torch.cat([batch[1] for batch in task.train_batches(64, torch.Generator(), (0.0, 0.25))])
    assert torch.equal(labels.sort().values, again.sort().values)
