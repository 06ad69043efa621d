"""Any strategy as a searcher of Ray Tune: Tune runs, schedules and restarts the trials, the strategy proposes them.

searcher = NASearcher("evolution", space="chain", task="digits", metric="accuracy", mode="max", trials=100)

def train(config):
    model, task = model_of(config), task_of(config)
    ...
    tune.report({"accuracy": accuracy})

tune.Tuner(train, tune_config=tune.TuneConfig(search_alg=searcher, num_samples=100)).fit()
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ray.tune.search import Searcher

from ..architecture import Architecture
from ..errors import ConfigError, ReplayError
from ..evaluator import FULL, Fidelity
from ..parts import choice_of
from ..plugin import Plugin
from ..registry import bases, importable, make
from ..settings import PluginChoice
from ..space import SearchSpace
from ..strategy import Strategy
from ..task import Task
from ..trial import Objective
from .conversation import Conversation
from .population import Population

if TYPE_CHECKING:
    from torch import nn

__all__ = ["NASearcher", "Population", "architecture_of", "fidelity_of", "model_of", "task_of"]

FORMAT = 1
OWN = ("architecture", "picks", "task", "fidelity")
"""What a trial's configuration holds of ours."""


class NASearcher(Searcher):
    """A strategy of nasengine, by name (with options) or as an object, where Tune expects a searcher.

    metric, mode: what counts and its direction, or lists of them where the strategy takes several; by default those of
        the TuneConfig, where there is a `param_space`, else the task's. trials: how many there will be; some strategies
        divide their work by it. seed: as of a run, which proposes the same.

    A trial's configuration holds the `architecture` as JSON, its `picks` as plain values, the `task`'s name and the
    `fidelity` that the strategy asks for, beside what `param_space` says; what that leaves to chance is drawn by the
    seed and the trial's number. Trials that end with an error, or without a finite metric, are told as failed; those
    that a scheduler stops count with their last result. How many run at once is for Tune's ConcurrencyLimiter.
    Population-based training, which refuses searchers, takes one as `Population(searcher)`.

    What is saved is the record of what was asked and told, as JSON; `restore` plays it back through the strategy. It
    raises ReplayError where the strategy or its settings are not the same.

    Raises ConfigError where the strategy learns inside a supernet, or looks at fewer objectives than are given.
    """

    def __init__(
        self,
        strategy: str | Strategy | PluginChoice = "random",
        space: str | SearchSpace | PluginChoice = "cell",
        task: str | Task | PluginChoice = "digits",
        *,
        metric: str | list[str] | None = None,
        mode: str | list[str] | None = None,
        trials: int = 20,
        seed: int = 0,
        fidelity: Fidelity | str = FULL,
    ) -> None:
        _objectives(metric, mode)
        self._metric: Any
        self._mode: Any
        super().__init__(metric=metric, mode=mode)  # type: ignore[arg-type]
        self._conversation = Conversation(strategy, space, task, trials, seed, fidelity)
        parts = {"strategy": strategy, "space": space, "task": task}
        self._made_with: dict[str, Any] = {name: _named(part) for name, part in parts.items()}
        self._made_with |= {"metric": metric, "mode": mode, "trials": trials, "seed": seed, "fidelity": fidelity}
        self._numbers: dict[str, int] = {}  # Tune's name of a trial that runs: our number of it
        self._results: dict[str, dict[int, list[float | None]]] = {}  # and the objectives' values by iteration
        self._beside: dict[str, Any] = {}

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: object
    ) -> bool:
        """Takes the metric and mode of the TuneConfig where the searcher has none, and the `param_space`."""
        if taken := [name for name in OWN if name in config]:
            raise ConfigError(f"the param_space has {taken[0]!r}, which the searcher sets; choose another name")
        if self._metric is None and metric:
            self._metric, self._mode = metric, mode or "max"
        self._beside = config
        return True

    def suggest(self, trial_id: str) -> Any:
        """The next configuration; None while the strategy waits for results, FINISHED where it is done."""
        self._begin()
        proposed = self._conversation.ask()
        if proposed is None:
            return None if self._conversation.in_flight else self.FINISHED
        number, request = proposed
        self._numbers[trial_id], self._results[trial_id] = number, {}
        return {
            **self._drawn(number),
            "architecture": request.architecture.to_json(),
            "picks": request.architecture.to_dict()["picks"],
            "task": self._conversation.settings["task"],
            "fidelity": request.fidelity.to_dict(),
        }

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Notes the trial's curve."""
        own = self._architecture(trial_id)
        if own is not None and result.get("config/architecture", own) == own:
            iteration = int(result.get("training_iteration", len(self._results[trial_id]) + 1))
            values = (result.get(metric) for metric in self._metrics)
            self._results[trial_id][iteration] = [float(v) if _is_finite(v) else None for v in values]  # type: ignore[arg-type]

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Tells the strategy what came of the trial."""
        if trial_id not in self._numbers:
            return
        own = self._architecture(trial_id)
        kept = bool(result) and (result or {}).get("config/architecture", own) == own
        if result:
            self.on_trial_result(trial_id, result)
        number, results = self._numbers.pop(trial_id), self._results.pop(trial_id)
        last = results[max(results)] if results else [None] * len(self._metrics)
        curve = [values[0] for _, values in sorted(results.items()) if values[0] is not None]
        seconds = (result or {}).get("time_total_s", 0.0)
        if error:
            self._conversation.tell(number, "failed", curve=curve, seconds=seconds, error="the trainable failed")
        else:  # without a result it was stopped while it was paused, or before it had any
            self._conversation.tell(number, "done" if kept else "pruned", last, curve, seconds)

    def save(self, checkpoint_path: str) -> None:
        """Writes what was asked and told, as JSON."""
        Path(checkpoint_path).write_text(json.dumps(self._state()), encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """Plays back what `save` wrote. Raises ReplayError where it does not fit this searcher, or is no such file."""
        try:
            state = json.loads(Path(checkpoint_path).read_bytes())
            if not isinstance(state, dict) or state.get("format") != FORMAT:
                raise ValueError("another format")
        except (OSError, ValueError) as error:
            raise ReplayError(f"{checkpoint_path} is no state of a NASearcher that can be read: {error}") from None
        self._restore(state)

    def __reduce__(self) -> tuple[Any, ...]:
        """Tune pickles what it is given: of us, how we were made and the record, never a strategy at work."""
        return _made_again, (self._made_with, self._state(), self._beside)

    def _architecture(self, trial_id: str) -> str | None:
        """What the strategy proposed for the trial, as JSON; None where it is none of ours."""
        number = self._numbers.get(trial_id)
        return None if number is None else self._conversation.in_flight[number].architecture.to_json()

    @property
    def _metrics(self) -> list[str]:
        return [self._metric] if isinstance(self._metric, str) else list(self._metric or [])

    def _begin(self) -> None:
        if self._conversation.started:
            return
        if not self._metric:
            objectives = self._conversation.plan.task.objectives
            pairs = [Objective.parse(text) for text in objectives]
            one = len(pairs) == 1
            self._metric = pairs[0].metric if one else [o.metric for o in pairs]
            self._mode = pairs[0].direction if one else [o.direction for o in pairs]
        self._conversation.start(_objectives(self._metric, self._mode))

    def _drawn(self, number: int) -> dict[str, Any]:
        """What the param_space leaves to chance."""
        from ray.tune.search.variant_generator import generate_variants

        if not self._beside:
            return {}
        source = np.random.RandomState([self._conversation.plan.config.seed % 2**32, number])
        _, spec = next(generate_variants({"config": self._beside}, random_state=source))
        return dict(spec["config"])

    def _state(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "settings": self._conversation.settings if self._conversation.started else None,
            "metric": self._metric,
            "mode": self._mode,
            "record": self._conversation.record,
            "numbers": self._numbers,
            "results": {trial: sorted(results.items()) for trial, results in self._results.items()},
        }

    def _restore(self, state: Mapping[str, Any]) -> None:
        self._conversation = self._conversation.again()
        if state["settings"] is None:
            return
        self._metric, self._mode = self._metric or state["metric"], self._mode or state["mode"]
        self._begin()
        for name, here in self._conversation.settings.items():
            if state["settings"].get(name) != here:
                raise ReplayError(
                    f"the searcher was saved with {name} = {state['settings'].get(name)!r}, and this one has {here!r}; "
                    f"make it as it was, or start anew"
                )
        self._conversation.replay(state["record"])
        self._numbers = dict(state["numbers"])
        self._results = {trial: dict(results) for trial, results in state["results"].items()}


def architecture_of(config: Mapping[str, Any]) -> Architecture:
    """The architecture of a trial's configuration. Raises ArchitectureError."""
    return Architecture.from_json(config["architecture"])


