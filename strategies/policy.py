"""Policies: distributions over the architectures of any domain, with exact log-probabilities that torch differentiates.

A policy goes through the decisions that the picks so far leave open, and has a logit for each option. One of n options
is picked with the probability of their softmax. A set S of k of n options is picked with a probability proportional to
Π exp(logit), i ∈ S: the softmax over all sets (the conditional Bernoulli distribution; Chen and Liu 1997, "Statistical
applications of the Poisson-binomial and conditional Bernoulli distributions"). It is the one that a softmax becomes for
k > 1 whose log-probability, entropy and gradients are exact at every size: drawing without replacement needs a sum over
all k! orders. As for k = 1, equal logits give equal chances.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nasengine import Architecture, Decision, Domain, Pick

NEVER = -1e9
"""A logit that is never drawn. Finite, so that its gradients are zeros and not NaN."""
DRAWS = 30
"""How often a draw may turn out not to be allowed until one near it is taken."""


def bounded(logits: Tensor, temperature: float, constant: Tensor | float | None) -> Tensor:
    """logits / temperature, and where there is a constant, constant · tanh of that: within ±constant."""
    scaled = logits / temperature
    return scaled if constant is None else constant * torch.tanh(scaled)


def sets(logits: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Of the sets of k options: the log of the sum of their weights Π exp(logit), and the entropy of their softmax.

    logits: shape (rows, n). k: of each row, (rows,). Returns two tensors of shape (rows,).
    """
    if bool((k == 1).all()):
        normaliser = logits.logsumexp(1)
        return normaliser, normaliser - (logits.softmax(1) * logits).sum(1)
    # column j: of the sets of j of the options so far, the log of the sum of their weights, their mean sum of logits
    log_sums = torch.cat([logits.new_zeros(len(logits), 1), logits.new_full((len(logits), int(k.max())), NEVER)], 1)
    means = torch.zeros_like(log_sums)
    for option in logits.unbind(1):
        with_it = log_sums[:, :-1] + option[:, None]
        larger = torch.logaddexp(log_sums[:, 1:], with_it)
        share = torch.exp(with_it - larger)
        mean = (1 - share) * means[:, 1:] + share * (means[:, :-1] + option[:, None])
        log_sums, means = torch.cat([log_sums[:, :1], larger], 1), torch.cat([means[:, :1], mean], 1)
    normaliser = log_sums.gather(1, k[:, None])[:, 0]
    return normaliser, normaliser - means.gather(1, k[:, None])[:, 0]


def draw_set(logits: Sequence[float], k: int, generator: torch.Generator) -> tuple[list[int], float]:
    """The indices of k of the options, drawn with the probability of their set, and the log of that."""
    tables = [[0.0] + [-math.inf] * k]  # of the first i options, by j: the log of the sum of all sets' weights
    for logit in logits:
        last = tables[-1]
        tables.append([0.0] + [log_add(without, less + logit) for without, less in zip(last[1:], last, strict=False)])
    uniform = torch.rand(len(logits), generator=generator, dtype=torch.float64).tolist()
    kept: list[int] = []
    for i in reversed(range(len(logits))):  # kept with the share of the sets that have it, of those still possible
        left = k - len(kept)
        if left and uniform[i] < math.exp(logits[i] + tables[i][left - 1] - tables[i + 1][left]):
            kept.append(i)
    return kept, sum(logits[i] for i in kept) - tables[-1][k]


def log_add(a: float, b: float) -> float:
    """log(exp(a) + exp(b)); both may be −∞."""
    low, high = sorted((a, b))
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


@dataclass(frozen=True, slots=True)
class Sample:
    """architecture: one that is allowed. drawn: what the policy drew, and what its probabilities are of; the same one,
    unless no draw was allowed and `architecture` is what the domain completed the last one to. log_probability: of
    `drawn`, at the policy as it was."""

    architecture: Architecture
    drawn: Architecture
    log_probability: float


