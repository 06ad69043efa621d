"""Policies: distributions over the architectures of any domain, with exact log-probabilities that torch differentiates.

A policy goes through the decisions that the picks so far leave open, and has a logit for each option. One of n options
is picked with the probability of their softmax. A set S of k of n options is picked with a probability proportional to
Π exp(logit), i ∈ S: the softmax over all sets (the conditional Bernoulli distribution; Chen and Liu 1997, "Statistical
applications of the Poisson-binomial and conditional Bernoulli distributions"). It is the one that a softmax becomes for
k > 1 whose log-probability, entropy and gradients are exact at every size: drawing without replacement needs a sum over
all k! orders. As for k = 1, equal logits give equal chances.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
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


def partitions(logits: Tensor, most: int) -> list[tuple[Tensor, Tensor]]:
    """Of sets of j of the first i options: the log of the sum of their weights, and the mean of their logits' sums.

    logits: shape (rows, n). Returns for i = 0 … n the two, each of shape (rows, most + 1), j along its columns.
    """
    log_sums = logits.new_full((len(logits), most + 1), NEVER)
    log_sums[:, 0] = 0.0
    means = torch.zeros_like(log_sums)
    found = [(log_sums, means)]
    for option in logits.unbind(1):
        with_it = log_sums[:, :-1] + option[:, None]
        larger = torch.logaddexp(log_sums[:, 1:], with_it)
        share = torch.exp(with_it - larger)  # of the sets that have the option among those of their size
        mean = (1 - share) * means[:, 1:] + share * (means[:, :-1] + option[:, None])
        log_sums, means = torch.cat([log_sums[:, :1], larger], 1), torch.cat([means[:, :1], mean], 1)
        found.append((log_sums, means))
    return found


def sets(logits: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Of the sets of k options: the log of the sum of their weights Π exp(logit), and the entropy of their softmax.

    logits: shape (rows, n). k: of each row, (rows,). Returns two tensors of shape (rows,).
    """
    if bool((k == 1).all()):
        normaliser = logits.logsumexp(1)
        return normaliser, normaliser - (logits.softmax(1) * logits).sum(1)
    log_sums, means = partitions(logits, int(k.max()))[-1]
    normaliser = log_sums.gather(1, k[:, None])[:, 0]
    return normaliser, normaliser - means.gather(1, k[:, None])[:, 0]


def draw_sets(logits: Tensor, k: Tensor, generator: torch.Generator) -> Tensor:
    """A set of k options a row, as zeros and ones. logits: shape (rows, n); k: (rows,). Returns shape (rows, n)."""
    drawn = torch.zeros_like(logits)
    if bool((k == 1).all()):
        return drawn.scatter_(1, torch.multinomial(logits.softmax(1), 1, generator=generator), 1.0)
    uniform = torch.rand(logits.shape, generator=generator, dtype=logits.dtype)
    # from the last option to the first: kept with the share of the sets that have it, of those still possible
    tables, left = [log_sums for log_sums, _ in partitions(logits, int(k.max()))], k[:, None]
    for i in reversed(range(logits.shape[1])):
        without = (left - 1).clamp_min(0)
        log_share = logits[:, i : i + 1] + tables[i].gather(1, without) - tables[i + 1].gather(1, left)
        keep = (left > 0) & (uniform[:, i : i + 1] < torch.exp(log_share))
        drawn[:, i : i + 1] = keep
        left = left - keep.long()
    return drawn


