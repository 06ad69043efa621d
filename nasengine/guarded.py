"""A strategy as the loop meets it: what it raises ends the run in its name, and what it asks for is checked."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from .architecture import Architecture
from .errors import ArchitectureError, NasError, RunFailed, one_line
from .evaluator import Fidelity
from .inheritance import Legacies
from .plan import Plan
from .storage import Storage
from .trial import Evaluate, Learn, Request, Trial


class Guarded:
    """Raises RunFailed, naming the strategy, where that raises, exits, or asks for something that cannot be."""

    def __init__(self, plan: Plan, rng: np.random.Generator, storage: Storage) -> None:
        self._strategy, self._domain = plan.strategy, plan.domain
        self._first = deque(plan.start_from)
        self.legacies = Legacies(storage, plan.strategy.inherits)
        self._fidelity = plan.config.fidelity
        self._options = Architecture(plan.domain.space, plan.domain.options, {}).options
        epochs = plan.full_epochs
        with self._blaming("prepare"):
            self._strategy.start(plan.domain, rng, plan.objectives, self._fidelity, plan.config.trials, epochs)

    def ask(self) -> Request | None:
        """What to start from, one by one; then what the strategy asks for."""
        if self._first:
            return Evaluate(self._first.popleft(), self._fidelity)
        with self._blaming("ask"):
            request = self._strategy.ask()
        wrong = None if request is None else self._wrong(request)
        if wrong:
            raise RunFailed(f"the strategy {self._strategy.known_as!r} asked for {wrong}")
        return request

    def tell(self, trial: Trial) -> None:
        self.legacies.add(trial)
        with self._blaming("tell"):
            self._strategy.tell(trial)

    def settle(self, under_way: Iterable[Request]) -> None:
        """Removes the weights that the strategy has no more use for.

        To be called when all that it was told is durable: played back, it would say the same.
        """
        with self._blaming("parents"):
            self.legacies.settle(self._strategy.parents(), under_way)

    def _wrong(self, request: object) -> str | None:
        """What is wrong with the request."""
        if not isinstance(request, Evaluate | Learn):
            return f"{request!r:.80}; expected Evaluate, Learn or None"
        if request.purpose != "search":
            return f"the purpose {request.purpose!r:.80}; a strategy's is 'search'"
        if isinstance(request, Learn):
            return (
                None if isinstance(request.restart, int) else f"the restart {request.restart!r:.80}; expected a number"
            )
        if not isinstance(request.architecture, Architecture) or not isinstance(request.fidelity, Fidelity):
            return f"{request!r:.80}; expected an Architecture and a Fidelity"
        if any(type(number) not in (int, float, type(None)) for number in request.fidelity.to_dict().values()):
            return f"the fidelity {request.fidelity!r:.80}; expected Python's own numbers"
        if request.parent is not None and request.parent not in self.legacies:
            return (
                f"a child of trial {request.parent!r:.80}, whose weights are not kept; expected the origin of a trial "
                f"that has ended and that `parents` still names, and a strategy with inherits = True"
            )
        return self.wrong_about(request.architecture)

    def wrong_about(self, architecture: Architecture) -> str | None:
        """What is wrong with an architecture that was asked for, or derived."""
        try:
            self._domain.validate(architecture)
        except ArchitectureError as error:
            return f"an invalid architecture: {error}"
        other = architecture.options != self._options
        return "an architecture of the space with other options" if other else None

    @contextmanager
    def _blaming(self, method: str) -> Iterator[None]:
        try:
            yield
        except NasError:
            raise
        except (Exception, SystemExit) as error:
            name = self._strategy.known_as
            raise RunFailed(f"the strategy {name!r} failed in {method}: {one_line(error)}") from error
