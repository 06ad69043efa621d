"""The loop: ask → record the request → run it somewhere → record what came back → tell.

The engine knows no concrete space, strategy, evaluator or task. A search has two parts: the strategy's, and the final
one, in which the architecture found and as many random ones as asked for are trained by one recipe and read the test
data, each once.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from .architecture import Architecture
from .checkpoint import remove_checkpoint
from .errors import ArchitectureError, LedgerError, NasError, ReplayError, RunFailed, one_line
from .evaluator import Fidelity
from .executors import Executor
from .ledger import Event, Ledger
from .plan import Observer, Plan, rank, trial_seed
from .trial import (
    Evaluate,
    Learn,
    Outcome,
    Report,
    Request,
    Trial,
    request_from_dict,
    request_to_dict,
)

TRIALS_BEFORE_GIVING_UP = 10
FINAL_ATTEMPTS = 3
SECONDS_BETWEEN_REPORT_COMMITS = 1.0


class Engine:
    """Runs one search, from its ledger's last event on."""

    def __init__(
        self, plan: Plan, ledger: Ledger, executor: Executor, checkpoints: Path, observer: Observer | None = None
    ) -> None:
        self.plan, self.ledger, self.executor = plan, ledger, executor
        self.observer = observer or Observer()
        self.trials: dict[int, Trial] = {}
        self._checkpoints = checkpoints
        self._requests: dict[int, Request] = {}
        self._waiting: deque[int] = deque()
        self._running: set[int] = set()
        self._cut: set[int] = set()
        self._results: dict[tuple[str, Fidelity], Trial] = {}
        self._announcements: list[Callable[[], None]] = []
        self._ended: str | None = None
        self._finished = False
        self._asked = self._searched = self._failed = 0
        self._elapsed_before = 0.0
        self._began = time.monotonic()
        self._committed = self._began
        self._dirty = False
        config = plan.config
        plan.strategy.start(plan.domain, self._rng(0), plan.objectives, config.fidelity, config.trials)

    @property
    def elapsed(self) -> float:
        """Seconds that the run has worked, over all its processes."""
        return self._elapsed_before + time.monotonic() - self._began

    def run(self) -> None:
        """Goes on to the end. Raises RunFailed where no candidate could be judged, and whatever stops it."""
        self._replay(list(self.ledger.events()))
        try:
            if self._ended is None:
                self.observer.began("search")
                self._loop(self._propose)
                self._record("end", None, {"reason": self._ended or "the strategy is done"})
            if not self._finished:
                self._candidates()
                self.observer.began("final")
                self._loop(self._finalise)
                self._record("finished", None, {})
            self._commit()
        except BaseException:
            with suppress(LedgerError):  # what came back is kept, whatever stops the run
                self.ledger.commit()
            raise
        finally:
            self.executor.close()

    def _loop(self, propose: Callable[[], bool]) -> None:
        """Until nothing waits, nothing runs, and nothing more is proposed. One commit a turn."""
        while True:
            proposed = self.executor.free and not self._waiting and propose()
            self._commit()
            if self._waiting and self.executor.free:
                number = self._waiting.popleft()
                self._running.add(number)
                self.observer.started(number, self._requests[number])
                self.executor.submit(number, self._requests[number], trial_seed(self.plan.config.seed, number))
            elif self._running:
                for message in self.executor.wait():
                    self._receive(message)
            elif not proposed:
                return

    def _propose(self) -> bool:
        """One request of the strategy's, recorded; False where it has none, or the budget is spent."""
        config = self.plan.config
        if self._asked >= config.trials:
            self._ended = f"{config.trials} trials"
            return False
        if config.time_limit is not None and self.elapsed >= config.time_limit:
            self._ended = "the time limit"
            return False
        number, request = len(self._requests), self._ask()
        if request is None:
            self._record("ask", None, {})
            return False
        self._record("ask", number, request_to_dict(request))
        self._accept(number, request)
        known = self._known(request)
        if known is None:
            self._waiting.append(number)
        else:  # the same network again: its result, without training it twice
            same = Outcome(number, known.state, known.metrics, known.curve, 0.0, known.worker, known.error)
            self._tell(self._trial(same, same_as=known.number))
        return True

    def _finalise(self) -> bool:
        """Plans the final trainings: once all of them, later another candidate for one that failed."""
        if self._running:
            return False
        final = [self.trials[n] for n, r in self._requests.items() if r.purpose == "final" and n in self.trials]
        if any(trial.state == "done" for trial in final):
            return False
        candidates = self._candidates()
        if len(final) >= FINAL_ATTEMPTS:
            raise RunFailed(f"the final training failed {len(final)} times, last with: {final[-1].error}")
        chosen = candidates[min(len(final), len(candidates) - 1)]
        fidelity = self.plan.config.final_fidelity
        planned: list[Evaluate] = [Evaluate(chosen, fidelity, "final")]
        if not final:
            planned += [Evaluate(drawn, fidelity, "baseline") for drawn in self._random(self.plan.config.baseline)]
        for request in planned:
            number = len(self._requests)
            self._record("final", number, request_to_dict(request))
            self._accept(number, request)
            self._waiting.append(number)
        return True

    def _candidates(self) -> list[Architecture]:
        """The search's architectures, best first, each once. Raises RunFailed where there is none."""
        found: dict[str, Architecture] = {}
        for trial in rank(self.trials.values(), self.plan.objectives[0]):
            if trial.architecture is not None:
                found.setdefault(self.plan.domain.canonical(trial.architecture).id, trial.architecture)
        if not found:
            raise RunFailed(f"no candidate could be judged. {self._failures()}")
        return list(found.values())

    def _random(self, count: int) -> list[Architecture]:
        """Different random networks, all equally likely (canonical forms first), fewer where there are no more."""
        rng, domain = self._rng(1), self.plan.domain
        drawn: dict[str, Architecture] = {}
        others: dict[str, Architecture] = {}
        for _ in range(100 * count):
            architecture = domain.sample(rng)
            canonical = domain.canonical(architecture)
            (drawn if canonical == architecture else others).setdefault(canonical.id, architecture)
            if len(drawn) == count:
                break
        rest = [architecture for identity, architecture in others.items() if identity not in drawn]
        return [*drawn.values(), *rest][:count]

    def _receive(self, message: Report | Outcome) -> None:
        if isinstance(message, Outcome):
            cut = message.number in self._cut and message.state == "pruned"
            self._tell(self._trial(message, error="stopped by the run's time limit" if cut else message.error))
            return
        self.ledger.report(message.number, message.epoch, dict(message.metrics))
        self._announcements.append(lambda: self.observer.reported(message))
        if self._late() and self._requests[message.number].purpose == "search":
            self._cut.add(message.number)
            self.executor.stop(message.number, "pruned")

    def _late(self) -> bool:
        limit = self.plan.config.time_limit
        return limit is not None and self.elapsed >= limit

    def _trial(self, outcome: Outcome, error: str | None = None, same_as: int | None = None) -> Trial:
        state, metrics = outcome.state, outcome.metrics
        request = self._requests[outcome.number]
        missing = [o.metric for o in self.plan.objectives if o.metric not in metrics]
        error = error or outcome.error
        if state == "done" and missing and isinstance(request, Evaluate):
            given = ", ".join(metrics) or "none"
            state, error = "failed", f"the evaluator gave no {missing[0]!r}, which is an objective; it gave: {given}"
        return Trial(
            outcome.number,
            request,
            state,
            metrics,
            outcome.curve,
            outcome.seconds,
            outcome.worker,
            error,
            trial_seed(self.plan.config.seed, outcome.number),
            outcome.derived,
            same_as,
            outcome.details,
        )

    def _tell(self, trial: Trial) -> None:
        self._record("tell", trial.number, trial.to_dict())
        self._learn_of(trial)
        self._announcements.append(lambda: self._announce(trial))
        self._check_failures()

    def _announce(self, trial: Trial) -> None:
        """Once the result is durable: its checkpoint has done its service."""
        remove_checkpoint(self._path(trial.number))
        self.observer.ended(trial)

    def _learn_of(self, trial: Trial) -> None:
        """What a result changes, whether it has just come back or is played back."""
        self.trials[trial.number] = trial
        self._running.discard(trial.number)
        request = trial.request
        if isinstance(request, Evaluate) and request.purpose == "search" and trial.state in ("done", "pruned"):
            self._results.setdefault(self._key(request), trial)
        if request.purpose == "search":
            self._searched += 1
            self._failed += trial.state not in ("done", "pruned")
            try:
                self.plan.strategy.tell(trial)
            except NasError:
                raise
            except Exception as error:
                raise RunFailed(
                    f"the strategy {self.plan.strategy.known_as!r} failed in tell: {one_line(error)}"
                ) from error

    def _ask(self) -> Request | None:
        name = self.plan.strategy.known_as
        try:
            request = self.plan.strategy.ask()
        except NasError:
            raise
        except Exception as error:
            raise RunFailed(f"the strategy {name!r} failed in ask: {one_line(error)}") from error
        if request is not None and not isinstance(request, Evaluate | Learn):
            raise RunFailed(f"the strategy {name!r} asked for {request!r:.80}; expected Evaluate, Learn or None")
        if isinstance(request, Evaluate):
            try:
                self.plan.domain.validate(request.architecture)
            except ArchitectureError as error:
                raise RunFailed(f"the strategy {name!r} asked for an invalid architecture: {error}") from error
        return request

    def _accept(self, number: int, request: Request) -> None:
        self._requests[number] = request
        self._asked += request.purpose == "search"

    def _known(self, request: Request) -> Trial | None:
        return self._results.get(self._key(request)) if isinstance(request, Evaluate) else None

    def _key(self, request: Evaluate) -> tuple[str, Fidelity]:
        return self.plan.domain.canonical(request.architecture).id, request.fidelity

    def _check_failures(self) -> None:
        if self._searched >= TRIALS_BEFORE_GIVING_UP and self._failed > self.plan.config.max_failures * self._searched:
            self._commit()
            raise RunFailed(f"too many candidates failed. {self._failures()}")

    def _failures(self) -> str:
        """How many trials failed and the first one's cause."""
        ended = [trial for trial in self.trials.values() if trial.purpose == "search"]
        failed = [trial for trial in ended if trial.error]
        if not failed:
            return f"{len(ended)} trials ended."
        first = failed[0]
        return f"{len(failed)} of {len(ended)} trials failed, the first ({first.number}) with: {first.error}"

    def _replay(self, events: list[Event]) -> None:
        """Plays the record back through the strategy, which must ask what it asked before."""
        for event in events:
            self._elapsed_before = event.elapsed
            if event.kind == "ask":
                self._replay_ask(event)
            elif event.kind == "final" and event.number is not None:
                self._accept(event.number, request_from_dict(event.body))
            elif event.kind == "tell" and event.number is not None:
                request, seed = self._requests[event.number], trial_seed(self.plan.config.seed, event.number)
                self._learn_of(Trial.from_dict(event.number, request, seed, event.body))
            elif event.kind == "end":
                self._ended = str(event.body["reason"])
            elif event.kind == "finished":
                self._finished = True
        self._waiting.extend(number for number in self._requests if number not in self.trials)
        self._began = time.monotonic()
        self._check_failures()

    def _replay_ask(self, event: Event) -> None:
        request = self._ask()
        if request != (request_from_dict(event.body) if event.body else None):
            what = "nothing" if event.number is None else f"trial {event.number}"
            raise ReplayError(
                f"the strategy {self.plan.strategy.known_as!r} does not ask again what it asked for {what}: its code, "
                f"or a library that it uses, has changed since; start a new run"
            )
        if request is not None and event.number is not None:
            self._accept(event.number, request)

    def _record(self, kind: Any, number: int | None, body: dict[str, Any]) -> None:
        self.ledger.record(kind, number, self.elapsed, body)
        self._dirty = True

    def _commit(self) -> None:
        """Makes the turn durable, then says what happened in it. Reports alone may wait a second."""
        now = time.monotonic()
        if self._dirty or now - self._committed >= SECONDS_BETWEEN_REPORT_COMMITS:
            self.ledger.commit()
            self._committed, self._dirty = now, False
        announcements, self._announcements = self._announcements, []
        for announce in announcements:
            announce()

    def _path(self, number: int) -> Path:
        return self._checkpoints / f"{number}.pt"

    def _rng(self, stream: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.plan.config.seed, spawn_key=(stream,)))
