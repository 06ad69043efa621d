"""Every registered plugin against the contract of its kind."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasengine import Evaluator, Request, SearchSpace, Strategy, Task, Trial
from nasengine.evaluators.tasks.digits import Digits
from nasengine.evaluators.tasks.images import Images
from nasengine.evaluators.train import Train
from nasengine.registry import installed
from nasengine.search_spaces.cell import CellSpace
from nasengine.strategies.darts import DARTS
from nasengine.strategies.evolution import RegularizedEvolution
from nasengine.strategies.random import RandomSearch
from nasengine.testing import (
    EvaluatorContract,
    SpaceContract,
    StrategyContract,
    TaskContract,
    TinySpace,
    TinyTask,
)


class TestTinySpace(SpaceContract):
    def make(self) -> SearchSpace:
        return TinySpace()


class TestCellSpace(SpaceContract):
    def make(self) -> SearchSpace:
        return CellSpace(layers=3, channels=4)


class TestSmallCellSpace(SpaceContract):
    """Small enough to be enumerated: one node, 64 architectures a cell."""

    def make(self) -> SearchSpace:
        return CellSpace(layers=3, channels=2, nodes=1)


class TestRandomSearch(StrategyContract):
    def make(self) -> Strategy:
        return RandomSearch()


class TestEvolution(StrategyContract):
    def make(self) -> Strategy:
        return RegularizedEvolution(population=5, sample=3)


class TestDARTS(StrategyContract):
    def make(self) -> Strategy:
        return DARTS(epochs=3, batch_size=8)


class TestDARTSOfSecondOrder(StrategyContract):
    def make(self) -> Strategy:
        return DARTS(order=2, epochs=2, batch_size=8, restarts=2)


class TestTrain(EvaluatorContract):
    def make(self) -> Evaluator:
        return Train(epochs=4, patience=2)


class TestTinyTask(TaskContract):
    def make(self) -> Task:
        return TinyTask()


class TestDigits(TaskContract):
    def make(self) -> Task:
        return Digits()


class TestImages(TaskContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        for name in ("circle", "square", "star"):
            (tmp_path / name).mkdir()
            for index in range(12):
                Image.fromarray(rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)).save(tmp_path / name / f"{index}.png")
        self.folder = tmp_path

    def make(self) -> Task:
        return Images(path=str(self.folder))


class Chance(RandomSearch):  # type: ignore[misc]
    """Draws from a generator that all share."""

    def ask(self) -> Request | None:
        return self.evaluate(self.domain.sample(np.random.default_rng(np.random.randint(10**6))))


class Identity(Strategy):
    """Knows its requests by the objects that they are, which a record gives back as others."""

    def prepare(self) -> None:
        self.asked: list[Request] = []
        self.came_back = 0

    def ask(self) -> Request | None:
        self.asked.append(self.evaluate(self.domain.sample(np.random.default_rng([len(self.asked), self.came_back]))))
        return self.asked[-1]

    def tell(self, trial: Trial) -> None:
        self.came_back += any(request is trial.request for request in self.asked)


@pytest.mark.parametrize("flawed", [Chance, Identity])
def test_the_contract_finds_out_a_strategy_that_cannot_be_played_back(flawed: type[Strategy]) -> None:
    class Contract(StrategyContract):
        def make(self) -> Strategy:
            return flawed()

    with pytest.raises(AssertionError, match="told the same, it asks otherwise the second time, at event"):
        Contract().test_a_recorded_search_is_asked_for_again()


def test_the_contracts_record_has_several_under_way_and_results_in_another_order() -> None:
    events = TestRandomSearch().recorded()
    under_way = np.cumsum([1 if event["kind"] == "ask" else -1 for event in events])
    assert max(under_way) == 4
    numbers = [event["number"] for event in events if event["kind"] == "tell"]
    assert numbers != sorted(numbers) == list(range(30))


def test_no_registered_plugin_is_without_a_contract_test() -> None:
    """Each is made by a class somewhere in the tests that is a contract's."""
    made: set[str] = set()
    for file in Path(__file__).parent.glob("test_*.py"):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and any("Contract" in ast.unparse(base) for base in node.bases):
                made |= {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
    kinds = ("space", "strategy", "evaluator", "task", "stopper")
    registered = [p.target for kind in kinds for p in installed(kind) if p.distribution == "nasengine"]  # type: ignore[arg-type]
    assert len(registered) >= 14
    assert [target for target in registered if target.partition(":")[2] not in made] == []
