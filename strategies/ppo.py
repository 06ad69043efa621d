"""PPO: a recurrent controller learns from batches of results, several times from each, and never far from one batch.

Schulman, Wolski, Dhariwal, Radford, Klimov 2017, "Proximal Policy Optimization Algorithms": equation 7. The controller
and its constants: Zoph, Vasudevan, Shlens, Le 2018, "Learning Transferable Architectures for Scalable Image
Recognition", CVPR: appendix on the controller's training.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nasengine import ConfigError

from .policy import ControllerPolicy, Sample
from .reinforce import MovingAverage, PolicySearch, refuse_odd, step


class PPO(PolicySearch):
    """Proximal policy optimisation of an LSTM controller (Schulman et al. 2017; Zoph et al. 2018).

    The reward is the first objective's score as it is. Results make a batch as they come; of each, the probability that
    it was drawn with is kept, so that results of an older policy count as what they are. Architectures that were not
    asked for count as drawn when they are told. A last, incomplete batch teaches nothing.

    Options:
        batch_size: how many results are learnt from together; 20 in the paper, and here where the run has 200 trials or
            more, else a tenth of them.
        epochs: steps of Adam on each batch.
        clip: ε, how far the ratio of probabilities is rewarded to move.
        learning_rate: Adam's.
        decay: of the baseline, a moving average of the rewards, corrected for its start.
        entropy_weight: what a nat of the controller's entropy is worth, in units of the reward.
        hidden: the LSTM's width.
        temperature, tanh_constant: logits l become tanh_constant · tanh(l / temperature), or without a tanh_constant
            l / temperature.
        redraws: how often in a row a network whose score is known joins the batch at once, for no trial. 0 is the plain
            algorithm: every draw is a trial, repeated or not.
    """

    def __init__(
        self,
        *,
        batch_size: int | None = None,
        epochs: int = 10,
        clip: float = 0.2,
        learning_rate: float = 3.5e-4,
        decay: float = 0.95,
        entropy_weight: float = 1e-5,
        hidden: int = 100,
        temperature: float = 1.0,
        tanh_constant: float | None = None,
        redraws: int = 20,
    ) -> None:
        for name, count in (("batch_size", batch_size), ("epochs", epochs)):
            if count is not None and count < 1:
                raise ConfigError(f"the strategy 'ppo' has {name} = {count}; expected at least 1")
        if clip <= 0:
            raise ConfigError(f"the strategy 'ppo' has clip = {clip}; expected more than 0")
        refuse_odd("ppo", learning_rate, decay, temperature, tanh_constant, hidden, redraws)
        self.batch_size, self.epochs, self.clip = batch_size, epochs, clip
        self.learning_rate, self.decay, self.entropy_weight = learning_rate, decay, entropy_weight
        self.hidden, self.temperature, self.tanh_constant, self.redraws = hidden, temperature, tanh_constant, redraws

    def prepare(self) -> None:
        super().prepare()
        self.size = self.batch_size or max(2, min(20, self.trials // 10))
        self.policy = ControllerPolicy(
            self.domain,
            self.generator,
            hidden=self.hidden,
            temperature=self.temperature,
            tanh_constant=self.tanh_constant,
        )
        self.optimizer = torch.optim.Adam(self.policy.parameters(), self.learning_rate)
        self.baseline = MovingAverage(self.decay)
        self.batch: list[tuple[Sample, float]] = []

    def learn(self, sample: Sample, score: float) -> None:
        self.batch.append((sample, score))
        if len(self.batch) < self.size:
            return
        for _, reward in self.batch:
            self.baseline.add(reward)
        advantages = torch.tensor([reward - self.baseline.value for _, reward in self.batch], dtype=torch.float64)
        before = torch.tensor([drawn.log_probability for drawn, _ in self.batch], dtype=torch.float64)
        for _ in range(self.epochs):
            log_p, entropy = self.policy.log_probabilities([drawn.drawn for drawn, _ in self.batch])
            gain = clipped(torch.exp(log_p - before), advantages, self.clip) + self.entropy_weight * entropy
            step(self.optimizer, -gain.mean())
        self.batch = []


def clipped(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Equation 7, before the mean: min(ratio · advantage, ratio within 1 ± clip · advantage). Shape as theirs."""
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