class Policy(nn.Module):
    """A distribution over a domain's architectures. Parameters and results are float64, on the CPU: a search that is
    played back draws the same although sums may be rounded otherwise on another machine."""

    def __init__(self, domain: Domain) -> None:
        super().__init__()
        self.domain = domain
        self.decisions = [decision for decision in domain.decisions.values() if decision.count > 1]
        self.rows = {decision.name: row for row, decision in enumerate(self.decisions)}
        widest = max((len(decision.options) for decision in self.decisions), default=1)
        self.k = torch.tensor([decision.k for decision in self.decisions], dtype=torch.long)
        lengths = torch.tensor([len(decision.options) for decision in self.decisions], dtype=torch.long)
        self.missing = torch.arange(widest) >= lengths[:, None]
        """Where a row of logits has no option. Shape (decisions, most options)."""

    def sample(self, generator: torch.Generator) -> Sample:
        """An allowed architecture. Draws that are not allowed are drawn again, some times; then the domain completes
        one. The distribution is then the policy's on the allowed ones, all but for what was completed."""
        for _ in range(DRAWS):
            drawn, log_p = self.draw(generator)
            if self.domain.allows(drawn):
                return Sample(drawn, drawn, log_p)
        return Sample(self.domain.complete(drawn.picks), drawn, log_p)

    def log_probability(self, architecture: Architecture) -> tuple[Tensor, Tensor]:
        """As `log_probabilities`, of one architecture: two scalars."""
        log_p, entropy = self.log_probabilities([architecture])
        return log_p[0], entropy[0]

    @abstractmethod
    def draw(self, generator: torch.Generator) -> tuple[Architecture, float]:
        """An architecture, allowed or not, drawn with the probability that the policy gives it; and the log of that."""

    @abstractmethod
    def logits(self, architectures: Sequence[Architecture], chosen: Tensor) -> Tensor:
        """Of every decision's options, given the picks before: shape (architectures or 1, decisions, most options).

        chosen: what each picked, as zeros and ones, of that shape.
        """

    def log_probabilities(self, architectures: Sequence[Architecture]) -> tuple[Tensor, Tensor]:
        """Of each its log-probability, and the entropies, given the picks before, of the decisions on its way, added
        up: their mean over draws is the policy's entropy (the chain rule). Two tensors of shape (architectures,)."""
        chosen = torch.stack([self._chosen(architecture) for architecture in architectures])
        active = (chosen > 0).any(2).double()
        logits = self.logits(architectures, chosen)
        normaliser, entropy = sets(logits.flatten(0, 1), self.k.repeat(len(logits)))
        shape = logits.shape[:2]
        log_p = (chosen * logits).sum((1, 2)) - (active * normaliser.view(shape)).sum(1)
        return log_p, (active * entropy.view(shape)).sum(1)

    def _chosen(self, architecture: Architecture) -> Tensor:
        """Zeros and ones, shape (decisions, most options); of decisions that are not active, zeros."""
        found = torch.zeros(self.missing.shape, dtype=torch.float64)
        for row, decision in enumerate(self.decisions):
            if decision.name in architecture.picks:
                found[row, decision.indices(architecture.picks[decision.name])] = 1.0
        return found

    def _drawn(
        self,
        logits_of: Callable[[int], Sequence[float]],
        generator: torch.Generator,
        note: Callable[[int, list[int]], None] = lambda *_: None,
    ) -> tuple[Architecture, float]:
        """A walk through the domain: `logits_of` a decision's row are asked for when it is met, and `note` is told the
        row and the indices of what was drawn."""
        log_p = 0.0

        def choose(decision: Decision) -> Pick:
            nonlocal log_p
            row = self.rows.get(decision.name)
            if row is None:
                return next(decision.picks())
            kept, log_share = draw_set(logits_of(row)[: len(decision.options)], decision.k, generator)
            log_p += log_share
            note(row, kept)
            return decision.ordered(kept) if decision.kind == "some" else decision.options[kept[0]]

        return self.domain.walk(choose), log_p


class TablePolicy(Policy):
    """A table of logits, a row for each decision, whatever was picked before (Dong and Yang 2020, "NAS-Bench-201",
    ICLR: their REINFORCE). Initialised with 1e-3 · N(0, 1)."""

    def __init__(
        self,
        domain: Domain,
        generator: torch.Generator,
        *,
        temperature: float = 1.0,
        tanh_constant: float | None = None,
    ) -> None:
        super().__init__(domain)
        self.temperature, self.tanh_constant = temperature, tanh_constant
        self.table = nn.Parameter(1e-3 * torch.randn(self.missing.shape, generator=generator, dtype=torch.float64))

    def logits(self, architectures: Sequence[Architecture], chosen: Tensor) -> Tensor:
        return self._table()[None]

    def _table(self) -> Tensor:
        return bounded(self.table, self.temperature, self.tanh_constant).masked_fill(self.missing, NEVER)

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> tuple[Architecture, float]:
        logits: list[list[float]] = self._table().tolist()
        return self._drawn(logits.__getitem__, generator)


