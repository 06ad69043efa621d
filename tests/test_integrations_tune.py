"""Ray Tune: strategies as searchers, with Tune's own schedulers, failures and restarts."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import nasengine
from nasengine import Architecture, ConfigError, Request, Strategy, Trial
from nasengine.errors import ReplayError
from nasengine.testing import TinySpace, TinyTask

tune = pytest.importorskip("ray.tune")

from nasengine.integrations.tune import NASearcher, Population, architecture_of, fidelity_of, model_of, task_of  # noqa: E402

CHEAP = f"{Path(__file__).parent / 'parts' / 'cheap.py'}:Cheap"


def value_of(architecture: Architecture) -> float:
    """What the evaluator `Cheap` says of an architecture."""
    return int(architecture.id[:8], 16) / 16**8


def tiny(strategy: str | Strategy = "evolution:population=4", **settings: Any) -> NASearcher:
    """A searcher of the smallest space, for accuracy where nothing else is said."""
    return NASearcher(strategy, TinySpace(), TinyTask(), **{"metric": "accuracy", "mode": "max", **settings})


def drive(searcher: NASearcher, numbers: Iterator[int], trials: int) -> list[str]:
    """Does what Tune does with a searcher, one trial at a time: the ids of the architectures."""
    tried = []
    for number in numbers:
        config = searcher.suggest(f"trial{number}")
        architecture = architecture_of(config)
        tried.append(architecture.id)
        searcher.on_trial_complete(f"trial{number}", {"accuracy": value_of(architecture), "training_iteration": 1})
        if len(tried) == trials:
            break
    return tried


@pytest.mark.parametrize("strategy", ["random", "evolution:population=4"])
def test_a_strategy_proposes_to_tune_exactly_what_it_proposes_to_the_engine(strategy: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"trials": 15, "seed": 3}
    run = nasengine.search(TinySpace(), strategy, TinyTask(), CHEAP, baseline=0, out=tmp_path / "run", **settings)
    ours = [t.architecture.id for t in run.all_trials if t.purpose == "search" and t.architecture]
    assert drive(tiny(strategy, **settings), iter(range(15)), 15) == ours


def test_a_configuration_is_plain_json_and_gives_the_model_the_task_and_the_fidelity() -> None:
    searcher = NASearcher("random", "chain:stages=1,layers=2,widths=[4,8]", "digits", fidelity="epochs=2")
    config = searcher.suggest("a")
    assert json.loads(json.dumps(config)) == config
    architecture = architecture_of(config)
    assert config["picks"] == architecture.to_dict()["picks"]
    assert fidelity_of(config).epochs == 2
    model, task = model_of(config), task_of(config)
    assert model(next(iter(task.valid_batches()))[0]).shape[1] == 10
    same = nasengine.search_spaces.chain.ChainSpace(stages=1, layers=2, widths=(4, 8))  # type: ignore[attr-defined]
    assert model_of(config, same, task).state_dict().keys() == model.state_dict().keys()


def test_the_metric_is_the_tasks_unless_the_searcher_or_tune_says_otherwise() -> None:
    silent = NASearcher("random", TinySpace(), TinyTask())
    silent.suggest("a")
    assert (silent.metric, silent.mode) == ("accuracy", "max")
    told = NASearcher("random", TinySpace(), TinyTask())
    told.set_search_properties("loss", "min", {"rate": 1})
    told.suggest("a")
    assert (told.metric, told.mode) == ("loss", "min")
    with pytest.raises(ConfigError, match="expected a name and min or max"):
        NASearcher("random", TinySpace(), TinyTask(), metric="loss", mode="least")


class Listens(Strategy):
    """Proposes at random, one at a time if told so, and remembers what it was told."""

    several_objectives = True

    def __init__(self, *, alone: bool = False, limit: int = 100) -> None:
        self.alone, self.limit = alone, limit

    def prepare(self) -> None:
        self.told: list[Trial] = []
        self.asked = 0

    def ask(self) -> Request | None:
        if self.asked == self.limit or (self.alone and self.asked > len(self.told)):
            return None
        self.asked += 1
        return self.evaluate(self.domain.sample(self.rng))

    def tell(self, trial: Trial) -> None:
        self.told.append(trial)


def listener(searcher: NASearcher) -> Listens:
    strategy = searcher._conversation.strategy
    assert isinstance(strategy, Listens)
    return strategy


def test_errors_and_nan_are_told_as_failed_and_curves_by_epoch() -> None:
    searcher = tiny(Listens())
    for name in "abcde":
        searcher.suggest(name)
        searcher.on_trial_result(name, {"accuracy": 0.25, "training_iteration": 1})
    searcher.on_trial_complete("a", {"accuracy": 0.5, "training_iteration": 2, "time_total_s": 3.0})
    searcher.on_trial_complete("b", error=True)
    searcher.on_trial_complete("c", {"accuracy": float("nan"), "training_iteration": 2})
    searcher.on_trial_complete("d")  # stopped while it was paused
    searcher.on_trial_complete("e", {"accuracy": 0.25, "training_iteration": 1, "done": True})
    searcher.on_trial_complete("nobody", {"accuracy": 1.0})
    told = listener(searcher).told
    assert [trial.state for trial in told] == ["done", "failed", "failed", "pruned", "done"]
    assert [dict(trial.metrics).get("accuracy") for trial in told] == [0.5, None, None, 0.25, 0.25]
    assert [[point["accuracy"] for point in trial.curve] for trial in told] == [
        [0.25, 0.5],
        [0.25],
        [0.25],
        [0.25],
        [0.25],
    ]
    assert told[0].seconds == 3.0
    assert [trial.error for trial in told[:3]] == [None, "the trainable failed", "no finite value of 'accuracy'"]


def test_a_strategy_that_waits_is_asked_later_and_one_that_is_done_ends_the_search() -> None:
    searcher = tiny(Listens(alone=True, limit=2))
    assert searcher.suggest("a")["architecture"]
    assert searcher.suggest("b") is None
    searcher.on_trial_complete("a", {"accuracy": 1.0})
    assert searcher.suggest("b")["architecture"]
    searcher.on_trial_complete("b", {"accuracy": 1.0})
    assert searcher.suggest("c") == NASearcher.FINISHED


def test_several_objectives_are_told_and_one_shot_strategies_refused() -> None:
    searcher = tiny(Listens(), metric=["accuracy", "latency"], mode=["max", "min"])
    searcher.suggest("a")
    searcher.on_trial_complete("a", {"accuracy": 0.5, "latency": 2.0, "other": 1.0})
    assert dict(listener(searcher).told[0].metrics) == {"accuracy": 0.5, "latency": 2.0}
    with pytest.raises(ConfigError, match="'evolution' looks at one objective only, and there are 2"):
        tiny(metric=["accuracy", "latency"], mode=["max", "min"]).suggest("a")
    with pytest.raises(ConfigError, match="'darts' learns inside a supernet"):
        tiny("darts")


def test_what_is_saved_is_json_and_a_restored_searcher_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole = drive(tiny(seed=7, trials=24), iter(range(24)), 24)
    searcher, numbers, tried = tiny(seed=7, trials=24), iter(range(24)), []
    for part in range(4):
        tried += drive(searcher, numbers, 6)
        path = tmp_path / f"state{part}"
        searcher.save(str(path))
        assert json.loads(path.read_text())["format"] == 1
        searcher = tiny(seed=7, trials=24)
        searcher.restore(str(path))
    assert tried == whole


def test_trials_that_run_while_the_searcher_is_saved_are_told_after_it_is_restored(tmp_path: Path) -> None:
    searcher = tiny(Listens())
    searcher.suggest("a")
    searcher.on_trial_result("a", {"accuracy": 0.25, "training_iteration": 1})
    searcher.save(str(tmp_path / "state"))
    restored = tiny(Listens())
    restored.restore(str(tmp_path / "state"))
    restored.on_trial_complete("a", {"accuracy": 0.5, "training_iteration": 2})
    assert [point["accuracy"] for point in listener(restored).told[0].curve] == [0.25, 0.5]


def test_a_searcher_is_not_restored_by_another_strategy_seed_or_file(tmp_path: Path) -> None:
    searcher = tiny()
    drive(searcher, iter(range(6)), 6)
    searcher.save(str(tmp_path / "state"))
    with pytest.raises(ReplayError, match=r"saved with seed = 0, and this one has 1"):
        tiny(seed=1).restore(str(tmp_path / "state"))
    with pytest.raises(ReplayError, match=r"saved with strategy = {'evolution'"):
        tiny("random").restore(str(tmp_path / "state"))
    state = json.loads((tmp_path / "state").read_text())
    asks = [event for event in state["record"] if event["kind"] == "ask"]
    asks[3]["request"] = asks[0]["request"]  # as code that has changed would ask
    (tmp_path / "state").write_text(json.dumps(state))
    with pytest.raises(ReplayError, match="does not propose again what it proposed for trial 3"):
        tiny().restore(str(tmp_path / "state"))
    (tmp_path / "state").write_bytes(pickle.dumps({"format": 1}))
    with pytest.raises(ReplayError, match="no state of a NASearcher that can be read"):
        tiny().restore(str(tmp_path / "state"))


def test_what_tune_pickles_is_how_the_searcher_was_made_and_its_record() -> None:
    searcher = tiny("evolution:population=4", seed=7, trials=24)
    drive(searcher, iter(range(8)), 8)
    written = pickle.dumps(searcher)
    assert b"RegularizedEvolution" not in written
    rest = iter(range(8, 24))
    assert drive(pickle.loads(written), rest, 16) == drive(searcher, iter(range(8, 24)), 16)  # noqa: S301 (made above)


def test_what_the_param_space_leaves_to_chance_is_drawn_by_the_seed() -> None:
    def drawn(seed: int) -> list[float]:
        searcher = tiny("random", seed=seed)
        searcher.set_search_properties(None, None, {"rate": tune.loguniform(1e-4, 1e-1), "momentum": 0.9})
        configs = [searcher.suggest(name) for name in "abc"]
        assert all(config["momentum"] == 0.9 for config in configs)
        return [config["rate"] for config in configs]

    assert drawn(0) == drawn(0) != drawn(1)
    assert len(set(drawn(0))) == 3
    with pytest.raises(ConfigError, match="the param_space has 'picks', which the searcher sets"):
        tiny("random").set_search_properties(None, None, {"picks": 1})


class Trains(tune.Trainable):  # type: ignore[misc, name-defined]
    """Trains an architecture's real network on the tiny task, an epoch a step; its actors are used again."""

    def setup(self, config: dict[str, Any]) -> None:
        torch.set_num_threads(1)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.rate, self.epoch, self.data = new_config.get("rate", 0.1), 0, TinyTask()
        self.failing, self.together = new_config.get("failing", ""), new_config.get("together", "")
        torch.manual_seed(0)
        self.network = model_of(new_config, TinySpace(), self.data)
        return True

    def meet(self, folder: Path, others: int = 2) -> None:
        """Waits until so many trials have begun."""
        (folder / self.trial_id).touch()
        until = time.monotonic() + 60
        while len(list(folder.iterdir())) < others and time.monotonic() < until:
            time.sleep(0.05)

    def step(self) -> dict[str, Any]:
        if self.together:
            self.meet(Path(self.together))
        optimizer = torch.optim.SGD(self.network.parameters(), self.rate)
        self.network.train()
        for batch in self.data.train_batches(16, torch.Generator().manual_seed(self.epoch)):
            optimizer.zero_grad()
            torch.autograd.backward(self.data.loss(self.network, batch))
            optimizer.step()
        self.epoch += 1
        accuracy = dict(self.data.metrics(self.network, "valid"))["accuracy"]
        width = self.config["picks"]["width"]
        if self.failing and width == 2:
            raise ValueError("narrow networks are not for us")
        return {"accuracy": float("nan") if self.failing else accuracy, "rate": self.rate, "done": self.epoch == 4}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        torch.save({"network": self.network.state_dict(), "epoch": self.epoch}, Path(checkpoint_dir) / "state.pt")

    def load_checkpoint(self, checkpoint: Any) -> None:
        state = torch.load(Path(checkpoint) / "state.pt", weights_only=True)
        self.network.load_state_dict(state["network"])
        self.epoch = state["epoch"]


