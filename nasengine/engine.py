"""The loop: ask → record the request → run it somewhere → record what came back → tell.

The engine knows no concrete space, strategy, evaluator or task. A search has two parts: the strategy's, and the final
one, in which the architecture found and as many random ones as asked for are trained by one recipe and read the test
data, each once.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .advice import Advice
from .checkpoint import remove_checkpoint
from .errors import Interrupted, LedgerError, ReplayError, RunFailed, StorageError, one_line
from .executors import Executor, Message
from .guarded import Guarded
from .inheritance import learnt_name
from .ledger import Event, EventKind, Ledger, Start
from .models import model_name
from .plan import Observer, Plan, trial_seed
from .standing import FINALISTS, Standing
from .storage import Storage, fetch
from .trial import (
    Evaluate,
    Learn,
    Lost,
    Outcome,
    Report,
    Request,
    State,
    Teach,
    Trial,
    request_from_dict,
    request_to_dict,
)

SECONDS_BETWEEN_REPORT_COMMITS = 1.0
PROPOSALS_A_TURN = 64
"""A strategy may ask for known networks again and again: now and then the turn ends all the same."""
SECONDS_TO_LEAVE = 5.0
"""How long an interrupted run waits for its trials to reach the end of an epoch and leave a checkpoint."""


class Engine:
    """Runs one search, from its ledger's last event on."""

    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        executor: Executor,
        storage: Storage,
        folder: Path,
        observer: Observer | None = None,
    ) -> None:
        self.plan, self.ledger, self.executor = plan, ledger, executor
        self.observer = observer or Observer()
        given = () if plan.config.trials else plan.start_from
        by_stage, several = plan.by_stage, len(plan.funnel) > 1
        self.standing = Standing(plan.domain, by_stage, plan.config.max_failures, given, several)
        self._storage, self._folder = storage, folder
        self._open: dict[int, Request] = {}
        self._waiting: deque[int] = deque()
        self._running: set[int] = set()
        self._losses: dict[int, int] = {}
        self._begun: set[int] = set()
        self._cut: dict[int, str] = {}
        self._staged: Counter[int] = Counter()
        self._taught: dict[int, Trial | None] = {}
        self._networks: dict[bytes, int] = {}
        self._twins: dict[int, list[int]] = {}
        self._announcements: list[Callable[[], None]] = []
        self._said: set[str] = set()
        self._ended: str | None = None
        self._finished = self._idle = self._dirty = False
        self._numbers = self._asked = 0
        self._elapsed_before = 0.0
        self._began = self._committed = time.monotonic()
        self._strategy = Guarded(plan, self._rng(0), storage)
        self._advice = Advice(plan, self._rng)

    @property
    def elapsed(self) -> float:
        """Seconds that the run has worked, over all its processes."""
        return self._elapsed_before + time.monotonic() - self._began

    def run(self) -> None:
        """Goes on to the end.

        Raises RunFailed where no candidate could be judged, Interrupted where the observer asks for an end, and
        whatever else stops it.
        """
        try:
            self._replay()
            if self._ended is None:
                self._prepare(0)
                if self.plan.config.trials:
                    self.observer.began("search")
                self._loop(self._propose)
                self._record("end", None, {"reason": self._ended or "the strategy is done"})
            if not self._finished:
                for stage in range(1, len(self.plan.funnel)):
                    self._prepare(stage)
                    self.observer.began(f"stage {stage + 1}")
                    self._loop(partial(self._promote, stage))
                self.standing.candidates()
                self.observer.began("final")
                self._loop(self._finalise)
                self._fetch_models()
                self._record("finished", None, {})
            self._commit()
            self._strategy.legacies.clear()
            self._forget_what_was_learnt()
        except BaseException as stopped:
            if isinstance(stopped, RunFailed):
                self._record("failed", None, {"reason": str(stopped)})
            with suppress(LedgerError):  # what came back is kept, whatever stops the run
                self.ledger.commit(self.elapsed)
            raise
        finally:
            self.executor.close()

    def _loop(self, propose: Callable[[], bool]) -> None:
        """Until nothing waits, nothing runs, and nothing more is proposed. One commit a turn."""
        while True:
            if self.observer.stop_requested:
                self._leave()
            more = True
            for _ in range(PROPOSALS_A_TURN):
                if not self.executor.free or not more:
                    break
                if self._waiting:
                    self._hand_out(self._waiting.popleft())
                else:
                    more = propose()
            self._commit()
            if self._running or not self.executor.free:
                for message in self.executor.wait():
                    self._receive(message)
            elif not self._waiting and not more:
                return

    def _hand_out(self, number: int) -> None:
        request, attempt = self._open[number], self._losses.get(number, 0) + 1
        foreseen = None if number in self._begun else self._advice.foresee(request)
        if foreseen is not None:
            self._tell(self._trial(Outcome(number, "done", foreseen, worker="foreseen"), "done", None))
            return
        worker = self.executor.submit(number, request, trial_seed(self.plan.config.seed, number))
        self._running.add(number)
        self.ledger.start(Start(number, worker, time.time(), attempt))
        self._announcements.append(lambda: self.observer.started(number, request))

    def _propose(self) -> bool:
        """One request of the strategy's, recorded; False where it has none, or the budget is spent."""
        config = self.plan.config
        if self._asked >= config.trials:
            self._ended = f"{config.trials} trials" if config.trials else "nothing to search"
            return False
        if self._late():
            self._ended = "the time limit"
            return False
        if self._idle:  # it had nothing to ask, and has learnt nothing since
            return False
        request = self._strategy.ask()
        if request is None:
            self._idle = True
            self._record("ask", None, {})
            return False
        self._place(self._accept("ask", request))
        return True

    def _prepare(self, stage: int) -> None:
        """Lets the stage's evaluator learn, if it has to. Raises RunFailed where that fails."""
        if not self.plan.funnel[stage].evaluator.learns or not self.plan.config.trials:
            return
        if self._taught.get(stage) is None:
            self.observer.began("preparation")
            self._loop(partial(self._teach, stage))
        taught = self._taught[stage]
        if taught is None or taught.state != "done":
            name, why = self.plan.funnel[stage].evaluator.known_as, taught and (taught.error or taught.state)
            raise RunFailed(f"the evaluator {name!r} could not learn: {why}")

    def _teach(self, stage: int) -> bool:
        if stage in self._taught:
            return False
        self._place(self._accept("final", Teach(stage)))
        return True

    def _promote(self, stage: int) -> bool:
        """Plans a stage of the funnel, once: the best of the one before."""
        if self._staged[stage] or self._late():
            return False
        before, here = self.plan.funnel[stage - 1], self.plan.funnel[stage]
        chosen = self.standing.promoted(stage - 1, here.candidates, before.objectives)
        if not chosen:
            raise RunFailed(f"no candidate could be judged. {self.standing.failures()}")
        for architecture in chosen:
            self._place(self._accept("final", Evaluate(architecture, self.plan.config.fidelity, stage=stage)))
        return True

    def _finalise(self) -> bool:
        """Plans the final trainings: once all of them, later another candidate for one that failed."""
        final = self.standing.final
        if self._running or self._waiting or any(trial.state == "done" for trial in final):
            return False
        candidates = self.standing.candidates()
        if len(final) >= FINALISTS:
            raise RunFailed(f"the final training failed {len(final)} times, last with: {final[-1].error}")
        chosen = candidates[min(len(final), len(candidates) - 1)]
        fidelity = self.plan.config.final_fidelity
        planned: list[Evaluate] = [Evaluate(self.plan.final(chosen), fidelity, "final")]
        if not final:
            drawn = self.plan.domain.sample_different(self.plan.config.baseline, self._rng(1))
            planned += [Evaluate(self.plan.final(architecture), fidelity, "baseline") for architecture in drawn]
        for request in planned:
            self._place(self._accept("final", request))
        return True

    def _place(self, number: int) -> None:
        """Where an accepted request goes: to the workers, unless its network's result is on record or on its way."""
        request = self._open[number]
        if not isinstance(request, Evaluate) or request.purpose != "search":
            self._waiting.append(number)
            return
        network = self.standing.network(request)
        event = self.standing.known(network)
        if event is not None:
            self._tell_same(number, self.ledger.event(event))
        elif network in self._networks:
            self._twins.setdefault(self._networks[network], []).append(number)
        else:
            self._networks[network] = number
            self._waiting.append(number)

    def _receive(self, message: Message) -> None:
        if isinstance(message, Lost):
            self._lose(message)
        elif isinstance(message, Outcome):
            if message.state != "interrupted":
                why = self._cut.pop(message.number, None) if message.state == "pruned" else None
                self._tell(self._trial(message, message.state, why or message.error))
        else:
            self.ledger.report(message.number, message.epoch, dict(message.metrics))
            self._announcements.append(lambda: self.observer.reported(message))
            if message.note is not None and message.note not in self._said:
                self._said.add(message.note)
                self._announcements.append(lambda: self.observer.note(message.note or ""))
            why = self._reason_to_stop(message)
            if why is not None:
                self._cut[message.number] = why
                self.executor.stop(message.number, "pruned")

    def _reason_to_stop(self, report: Report) -> str | None:
        request = self._open[report.number]
        if request.purpose == "search" and self._late():
            return "stopped by the run's time limit"
        return self._advice.stop(request, report)

    def _lose(self, lost: Lost) -> None:
        """A worker is gone: its request runs again, at most `retries` times."""
        number = lost.number
        self._running.discard(number)
        losses = self._losses[number] = self._losses.get(number, 0) + lost.blamed
        if losses > self.plan.config.retries:
            error = f"{lost.error} ({losses} tries)" if losses > 1 else lost.error
            self._tell(self._trial(Outcome(number, lost.state), lost.state, error))
        else:
            self._waiting.appendleft(number)
            self._announcements.append(lambda: self.observer.lost(number, lost.error))

    def _late(self) -> bool:
        limit, simulated = self.plan.config.time_limit, self.plan.config.clock == "simulated"
        return limit is not None and (self.standing.simulated if simulated else self.elapsed) >= limit

    def _trial(self, outcome: Outcome, state: State, error: str | None, same_as: int | None = None) -> Trial:
        request, metrics = self._open[outcome.number], outcome.metrics
        missing = []
        if isinstance(request, Evaluate):
            by = self.plan.funnel[request.stage] if request.purpose == "search" else self.plan.judge
            missing = [o.metric for o in by.objectives if o.metric not in metrics]
        if state == "done" and missing:
            given = ", ".join(metrics) or "none"
            state, error = "failed", f"the evaluator gave no {missing[0]!r}, which is an objective; it gave: {given}"
        derived = outcome.derived
        if derived is not None and (wrong := self._strategy.wrong_about(derived)):
            derived, state, error = None, "failed", f"the strategy derived {wrong}"
        seed = trial_seed(self.plan.config.seed, outcome.number)
        return Trial(
            outcome.number, request, state, metrics, outcome.curve, outcome.seconds, outcome.worker, error, seed,
            derived, same_as, outcome.details, outcome.notes,
        )  # fmt: skip

    def _tell_same(self, number: int, told: Event) -> None:
        """The same network again: the earlier trial's result, without training it twice."""
        known = told.body
        outcome = Outcome(number, known["state"], known["metrics"], tuple(known["curve"]), 0.0, known["worker"])
        self._tell(self._trial(outcome, known["state"], known["error"], same_as=told.number))

    def _tell(self, trial: Trial) -> None:
        event = self._record("tell", trial.number, trial.to_dict())
        self._learn_of(trial, event)
        self._announcements.append(lambda: self._announce(trial))
        if isinstance(trial.request, Evaluate) and trial.purpose == "search" and trial.same_as is None:
            self._networks.pop(self.standing.network(trial.request), None)
        for twin in self._twins.pop(trial.number, []):  # the requests for the same network that waited for this one
            self._place(twin)
        self.standing.check()

    def _announce(self, trial: Trial) -> None:
        """Once the result is durable: its checkpoint has done its service."""
        with suppress(OSError):  # one that stays is only in the way
            remove_checkpoint(self._storage, trial.number)
        self._strategy.settle(self._open.values())
        self.observer.ended(trial)

    def _fetch_models(self) -> None:
        """The model found into the run's folder, where workers left it elsewhere. Raises StorageError."""
        for trial in self.standing.final:
            name = model_name(trial.number)
            if trial.state == "done" and not (self._folder / name).exists():
                try:
                    fetch(self._storage, name, self._folder)
                except OSError as error:
                    raise StorageError(f"the model found cannot be fetched: {one_line(error)}") from error

    def _forget_what_was_learnt(self) -> None:
        for stage in self._taught:
            with suppress(OSError):  # what stays is only in the way
                self._storage.remove(learnt_name(stage))

    def _learn_of(self, trial: Trial, event: int) -> None:
        """What a result changes, whether it has just come back or is played back."""
        self._running.discard(trial.number)
        self._losses.pop(trial.number, None)
        self._open.pop(trial.number)
        self._idle = False
        self.standing.add(trial, event)
        if isinstance(trial.request, Teach):
            self._taught[trial.request.stage] = trial
        elif trial.purpose == "search":
            self._advice.tell(trial)
            if trial.stage == 0:
                self._strategy.tell(trial)

    def _accept(self, kind: EventKind, request: Request) -> int:
        """Records a new request; its number."""
        number = self._admit(request)
        self._record(kind, number, request_to_dict(request))
        return number

    def _admit(self, request: Request) -> int:
        number = self._numbers
        self._numbers += 1
        self._open[number] = request
        if isinstance(request, Teach):
            self._taught.setdefault(request.stage, None)
        elif request.purpose == "search":
            stage = 0 if isinstance(request, Learn) else request.stage
            self._staged[stage] += 1
            self._asked += stage == 0
        return number

    def _leave(self) -> None:
        """Lets what runs leave a checkpoint, for a few seconds, and ends. Raises Interrupted."""
        until = time.monotonic() + SECONDS_TO_LEAVE
        for number in self._running:
            self.executor.stop(number, "interrupted")
        while self._running and time.monotonic() < until:
            for message in self.executor.wait():
                self._receive(message)
                if isinstance(message, Outcome):
                    self._running.discard(message.number)
        self.ledger.commit(self.elapsed)
        raise Interrupted(f"interrupted; everything finished so far is kept. Go on with: nas resume {self._folder}")

    def _replay(self) -> None:
        """Plays the record back through the strategy, which must ask what it asked before."""
        self._elapsed_before = self.ledger.elapsed()
        for event in self.ledger.events():
            if event.kind == "ask":
                self._replay_ask(event)
            elif event.kind == "final":
                self._admit(request_from_dict(event.body))
            elif event.kind == "tell" and event.number is not None:
                request, seed = self._open[event.number], trial_seed(self.plan.config.seed, event.number)
                self._learn_of(Trial.from_dict(event.number, request, seed, event.body), event.id)
            elif event.kind == "end":
                self._ended = str(event.body["reason"])
            elif event.kind == "finished":
                self._finished = True
        self._began = time.monotonic()
        self.standing.check()
        for number in list(self._open):
            self._advice.remember(number, [metrics for _, metrics in self.ledger.reports(number)])
            if self.ledger.start_of(number) is not None:
                self._begun.add(number)
            self._place(number)

    def _replay_ask(self, event: Event) -> None:
        request = self._strategy.ask()
        if request != (request_from_dict(event.body) if event.body else None):
            what = "nothing" if event.number is None else f"trial {event.number}"
            raise ReplayError(
                f"the strategy {self.plan.strategy.known_as!r} does not ask again what it asked for {what}: its code, "
                f"or a library that it uses, has changed since; start a new run"
            )
        self._idle = request is None
        if request is not None:
            self._admit(request)

    def _record(self, kind: EventKind, number: int | None, body: dict[str, Any]) -> int:
        self._dirty = True
        return self.ledger.record(kind, number, self.elapsed, body)

    def _commit(self) -> None:
        """Makes the turn durable, then says what happened in it. Reports alone may wait a second."""
        now = time.monotonic()
        if self._dirty or now - self._committed >= SECONDS_BETWEEN_REPORT_COMMITS:
            self.ledger.commit(self.elapsed)
            self._committed, self._dirty = now, False
        announcements, self._announcements = self._announcements, []
        for announce in announcements:
            announce()

    def _rng(self, stream: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.plan.config.seed, spawn_key=(stream,)))