class ControllerPolicy(Policy):
    """A recurrent network that makes one decision a step, fed with its last pick (Zoph and Le 2017, "Neural
    Architecture Search with Reinforcement Learning", ICLR: section 3.1; Pham et al. 2018, "ENAS", section 2.1).

    Each option has an embedding (of k picks, the mean is fed) and a row of the output layer of its decision. Logits l
    become tanh_constant · tanh(l / temperature); for `one` of n, the constant is divided by `operation_tanh_reduction`
    (ENAS's). Parameters are initialised uniformly in ±0.1.
    """

    def __init__(
        self,
        domain: Domain,
        generator: torch.Generator,
        *,
        hidden: int = 100,
        temperature: float = 1.0,
        tanh_constant: float | None = None,
        operation_tanh_reduction: float = 1.0,
    ) -> None:
        super().__init__(domain)
        self.temperature, self.constant = temperature, None
        if tanh_constant is not None:
            operation = torch.tensor([decision.kind == "one" for decision in self.decisions], dtype=torch.float64)
            self.constant = tanh_constant / operation_tanh_reduction ** operation.view(-1, 1)
        shape = (*self.missing.shape, hidden)
        self.start = nn.Parameter(torch.empty(hidden, dtype=torch.float64))
        self.embedding = nn.Parameter(torch.empty(shape, dtype=torch.float64))
        self.output = nn.Parameter(torch.empty(shape, dtype=torch.float64))
        # made without values: torch would draw them from its global generator
        lstm = nn.LSTM(hidden, hidden, batch_first=True, dtype=torch.float64, device="meta")
        self.lstm = lstm.to_empty(device="cpu")
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1, generator=generator)

    def logits(self, architectures: Sequence[Architecture], chosen: Tensor) -> Tensor:
        ways = [self._way(architecture) for architecture in architectures]
        order = torch.zeros(len(ways), max(1, *map(len, ways)), dtype=torch.long)  # of each step its decision,
        steps = torch.zeros(chosen.shape[:2], dtype=torch.long)  # and of each decision its step
        for index, way in enumerate(ways):
            order[index, : len(way)] = torch.tensor(way, dtype=torch.long)
            steps[index, way] = torch.arange(len(way))
        one = torch.arange(len(ways))[:, None]
        embedded = torch.einsum("adn,dnh->adh", chosen, self.embedding) / self.k[:, None]
        start = self.start.expand(len(ways), 1, -1)
        states, _ = self.lstm(torch.cat([start, embedded[one, order[:, :-1]]], 1))
        raw = torch.einsum("adh,dnh->adn", states[one, steps], self.output)
        return bounded(raw, self.temperature, self.constant).masked_fill(self.missing, NEVER)

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> tuple[Architecture, float]:
        weights = list(self.lstm.parameters())
        constant = [None] * len(self.rows) if self.constant is None else self.constant[:, 0].tolist()
        fed, state = self.start[None], [self.start.new_zeros(1, len(self.start)) for _ in range(2)]

        def logits_of(row: int) -> list[float]:
            nonlocal state
            state = list(torch.lstm_cell(fed, state, *weights))
            logits: list[float] = bounded(self.output[row] @ state[0][0], self.temperature, constant[row]).tolist()
            return logits

        def feed(row: int, kept: list[int]) -> None:
            nonlocal fed
            fed = self.embedding[row, kept].mean(0, keepdim=True)

        return self._drawn(logits_of, generator, feed)

    def _way(self, architecture: Architecture) -> list[int]:
        """The rows of the decisions that the controller makes for this architecture, in its order."""
        way: list[int] = []

        def choose(decision: Decision) -> Pick:
            if decision.name in self.rows:
                way.append(self.rows[decision.name])
            return architecture.picks[decision.name]

        self.domain.walk(choose)
        return way
