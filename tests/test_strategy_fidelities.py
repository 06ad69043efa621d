"""Searches with several fidelities, from the loop to what people are shown: more epochs come before a better result."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

import nasengine
from nasengine import Architecture, ConfigError, Context, Evaluate, Evaluator, Fidelity, Metrics, Run, RunFailed
from nasengine.cli.progress import Lines
from nasengine.cli.tally import Tally
from nasengine.observers import Logger
from nasengine.plan import Plan
from nasengine.report.plots import best_so_far
from nasengine.testing import TinySpace, TinyTask
from nasengine.trial import Trial


class Tired(Evaluator):
    """An accuracy from the architecture's id that falls with the epochs: few of them look best."""

    def evaluate(
        self, architecture: Architecture, fidelity: Fidelity, context: Context
    ) -> Generator[Metrics, None, Metrics]:
        epochs = fidelity.epochs or 9
        value = int(architecture.id[:8], 16) / 16**8
        yield {"accuracy": value}
        return {"accuracy": 1 / epochs + 0.05 * value}


def search(folder: Path, strategy: str, **settings: Any) -> Run:
    given = {"trials": 30, "baseline": 0, "fidelity": "epochs=9", **settings}
    return nasengine.search(TinySpace(), strategy, TinyTask(), Tired(), out=folder, durable=False, **given)


def searched(run: Run) -> list[tuple[Trial, int]]:
    """The search's trials and their epochs."""
    trials = [t for t in run.all_trials if t.purpose == "search" and isinstance(t.request, Evaluate)]
    return [(trial, trial.request.fidelity.epochs or 0) for trial in trials]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "strategy", ["asha", "successive_halving", "hyperband", "bohb:min_points_in_model=2", "asha:sampler=evolution"]
)
def test_the_best_of_the_highest_rung_is_trained_in_the_end(strategy: str, tmp_path: Path) -> None:
    run = search(tmp_path / "run", strategy)
    trials = searched(run)
    assert {epochs for _, epochs in trials} == {1, 3, 9}
    best = max((t for t, epochs in trials if epochs == 9), key=lambda t: t.metrics["accuracy"])
    assert best.metrics["accuracy"] < min(t.metrics["accuracy"] for t, epochs in trials if epochs == 1)
    assert run.best.purpose == "final"
    assert run.best.architecture == best.architecture


def test_an_architecture_to_start_from_is_compared_with_the_highest_rung(tmp_path: Path) -> None:
    domain = TinySpace().domain(TinyTask())
    best = max(domain.enumerate(), key=lambda a: int(a.id[:8], 16))
    run = search(tmp_path / "run", "asha", start_from=[best.to_dict()])
    assert run.best.architecture == best


def test_an_interrupted_search_with_rungs_resumes_to_the_same_end(tmp_path: Path) -> None:
    class Stops(nasengine.Observer):
        def __init__(self, after: int) -> None:
            self.left = after

        def ended(self, trial: Trial) -> None:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    cheap = f"{Path(__file__).parent / 'parts' / 'cheap.py'}:Cheap"
    for strategy in ("asha:sampler=evolution:population=4", "bohb:min_points_in_model=2", "optuna"):
        settings: dict[str, Any] = {"strategy": strategy, "evaluator": cheap, "trials": 20, "baseline": 0}
        settings |= {"space": TinySpace(), "task": TinyTask(), "durable": False}
        whole = nasengine.search(out=tmp_path / f"{strategy[:4]}-whole", **settings)
        folder = tmp_path / f"{strategy[:4]}-stopped"
        with pytest.raises(KeyboardInterrupt):
            nasengine.search(out=folder, observer=Stops(13), **settings)
        resumed = nasengine.resume(folder)
        assert [row["id"] for row in resumed.rows()] == [row["id"] for row in whole.rows()]


def test_more_epochs_than_a_full_evaluation_end_the_run_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises((ConfigError, RunFailed), match="max_epochs is 81, and a full evaluation has 9"):
        search(tmp_path / "run", "asha:max_epochs=81")


# What people see


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return search(tmp_path_factory.mktemp("runs") / "run", "asha")


def best_of(run: Run) -> float:
    """The highest rung's, which is not the highest of all."""
    best = max(trial.metrics["accuracy"] for trial, epochs in searched(run) if epochs == 9)
    assert best < min(trial.metrics["accuracy"] for trial, epochs in searched(run) if epochs == 1)
    return best


def test_a_run_that_is_watched_shows_the_best_of_the_highest_rung(run: Run) -> None:
    tally = Tally(Path(run.folder))
    assert tally.best is not None
    assert tally.best.metrics["accuracy"] == tally.bests[-1] == best_of(run) < max(tally.bests)


def test_the_figure_of_the_best_so_far_ends_with_the_highest_rungs(run: Run) -> None:
    line = next(line for line in best_so_far(run).axes[0].lines if line.get_label() == "best so far")
    values = [float(value) for value in line.get_ydata()]  # type: ignore[arg-type, union-attr]
    first_of_nine = next(place for place, (_, epochs) in enumerate(searched(run)) if epochs == 9)
    best = 100 * best_of(run)
    assert values[-1] == pytest.approx(best)
    assert max(values[first_of_nine:]) <= best + 1e-9 < max(values[:first_of_nine])


def test_progress_and_loggers_keep_the_best_of_the_highest_rung(tmp_path: Path) -> None:
    class Kept(Logger):
        name = "kept"

        def begin(self, identity: str | None) -> str:
            return "kept"

        def log_epoch(self, number: int, epoch: int, metrics: Metrics) -> None:
            pass

        def log_trial(self, trial: Trial) -> None:
            pass

        def end(self, run: Run) -> None:
            pass

    class Both(nasengine.Observer):
        def opened(self, folder: Path, plan: Plan) -> None:
            self.parts: list[Any] = [Lines(), Kept()]
            for part in self.parts:
                part.opened(folder, plan)

        def ended(self, trial: Trial) -> None:
            for part in self.parts:
                part.ended(trial)

    both = Both()
    best = best_of(search(tmp_path / "run", "asha", observer=both))
    assert [part.best for part in both.parts] == [best, best]


def test_loading_these_strategies_imports_no_optuna() -> None:
    names = ["asha", "bohb", "hyperband", "optuna", "successive_halving"]
    code = f"import sys; from nasengine.registry import load; [load('strategy', name) for name in {names}]\n"
    code += "print('optuna' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