def fit(
    folder: Path,
    searcher: Any,
    trials: int,
    scheduler: Any = None,
    epochs: int = 4,
    at_once: int | None = 2,
    **space: Any,
) -> Any:
    """A real run of Tune: its results."""
    return tune.Tuner(
        Trains,
        param_space=space,
        tune_config=tune.TuneConfig(
            search_alg=searcher, scheduler=scheduler, num_samples=trials, metric="accuracy", mode="max",
            max_concurrent_trials=at_once, reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            storage_path=str(folder), name="search", verbose=0, stop={"training_iteration": epochs}
        ),
    ).fit()  # fmt: skip


@pytest.mark.usefixtures("ray_cluster")
def test_asha_stops_trials_of_a_strategy_early(tmp_path: Path) -> None:
    searcher = tiny(Listens())
    scheduler = tune.schedulers.ASHAScheduler(max_t=4, grace_period=1, reduction_factor=2)
    results = fit(tmp_path, searcher, 8, scheduler)
    lengths = [result.metrics["training_iteration"] for result in results]
    assert len(lengths) == 8
    assert 1 in lengths
    assert 4 in lengths
    told = listener(searcher).told
    assert sorted(len(trial.curve) for trial in told) == sorted(lengths)
    assert {t.architecture for t in told} == {architecture_of(result.config) for result in results}
    by_architecture = {t.architecture: t.metrics["accuracy"] for t in told}
    for result in results:
        assert by_architecture[architecture_of(result.config)] == result.metrics["accuracy"]


