"""Worker: runs one request from start to end, wherever it is, and turns whatever happens into an Outcome."""

from __future__ import annotations

import gc
import json
import math
import time
import traceback
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, cast

import torch

from .architecture import Architecture
from .checkpoint import read_checkpoint, write_checkpoint
from .context import Context
from .cost import METRICS as COSTS
from .cost import Costs
from .errors import NasError, StorageError, TrainingDiverged, one_line
from .evaluator import FULL, Evaluator, Metrics
from .hardware import check_energy, measured
from .inheritance import hand_down, learnt_name, weights_name, weights_of
from .limits import TookTooLong
from .models import save_model
from .plan import role_of_evaluator
from .plugin import Plugin
from .space import SearchSpace
from .storage import Storage
from .strategy import OneShotStrategy, Strategy
from .task import Task
from .trial import Evaluate, Learn, Outcome, Report, Request, State, Teach, Verdict, request_to_dict

SECONDS_BETWEEN_CHECKPOINTS = 5.0


Progress = Generator[Report, Verdict | None, Outcome]


class Worker:
    """Holds what all requests of a run share: the space, the evaluators, the tasks with their data on the device.

    roles: the run's other plugins by what they are there for (see `Plan.roles`). stages: of its funnel. measures: what
    of the hardware is measured of each architecture where an evaluator does not say it. Raises ConfigError where that
    is energy, which cannot be measured here.
    """

    def __init__(
        self,
        space: SearchSpace,
        strategy: Strategy,
        evaluator: Evaluator,
        task: Task,
        device: str,
        storage: Storage,
        name: str = "local",
        checkpoint_seconds: float = SECONDS_BETWEEN_CHECKPOINTS,
        roles: Mapping[str, Plugin] | None = None,
        stages: int = 1,
        measures: Sequence[str] = (),
    ) -> None:
        self.space, self.strategy = space, strategy
        roles = roles or {}
        others = [roles[role_of_evaluator(stage)] for stage in range(1, stages)]
        self.evaluators: list[Evaluator] = [evaluator, *others]  # type: ignore[list-item]
        self.judge: Evaluator = roles.get("judge", self.evaluators[-1])  # type: ignore[assignment]
        self._task = task
        self._proxy: Task = roles.get("proxy", task)  # type: ignore[assignment]
        self.device = torch.device(device)
        self.storage, self.name, self.checkpoint_seconds = storage, name, checkpoint_seconds
        self._ready: dict[tuple[bool, int | None], Task] = {}
        self._learnt: dict[int, Mapping[str, torch.Tensor]] = {}
        self.measures = measures
        judges = [judge for judge in (*self.evaluators, self.judge) if not judge.simulates]
        if "energy" in measures and any("energy" not in judge.measures for judge in judges):
            check_energy(self.device)

    def evaluator(self, request: Evaluate | Teach) -> Evaluator:
        """Who judges it."""
        return self.evaluators[request.stage] if request.purpose in ("search", "preparation") else self.judge

    def whole_task(self, request: Request) -> Task:
        """What it is judged on: a search's stand-in, where it has one, but for what comes last."""
        stage = 0 if isinstance(request, Learn) else request.stage
        searches = request.purpose in ("search", "preparation")
        return self._proxy if searches and not 0 < stage == len(self.evaluators) - 1 else self._task

    def task(self, request: Request) -> Task:
        """The same at the fidelity's resolution, its data on the device."""
        whole = self.whole_task(request)
        fidelity = request.fidelity if isinstance(request, Evaluate) else FULL
        key = whole is self._task, fidelity.resolution
        if key not in self._ready:
            task = whole.at_fidelity(fidelity)
            task.to(self.device)
            self._ready[key] = task
        return self._ready[key]

    def learnt(self, stage: int) -> Mapping[str, torch.Tensor]:
        """What the evaluator of a stage learnt: weights by name, on the CPU. Raises OSError, or StorageError where they
        are gone."""
        if stage not in self._learnt:
            self._learnt[stage] = weights_of(self.storage, learnt_name(stage))
            if not self._learnt[stage]:
                raise StorageError(f"what the evaluator learnt is gone: {learnt_name(stage)} is missing, or damaged")
        return self._learnt[stage]

    def perform(self, number: int, request: Request, seed: int) -> Progress:
        """Does the work. Yields after every epoch; a verdict sent back ends the trial there, with that state.

        Raises NasError for a mistake of the user's (a dataset missing, a space without a supernet).
        """
        started = time.perf_counter()
        try:
            run = _Performance(self, number, request, seed)
        except OSError as raised:
            raise StorageError(f"what trial {number} begins with cannot be read: {one_line(raised)}") from raised
        try:
            state: Verdict = yield from run.drive()
            run.hand_down(state)
            error = details = None
        except TrainingDiverged as raised:
            state, error, details = "failed", str(raised), None
        except NasError:
            raise  # a mistake that every trial would meet: the run's error, not this trial's
        except TookTooLong as raised:
            state, error, details = "timed_out", None, None
            raised.__traceback__ = None
        except (Exception, SystemExit) as raised:  # a plugin's sys.exit() ends its trial, not the search
            state, error = _state_of(raised), one_line(raised)
            details = "".join(traceback.format_exception(raised))
            raised.__traceback__ = None  # its frames hold the model
        seconds = time.perf_counter() - started
        outcome = Outcome(
            number, state, run.metrics, tuple(run.curve), seconds, self.name, error, run.derived, details,
            tuple(run.notes),
        )  # fmt: skip
        del run
        if state == "out_of_memory":
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        return outcome