@dataclass(frozen=True, slots=True)
class Sample:
    """architecture: one that is allowed. drawn: what the policy drew, and what its probabilities are of; the same one,
    unless no draw was allowed and `architecture` is what the domain completed the last one to."""

    architecture: Architecture
    drawn: Architecture


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
            drawn = self.draw(generator)
            if self.domain.allows(drawn):
                return Sample(drawn, drawn)
        return Sample(self.domain.complete(drawn.picks), drawn)

    def log_probability(self, architecture: Architecture) -> tuple[Tensor, Tensor]:
        """As `log_probabilities`, of one architecture: two scalars."""
        log_p, entropy = self.log_probabilities([architecture])
        return log_p[0], entropy[0]

    @abstractmethod
    def draw(self, generator: torch.Generator) -> Architecture:
        """An architecture, allowed or not, with the probability that the policy gives it."""

    @abstractmethod
    def log_probabilities(self, architectures: Sequence[Architecture]) -> tuple[Tensor, Tensor]:
        """Of each its log-probability, and the entropies, given the picks before, of the decisions on its way, added
        up: their mean over draws is the policy's entropy (the chain rule). Two tensors of shape (architectures,)."""

    def chosen(self, architecture: Architecture, decisions: Sequence[Decision]) -> Tensor:
        """A row of zeros and ones for each decision: the options that the architecture picked; all zeros where the
        decision is not active. Shape (decisions, most options)."""
        found = torch.zeros(len(decisions), self.missing.shape[1], dtype=torch.float64)
        picked = (
            (row, d.indices(architecture.picks[d.name]))
            for row, d in enumerate(decisions)
            if d.name in architecture.picks
        )
        places = [(row, index) for row, indices in picked for index in indices]
        if places:
            found[tuple(zip(*places, strict=True))] = 1.0
        return found

    @staticmethod
    def pick(decision: Decision, row: Sequence[float]) -> Pick:
        """The pick that a row of zeros and ones stands for."""
        indices = [index for index, kept in enumerate(row) if kept]
        return decision.ordered(indices) if decision.kind == "some" else decision.options[indices[0]]


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

    def logits(self) -> Tensor:
        """Shape (decisions, most options)."""
        return bounded(self.table, self.temperature, self.tanh_constant).masked_fill(self.missing, NEVER)

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> Architecture:
        drawn = draw_sets(self.logits(), self.k, generator).tolist()

        def choose(decision: Decision) -> Pick:
            row = self.rows.get(decision.name)
            return next(decision.picks()) if row is None else self.pick(decision, drawn[row])

        return self.domain.walk(choose)

    def log_probabilities(self, architectures: Sequence[Architecture]) -> tuple[Tensor, Tensor]:
        logits = self.logits()
        normaliser, entropy = sets(logits, self.k)
        chosen = torch.stack([self.chosen(architecture, self.decisions) for architecture in architectures])
        active = chosen.amax(2)
        return (chosen * logits).sum((1, 2)) - active @ normaliser, active @ entropy


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
        self.temperature, self.tanh_constant = temperature, tanh_constant
        reductions = [operation_tanh_reduction if decision.kind == "one" else 1.0 for decision in self.decisions]
        self.reduction = torch.tensor(reductions, dtype=torch.float64)[:, None]
        shape = (*self.missing.shape, hidden)
        self.start = nn.Parameter(torch.empty(hidden, dtype=torch.float64))
        self.embedding = nn.Parameter(torch.empty(shape, dtype=torch.float64))
        self.output = nn.Parameter(torch.empty(shape, dtype=torch.float64))
        self.lstm = nn.LSTM(hidden, hidden, batch_first=True, dtype=torch.float64)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1, generator=generator)

    def logits(self, states: Tensor, rows: Tensor) -> Tensor:
        """Of decisions `rows`, shape (…,), at the states (…, hidden): shape (…, most options)."""
        constant = self.tanh_constant and self.tanh_constant / self.reduction[rows]
        raw = (self.output[rows] @ states.unsqueeze(-1)).squeeze(-1)
        return bounded(raw, self.temperature, constant).masked_fill(self.missing[rows], NEVER)

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> Architecture:
        weights = list(self.lstm.parameters())
        fed, state = self.start[None], [self.start.new_zeros(1, len(self.start)) for _ in range(2)]

        def choose(decision: Decision) -> Pick:
            nonlocal fed, state
            if decision.count == 1:
                return next(decision.picks())
            rows = torch.tensor([self.rows[decision.name]])
            state = list(torch.lstm_cell(fed, state, *weights))
            drawn = draw_sets(self.logits(state[0], rows), self.k[rows], generator)
            fed = drawn @ self.embedding[rows[0]] / decision.k
            return self.pick(decision, drawn[0].tolist())

        return self.domain.walk(choose)

    def log_probabilities(self, architectures: Sequence[Architecture]) -> tuple[Tensor, Tensor]:
        ways = [self._way(architecture) for architecture in architectures]
        longest = max(map(len, ways))
        rows = torch.zeros(len(ways), longest, dtype=torch.long)
        chosen = torch.zeros(len(ways), longest, self.missing.shape[1], dtype=torch.float64)
        for index, (architecture, way) in enumerate(zip(architectures, ways, strict=True)):
            if way:
                rows[index, : len(way)] = torch.tensor([self.rows[decision.name] for decision in way])
                chosen[index, : len(way)] = self.chosen(architecture, way)
        if not longest:  # nothing to decide
            return chosen.sum((1, 2)), chosen.sum((1, 2))
        active = chosen.amax(2)
        embedded = (chosen.unsqueeze(2) @ self.embedding[rows]).squeeze(2) / self.k[rows].unsqueeze(-1)
        start = self.start.expand(len(ways), 1, -1)
        states, _ = self.lstm(torch.cat([start, embedded[:, :-1]], 1))
        logits = self.logits(states, rows)
        normaliser, entropy = (each.view_as(active) for each in sets(logits.flatten(0, 1), self.k[rows].flatten()))
        return (chosen * logits).sum((1, 2)) - (active * normaliser).sum(1), (active * entropy).sum(1)

    def _way(self, architecture: Architecture) -> list[Decision]:
        """The decisions that the controller makes for this architecture, in its order."""
        way: list[Decision] = []

        def choose(decision: Decision) -> Pick:
            if decision.count > 1:
                way.append(decision)
            return architecture.picks[decision.name]

        self.domain.walk(choose)
        return way