@pytest.mark.slow  # on a machine with much else to do, Tune may skip every exploitation: checkpoints come too late
@pytest.mark.usefixtures("ray_cluster")
def test_population_based_training_changes_the_rate_and_no_architecture_gets_anothers_result(tmp_path: Path) -> None:
    searcher = tiny(Listens())
    scheduler = tune.schedulers.PopulationBasedTraining(
        time_attr="training_iteration", perturbation_interval=1, quantile_fraction=0.5, synch=True,
        hyperparam_mutations={"rate": tune.uniform(0.001, 1.0)},
    )  # fmt: skip
    (tmp_path / "together").mkdir()  # a trial that ended before the other began would have nobody to learn from
    more = {"rate": tune.choice([0.001, 0.1]), "together": str(tmp_path / "together")}
    results = fit(tmp_path, Population(searcher), 2, scheduler, epochs=4, at_once=None, **more)
    frames = [result.metrics_dataframe for result in results]
    assert any(frame["rate"].nunique() > 1 for frame in frames)
    told = {trial.architecture: trial for trial in listener(searcher).told}
    assert len(told) == 2
    for frame in frames:
        column = frame["config/architecture"]
        first = Architecture.from_json(column[0])
        own = frame[column == column[0]]
        assert told[first].metrics["accuracy"] == own["accuracy"].iloc[-1]
        assert told[first].state == ("done" if len(own) == len(frame) else "pruned")
    assert any(frame["config/architecture"].nunique() > 1 for frame in frames)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_trainables_that_raise_or_give_nan_are_failed_trials(tmp_path: Path) -> None:
    searcher = tiny(Listens())
    results = fit(tmp_path, searcher, 3, epochs=1, failing="yes")
    errors = [str(trial.error) for trial in listener(searcher).told]
    assert {trial.state for trial in listener(searcher).told} == {"failed"}
    assert errors.count("the trainable failed") == len(results.errors)
    assert set(errors) == {"the trainable failed", "no finite value of 'accuracy'"}


