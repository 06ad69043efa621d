"""A strategy that somebody else's loop asks and tells, with a record of it that can be played back.

What the engine is to a run, this is to an Optuna sampler or a Tune searcher: it gives the strategy its domain and its
randomness (the same as a run of the same seed would), and takes down every ask and every tell as JSON values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..config import Config
from ..errors import ConfigError, ReplayError
from ..evaluator import Fidelity
from ..parts import choice_of, resolve
from ..plan import Plan, trial_seed
from ..plugin import Plugin
from ..registry import fingerprint
from ..settings import PluginChoice
from ..space import SearchSpace
from ..strategy import OneShotStrategy, Strategy
from ..task import Task
from ..trial import Evaluate, Objective, Request, State, Trial, request_from_dict, request_to_dict


class Conversation:
    """Made from names or objects; begins with `start`, which says what counts.

    Raises NasError where the parts are unknown or do not fit, and where the strategy learns inside a supernet.
    """

    def __init__(
        self,
        strategy: str | Strategy | PluginChoice,
        space: str | SearchSpace | PluginChoice,
        task: str | Task | PluginChoice,
        trials: int,
        seed: int,
        fidelity: Fidelity | str,
    ) -> None:
        self._made_with = (strategy, space, task, trials, seed, fidelity)
        given: dict[Any, Any] = {"strategy": strategy, "space": space, "task": task}
        objects: dict[Any, Plugin] = {k: _fresh(part) for k, part in given.items() if isinstance(part, Plugin)}
        choices = {kind: choice_of(kind, objects[kind]) if kind in objects else part for kind, part in given.items()}
        settings = {"trials": trials, "seed": seed, "fidelity": fidelity, "objectives": ("value",)}
        config = Config.of({**choices, **settings}, "the search")
        config = config.model_copy(update={kind: _absolute(getattr(config, kind)) for kind in given})
        self.plan: Plan = resolve(config, objects)
        self.strategy = self.plan.strategy
        if isinstance(self.strategy, OneShotStrategy):
            raise self._one_shot()
        self.record: list[dict[str, Any]] = []
        """Every ask and every tell, in order, as JSON values."""
        self.in_flight: dict[int, Evaluate] = {}
        self._asked = 0
        self._objectives: Sequence[Objective] = ()

    def again(self) -> Conversation:
        """One made of the same, that has not started."""
        return Conversation(*self._made_with)

    @property
    def started(self) -> bool:
        return bool(self._objectives)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides what the strategy proposes, as JSON values: two conversations that agree in it say the same."""
        settings = self.plan.config.to_dict()
        names = ("space", "strategy", "task", "trials", "seed", "fidelity")
        return {
            **{name: settings[name] for name in names},
            "objectives": [str(objective) for objective in self._objectives],
            "code": fingerprint(self.strategy),
        }

    def start(self, objectives: Sequence[Objective]) -> None:
        """Raises ConfigError where the strategy looks at one objective only, and there are several."""
        if len(objectives) > 1 and not self.strategy.several_objectives:
            raise ConfigError(
                f"the strategy {self.strategy.known_as!r} looks at one objective only, and there are "
                f"{len(objectives)}; choose one, or a strategy that takes several, such as random"
            )
        config = self.plan.config
        rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(0,)))  # as a run's
        self._objectives = objectives
        plan = self.plan
        self.strategy.start(plan.domain, rng, objectives, config.fidelity, config.trials, plan.full_epochs)

    def ask(self) -> tuple[int, Evaluate] | None:
        """The next proposal and its number; None where the strategy waits for results, or is done."""
        request = self._ask()
        if request is None:
            self.record.append({"kind": "ask", "number": None, "request": None})
            return None
        number = self._accept(request)
        self.record.append({"kind": "ask", "number": number, "request": request_to_dict(request)})
        return number, request

    def tell(
        self,
        number: int,
        state: State,
        values: Sequence[float | None] = (),
        curve: Iterable[float] = (),
        seconds: float = 0.0,
        error: str | None = None,
    ) -> None:
        """What came of a proposal: the objectives' values, and the first one's after each epoch.

        A value that is missing or no finite number makes a trial that was done a failed one.
        """
        given = zip(self._objectives, values, strict=True) if values else ()
        metrics = {o.metric: float(v) for o, v in given if v is not None and math.isfinite(v)}
        missing = [objective.metric for objective in self._objectives if objective.metric not in metrics]
        if state == "done" and missing:
            state, error = "failed", error or f"no finite value of {missing[0]!r}"
        first = self._objectives[0].metric
        points = [{first: float(value)} for value in curve if math.isfinite(value)]
        told = {"state": state, "metrics": metrics, "curve": points, "seconds": seconds, "error": error}
        self.record.append({"kind": "tell", "number": number, **told})
        self._tell(number, told)

    def replay(self, record: Iterable[Mapping[str, Any]]) -> None:
        """Plays a record back. Raises ReplayError where the strategy does not propose again what it did."""
        for event in record:
            self.record.append(dict(event))
            if event["kind"] == "tell":
                self._tell(event["number"], event)
                continue
            request = self._ask()
            if request != (event["request"] and request_from_dict(event["request"])):
                what = "nothing" if event["number"] is None else f"trial {event['number']}"
                raise ReplayError(
                    f"the strategy {self.strategy.known_as!r} does not propose again what it proposed for {what}: its "
                    f"code, options or seed, or a library that it uses, has changed since; put it back, or start anew"
                )
            if request is not None:
                self._accept(request)

    def _ask(self) -> Evaluate | None:
        request: Request | None = self.strategy.ask()
        if request is None:
            return None
        if not isinstance(request, Evaluate):
            raise self._one_shot()
        self.plan.domain.validate(request.architecture)
        return request

    def _accept(self, request: Evaluate) -> int:
        number, self._asked = self._asked, self._asked + 1
        self.in_flight[number] = request
        return number

    def _tell(self, number: int, told: Mapping[str, Any]) -> None:
        rest = {name: told[name] for name in ("state", "metrics", "seconds", "error")}
        seed = trial_seed(self.plan.config.seed, number)
        trial = Trial(number, self.in_flight.pop(number), curve=tuple(told["curve"]), seed=seed, **rest)
        self.strategy.tell(trial)

    def _one_shot(self) -> ConfigError:
        return ConfigError(
            f"the strategy {self.strategy.known_as!r} learns inside a supernet, which only `nas run` gives it; here, "
            f"choose one that proposes architectures, such as evolution"
        )


def _fresh(plugin: Plugin) -> Plugin:
    """The same plugin made again: a strategy that was started once cannot be started anew."""
    made: Plugin = type(plugin)(**plugin.settings)
    made.known_as = plugin.known_as
    return made


def _absolute(choice: PluginChoice) -> PluginChoice:
    """A plugin's file by its absolute path: other processes may work in other folders."""
    file, _, attribute = choice.name.rpartition(":")
    if not file.endswith(".py"):
        return choice
    return choice.model_copy(update={"name": f"{Path(file).expanduser().resolve()}:{attribute}"})
