"""An architecture as a sequence of tokens, for the networks that read or write it one pick at a time.

A token is the place of an option in the domain's encoding. A decision is one token, of k options k tokens in rising
order; decisions follow each other as the picks before leave them open, so that whatever is written is an architecture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeAlias

import torch
from torch import Tensor

from nasengine import Architecture, Decision, Domain, Pick

Range: TypeAlias = tuple[int, int]
"""Tokens from the first up to the second, itself not included."""
NEVER = -1e9
"""A logit that is never drawn. Finite, so that its gradients are zeros and not NaN."""


@dataclass(frozen=True, slots=True)
class Text:
    """So many architectures of up to `length` tokens.

    tokens: (architectures, length), 0 behind the end. there: ones up to the end, the same shape. closed: which tokens
    are out of the question at a place, (architectures, length, width); behind the end, none is.
    """

    tokens: Tensor
    there: Tensor
    closed: Tensor

    def __getitem__(self, rows: slice | Tensor) -> Text:
        return Text(self.tokens[rows], self.there[rows], self.closed[rows])


class _Open(Exception):
    """The tokens end here, and one of this range may follow."""

    def __init__(self, range_: Range) -> None:
        self.range = range_


class Language:
    """How the architectures of a domain are written. `width` is the number of different tokens."""

    def __init__(self, domain: Domain) -> None:
        self.domain, self.width = domain, domain.width
        lengths = [len(decision.options) for decision in domain.decisions.values()]
        self._starts = dict(zip(domain.decisions, accumulate(lengths, initial=0), strict=False))

    def write(self, architecture: Architecture) -> tuple[list[int], list[Range]]:
        """The architecture's tokens, and the range that each was taken from."""
        tokens: list[int] = []
        ranges: list[Range] = []

        def choose(decision: Decision) -> Pick:
            pick = architecture.picks[decision.name]
            indices = decision.indices(pick)
            ranges.extend(self._range(decision, indices[:number]) for number in range(len(indices)))
            tokens.extend(self._starts[decision.name] + index for index in indices)
            return pick

        self.domain.walk(choose)
        return tokens, ranges

    def read(self, tokens: Iterable[int]) -> Architecture | Range:
        """The architecture; where the tokens are only its beginning, the range that the next one is taken from."""
        rest = iter(tokens)

        def choose(decision: Decision) -> Pick:
            indices: list[int] = []
            while len(indices) < decision.k:
                token = next(rest, None)
                if token is None:
                    raise _Open(self._range(decision, indices))
                indices.append(token - self._starts[decision.name])
            return decision.ordered(indices) if decision.kind == "some" else decision.options[indices[0]]

        try:
            return self.domain.walk(choose)
        except _Open as end:
            return end.range

    def text(self, architectures: Sequence[Architecture]) -> Text:
        written = [self.write(architecture) for architecture in architectures]
        shape = len(written), max(len(tokens) for tokens, _ in written)
        closed = torch.zeros(*shape, self.width, dtype=torch.bool)
        text = Text(torch.zeros(shape, dtype=torch.long), torch.zeros(shape), closed)
        for row, (tokens, ranges) in enumerate(written):
            text.tokens[row, : len(tokens)] = torch.tensor(tokens)
            text.there[row, : len(tokens)] = 1
            for place, (first, end) in enumerate(ranges):
                closed[row, place] = True
                closed[row, place, first:end] = False
        return text

    def compose(
        self, count: int, logits: Callable[[list[int], Tensor | None], Tensor], pick: Callable[[Tensor], Tensor]
    ) -> list[Architecture]:
        """So many architectures, written token by token, all of them at once.

        logits: from the rows that still are written and their last tokens (None to begin with) to what the next ones'
        logits are, (rows, width). pick: from these, closed ones NEVER, to the tokens, (rows,).
        """
        written: list[list[int]] = [[] for _ in range(count)]
        last: Tensor | None = None
        while True:
            found = [self.read(tokens) for tokens in written]
            rows = [row for row, one in enumerate(found) if not isinstance(one, Architecture)]
            if not rows:
                return [one for one in found if isinstance(one, Architecture)]
            closed = torch.ones(len(rows), self.width, dtype=torch.bool)
            for place, row in enumerate(rows):
                first, end = found[row]  # type: ignore[misc]
                closed[place, first:end] = False
            kept = None if last is None else last[rows]
            last = torch.zeros(count, dtype=torch.long)
            last[rows] = pick(logits(rows, kept).masked_fill(closed, NEVER))
            for row in rows:
                written[row].append(int(last[row]))

    def _range(self, decision: Decision, before: Sequence[int]) -> Range:
        """Behind the last index, and so that enough are left for those still to come."""
        start, first = self._starts[decision.name], before[-1] + 1 if before else 0
        return start + first, start + len(decision.options) - decision.k + len(before) + 1
