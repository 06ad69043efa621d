"""Any strategy as an Optuna sampler: Optuna runs the trials, the strategy proposes the architectures."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ..architecture import Architecture
from ..errors import ConfigError
from ..evaluator import FULL, Fidelity
from ..space import SearchSpace
from ..strategy import Strategy
from ..task import Task
from ..trial import Evaluate, Objective, State
from .conversation import Conversation
from .encoding import decode, distributions, encode

ASKED, TOLD = "nasengine:asked", "nasengine:told"
"""A trial's system attributes: the events of the conversation that concern it, with their places in it."""

STATES: dict[TrialState, State] = {TrialState.COMPLETE: "done", TrialState.PRUNED: "pruned"}


class StrategySampler(BaseSampler):
    """A strategy of nasengine, by name (with options) or as an object, where Optuna expects a sampler.

        sampler = StrategySampler("evolution", space="chain", task="digits", trials=100)

        def objective(trial):
            architecture = sampler.architecture(trial)
            ...
            return accuracy

        optuna.create_study(direction="maximize", sampler=sampler).optimize(objective, n_trials=100)

    trials: how many there will be; some strategies divide their work by it. seed: as of a run, which proposes the same.
    beside: what samples the parameters that are no decisions of the space (at random by default).

    A sampler serves one study. Failed and pruned trials are told as such. With `n_jobs`, a strategy that waits for
    results makes a thread wait for those of the others. A strategy that is done stops the study. Trials that were
    enqueued with architectures of the user's own are not the strategy's, and it is not told of them; where a part of
    its proposal was fixed by the user, it is told that the proposal failed.

    With a storage on disk, a new sampler of the same settings goes on with the study: what was asked and told is kept
    in the trials' system attributes, and is played back through the strategy when the study first asks for something.
    Trials that were running then are told as failed. So only one process at a time may work on a study.

    Raises ConfigError where the strategy learns inside a supernet, or, at the first trial, where the study has more
    objectives than it looks at; ReplayError where it does not propose again what it proposed before.
    """

    def __init__(
        self,
        strategy: str | Strategy = "random",
        space: str | SearchSpace = "cell",
        task: str | Task = "digits",
        *,
        trials: int = 20,
        seed: int = 0,
        fidelity: Fidelity | str = FULL,
        beside: BaseSampler | None = None,
    ) -> None:
        self._conversation = Conversation(strategy, space, task, trials, seed, fidelity)
        self.domain = self._conversation.plan.domain
        self._parameters: dict[str, BaseDistribution] = dict(distributions(self.domain.decisions.values()))
        self._beside = beside or RandomSampler(seed)
        self._turn = threading.Condition(threading.RLock())
        self._study: tuple[Any, str] | None = None
        self._asked: dict[int, tuple[int, int]] = {}  # an Optuna trial's number: our own, and the thread that asked
        self._saved = 0  # how many events of the conversation are in the study's storage

    def architecture(self, trial: optuna.Trial) -> Architecture:
        """What the strategy proposes for the trial, suggested to Optuna decision by decision.

        Raises TrialPruned, and stops the study, where the strategy is done; ArchitectureError where parameters that
        the user fixed are no architecture of the space.
        """
        values = {
            name: trial.suggest_categorical(name, distribution.choices)  # type: ignore[attr-defined]
            for name, distribution in self._parameters.items()
        }
        architecture = decode(self.domain, values)
        trial.set_user_attr("architecture", architecture.id)
        return architecture

    def fidelity(self, trial: optuna.Trial) -> Fidelity:
        """How thoroughly the strategy wants the trial's architecture judged."""
        with self._turn:
            asked = self._asked.get(trial.number)
            request = self._conversation.in_flight.get(asked[0]) if asked else None
            return request.fidelity if request else self._conversation.plan.config.fidelity

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._parameters

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        with self._turn:
            self._begin(study)
            number, request = self._next(study)
            self._asked[trial.number] = number, threading.get_ident()
            self._save(study, trial, ASKED)
        return dict(encode(self.domain.decisions.values(), request.architecture))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._beside.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        with self._turn:
            asked = self._asked.pop(trial.number, None)
            if asked is None:
                return
            curve = [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)]
            told, error = STATES.get(state, "failed"), None if state in STATES else "the objective failed"
            if not self._as_proposed(asked[0], trial):
                told, values, error = "failed", None, "another architecture was tried than the one proposed"
            self._conversation.tell(asked[0], told, values or (), curve, error=error)
            self._save(study, trial, TOLD)
            self._turn.notify_all()

    def reseed_rng(self) -> None:
        """Optuna asks for this where several threads share the sampler: only what stands beside may change."""
        self._beside.reseed_rng()

    def _begin(self, study: Study) -> None:
        """Starts the strategy with the study's objectives, and plays back what the study holds of it already."""
        study = getattr(study, "_study", study)  # all of it: Hyperband's pruner shows a bracket of it only
        this = (study._storage, study.study_name)
        if self._study is None:
            names = study.metric_names or (["value"] if len(study.directions) == 1 else None)
            names = names or [f"value{index}" for index in range(len(study.directions))]
            signs: Any = ["min" if d == StudyDirection.MINIMIZE else "max" for d in study.directions]
            self._conversation.start([Objective(*pair) for pair in zip(names, signs, strict=True)])
            self._study = this
            self._replay(study)
        elif self._study != this:
            raise ConfigError(
                f"this StrategySampler serves the study {self._study[1]!r} already; make another for "
                f"{study.study_name!r}"
            )

    def _next(self, study: Study) -> tuple[int, Evaluate]:
        while True:
            proposed = self._conversation.ask()
            if proposed is not None:
                return proposed
            if not self._conversation.in_flight:
                with suppress(RuntimeError):  # there is nothing to stop where trials are asked for one by one
                    study.stop()
                raise optuna.TrialPruned("the strategy has nothing more to propose")
            if all(thread == threading.get_ident() for _, thread in self._asked.values()):
                raise ConfigError(
                    f"the strategy {self._conversation.strategy.known_as!r} waits for the results of the "
                    f"{len(self._asked)} trials that are under way; tell them before asking for another"
                )
            self._turn.wait()

    def _as_proposed(self, number: int, trial: FrozenTrial) -> bool:
        """Whether the trial's parameters are those proposed; one that failed before it had them all counts."""
        proposed = encode(self.domain.decisions.values(), self._conversation.in_flight[number].architecture)
        return all(trial.params.get(name, value) == value for name, value in proposed.items())

    def _save(self, study: Study, trial: FrozenTrial, name: str) -> None:
        """The conversation's new events, with the trial that they belong to, in the place that Optuna has for it."""
        events = self._conversation.record[self._saved :]
        study._storage.set_trial_system_attr(trial._trial_id, name, {"from": self._saved, "events": events})
        self._saved += len(events)

    def _replay(self, study: Study) -> None:
        trials = study.get_trials(deepcopy=False)
        kept = [trial.system_attrs[name] for trial in trials for name in (ASKED, TOLD) if name in trial.system_attrs]
        for saved in sorted(kept, key=lambda saved: int(saved["from"])):
            self._conversation.replay(saved["events"])
        self._saved = len(self._conversation.record)
        for number in sorted(self._conversation.in_flight):  # kept together with the next event
            self._conversation.tell(number, "failed", error="interrupted")
