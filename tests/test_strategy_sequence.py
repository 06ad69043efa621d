"""Architectures as sequences of tokens: written and read, whatever the space's conditions."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nasengine import Decision, Domain, SearchSpace
from nasengine.search_spaces.cell import CellSpace
from nasengine.search_spaces.hierarchical import HierarchicalSpace
from nasengine.search_spaces.nasbench101 import NASBench101Space
from nasengine.search_spaces.nasnet import NASNetSpace
from nasengine.strategies.sequence import NEVER, Language
from nasengine.testing import TinySpace, TinyTask

TINY = TinySpace().domain(TinyTask())


def test_every_architecture_is_read_as_it_was_written() -> None:
    language, texts = Language(TINY), set()
    for architecture in TINY.enumerate():
        tokens, _ = language.write(architecture)
        assert language.read(tokens) == architecture
        texts.add(tuple(tokens))
    assert len(texts) == TINY.size


def test_tokens_are_places_of_the_encoding() -> None:
    language = Language(TINY)
    for architecture in TINY.enumerate():
        tokens, _ = language.write(architecture)
        assert sorted(tokens) == np.flatnonzero(TINY.encode(architecture)).tolist()


def test_what_may_follow_is_what_some_architecture_has() -> None:
    """Every beginning against all architectures that begin so."""
    language = Language(TINY)
    texts = [language.write(architecture) for architecture in TINY.enumerate()]
    for tokens, ranges in texts:
        for place, allowed in enumerate(ranges):
            assert language.read(tokens[:place]) == allowed
            follow = {other[place] for other, _ in texts if other[:place] == tokens[:place]}
            assert follow == set(range(*allowed))


@pytest.mark.parametrize("space", [CellSpace(), HierarchicalSpace(), NASBench101Space(), NASNetSpace()])
def test_architectures_of_the_built_in_spaces_are_read_as_they_were_written(space: SearchSpace) -> None:
    domain = space.domain(TinyTask())
    language, rng = Language(domain), np.random.default_rng(0)
    for architecture in [domain.sample(rng) for _ in range(3)]:
        tokens, ranges = language.write(architecture)
        assert language.read(tokens) == architecture
        assert all(first <= token < end for token, (first, end) in zip(tokens, ranges, strict=True))


def test_a_text_says_where_tokens_are_and_which_are_closed() -> None:
    inner = Decision("inner", "one", ("x", "y"), when=frozenset({(("outer", "b"),)}))
    domain = Domain("two", {}, [Decision("outer", "one", ("a", "b", "c")), inner])
    text = Language(domain).text(list(domain.enumerate()))
    assert text.tokens.tolist() == [[0, 0], [1, 3], [1, 4], [2, 0]]
    assert text.there.tolist() == [[1, 0], [1, 1], [1, 1], [1, 0]]
    assert text.closed[1].tolist() == [[False, False, False, True, True], [True, True, True, False, False]]
    assert not text.closed[0, 1].any()
    assert text[1:3].tokens.tolist() == [[1, 3], [1, 4]]


def test_what_is_composed_at_random_is_every_architecture_with_its_chance() -> None:
    """Uniform picks: an architecture's chance is the product of what its ranges leave, exactly."""
    language, generator = Language(TINY), torch.Generator().manual_seed(0)

    def logits(rows: list[int], last: Tensor | None) -> Tensor:
        assert last is None or len(last) == len(rows)
        return torch.zeros(len(rows), language.width)

    def pick(logits: Tensor) -> Tensor:
        assert bool((logits <= 0).all())
        assert bool((logits.max(1).values > NEVER).all())
        return torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]

    composed = language.compose(2_000, logits, pick)
    for architecture in composed:
        TINY.validate(architecture)
    assert len(composed) == 2_000
    shallow = [a for a in composed if a.picks["depth"] == 1]
    assert abs(len(shallow) - 1_000) < 5 * 22.4  # a fair coin, five deviations
    pairs = [a for a in composed if a.picks["edges"] == ("b", "c")]
    # the first of two of three: a or b, one each; behind b only c is left
    assert abs(len(pairs) - 1_000) < 5 * 22.4