class DiesAfter(tune.Callback):  # type: ignore[misc, name-defined]
    """Ends the process's part of the experiment when so many trials have ended."""

    def __init__(self, trials: int) -> None:
        self.left = trials

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_tune_restores_an_experiment_and_its_strategy(tmp_path: Path) -> None:
    def configs(results: Any) -> set[str]:
        return {result.config["architecture"] for result in results}

    searcher = tiny("random", seed=4)
    tuner = tune.Tuner(
        Trains,
        tune_config=tune.TuneConfig(search_alg=searcher, num_samples=4, max_concurrent_trials=1, reuse_actors=True),
        run_config=tune.RunConfig(
            storage_path=str(tmp_path),
            name="search",
            verbose=0,
            callbacks=[DiesAfter(2)],
            stop={"training_iteration": 1},
        ),
    )
    with pytest.raises(BaseException):  # noqa: B017, PT011 (Tune may wrap it)
        tuner.fit()
    restored = tune.Tuner.restore(str(tmp_path / "search"), Trains, resume_unfinished=True)
    restored._local_tuner._run_config.callbacks = None
    results = restored.fit()
    assert len(results) == 4
    assert not results.errors
    again = tiny("random", seed=4)
    assert configs(results) == {again.suggest(str(number))["architecture"] for number in range(4)}


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_the_script_of_the_book_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[1] / "docs" / "integrations.md").read_text(encoding="utf-8")
    script = page.partition("# with_tune.py\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(compile(script, "with_tune.py", "exec", dont_inherit=True), {"__name__": "__main__"})  # noqa: S102
    assert "'stage0.depth': " in capsys.readouterr().out
    assert list((tmp_path / "results").iterdir())
