"""Successive halving: many candidates are judged by few epochs, the best 1/η of them by η times as many, and so on.

Jamieson and Talwalkar 2016, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", AISTATS: figure 3
(with η = 2); with η as in Li et al. 2017, "Hyperband", algorithm 1, lines 4 to 9.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

from nasengine import Architecture, ConfigError, Evaluate, Fidelity, Trial

from .fidelities import MultiFidelity


class SuccessiveHalving(MultiFidelity):
    """Brackets of successive halving, one after another while the budget of trials lasts (Jamieson and Talwalkar 2016).

    Synchronous: a rung begins when the one below is complete, so at its end workers wait for the slowest; see `asha`.
    A promoted candidate is trained anew, from scratch, for the higher rung's epochs. Trials that failed are never
    promoted. A bracket is made small enough for the trials that are left.

    Options:
        eta: η, of how many candidates one goes up; each rung has as many times the epochs of the one below.
        min_epochs: r, the fewest that a candidate is judged by.
        max_epochs: R, the most; by default those of a full evaluation.
        candidates: n, how many a bracket begins with; by default η to the power of its promotions, so that one is
            judged in full.
        sampler: the strategy that proposes candidates, as `--strategy` names it: `random`, `evolution:population=20`,
            or `{evolution: {population: 20, sample: 5}}`.
    """

    def __init__(
        self,
        *,
        eta: int = 3,
        min_epochs: int = 1,
        max_epochs: int | None = None,
        candidates: int | None = None,
        sampler: str | dict[str, Any] = "random",
    ) -> None:
        super().__init__(eta=eta, min_epochs=min_epochs, max_epochs=max_epochs, sampler=sampler)
        if candidates is not None and candidates < 1:
            raise ConfigError(f"candidates is {candidates}; expected at least 1")
        self.candidates = candidates

    def prepare(self) -> None:
        super().prepare()
        self._spent = 0
        self._rest: deque[tuple[int, Fidelity]] = deque()  # the bracket's rungs above the present one
        self._fidelity = self.rungs[0]
        self._to_draw = 0
        self._promoted: deque[Architecture] = deque()
        self._under_way: Counter[Evaluate] = Counter()
        self._results: dict[str, tuple[float, Architecture]] = {}  # of the present rung, in the order of arrival

    def bracket(self) -> list[tuple[int, Fidelity]]:
        """The next bracket's rungs: how many candidates each has, and its fidelity."""
        most = self.candidates or self.eta ** (len(self.rungs) - 1)
        fitting = (n for n in range(most, 0, -1) if sum(self.sizes(n, len(self.rungs))) <= self.left)
        return list(zip(self.sizes(next(fitting, 1), len(self.rungs)), self.rungs, strict=True))

    def sizes(self, n: int, rungs: int) -> list[int]:
        """n, ⌊n/η⌋, ⌊n/η²⌋, …; at least one each."""
        return [max(n // self.eta**step, 1) for step in range(rungs)]

    @property
    def left(self) -> float:
        """How many trials of the budget are left; where there are more than were said, nobody knows."""
        return self.trials - self._spent if self._spent < self.trials else float("inf")

    def ask(self) -> Evaluate | None:
        while True:
            if self._promoted:
                return self._judge(self._promoted.popleft())
            if self._to_draw:
                new = self.candidate()
                if new is not None:
                    self._to_draw -= 1
                    return self._judge(new)
                if not self._under_way and self._results:
                    self._to_draw = 0  # the sampler has nothing more: the bracket goes on with what there is
            if self._under_way or self._to_draw:
                return None
            self._rise()

    def tell(self, trial: Trial) -> None:
        request, score = trial.request, self.score(trial)
        if isinstance(request, Evaluate) and request in self._under_way:
            self._under_way -= Counter([request])
            if score is not None:
                self._results.setdefault(self.network(request.architecture), (score, request.architecture))
        else:
            self._spent += 1
        self.inform(trial)

    def _judge(self, architecture: Architecture) -> Evaluate:
        request = Evaluate(architecture, self._fidelity)
        self._under_way[request] += 1
        self._spent += 1
        return request

    def _rise(self) -> None:
        """The next rung, with the best of this one; or the first rung of the next bracket."""
        best = sorted(self._results.values(), key=lambda result: -result[0])
        self._results = {}
        if best and self._rest:
            places, self._fidelity = self._rest.popleft()
            self._promoted.extend(architecture for _, architecture in best[:places])
        else:
            self._rest = deque(self.bracket())
            self._to_draw, self._fidelity = self._rest.popleft()