class _Performance:
    """One request being worked on: its curve so far and its checkpoints."""

    def __init__(self, worker: Worker, number: int, request: Request, seed: int) -> None:
        self.worker, self.number, self.request = worker, number, request
        self.seed = seed
        checkpoint = read_checkpoint(worker.storage, number)
        if checkpoint is not None and checkpoint.get("of") != self.of:
            checkpoint = None  # of another run's, or another attempt's, trial of that number
        self.curve: list[Metrics] = list(checkpoint["curve"]) if checkpoint else []
        self.derived: Architecture | None = None
        if checkpoint and checkpoint["derived"]:
            self.derived = Architecture.from_json(checkpoint["derived"])
        self.metrics: Metrics = self.curve[-1] if self.curve else {}
        self.measured: dict[str, float] | None = None
        self.note: str | None = None
        self.notes: list[str] = list(checkpoint.get("notes", ())) if checkpoint else []
        self.begun = checkpoint["context"] if checkpoint else None
        parent = request.parent if isinstance(request, Evaluate) else None
        self.inherited = None if parent is None else weights_of(worker.storage, weights_name(parent))
        self.learnt: Mapping[str, torch.Tensor] | None = None
        if isinstance(request, Evaluate) and request.purpose == "search" and worker.evaluator(request).learns:
            self.learnt = worker.learnt(request.stage)
        self._written = time.monotonic()

    @cached_property
    def of(self) -> str:
        """What a checkpoint must be of, so that the trial can go on from it."""
        return json.dumps([request_to_dict(self.request), self.seed], sort_keys=True)

    def drive(self) -> Generator[Report, Verdict | None, Verdict]:
        request, worker = self.request, self.worker
        self.context = Context(
            worker.space, worker.task(request), worker.device, self.seed, request.purpose in ("final", "baseline"),
            self.begun, self.inherited, self.learnt,
        )  # fmt: skip
        work: Generator[Metrics, None, Metrics | None]
        if isinstance(request, Evaluate):
            work = self._judge(request)
        else:
            work = self._learn() if isinstance(request, Learn) else self._teach(request)
        try:
            while True:
                point = next(work)
                self.metrics = _usable(point)
                self.curve.append(self.metrics)
                self._checkpoint()
                verdict = yield Report(
                    self.number, len(self.curve), self.metrics, self.context.planned, self.derived, self.note
                )
                if verdict is not None:
                    if verdict == "interrupted":
                        self._write()
                    return verdict
        except StopIteration as stop:
            if stop.value is not None:
                self.metrics = stop.value
            return "done"
        finally:
            work.close()

    def hand_down(self, state: Verdict) -> None:
        """Leaves the weights to the trial's children, where the strategy may ask for such."""
        trained = self.context.saved if state in ("done", "pruned") else None
        if isinstance(self.request, Teach) and trained is not None:
            try:
                hand_down(self.worker.storage, learnt_name(self.request.stage), trained)
            except OSError as error:
                raise StorageError(f"what the evaluator learnt cannot be kept: {one_line(error)}") from error
        if trained is None or not isinstance(self.request, Evaluate) or self.request.purpose != "search":
            return
        if self.request.parent is not None and not self.context.inherited:
            self.notes.append(f"it began anew: trial {self.request.parent} had left no weights")
        if self.worker.strategy.inherits:
            with suppress(OSError):  # its children begin anew
                hand_down(self.worker.storage, weights_name(self.number), trained)

    def _learn(self) -> Generator[Metrics, None, Metrics | None]:
        strategy = self.worker.strategy
        if not isinstance(strategy, OneShotStrategy):
            raise TypeError(f"the strategy {strategy.known_as!r} asked to learn, but is no OneShotStrategy")
        for derivation in strategy.learn(self.context.supernet(), self.context.task, self.context):
            self.derived, self.note = derivation.architecture, derivation.note
            if self.note is not None and self.note not in self.notes:
                self.notes.append(self.note)
            yield derivation.metrics
        return None

    def _teach(self, request: Teach) -> Generator[Metrics, None, None]:
        yield from self.worker.evaluator(request).learn(self.context)
        if self.context.saved is None:
            raise TypeError(f"the evaluator {self.worker.evaluator(request).known_as!r} saved nothing that it learnt")

    def _judge(self, request: Evaluate) -> Generator[Metrics, None, Metrics]:
        space, task, given = self.worker.space, self.context.task, request.architecture
        changes = space.at(given.options).reduced(request.fidelity, self.worker.whole_task(request))
        reduced = Architecture(given.space, {**given.options, **changes}, given.picks) if changes else given
        judged = self.worker.evaluator(request).evaluate(reduced, request.fidelity, self.context)
        said = judged if isinstance(judged, Mapping) else (yield from self._curve(iter(judged), given))
        metrics = {**(self.measured or {}), **(said or self.metrics)}
        if not metrics:
            raise TrainingDiverged("the evaluator returned no metrics")
        if changes:  # what it costs is said of the whole network
            metrics |= {
                name: Costs(space, self.worker.whole_task(request)).of(given, name) for name in COSTS if name in metrics
            }
        if self.context.final and self.context.saved is not None:
            test = task.metrics(self.context.saved, "test")
            metrics |= {f"test_{name}": value for name, value in test.items()}
        if request.purpose == "final" and self.context.saved is not None:
            try:
                save_model(self.worker.storage, self.number, self.context.saved)
            except OSError as error:
                why = error.strerror or one_line(error)
                raise StorageError(f"the model found cannot be kept: {why}; nothing recorded so far is lost") from error
        metrics |= self._measured(given, metrics)
        for name, value in metrics.items():
            _number(name, value)
        return {name: float(value) for name, value in metrics.items()}

    def _curve(self, points: Iterator[Metrics], given: Architecture) -> Generator[Metrics, None, Metrics | None]:
        """Its points, with what is measured of the network, so that who stops a trial sees it, and the trial has it."""
        try:
            while True:
                point = next(points)
                if self.measured is None:
                    self.measured = self._measured(given, point)
                yield {**self.measured, **point}
        except StopIteration as stop:
            return cast("Metrics | None", stop.value)
        finally:
            if isinstance(points, Generator):
                points.close()

    def _measured(self, given: Architecture, known: Metrics) -> dict[str, float]:
        """What was asked for and is not known; the trial's random numbers are as before."""
        worker = self.worker
        missing = [name for name in worker.measures if name not in known]
        with torch.random.fork_rng([worker.device] if worker.device.type == "cuda" else []):
            return measured(worker.space, worker.whole_task(self.request), given, missing, worker.device)

    def _checkpoint(self) -> None:
        if time.monotonic() - self._written >= self.worker.checkpoint_seconds:
            self._write()

    def _write(self) -> None:
        derived = self.derived.to_json() if self.derived else None
        state = {
            "of": self.of,
            "context": self.context.state(),
            "curve": [dict(point) for point in self.curve],
            "derived": derived,
            "notes": self.notes,
        }
        # without room for a checkpoint the training goes on: there is less to go on from, and nothing wrong
        with suppress(OSError):
            write_checkpoint(self.worker.storage, self.number, state)
        self._written = time.monotonic()


def _number(name: str, value: object) -> None:
    """Raises TrainingDiverged, saying what the metric is, unless it has a name and is a finite number."""
    _named(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TrainingDiverged(f"the metric {name!r} is {value!r}, not a finite number")


def _named(name: object) -> None:
    if not isinstance(name, str):
        raise TrainingDiverged(f"a metric is named {name!r:.80}; expected a text")


def _usable(metrics: Metrics) -> dict[str, float]:
    """The finite numbers among the metrics of an epoch: a curve may have gaps, a judgement may not."""
    given = cast(Mapping[str, Any], metrics)
    for name in given:
        _named(name)
    return {
        name: float(value) for name, value in given.items() if isinstance(value, int | float) and math.isfinite(value)
    }


def _state_of(error: BaseException) -> State:
    """CUDA has an exception of its own for memory; on the CPU torch raises a plain RuntimeError."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "out_of_memory"
    if isinstance(error, RuntimeError) and "can't allocate memory" in str(error):
        return "out_of_memory"
    return "failed"