def task_of(config: Mapping[str, Any]) -> Task:
    """The task of a trial's configuration, made from its name and options."""
    return _part("task", config["task"])  # type: ignore[no-any-return]


def fidelity_of(config: Mapping[str, Any]) -> Fidelity:
    """How thoroughly the strategy wants the trial's architecture judged."""
    return Fidelity(**config["fidelity"])


def model_of(config: Mapping[str, Any], space: SearchSpace | None = None, task: Task | None = None) -> nn.Module:
    """The trial's network, freshly initialised, on the CPU.

    A space or a task of the user's own that cannot be made again from its name must be given.
    """
    architecture = architecture_of(config)
    built: Any = space or make("space", architecture.space, architecture.to_dict()["options"])
    return built.model(architecture, task or task_of(config))  # type: ignore[no-any-return]


def _part(kind: Any, choice: Any) -> Any:
    name, options = next(iter(choice.items())) if isinstance(choice, dict) else (choice, {})
    return make(kind, name, options)


def _named(part: Any) -> Any:
    """A part by name where another process can make it by that, else the object itself, as it was made."""
    if not isinstance(part, Plugin) or not importable(part):
        return part
    return choice_of(next(kind for kind, base in bases().items() if isinstance(part, base)), part)


def _objectives(metric: Any, mode: Any) -> list[Objective]:
    """Raises ConfigError where metrics and modes are not as many, or a mode is neither min nor max."""
    metrics = [metric] if isinstance(metric, str) else list(metric or [])
    modes: list[Any] = [mode] if isinstance(mode, str) else list(mode or [])
    if len(metrics) != len(modes) or type(metric) is not type(mode) or not set(modes) <= {"min", "max"}:
        raise ConfigError(f"metric is {metric!r} and mode {mode!r}; expected a name and min or max, or lists of them")
    return [Objective(name, direction) for name, direction in zip(metrics, modes, strict=True)]


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float | np.number) and math.isfinite(float(value))


def _made_again(made_with: dict[str, Any], state: dict[str, Any], beside: dict[str, Any]) -> NASearcher:
    searcher = NASearcher(**made_with)
    searcher._beside = beside
    searcher._restore(state)
    return searcher
