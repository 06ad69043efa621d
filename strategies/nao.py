"""NAO: architectures are moved uphill in a continuous space that an encoder, a predictor and a decoder make.

Luo, Tian, Qin, Chen, Liu 2018, "Neural Architecture Optimization", NeurIPS: section 3, equations 1 and 2, algorithm 1.
What the paper leaves open (how far is moved until a new architecture is met, what the decoder begins with) is as in the
authors' later code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor, nn
from torch.nn import functional

from nasengine import Architecture, ArchitectureError, ConfigError

from .rounds import InRounds, ranked
from .sequence import NEVER, Language, Text

LEARNT = 500
"""Only so many of the best results are learnt from."""
STEPS = 200
"""Of a round's training, at most."""
SEEDS = 100
"""So many of the best are moved."""
MOVES, MOVES_AMONG_FEW = 10, 2
"""How often the step grows; the second under a rule or a constraint, where to look at an architecture is dear."""
CLIP = 5.0


class NAO(InRounds):
    """Neural architecture optimisation: gradient ascent in an embedding of the architectures (Luo et al. 2018).

    An encoder turns the picks into states of unit length, a predictor these into a score, a decoder into the picks
    again; the three learn together, and go on from what they knew a round before. Then the best architectures' states
    are moved along the gradient of the predicted score and decoded. The predictor is told ranks, 0 to 1, instead of
    scores, which outliers do not bend. A round learns from the 500 best results at most, in 200 steps at most, so its
    time stops growing.

    Options:
        initial: how many networks are random; a quarter of the run's trials, 600 at most, unless you say (the paper's:
            600 of 1,000).
        k: how many are asked for in a round (the paper's: 200).
        embedding, hidden: of the encoder's LSTM, the length of a token and of a state; the decoder's has `hidden`, too
            (32 and 64 as in the authors' code; the paper's: 32 and 96).
        predictor: the units of the predictor's hidden layer.
        trade_off: λ, the weight of the predictor's loss; that of the decoder's is 1 − λ.
        epochs, learning_rate: of a round's training (the paper's: 1,000 and 0.001, for few rounds with many results);
            from 201 results on, fewer epochs.
        batch_size: of the training.
        step: η, how far along the gradient is moved at first; twice and three times as far next, up to ten times, until
            enough new architectures were met. (The paper's η is 10, and then 20; states are of length 1 here.)
    """

    def __init__(
        self,
        *,
        initial: int | None = None,
        k: int = 16,
        embedding: int = 32,
        hidden: int = 64,
        predictor: int = 200,
        trade_off: float = 0.9,
        epochs: int = 100,
        batch_size: int = 100,
        learning_rate: float = 5e-3,
        step: float = 1.0,
    ) -> None:
        sizes = {"embedding": embedding, "hidden": hidden, "predictor": predictor}
        super().__init__("nao", k, initial, **sizes, epochs=epochs, batch_size=batch_size)
        if not 0 <= trade_off <= 1:
            raise ConfigError(f"the strategy 'nao' has trade_off = {trade_off}; expected 0 to 1")
        self.sizes, self.trade_off, self.epochs = sizes, trade_off, epochs
        self.batch_size, self.learning_rate, self.step = batch_size, learning_rate, step

    def prepare(self) -> None:
        super().prepare()
        self.first = self.initial or min(600, max(2, self.trials // 4))
        self.language, self.torch_rng = Language(self.domain), self.generator()
        self.model = Model(self.language.width, **self.sizes)
        for parameter in self.model.parameters():
            bound = 1 / math.sqrt(parameter.shape[-1])
            nn.init.uniform_(parameter, -bound, bound, generator=self.torch_rng)
        self._optimizer = torch.optim.Adam(self.model.parameters(), self.learning_rate, fused=True)

    def propose(self, count: int) -> list[Architecture]:
        judged, scores = self.results(LEARNT)
        text = self.language.text([self.domain.canonical(architecture) for architecture in judged])
        self.fit(text, torch.from_numpy(ranked(scores)))
        return self.uphill(text[:SEEDS], count)

    def fit(self, text: Text, targets: Tensor) -> None:
        """Equation 1: predictions towards the targets, and architectures towards themselves."""
        batches = math.ceil(len(targets) / self.batch_size)
        for _ in range(min(self.epochs, max(1, STEPS // batches))):
            for batch in torch.split(torch.randperm(len(targets), generator=self.torch_rng), self.batch_size):
                predicted, log_likelihood = self.model(text[batch])
                error = functional.mse_loss(predicted, targets[batch])
                loss = self.trade_off * error - (1 - self.trade_off) * log_likelihood.mean()
                self._optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
                self._optimizer.step()

    def uphill(self, seeds: Text, count: int) -> list[Architecture]:
        """Equation 2: about so many new networks that the seeds become, those of the smallest steps first."""
        states = self.model.encode(seeds).detach().requires_grad_()
        (slope,) = torch.autograd.grad(self.model.predict(states, seeds.there).sum(), states)
        found: dict[str, Architecture] = {}
        for number in range(1, 1 + (MOVES if self.domain.violation is None else MOVES_AMONG_FEW)):
            moved = functional.normalize(states.detach() + number * self.step * slope, dim=2) * seeds.there[:, :, None]
            for decoded in self.decode(moved, seeds.there):
                with suppress(ArchitectureError):  # none that is allowed is near
                    allowed = decoded if self.domain.allows(decoded) else self.domain.complete(decoded.picks)
                    if self.new(allowed):
                        found.setdefault(self.domain.canonical(allowed).id, allowed)
            if len(found) >= count:
                break
        return list(found.values())

    @torch.no_grad()
    def decode(self, states: Tensor, there: Tensor) -> list[Architecture]:
        """The architectures that the decoder reads from the states, the likeliest pick at each place."""
        return self.language.compose(len(states), self.model.writer(states, there), lambda logits: logits.argmax(1))


class Model(nn.Module):
    """Encoder, predictor and decoder. States: (architectures, length, hidden), of length 1, or 0 behind the end."""

    def __init__(self, width: int, embedding: int, hidden: int, predictor: int) -> None:
        super().__init__()
        self.start = width
        """The token before the first."""
        self.read = nn.Embedding(width, embedding)
        self.encoder = nn.LSTM(embedding, hidden, batch_first=True)
        self.predictor = nn.Sequential(nn.Linear(hidden, predictor), nn.ReLU(), nn.Linear(predictor, 1), nn.Sigmoid())
        self.written = nn.Embedding(width + 1, hidden)
        self.decoder = nn.LSTM(hidden, hidden, batch_first=True)
        self.attended = nn.Linear(2 * hidden, hidden)
        self.logits = nn.Linear(hidden, width)

    def encode(self, text: Text) -> Tensor:
        states, _ = self.encoder(self.read(text.tokens))
        return functional.normalize(states, dim=2) * text.there[:, :, None]

    def predict(self, states: Tensor, there: Tensor) -> Tensor:
        """Shape (architectures,), from 0 to 1."""
        return self.predictor(_mean(states, there))[:, 0]  # type: ignore[no-any-return]

    def forward(self, text: Text) -> tuple[Tensor, Tensor]:
        """The predictions, and of each architecture the decoder's log-likelihood of a pick, given those before it, on
        average; both of shape (architectures,)."""
        states = self.encode(text)
        begin = _mean(states, text.there)[None]
        before = functional.pad(text.tokens[:, :-1], (1, 0), value=self.start)
        outputs, _ = self.decoder(self.written(before), (begin, begin))
        logits = self._attend(outputs, states, text.there).masked_fill(text.closed, NEVER)
        taken = functional.log_softmax(logits, 2).gather(2, text.tokens[:, :, None])[:, :, 0] * text.there
        return self.predict(states, text.there), taken.sum(1) / text.there.sum(1)

    def writer(self, states: Tensor, there: Tensor) -> Callable[[list[int], Tensor | None], Tensor]:
        """For `Language.compose`."""
        begin = _mean(states, there)[None]
        memory = (begin.clone(), begin.clone())

        def logits(rows: list[int], last: Tensor | None) -> Tensor:
            tokens = torch.full((len(rows),), self.start) if last is None else last
            outputs, after = self.decoder(self.written(tokens[:, None]), (memory[0][:, rows], memory[1][:, rows]))
            memory[0][:, rows], memory[1][:, rows] = after
            return self._attend(outputs, states[rows], there[rows])[:, 0]

        return logits

    def _attend(self, outputs: Tensor, states: Tensor, there: Tensor) -> Tensor:
        """The logits of the decoder's outputs, with a look at the states (Luong et al. 2015, dot product)."""
        alike = (outputs @ states.transpose(1, 2)).masked_fill(there[:, None] == 0, NEVER)
        seen = torch.cat([alike.softmax(2) @ states, outputs], 2)
        return self.logits(torch.tanh(self.attended(seen)))  # type: ignore[no-any-return]


def _mean(states: Tensor, there: Tensor) -> Tensor:
    """Of each architecture's states, and of length 1 again: (architectures, hidden)."""
    return functional.normalize(states.sum(1) / there.sum(1, keepdim=True), dim=1)
