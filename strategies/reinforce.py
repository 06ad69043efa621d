"""REINFORCE: a policy draws architectures, and what scores better than of late becomes more likely.

Williams 1992, "Simple statistical gradient-following algorithms for connectionist reinforcement learning", Machine
Learning 8: section 4. As a table of logits: Dong and Yang 2020, "NAS-Bench-201", ICLR, section 4. As a recurrent
controller: Zoph and Le 2017, "Neural Architecture Search with Reinforcement Learning", ICLR, section 3.2.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from nasengine import Architecture, ConfigError, Request, Strategy, Trial

from .policy import ControllerPolicy, Policy, Sample, TablePolicy


class PolicySearch(Strategy):
    """What searches with a policy have in common: architectures are drawn from it, and it learns from each result.

    A draw whose score is known already need not cost a trial: the policy learns from what is known, and draws again, at
    most `redraws` times in a row; the same, with nothing to learn, where the result is on its way or did not come.
    """

    policy: Policy
    redraws: int

    def prepare(self) -> None:
        self.generator = torch.Generator().manual_seed(int(self.rng.integers(2**63 - 1)))
        self.scores: dict[str, float | None] = {}
        self.under_way: dict[str, Sample] = {}

    @abstractmethod
    def learn(self, sample: Sample, score: float) -> None:
        """What the policy drew, and what it was worth: higher is better."""

    def ask(self) -> Request:
        for redraws in range(self.redraws + 1):
            sample = self.policy.sample(self.generator)
            network = self.domain.canonical(sample.architecture).id
            if network not in self.scores or redraws == self.redraws:
                break
            score = self.scores[network]
            if score is not None:
                self.learn(sample, score)
        self.scores.setdefault(network, None)
        self.under_way[sample.architecture.id] = sample
        return self.evaluate(sample.architecture)

    def tell(self, trial: Trial) -> None:
        architecture, score = trial.architecture, self.score(trial)
        if architecture is None:
            return
        sample = self.under_way.pop(architecture.id, None)
        if score is not None:
            self.scores[self.domain.canonical(architecture).id] = score
            self.learn(sample or self._as_if_drawn(architecture), score)

    @torch.no_grad()
    def _as_if_drawn(self, architecture: Architecture) -> Sample:
        return Sample(architecture, architecture, float(self.policy.log_probability(architecture)[0]))


class REINFORCE(PolicySearch):
    """Policy gradient over architectures, one step a result (Williams 1992; Zoph and Le 2017; Dong and Yang 2020).

    The reward is the first objective's score as it is. A step follows (reward − baseline) · ∇ log p, where the baseline
    is the moving average of the rewards so far, this one included: that scales the gradient and does not bias it.
    Results that come while others are under way are learnt from at the policy as it is then, without importance
    weights; architectures that were not asked for, as if they had been drawn.

    Options:
        policy: `table`, independent logits for each decision, as NAS-Bench-201's, or `controller`, an LSTM.
        learning_rate: Adam's; 0.01 for the table and 3.5e-4 for the controller, unless you say.
        decay: of the baseline's moving average, corrected for its start; 0.9 for the table and 0.95 for the controller,
            unless you say. 0 leaves nothing to learn: each reward is its own baseline.
        entropy_weight: what a nat of the policy's entropy is worth, in units of the reward; 0 for the table and 1e-4
            for the controller, unless you say. Rewards are not normalised: weigh by how much they differ.
        temperature, tanh_constant: logits l become tanh_constant · tanh(l / temperature), or without a tanh_constant
            l / temperature. Often 5, with a constant between 1.1 and 2.5: the policy then never stops exploring.
        hidden: the controller's width.
        redraws: how often in a row a network whose score is known is learnt from at once, for no trial. 0 is the plain
            algorithm: every draw is a trial, repeated or not.
    """

    def __init__(
        self,
        *,
        policy: str = "table",
        learning_rate: float | None = None,
        decay: float | None = None,
        entropy_weight: float | None = None,
        temperature: float = 1.0,
        tanh_constant: float | None = None,
        hidden: int = 100,
        redraws: int = 20,
    ) -> None:
        if policy not in ("table", "controller"):
            raise ConfigError(f"the strategy 'reinforce' has policy = {policy!r}; expected 'table' or 'controller'")
        table = policy == "table"
        self.kind, self.hidden, self.redraws = policy, hidden, redraws
        self.learning_rate = (0.01 if table else 3.5e-4) if learning_rate is None else learning_rate
        self.decay = (0.9 if table else 0.95) if decay is None else decay
        self.entropy_weight = (0.0 if table else 1e-4) if entropy_weight is None else entropy_weight
        self.temperature, self.tanh_constant = temperature, tanh_constant
        refuse_odd("reinforce", self.learning_rate, self.decay, temperature, tanh_constant, hidden, redraws)

    def prepare(self) -> None:
        super().prepare()
        if self.kind == "table":
            self.policy = TablePolicy(
                self.domain, self.generator, temperature=self.temperature, tanh_constant=self.tanh_constant
            )
        else:
            self.policy = ControllerPolicy(
                self.domain,
                self.generator,
                hidden=self.hidden,
                temperature=self.temperature,
                tanh_constant=self.tanh_constant,
            )
        self.optimizer = torch.optim.Adam(self.policy.parameters(), self.learning_rate)
        self.baseline = MovingAverage(self.decay)

    def learn(self, sample: Sample, score: float) -> None:
        self.baseline.add(score)
        log_p, entropy = self.policy.log_probability(sample.drawn)
        step(self.optimizer, -(score - self.baseline.value) * log_p - self.entropy_weight * entropy)


class MovingAverage:
    """Exponential, corrected for its start: Σ decay^age · x / Σ decay^age."""

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self._sum = self._weight = 0.0

    def add(self, x: float) -> None:
        self._sum = self.decay * self._sum + (1 - self.decay) * x
        self._weight = self.decay * self._weight + (1 - self.decay)

    @property
    def value(self) -> float:
        return self._sum / self._weight


def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step down the loss."""
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def refuse_odd(
    strategy: str,
    learning_rate: float,
    decay: float,
    temperature: float,
    tanh_constant: float | None,
    hidden: int,
    redraws: int,
) -> None:
    """Raises ConfigError where an option is out of its range."""
    for name, value, fine, expected in (
        ("learning_rate", learning_rate, learning_rate > 0, "more than 0"),
        ("decay", decay, 0 <= decay < 1, "at least 0 and less than 1"),
        ("temperature", temperature, temperature > 0, "more than 0"),
        ("tanh_constant", tanh_constant, tanh_constant is None or tanh_constant > 0, "more than 0"),
        ("hidden", hidden, hidden >= 1, "at least 1"),
        ("redraws", redraws, redraws >= 0, "at least 0"),
    ):
        if not fine:
            raise ConfigError(f"the strategy {strategy!r} has {name} = {value}; expected {expected}")
