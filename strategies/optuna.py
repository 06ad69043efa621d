"""Optuna's samplers as strategies: the tree-structured Parzen estimator, Gaussian processes, CMA-ES, NSGA-II and -III,
quasi-random sequences.

Akiba et al. 2019, "Optuna: A Next-generation Hyperparameter Optimization Framework", KDD; the samplers' own papers are
named in Optuna's documentation.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from nasengine import Architecture, ArchitectureError, ConfigError, Decision, Evaluate, Pick, Strategy, Trial

from .optuna_parameters import form_of, parameters, pick_of, suggested, values_of

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

SAMPLERS = {
    "tpe": "TPESampler",
    "gp": "GPSampler",
    "cmaes": "CmaEsSampler",
    "nsga2": "NSGAIISampler",
    "nsga3": "NSGAIIISampler",
    "qmc": "QMCSampler",
    "random": "RandomSampler",
}
PACKAGES = {"gp": "scipy", "cmaes": "cmaes", "qmc": "scipy"}
"""What a sampler needs beside Optuna itself."""
SETTINGS: dict[str, dict[str, Any]] = {
    "gp": {"warn_independent_sampling": False},
    "cmaes": {"warn_independent_sampling": False},
    "qmc": {"warn_independent_sampling": False, "scramble": True},
}
"""Where Optuna's defaults are not ours: no warnings of conditional decisions, and with another seed another search."""
REPEATS = 3
"""How often in a row the sampler may propose what is known; then something near by is tried."""
STEPS = 30
"""Of the way to that."""


class OptunaSampler(Strategy):
    """Any of Optuna's samplers, by name, on a study in memory. Several objectives in all but `cmaes`.

    A decision is one of Optuna's parameters: a category, or a whole number where its options are numbers in order.
    Conditional decisions are suggested where they are met. `tpe` models them there; the others look at those that every
    trial met, and draw the rest at random. `cmaes` knows numbers only: each option of a category has a number from 0 to
    1, the largest wins, and all decisions are suggested, met or not. Where a proposal is not allowed, one near it is
    judged, and the result counts as the proposal's.

    A network whose result is known is not asked for again: the sampler is told the result at once, and asked anew; when
    it proposes nothing new, a few mutations of what it proposed are.

    An ask takes longer with the number of trials: linearly for most (`tpe` over six decisions: 3 ms at a hundred, 34 ms
    at a thousand), cubically for `gp` (160 ms at a hundred).

    Options:
        sampler: `tpe`, `gp`, `cmaes` (needs the package cmaes), `nsga2`, `nsga3`, `qmc` or `random`.
        options: what else Optuna's sampler takes, as `{multivariate: true, n_startup_trials: 20}` for `tpe`.
    """

    several_objectives = True

    def __init__(self, *, sampler: str = "tpe", options: dict[str, Any] | None = None) -> None:
        if sampler not in SAMPLERS:
            raise ConfigError(f"Optuna's sampler is {sampler!r}; expected one of {', '.join(SAMPLERS)}")
        package = PACKAGES.get(sampler)
        if package is not None and find_spec(package) is None:
            raise ConfigError(f"Optuna's sampler {sampler!r} needs the package {package}: pip install {package}")
        self.sampler, self.options = sampler, {**SETTINGS.get(sampler, {}), **(options or {})}
        self.several_objectives = sampler != "cmaes"  # type: ignore[misc]  # known only when the sampler is
        self._made(seed=0)

    def prepare(self) -> None:
        import optuna

        numbers_only = self.sampler == "cmaes"
        self._forms = {name: form_of(decision, numbers_only) for name, decision in self.domain.decisions.items()}
        self._known: dict[str, list[float] | None] = {}
        self._open: dict[Architecture, deque[optuna.Trial]] = {}
        directions: list[Any] = [
            "maximize" if objective.direction == "max" else "minimize" for objective in self.objectives
        ]
        sampler = self._made(int(self.rng.integers(2**32)))
        with quiet():
            self._study = optuna.create_study(directions=directions, sampler=sampler)

    def ask(self) -> Evaluate:
        with quiet():
            for _ in range(REPEATS):
                trial = self._study.ask()
                architecture = self._suggested(trial)
                network = self.domain.canonical(architecture).id
                if network not in self._known:
                    self._open.setdefault(architecture, deque()).append(trial)
                    return self.evaluate(architecture)
                self._tell(trial, self._known[network])
        return self.evaluate(self._near(architecture))

    def tell(self, trial: Trial) -> None:
        if not isinstance(trial.request, Evaluate):
            return
        architecture = trial.request.architecture
        failed = any(objective.score(trial) is None for objective in self.objectives)
        values = None if failed else [trial.metrics[objective.metric] for objective in self.objectives]
        self._known[self.domain.canonical(architecture).id] = values
        waiting = self._open.get(architecture)
        with quiet():
            if waiting:
                self._tell(waiting.popleft(), values)
            elif values is not None:
                self._add(architecture, values)
        if not waiting:
            self._open.pop(architecture, None)

    def _made(self, seed: int) -> optuna.samplers.BaseSampler:
        import optuna

        try:
            with quiet():
                made: optuna.samplers.BaseSampler = getattr(optuna.samplers, SAMPLERS[self.sampler])(
                    seed=seed, **self.options
                )
        except (TypeError, ValueError) as error:
            raise ConfigError(f"Optuna's sampler {self.sampler!r} does not accept its options: {error}") from error
        return made

    def _suggested(self, trial: optuna.Trial) -> Architecture:
        def pick(decision: Decision) -> Pick:
            form = self._forms[decision.name]
            values = [suggested(trial, name, kind) for name, kind in parameters(decision, form).items()]
            return pick_of(decision, form, values)

        if self.sampler == "cmaes":
            return self.domain.complete({decision.name: pick(decision) for decision in self.domain.decisions.values()})
        architecture = self.domain.walk(pick)
        return architecture if self.domain.allows(architecture) else self.domain.complete(architecture.picks)

    def _tell(self, trial: optuna.Trial, values: list[float] | None) -> None:
        from optuna.trial import TrialState

        self._study.tell(trial, values, state=TrialState.FAIL if values is None else TrialState.COMPLETE)

    def _add(self, architecture: Architecture, values: list[float]) -> None:
        """A result that the sampler did not ask for."""
        from optuna.trial import create_trial

        kinds: dict[str, BaseDistribution] = {}
        params: dict[str, Any] = {}
        active = self.domain.active(architecture)
        for decision in self.domain.decisions.values() if self.sampler == "cmaes" else active:
            form, pick = self._forms[decision.name], architecture.picks.get(decision.name, next(decision.picks()))
            mine = parameters(decision, form)
            kinds |= mine
            params |= dict(zip(mine, values_of(decision, form, pick), strict=True))
        self._study.add_trial(create_trial(params=params, distributions=kinds, values=values))

    def _near(self, architecture: Architecture) -> Architecture:
        """Mutations away from it, what has no result yet; the architecture itself where there is no such thing near."""
        mutant = architecture
        with suppress(ArchitectureError):  # there is no other
            for _ in range(STEPS):
                mutant = self.domain.mutate(mutant, self.rng)
                if self.domain.canonical(mutant).id not in self._known:
                    return mutant
        return architecture


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps Optuna from announcing a study that nobody asked for, and from warning of what is experimental in it."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
