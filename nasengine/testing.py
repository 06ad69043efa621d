"""Contract tests that every plugin, ours or a stranger's, subclasses: pytest collects what it inherits.

    from nasengine.testing import StrategyContract

    class TestMine(StrategyContract):
        def make(self):
            return Mine()

Also here: `TinyTask` and `TinySpace`, small enough that a whole search takes a second.
"""

from __future__ import annotations

import json
import subprocess
import sys
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .architecture import Architecture
from .context import Context
from .domain import Domain
from .errors import SpaceError
from .evaluator import Evaluator, Fidelity, Metrics
from .models import weights
from .space import SearchSpace
from .stopper import Stopper
from .strategy import Derivation, OneShotStrategy, Strategy
from .supernet import inherit
from .task import Split, Task
from .tiny import CPU, TinySpace, TinyTask
from .trial import Evaluate, Learn, Objective, Request, Trial, request_from_dict, request_to_dict

__all__ = [
    "EvaluatorContract",
    "SpaceContract",
    "StopperContract",
    "StrategyContract",
    "TaskContract",
    "TinySpace",
    "TinyTask",
    "check",
    "varied",
]

ENUMERABLE = 20_000


def check(condition: object, message: str) -> None:
    """An assertion that survives `python -O` and says what the contract is."""
    if not condition:
        raise AssertionError(message)


class SpaceContract:
    """What every search space promises. Write `make`; override `task` where the space needs a task of its own."""

    @abstractmethod
    def make(self) -> SearchSpace:
        """The space, at a small setting."""

    def task(self) -> Task:
        return TinyTask()

    def samples(self, count: int = 5) -> tuple[SearchSpace, Task, Domain, list[Architecture]]:
        space, task = self.make(), self.task()
        domain, rng = space.domain(task), np.random.default_rng(0)
        return space, task, domain, [domain.sample(rng) for _ in range(count)]

    def test_recording_gives_the_same_domain_each_time(self) -> None:
        space, task = self.make(), self.task()
        first, second = space.domain(task), space.domain(task)
        check(first.decisions == second.decisions, "build() must take the same decisions each time it is run")
        check(first.decisions, "build() takes no decision: there is nothing to search")

    def test_counted_size_equals_enumeration(self) -> None:
        domain = self.samples()[2]
        if domain.size <= ENUMERABLE:
            check(domain.size == len(set(domain.enumerate())), "size and enumeration disagree")

    def test_architectures_survive_json_and_encoding(self) -> None:
        _, _, domain, architectures = self.samples()
        for architecture in architectures:
            domain.validate(architecture)
            check(Architecture.from_json(architecture.to_json()) == architecture, "JSON changes an architecture")
            check(domain.decode(domain.encode(architecture)) == architecture, "encoding changes an architecture")

    def test_ids_are_equal_in_another_process(self) -> None:
        architecture = self.samples(1)[3][0]
        code = "import sys; from nasengine import Architecture; print(Architecture.from_json(sys.stdin.read()).id)"
        other = subprocess.run(
            [sys.executable, "-c", code], input=architecture.to_json(), capture_output=True, text=True, check=True
        )
        check(other.stdout.strip() == architecture.id, "an architecture's id differs between processes")

    def test_mutation_changes_and_stays_valid(self) -> None:
        _, _, domain, architectures = self.samples()
        rng = np.random.default_rng(1)
        for architecture in architectures:
            for _ in range(20):
                mutant = domain.mutate(architecture, rng)
                check(mutant != architecture, "a mutation changed nothing")
                domain.validate(mutant)
                architecture = mutant

    def test_canonical_is_valid_and_settled(self) -> None:
        space, _, domain, architectures = self.samples()
        for architecture in architectures:
            once = space.canonical(architecture)
            domain.validate(once)
            check(space.canonical(once) == once, "canonical(canonical(a)) differs from canonical(a)")

    def test_graphs_are_acyclic_and_labelled(self) -> None:
        import networkx as nx

        space, _, _, architectures = self.samples()
        for architecture in architectures:
            graph = space.graph(architecture)
            check(nx.is_directed_acyclic_graph(graph), "graph() has a cycle")
            check(all("label" in data for _, data in graph.nodes(data=True)), "a node of graph() has no label")
            check(space.describe(architecture).strip(), "describe() says nothing")

    def test_models_compute_and_learn(self) -> None:
        space, task, _, architectures = self.samples()
        task.to(CPU)
        for architecture in architectures:
            model = space.model(architecture, task)
            loss = task.loss(model, next(task.train_batches(8, torch.Generator().manual_seed(0))))
            check(torch.isfinite(loss), "the loss of a fresh model is not finite")
            loss.backward()  # type: ignore[no-untyped-call]

    def test_a_model_equals_the_supernet_that_it_inherits_from(self) -> None:
        space, task, domain, architectures = self.samples()
        architectures += varied(domain, architectures[0])
        try:
            supernet = space.supernet(task)
        except SpaceError:
            return  # a space may have none; the engine says so in a sentence
        _unsettle(supernet)
        example = task.example()
        for architecture in architectures:
            model = space.model(architecture, task)
            supernet.pick(architecture)
            inherit(model, supernet)
            with torch.no_grad():
                difference = float((model.eval()(example) - supernet.eval()(example)).abs().max())
            check(difference <= 1e-5, f"model and supernet differ by {difference} on {architecture}")


