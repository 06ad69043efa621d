"""Plugins that raise, exit, loop or lie: the run says whose fault it was, keeps what it has, and the rest works.

Row 19 of the table of faults in docs/reliability.md. Plugins that do not even load are in tests/test_plugins.py.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import pytest

import nasengine
from nasengine import Architecture, Evaluate, Evaluator, Fidelity, Learn, Request, Run, RunFailed, Strategy, Trial
from nasengine.errors import NasError
from nasengine.testing import TinySpace, TinyTask

PARTS = Path(__file__).parent / "parts" / "cheap.py"
CHEAP = f"{PARTS}:Cheap"
CHAIN = "chain:stages=1,layers=2,widths=[4,8],"
CHAIN += "kernels=[3],activations=[relu],norms=[batch],dropouts=[0.0],heads=[average],hidden_layers=0"
NAS = [sys.executable, "-m", "nasengine"]


def search(folder: Path, **settings: Any) -> Run:
    asked: dict[str, Any] = {
        "space": CHAIN, "strategy": "random", "evaluator": CHEAP, "trials": 6, "baseline": 0, "out": folder / "run"
    }  # fmt: skip
    return nasengine.search(**(asked | settings))


# The evaluator


def raises() -> Any:
    raise RuntimeError("boom")


def leaves() -> Any:
    sys.exit(0)


def curve(*points: Any) -> Generator[Any, None, Any]:
    yield from points
    return {"accuracy": 0.5}


class Acts(Evaluator):
    """Acts in some way for every third candidate."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self.act, self.count = act, 0

    def evaluate(self, architecture: Architecture, fidelity: Fidelity, context: Any) -> Any:
        self.count += 1
        return self.act() if self.count % 3 == 0 else {"accuracy": self.count / 100}


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("not for your eyes")


ACTS: dict[str, Callable[[], Any]] = {
    "raises": raises,
    "a list": lambda: [1, 2],
    "a text": lambda: "accuracy",
    "a number": lambda: 5,
    "None": lambda: None,
    "itself": lambda: ACTS,
    "nested": lambda: {"accuracy": {"a": 1}},
    "unshowable": lambda: {"accuracy": Unshowable()},
    "an epoch of garbage": lambda: curve(5),
    "an epoch of None": lambda: curve(None),
    "stops the iteration": lambda: next(iter(())),
    "a long story": lambda: (_ for _ in ()).throw(ValueError("x" * 10**6)),
    "half a character": lambda: (_ for _ in ()).throw(ValueError("\ud800\0\x1b[31m")),
}


@pytest.mark.parametrize(
    "how",
    [
        *ACTS,
        "leaves",
        "names by tuples",
        "epochs by tuples",
    ],
)
def test_a_candidate_whose_evaluator_misbehaves_is_a_failed_trial_and_the_others_are_judged(
    how: str, tmp_path: Path
) -> None:
    others: dict[str, Callable[[], Any]] = {
        "leaves": leaves,
        "names by tuples": lambda: {"accuracy": 0.5, ("a", 1): 1.0},
        "epochs by tuples": lambda: curve({("a", 1): 1.0}),
    }
    run = search(tmp_path, evaluator=Acts((ACTS | others)[how]))
    states = [trial.state for trial in run.all_trials if trial.purpose == "search"]
    assert states == ["done", "done", "failed"] * 2
    for trial in run.all_trials:
        assert trial.state == "done" or (trial.error and len(trial.error.splitlines()) == 1 and len(trial.error) < 500)


@pytest.mark.usefixtures("warm_python")
def test_a_process_that_an_evaluator_ends_keeps_what_was_judged(tmp_path: Path) -> None:
    """os._exit asks nobody: in the search's own process, nothing can be said any more, but nothing is lost either."""
    command = [
        *NAS, "run", "--space", CHAIN, "--strategy", "random", "--evaluator", f"{PARTS}:Faulty:how=die,every=4",
        "--trials", "9", "--baseline", "0", "--out", "run", "-q",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True)
    assert done.returncode == 9
    assert [trial.state for trial in Run(tmp_path / "run").all_trials] == ["done"] * 3
    resumed = subprocess.run([*NAS, "resume", "run", "-q"], cwd=tmp_path, capture_output=True)
    assert resumed.returncode == 9
    assert [trial.state for trial in Run(tmp_path / "run").all_trials] == ["done"] * 6


# The strategy


class Asks(Strategy):
    """Asks and hears in some way."""

    def __init__(
        self,
        ask: Callable[[Asks], Any] = lambda self: self.evaluate(self.domain.sample(self.rng)),
        tell: Callable[[], Any] = lambda: None,
        prepare: Callable[[], Any] = lambda: None,
    ) -> None:
        self.asks, self.hears, self.prepares, self.count = ask, tell, prepare, 0

    def prepare(self) -> None:
        self.prepares()

    def ask(self) -> Request | None:
        self.count += 1
        if self.count > 50:
            raise AssertionError("asked for ever")
        return self.asks(self)  # type: ignore[no-any-return]

    def tell(self, trial: Trial) -> None:
        self.hears()


