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

from .advice import Advice
from .checkpoint import remove_checkpoint
from .errors import Interrupted, LedgerError, ReplayError, RunFailed
from .executors import Executor, Message
from .guarded import Guarded
from .inheritance import forget_what_was_learnt
from .journal import Journal
from .ledger import Event, EventKind, Ledger, Start
from .models import fetch_models
from .phases import Phases
from .plan import Observer, Plan, phase_of, trial_seed
from .standing import Standing
from .storage import Storage
from .trial import Evaluate, Lost, Outcome, Request, State, Teach, Trial, request_from_dict, request_to_dict

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
        self._journal = Journal(ledger)
        self.standing = Standing.of(plan)
        self._storage, self._folder = storage, folder
        self._open: dict[int, Request] = {}
        self._waiting: deque[int] = deque()
        self._running: set[int] = set()
        self._losses: dict[int, int] = {}
        self._begun: set[int] = set()
        self._cut: dict[int, str] = {}
        self._networks: dict[bytes, int] = {}
        self._twins: dict[int, list[int]] = {}
        self._said: set[str] = set()
        self._ended: str | None = None
        self._finished = self._idle = False
        self._numbers = self._asked = 0
        self._phases = Phases(plan, self.standing)
        self._strategy = Guarded(plan, plan.rng(0), storage)
        self._advice = Advice(plan)

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
                self._loop(self._propose, self.plan.strategy.independent)
                self._journal.record("end", None, {"reason": self._ended or "the strategy is done"})
            if not self._finished:
                for stage in range(1, len(self.plan.funnel)):
                    self._promote(stage)
                self.standing.candidates()
                self.observer.began("final")
                self._loop(lambda: self._plan_phase(lambda: self._phases.final(self.plan.rng(1))))
                done = [trial.number for trial in self.standing.final if trial.state == "done"]
                fetch_models(self._storage, self._folder, done)
                self._journal.record("finished", None, {})
            self._journal.commit()
            self._strategy.legacies.clear()
            forget_what_was_learnt(self._storage, self._phases.taught)
        except BaseException as stopped:
            if isinstance(stopped, RunFailed):
                self._journal.record("failed", None, {"reason": str(stopped)})
            with suppress(LedgerError):  # what came back is kept, whatever stops the run
                self._journal.keep()
            raise
        finally:
            self.executor.close()

    def _loop(self, propose: Callable[[], bool], ahead: bool = True) -> None:
        """Until nothing waits, nothing runs, and nothing more is proposed. One commit a turn.

        ahead: whether what is proposed does not depend on the results of what was proposed before.
        """
        while True:
            if self.observer.stop_requested:
                self._leave()
            more = True
            for _ in range(PROPOSALS_A_TURN):
                early = (ahead or self._waiting) and not self._advice.foresees
                if not more or not (self.executor.room if early else self.executor.free):
                    break
                if self._waiting:
                    self._hand_out(self._waiting.popleft())
                else:
                    more = propose()
            self._journal.commit()
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
        self._journal.then(lambda: self.observer.started(number, request))

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
            self._journal.record("ask", None, {})
            return False
        self._place(self._accept("ask", request))
        return True

    def _plan_phase(self, planned: Callable[[], list[Request]]) -> bool:
        """Makes the requests that a phase of the run itself asks for, when nothing of it is under way."""
        if self._running or self._waiting:
            return False
        requests = planned()
        for request in requests:
            self._place(self._accept("final", request))
        return bool(requests)

    def _prepare(self, stage: int) -> None:
        """Lets the stage's evaluator learn, if it has to. Raises RunFailed where that fails."""
        if self._phases.learns(stage):
            self.observer.began("preparation")
            self._loop(lambda: self._plan_phase(lambda: self._phases.lesson(stage)))
        self._phases.check(stage)

    def _promote(self, stage: int) -> None:
        """A stage of the funnel."""
        self._prepare(stage)
        self.observer.began(f"stage {stage + 1}")
        self._loop(lambda: self._plan_phase(lambda: [] if self._late() else self._phases.promoted(stage)))

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
            self._journal.then(lambda: self.observer.reported(message))
            if message.note is not None and message.note not in self._said:
                self._said.add(message.note)
                self._journal.then(lambda: self.observer.note(message.note or ""))
            request = self._open[message.number]
            late = request.purpose == "search" and self._late()
            why = "stopped by the run's time limit" if late else self._advice.stop(request, message)
            if why is not None:
                self._cut[message.number] = why
                self.executor.stop(message.number, "pruned")

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
            self._journal.then(lambda: self.observer.lost(number, lost.error))

    def _late(self) -> bool:
        limit, simulated = self.plan.config.time_limit, self.plan.config.clock == "simulated"
        return limit is not None and (self.standing.simulated if simulated else self._journal.elapsed) >= limit

    def _trial(self, outcome: Outcome, state: State, error: str | None, same_as: int | None = None) -> Trial:
        """What came back, as a trial: failed, where an objective is missing or what was derived is no architecture."""
        request, derived = self._open[outcome.number], outcome.derived
        wrong = self.plan.wrong_about(request, outcome.metrics) if state == "done" else None
        if derived is not None and (invalid := self._strategy.wrong_about(derived)):
            derived, wrong = None, f"the strategy derived {invalid}"
        if wrong is not None:
            state, error = "failed", wrong
        seed = trial_seed(self.plan.config.seed, outcome.number)
        return Trial(
            outcome.number, request, state, outcome.metrics, outcome.curve, outcome.seconds, outcome.worker, error,
            seed, derived, same_as, outcome.details, outcome.notes,
        )  # fmt: skip

    def _tell_same(self, number: int, told: Event) -> None:
        """The same network again: the earlier trial's result, without training it twice."""
        known = told.body
        outcome = Outcome(number, known["state"], known["metrics"], tuple(known["curve"]), 0.0, known["worker"])
        self._tell(self._trial(outcome, known["state"], known["error"], same_as=told.number))

    def _tell(self, trial: Trial) -> None:
        event = self._journal.record("tell", trial.number, trial.to_dict())
        self._learn_of(trial, event)
        self._journal.then(lambda: self._announce(trial))
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

    def _learn_of(self, trial: Trial, event: int) -> None:
        """What a result changes, whether it has just come back or is played back."""
        self._running.discard(trial.number)
        self._losses.pop(trial.number, None)
        self._open.pop(trial.number)
        self._idle = False
        self.standing.add(trial, event)
        if isinstance(trial.request, Teach):
            self._phases.taught[trial.request.stage] = trial
        elif trial.purpose == "search":
            self._advice.tell(trial)
            if trial.stage == 0:
                self._strategy.tell(trial)

    def _accept(self, kind: EventKind, request: Request) -> int:
        """Records a new request; its number."""
        number = self._admit(request)
        self._journal.record(kind, number, request_to_dict(request))
        return number

    def _admit(self, request: Request) -> int:
        number = self._numbers
        self._numbers += 1
        self._open[number] = request
        self._phases.admit(request)
        self._asked += phase_of(request) == "search"
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
        self._journal.keep()
        raise Interrupted(f"interrupted; everything finished so far is kept. Go on with: nas resume {self._folder}")

    def _replay(self) -> None:
        """Plays the record back through the strategy, which must ask what it asked before."""
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
        self._journal.begin()
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
