"""NAO: its decoder inverts its encoder, its predictor leads uphill, and what it finds."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nasengine import Architecture, ConfigError, Decision, Domain, Evaluate, Fidelity, Objective, Strategy, Trial
from nasengine.strategies.nao import NAO
from nasengine.strategies.rounds import ranked
from nasengine.testing import StrategyContract, TinySpace, TinyTask

SMALL: dict[str, Any] = {"embedding": 8, "hidden": 24, "predictor": 16, "epochs": 10}
TINY = TinySpace().domain(TinyTask())
PLAIN = Domain("plain", {}, [Decision(f"v{index}", "value", tuple(range(4))) for index in range(6)])


class TestNAO(StrategyContract):
    def make(self) -> Strategy:
        return NAO(initial=5, k=4, **SMALL)


def started(domain: Domain, seed: int = 0, trials: int = 200, **options: Any) -> Any:
    strategy = NAO(**{**SMALL, **options})
    strategy.start(domain, np.random.default_rng(seed), [Objective("accuracy")], Fidelity(), trials)
    return strategy


def step(strategy: Any, score: Any) -> float:
    request = strategy.ask()
    assert isinstance(request, Evaluate)
    value = float(score(request.architecture))
    strategy.tell(Trial(0, request, "done", {"accuracy": value}))
    return value


def total(architecture: Architecture) -> float:
    return float(sum(int(str(pick)) for pick in architecture.picks.values()))


def test_targets_are_ranks_and_equals_share_theirs() -> None:
    assert ranked(np.array([7.0, 5.0, 5.0, -1e9])).tolist() == pytest.approx([1, 0.5, 0.5, 0])
    assert ranked(np.array([3.0])).tolist() == [0]


def test_the_decoder_inverts_the_encoder() -> None:
    """On architectures that it was trained with, of different lengths, all but exactly; before, not at all."""
    architectures = list(TINY.enumerate())[::6]
    strategy = started(TINY, epochs=150, learning_rate=0.01, trade_off=0.5)
    text = strategy.language.text(architectures)
    assert len({int(length) for length in text.there.sum(1)}) == 1
    strategy.fit(text, torch.linspace(0, 1, len(architectures)))
    decoded = strategy.decode(strategy.model.encode(text).detach(), text.there)
    assert sum(a == b for a, b in zip(architectures, decoded, strict=True)) > 0.95 * len(architectures)
    fresh = started(TINY)
    unread = fresh.decode(fresh.model.encode(text).detach(), text.there)
    assert sum(a == b for a, b in zip(architectures, unread, strict=True)) < 0.2 * len(architectures)


def test_what_is_behind_the_end_does_not_matter() -> None:
    """The shorter architecture by itself, and beside a longer one."""
    inner = [Decision(f"inner{i}", "one", ("x", "y"), when=frozenset({(("outer", "b"),)})) for i in range(3)]
    domain = Domain("two", {}, [Decision("outer", "one", ("a", "b")), *inner])
    strategy = started(domain)
    short, *longer = domain.enumerate()
    assert len(short.picks) == 1
    alone, together = strategy.language.text([short]), strategy.language.text([short, *longer])
    assert together.tokens.shape == (9, 4)
    with torch.no_grad():
        for one, many in zip(strategy.model(alone), strategy.model(together), strict=True):
            assert float(one[0]) == pytest.approx(float(many[0]), abs=1e-6)
    decoded = strategy.decode(strategy.model.encode(together).detach(), together.there)
    assert decoded[0] == strategy.decode(strategy.model.encode(alone).detach(), alone.there)[0]


def test_the_likelihoods_of_all_continuations_add_up_to_one() -> None:
    """Of the decoder, for the states of one architecture: over all 324 that it could write."""
    strategy = started(TINY)
    everything = strategy.language.text(list(TINY.enumerate()))
    with torch.no_grad():
        states = strategy.model.encode(everything[:1])
        strategy.model.encode = lambda text: states.expand(len(text.tokens), -1, -1)
        _, log_likelihood = strategy.model(everything)
    assert float(torch.exp(log_likelihood * everything.there.sum(1)).sum()) == pytest.approx(1, abs=1e-4)


def test_uphill_is_better_than_where_it_began() -> None:
    """The sum of six numbers: what the best of 60 become has a larger one, on average, than they have."""
    strategy, rng = started(PLAIN, epochs=120), np.random.default_rng(0)
    judged = sorted((PLAIN.sample(rng) for _ in range(60)), key=total, reverse=True)
    for architecture in judged:
        strategy.note(architecture)
    text = strategy.language.text(judged)
    strategy.fit(text, torch.from_numpy(ranked(np.array([total(a) for a in judged]))))
    moved = strategy.uphill(text[:20], 10)
    assert len(moved) >= 5
    assert all(strategy.new(architecture) for architecture in moved)
    assert np.mean([total(a) for a in moved]) > np.mean([total(a) for a in judged[:20]])


def test_a_space_is_exhausted_and_then_nothing_is_asked_for() -> None:
    domain = Domain("few", {}, [Decision(f"v{index}", "value", (0, 1, 2)) for index in range(3)])
    strategy, found = started(domain, k=5), []
    while (request := strategy.ask()) is not None:
        found.append(request.architecture)
        strategy.tell(Trial(0, request, "done", {"accuracy": float(len(found) % 5)}))
    assert len(found) == len(set(found)) == 27


def test_under_a_constraint_all_that_is_asked_for_is_allowed() -> None:
    domain = TinySpace().constrained(["parameters<=60"]).domain(TinyTask())
    strategy = started(domain, k=4)
    for _ in range(24):
        if (request := strategy.ask()) is None:
            break
        assert domain.allows(request.architecture)
        strategy.tell(Trial(0, request, "done", {"accuracy": 0.5}))


def test_it_finds_the_one_best_of_1024() -> None:
    """160 random architectures would contain it 16 times in 100."""
    target = np.random.default_rng(100).integers(4, size=5).tolist()
    domain = Domain("tiny", {}, [Decision(f"v{index}", "value", tuple(range(4))) for index in range(5)])
    strategy = started(domain, trials=160, epochs=40)
    found = [step(strategy, lambda a: sum(a.picks[f"v{i}"] == t for i, t in enumerate(target))) for _ in range(160)]
    assert max(found) == 5


@pytest.mark.parametrize("options", [{"k": 0}, {"hidden": 0}, {"trade_off": 1.5}, {"epochs": 0}, {"batch_size": -1}])
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        NAO(**options)