def some(strategy: Strategy) -> Architecture:
    return strategy.domain.sample(strategy.rng)


ASKS: dict[str, Any] = {
    "a class": lambda s: Evaluate,
    "a text": lambda s: "architecture",
    "an architecture": some,
    "another space's": lambda s: Evaluate(Architecture("cell", {}, {"x": 1})),
    "no picks": lambda s: Evaluate(Architecture(some(s).space, some(s).options, {})),
    "raises": lambda s: raises(),
}
WILDLY: dict[str, Any] = {
    "another option": lambda s: Evaluate(Architecture(some(s).space, {"layers": 10**9}, some(s).picks)),
    "a text for an architecture": lambda s: Evaluate("x"),  # type: ignore[arg-type]
    "no fidelity": lambda s: Evaluate(some(s), None),  # type: ignore[arg-type]
    "an object for a restart": lambda s: Learn(object()),  # type: ignore[arg-type]
    "the final training": lambda s: Evaluate(some(s), purpose="final"),
    "a baseline": lambda s: Evaluate(some(s), purpose="baseline"),
    "an unknown purpose": lambda s: Evaluate(some(s), purpose="x"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("how", [*ASKS, *(how for how in WILDLY)])
def test_a_strategy_that_asks_for_what_it_must_not_is_named(how: str, tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"the strategy '.*Asks'") as caught:
        search(tmp_path, strategy=Asks((ASKS | WILDLY)[how]))
    assert "asked for ever" not in str(caught.value)
    assert all("test_accuracy" not in trial.metrics for trial in Run(tmp_path / "run").all_trials)


@pytest.mark.parametrize(
    ("where", "how"),
    [
        ("tell", raises),
        ("prepare", raises),
        ("ask", lambda strategy: leaves()),
        ("tell", leaves),
        ("prepare", leaves),
    ],
)
def test_a_strategy_that_raises_or_exits_is_named(where: str, how: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(NasError, match="Asks"):
        search(tmp_path, strategy=Asks(**{where: how}))


def test_a_strategy_that_asks_for_nothing_at_all_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="no candidate could be judged"):
        search(tmp_path, strategy=Asks(lambda strategy: None))


# The space and the task


class Builds(TinySpace):
    def __init__(self, act: Callable[[], Any], canonical: bool) -> None:
        self.act, self.in_canonical = act, canonical

    def build(self, choose: Any, task: Any) -> Any:
        return super().build(choose, task) if self.in_canonical else self.act()

    def canonical(self, architecture: Architecture) -> Architecture:
        return self.act() if self.in_canonical else architecture


@pytest.mark.parametrize(
    ("act", "canonical"),
    [(raises, False), (leaves, False), (raises, True),
     (lambda: None, True)],
)  # fmt: skip
def test_a_space_that_raises_exits_or_lies_is_a_sentence(
    act: Callable[[], Any], canonical: bool, tmp_path: Path
) -> None:
    with pytest.raises(NasError):
        search(tmp_path, space=Builds(act, canonical), task=TinyTask())


def task_whose(**members: Any) -> TinyTask:
    made: TinyTask = type("Lies", (TinyTask,), members)()
    return made


@pytest.mark.parametrize("method", ["metrics", "fit", "loss", "train_batches", "to"])
@pytest.mark.parametrize("act", [raises, lambda: None, lambda: "garbage", lambda: float("nan")])
def test_a_task_that_raises_or_lies_fails_its_trials_and_says_so(
    method: str, act: Callable[[], Any], tmp_path: Path
) -> None:
    task = task_whose(**{method: lambda self, *arguments, **options: act()})
    settings: dict[str, Any] = {"space": TinySpace(), "task": task, "evaluator": "train:epochs=1", "trials": 2}
    if method == "to" and act is not raises:  # nobody reads its answer
        assert search(tmp_path, **settings).finished
        return
    with pytest.raises(RunFailed, match=r"2 of 2 trials failed, the first \(0\) with: "):
        search(tmp_path, **settings)


@pytest.mark.parametrize(
    "members",
    [{"check": lambda self, fidelity: raises()}, {"input_shape": None}, {"classes": "x"}, {"objectives": 5}],
)
def test_a_task_that_lies_about_itself_is_named_before_the_run(members: Mapping[str, Any], tmp_path: Path) -> None:
    with pytest.raises(NasError, match=r"Lies|task"):
        search(tmp_path, space=TinySpace(), task=task_whose(**members), evaluator="train:epochs=1")


# What never ends


@pytest.mark.usefixtures("warm_python")
def test_a_plugin_whose_import_never_ends_ends_with_ctrl_c_and_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("open('begun', 'w').close()\nwhile True:\n    pass\n")
    command = [*NAS, "run", "--strategy", "./mine.py:Mine", "--space", CHAIN]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "begun").exists():
        time.sleep(0.05)
        assert process.poll() is None
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "nothing had begun" in err
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()
