"""What strategies with several fidelities share: the rungs, and another strategy that proposes the candidates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nasengine import Architecture, ConfigError, Evaluate, Fidelity, OneShotStrategy, Strategy, Trial, strategy_named


class MultiFidelity(Strategy):
    """Judges candidates by few epochs first, and the good ones among them anew by more.

    The rungs are counted down from a full evaluation's epochs R: R, R/η, R/η², …, rounded, as long as they are at
    least `min_epochs`; so the highest rung is a full evaluation (ASHA's paper counts up from the lowest).

    The sampler is any other strategy. It is asked for candidates, and told each result as it comes: of a candidate that
    went up, again, with the higher rung's result. A network that comes back from a lower rung than the highest it is
    known at is told with the result of that one. What the sampler wants with fidelities and parents of its own is left
    aside: every candidate begins anew.
    """

    def __init__(self, *, eta: int, min_epochs: int, max_epochs: int | None, sampler: str | dict[str, Any]) -> None:
        if eta < 2:
            raise ConfigError(f"eta is {eta}; expected at least 2: of eta candidates one goes up")
        if min_epochs < 1:
            raise ConfigError(f"min_epochs is {min_epochs}; expected at least 1")
        if max_epochs is not None and max_epochs < min_epochs:
            raise ConfigError(f"max_epochs is {max_epochs}; expected at least min_epochs, {min_epochs}")
        self.eta, self.min_epochs, self.max_epochs = eta, min_epochs, max_epochs
        self.sampler = strategy_named(sampler)
        if isinstance(self.sampler, OneShotStrategy | MultiFidelity):
            why = "learns inside a supernet" if isinstance(self.sampler, OneShotStrategy) else "has rungs of its own"
            raise ConfigError(
                f"the sampler {self.sampler.known_as!r} {why} and cannot propose candidates to another strategy; "
                f"choose one that judges candidates one by one, such as random or evolution"
            )

    def prepare(self) -> None:
        most = self.full_epochs if self.max_epochs is None else self.max_epochs
        if most > self.full_epochs:
            raise ConfigError(
                f"max_epochs is {most}, and a full evaluation has {self.full_epochs}; to train for more, set the "
                f"run's fidelity: --fidelity epochs={most}"
            )
        self.rungs: list[Fidelity] = []
        """The fidelities, lowest first."""
        self.epochs: list[int] = []
        """Their epochs."""
        for step in range(most):
            epochs = most / self.eta**step
            if step and epochs < self.min_epochs:
                break
            self.epochs.insert(0, round(epochs))
            whole = round(epochs) == self.full_epochs
            self.rungs.insert(0, self.fidelity if whole else replace(self.fidelity, epochs=round(epochs)))
        self._best_known: dict[str, tuple[Fidelity, Trial]] = {}
        self.sampler.start(self.domain, self.rng, self.objectives, self.fidelity, self.trials, self.full_epochs)

    def candidate(self) -> Architecture | None:
        """What the sampler proposes; None where it waits for results, or has nothing more."""
        request = self.sampler.ask()
        if request is None:
            return None
        if not isinstance(request, Evaluate):
            raise ConfigError(f"the sampler {self.sampler.known_as!r} learns inside a supernet; choose another")
        return request.architecture

    def inform(self, trial: Trial) -> None:
        """Tells the sampler what is known best of the trial's network."""
        request = trial.request
        if isinstance(request, Evaluate):
            network = self.network(request.architecture)
            fidelity, known = self._best_known.get(network, (request.fidelity, trial))
            if fidelity.thoroughness > request.fidelity.thoroughness:
                trial = replace(known, number=trial.number, request=replace(request, fidelity=fidelity))
            elif self.score(trial) is not None:
                self._best_known[network] = request.fidelity, trial
        self.sampler.tell(trial)

    def network(self, architecture: Architecture) -> str:
        """What isomorphic architectures have in common."""
        return self.domain.canonical(architecture).id