def varied(domain: Domain, architecture: Architecture, count: int = 12) -> list[Architecture]:
    """What uniform samples hardly ever are: all first options, and the architecture with other depths and values."""
    found = [domain.complete({})]
    rng = np.random.default_rng(1)
    for decision in domain.decisions.values():
        for pick in decision.picks() if decision.kind in ("depth", "value") else ():
            found.append(domain.complete({**domain.sample(rng).picks, decision.name: pick}))
    order = rng.permutation(len(found))[:count]
    return [architecture, *(found[int(index)] for index in order), architecture]


def _unsettle(module: nn.Module) -> None:
    """Weights and statistics as after some training, so that equality in evaluation mode means something."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                noise = 0.1 * torch.randn(tensor.shape, generator=generator)
                tensor.add_(noise.abs() if name.endswith("running_var") else noise)


class StrategyContract:
    """What every strategy promises. Write `make`."""

    trials = 30

    @abstractmethod
    def make(self) -> Strategy:
        """The strategy, at a small setting."""

    def started(self, seed: int = 0) -> Strategy:
        strategy = self.make()
        domain = TinySpace().domain(TinyTask())
        strategy.start(domain, np.random.default_rng(seed), [Objective("accuracy")], Fidelity(), self.trials)
        return strategy

    def answer(self, number: int, request: Request) -> Trial:
        """A made-up result: every third trial fails, one way or another."""
        rng = np.random.default_rng(number)
        if isinstance(request, Learn):
            derived = TinySpace().domain(TinyTask()).sample(rng)
            return Trial(number, request, "done", derived=derived)
        states: tuple[Any, ...] = ("done", "done", "failed", "done", "pruned", "out_of_memory")
        state = states[number % len(states)]
        metrics = {"accuracy": float(rng.random())} if state in ("done", "pruned") else {}
        if number % 7 == 6:
            metrics = {"accuracy": float("nan")}
        return Trial(number, request, state, metrics)

    def play(self, seed: int) -> list[dict[str, Any]]:
        strategy, asked = self.started(seed), []
        for number in range(self.trials):
            request = strategy.ask()
            if request is None:
                break
            asked.append(request_to_dict(request))
            strategy.tell(self.answer(number, request))
        return asked

    def test_it_asks_for_valid_architectures_whatever_it_is_told(self) -> None:
        domain = TinySpace().domain(TinyTask())
        asked = self.play(0)
        check(asked, "the strategy asks for nothing")
        for request in map(request_from_dict, asked):
            if isinstance(request, Evaluate):
                domain.validate(request.architecture)

    def test_the_same_seed_gives_the_same_search(self) -> None:
        check(self.play(3) == self.play(3), "two searches with one seed ask for different things")

    def test_several_requests_may_be_under_way(self) -> None:
        strategy = self.started()
        waiting = [request for request in (strategy.ask() for _ in range(4)) if request is not None]
        for number, request in reversed(list(enumerate(waiting))):
            strategy.tell(self.answer(number, request))
        check(waiting, "the strategy asks for nothing")

    def test_a_recorded_search_is_asked_for_again(self) -> None:
        recorded, fresh = self.recorded(), self.started()
        check(recorded, "the strategy asks for nothing")
        for number, event in enumerate(recorded):
            data = json.loads(json.dumps(event["body"]))
            if event["kind"] == "ask":
                request = fresh.ask()
                asks_again = (request and request_to_dict(request)) == data
                check(asks_again, f"told the same, it asks otherwise the second time, at event {number} of its record")
            else:
                request = request_from_dict(json.loads(json.dumps(event["request"])))
                fresh.tell(Trial.from_dict(event["number"], request, 0, data))

    def recorded(self, under_way: int = 4) -> list[dict[str, Any]]:
        """What is recorded of a search with several requests under way, whose results come back in any order."""
        strategy, rng = self.started(), np.random.default_rng(1)
        events: list[dict[str, Any]] = []
        waiting: dict[int, Request] = {}
        asked = 0
        while True:
            while len(waiting) < under_way and asked < self.trials:
                request = strategy.ask()
                events.append({"kind": "ask", "body": request and request_to_dict(request)})
                if request is None:
                    break
                waiting[asked] = request
                asked += 1
            if not waiting:
                return events
            number = int(rng.choice(list(waiting)))
            request = waiting.pop(number)
            trial = self.answer(number, request)
            strategy.tell(trial)
            body, of = trial.to_dict(), request_to_dict(request)
            events.append({"kind": "tell", "number": number, "request": of, "body": body})

    def test_an_independent_strategy_asks_the_same_whatever_it_is_told(self) -> None:
        if not self.make().independent:
            return
        ahead, told = self.started(), self.started()
        for number in range(self.trials):
            request = told.ask()
            check(ahead.ask() == request, "it is independent = True, and asks otherwise where it is told results")
            if request is None:
                break
            told.tell(self.answer(number, request))

    def test_all_trials_failing_is_survived(self) -> None:
        strategy = self.started()
        for number in range(self.trials):
            request = strategy.ask()
            if request is None:
                break
            strategy.tell(Trial(number, request, "failed", error="it was not to be"))

    def test_a_one_shot_strategy_learns_derives_and_resumes(self) -> None:
        strategy = self.make()
        if not isinstance(strategy, OneShotStrategy):
            return
        space, task = TinySpace(), TinyTask()
        domain = space.domain(task)
        whole, checkpoint = self._learn(strategy, space, task, None)
        again, _ = self._learn(strategy, space, task, None)
        rest, _ = self._learn(strategy, space, task, checkpoint)
        check(whole, "learn() yields nothing")
        for derivation in whole:
            domain.validate(derivation.architecture)
        check(again == whole, "two learnings with one seed differ")
        check(rest == whole[1:], "learning that goes on from a checkpoint ends elsewhere")

    def _learn(
        self, strategy: OneShotStrategy, space: SearchSpace, task: Task, checkpoint: dict[str, Any] | None
    ) -> tuple[list[Derivation], dict[str, Any]]:
        context = Context(space, task, CPU, seed=0, checkpoint=checkpoint)
        derived, first = [], None
        for derivation in strategy.learn(context.supernet(), task, context):
            derived.append(derivation)
            if first is None:
                first = _copied(context.state())
        return derived, first or {}


class EvaluatorContract:
    """What every evaluator promises. Write `make`; override `task` and `space` where it needs its own."""

    @abstractmethod
    def make(self) -> Evaluator:
        """The evaluator, at a small setting."""

    def task(self) -> Task:
        return TinyTask()

    def space(self) -> SearchSpace:
        return TinySpace()

    def learnt(self, evaluator: Evaluator) -> Mapping[str, Tensor]:
        """The weights of what it has to learn before its first candidate."""
        context = Context(self.space(), self.task(), CPU, seed=1)
        check(list(evaluator.learn(context)) and context.saved is not None, "learn() yields or saves nothing")
        return weights(context.saved)  # type: ignore[arg-type]

    def judge(self, checkpoint: dict[str, Any] | None = None) -> tuple[list[Metrics], Metrics, dict[str, Any] | None]:
        """The curve, the judgement, and a checkpoint after the first epoch."""
        space, task = self.space(), self.task()
        task.to(CPU)
        architecture, evaluator = space.domain(task).sample(np.random.default_rng(0)), self.make()
        learnt = self.learnt(evaluator) if evaluator.learns else None
        context = Context(space, task, CPU, seed=0, checkpoint=checkpoint, learnt=learnt)
        judged = evaluator.evaluate(architecture, Fidelity(), context)
        if isinstance(judged, Mapping):
            return [], judged, None
        curve: list[Metrics] = []
        first = None
        while True:
            try:
                curve.append(next(judged))
            except StopIteration as ended:
                return curve, ended.value, first
            first = first or _copied(context.state())

    def test_it_gives_finite_metrics_with_the_objective_among_them(self) -> None:
        curve, judgement, _ = self.judge()
        given = set(self.make().metric_names(self.task()))
        check(not given or set(judgement) <= given | {"parameters", "flops"}, "metric_names lacks a metric")
        name = Objective.parse((self.make().objectives or self.task().objectives)[0]).metric
        check(name in judgement, f"the judgement has no {name!r}, which is the objective")
        for metrics in [*curve, judgement]:
            check(all(np.isfinite(value) for value in metrics.values()), f"a metric is not finite: {metrics}")

    def test_the_same_seed_gives_the_same_judgement(self) -> None:
        check(self.judge()[:2] == self.judge()[:2], "two judgements with one seed differ")

    def test_it_goes_on_from_a_checkpoint(self) -> None:
        curve, judgement, checkpoint = self.judge()
        if checkpoint is None or not checkpoint["epoch"]:
            return  # nothing to resume: it has no epochs
        rest, resumed, _ = self.judge(checkpoint)
        check(rest == curve[1:], "the curve after a checkpoint differs")
        check(resumed == judgement, "the judgement after a checkpoint differs")


class StopperContract:
    """What every stopper promises. Write `make`."""

    objectives: Sequence[Objective] = (Objective("accuracy"),)
    epochs = 12

    @abstractmethod
    def make(self) -> Stopper:
        """The stopper, at a small setting."""

    def play(self, resumed: bool = False, trials: int = 10) -> list[str | None]:
        """What it says of the epochs of made-up trials, one after the other, until it ends them. resumed: whether it is
        told of the first half only, and of the next shown a curve that has begun."""
        stopper, domain = self.make(), TinySpace().domain(TinyTask())
        stopper.start(self.objectives, np.random.default_rng(0), self.epochs)
        said: list[str | None] = []
        for number in range(trials):
            rng = np.random.default_rng(number)
            request = Evaluate(domain.sample(rng))
            heights = {objective.metric: rng.random() for objective in self.objectives}
            curve: list[Metrics] = []
            why = None
            for epoch in range(1, self.epochs + 1):
                noise = 0.01 * rng.standard_normal()
                curve.append({name: height * (1 - 0.8 / epoch) + noise for name, height in heights.items()})
                known = resumed and (number < trials // 2 or (number == trials // 2 and epoch < self.epochs // 2))
                if known:  # what it said of it is read off the other game
                    why = self._said[len(said)]
                elif number % 4 != 3 or epoch < self.epochs:
                    why = stopper.stop(number, request, tuple(curve), self.epochs)
                said.append(why)
                if why is not None:
                    break
            state: Any = "failed" if number % 4 == 3 and why is None else "pruned" if why else "done"
            metrics = curve[-1] if state != "failed" else {}
            stopper.tell(Trial(number, request, state, metrics, tuple(curve), error=why))
        return said

    def test_it_goes_on_or_says_why_not_the_same_each_time(self) -> None:
        said = self._said = self.play()
        check(all(why is None or (why.strip() and "\n" not in why) for why in said), "a reason is a line of text")
        check(said == self.play(), "the same curves are judged otherwise the second time")
        check(said == self.play(resumed=True), "after an interruption the same curves are judged otherwise")

    def test_it_survives_trials_without_anything_to_look_at(self) -> None:
        stopper, request = self.make(), Evaluate(TinySpace().domain(TinyTask()).complete({}))
        stopper.start(self.objectives, np.random.default_rng(0), self.epochs)
        for number, state in enumerate(("failed", "done", "pruned", "timed_out")):
            curves: list[list[Metrics]] = [[{}], [{"accuracy": float("nan")}], [{}, {"other": 1.0}]]
            for curve in curves:
                stopper.stop(number, request, curve, None)
            stopper.tell(Trial(number, request, state))  # type: ignore[arg-type]
        stopper.tell(Trial(4, Learn(), "done"))


class TaskContract:
    """What every task promises. Write `make`."""

    @abstractmethod
    def make(self) -> Task:
        """The task, on data that the test has."""

    def ready(self) -> Task:
        task = self.make()
        task.to(CPU)
        return task

    def model(self, task: Task) -> nn.Module:
        """Something that fits the task's shapes; override it where a task's models are called otherwise."""
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(task.classes))

    def inputs(self, given: Any) -> Tensor:
        """What a model is called with as one tensor; override it where that is none, for graphs say."""
        return given  # type: ignore[no-any-return]

    def examples(self, batch: Any) -> list[str]:
        """Each example of a batch as text, to tell them apart; override it where a row of the inputs is none."""
        return [str(image.flatten().tolist()) for image in self.inputs(batch[0])]

    def test_shapes_are_as_said(self) -> None:
        task = self.ready()
        example = task.example()
        check(
            tuple(self.inputs(example).shape[1:]) == tuple(task.input_shape), "example() has not the task's input_shape"
        )
        check(task.classes >= 1, "classes must be at least 1")
        images, _ = next(task.train_batches(4, torch.Generator().manual_seed(0)))
        check(
            tuple(self.inputs(images).shape[1:]) == tuple(task.input_shape), "batches have not the task's input_shape"
        )

    def test_loss_and_metrics_are_finite_on_every_split(self) -> None:
        task = self.ready()
        model = self.model(task)
        loss = task.loss(model, next(task.train_batches(8, torch.Generator().manual_seed(0))))
        check(loss.dim() == 0 and bool(torch.isfinite(loss)), "the loss is no finite scalar")
        loss.backward()  # type: ignore[no-untyped-call]
        splits: tuple[Split, ...] = ("train", "valid", "test")
        for split in splits:
            metrics = task.metrics(model, split)
            check(Objective.parse(task.objectives[0]).metric in metrics, f"no objective among the {split} metrics")
            check(all(np.isfinite(value) for value in metrics.values()), f"a {split} metric is not finite")
            if task.metric_names:
                check(set(metrics) <= set(task.metric_names), f"metric_names lacks a {split} metric")

    def test_the_same_generator_gives_the_same_batches(self) -> None:
        task = self.ready()
        first, second = (list(task.train_batches(16, torch.Generator().manual_seed(1))) for _ in range(2))
        check(len(first) == len(second), "the number of batches changes")
        equal = all(
            torch.equal(self.inputs(a[0]), self.inputs(b[0])) and torch.equal(a[1], b[1])
            for a, b in zip(first, second, strict=True)
        )
        check(equal, "one generator gives different batches")

    def test_two_halves_of_the_training_data_are_disjoint_and_complete(self) -> None:
        task = self.ready()
        whole = self._all(task.train_batches(64, torch.Generator().manual_seed(0)))
        left = self._all(task.train_batches(64, torch.Generator().manual_seed(0), part=(0.0, 0.5)))
        right = self._all(task.train_batches(64, torch.Generator().manual_seed(0), part=(0.5, 1.0)))
        check(not (set(left) & set(right)) - _repeated(whole), "the halves share examples")
        check(sorted(left + right) == sorted(whole), "the halves are not the whole")

    def test_the_three_splits_are_separate(self) -> None:
        task = self.ready()
        train = set(self._all(task.train_batches(64, torch.Generator().manual_seed(0))))
        valid, test = set(self._all(task.valid_batches())), set(self._all(task.test_batches()))
        check(valid and test, "the validation or the test data is empty")
        shared = (train & valid) | (train & test) | (valid & test)
        check(len(shared) <= 0.01 * len(train), f"{len(shared)} examples stand in more than one split")

    def _all(self, batches: Iterator[Any]) -> list[str]:
        return [example for batch in batches for example in self.examples(batch)]


def _repeated(values: list[str]) -> set[str]:
    seen: set[str] = set()
    return {value for value in values if value in seen or seen.add(value)}  # type: ignore[func-returns-value]


def _copied(state: Any) -> Any:
    """A checkpoint as it would be on disk: untouched by what happens after."""
    if isinstance(state, Tensor):
        return state.detach().clone()
    if isinstance(state, dict):
        return {key: _copied(value) for key, value in state.items()}
    return [_copied(value) for value in state] if isinstance(state, list) else state
