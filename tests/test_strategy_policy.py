"""Policies against enumeration: what they say of every architecture adds up, and what they draw follows it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from itertools import combinations, permutations
from typing import Any

import pytest
import torch
from torch import Tensor

from nasengine import Architecture, Decision, Domain
from nasengine.search_spaces.cell import CellSpace
from nasengine.strategies.policy import NEVER, ControllerPolicy, Policy, TablePolicy, draw_set, sets
from nasengine.testing import TinySpace, TinyTask

Make = Callable[..., Policy]


def conditional() -> Domain:
    """Every kind of decision, some of them conditional, some without a choice: 490 architectures."""
    deep = frozenset({(("kind", "deep"),)})
    return Domain(
        "conditional",
        {},
        [
            Decision("kind", "one", ("flat", "deep")),
            Decision("only", "value", (1,)),
            Decision("depth", "depth", (1, 2, 3)),
            Decision("rate", "value", (0.1, 0.2, 0.5), when=frozenset({(("depth", 1),)})),
            Decision("edges", "some", ("a", "b", "c", "d"), 2, when=deep),
            Decision("all", "some", ("a", "b"), 2),
            Decision("three", "some", tuple("abcde"), 3),
        ],
    )


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def learnt(make: Make, domain: Domain, scale: float = 1.0, **options: Any) -> Policy:
    """A policy that is far from uniform, as after some learning."""
    rng = generator()
    policy = make(domain, rng, **options)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=rng, dtype=torch.float64))
    return policy


def table(policy: Policy) -> torch.nn.Parameter:
    assert isinstance(policy, TablePolicy)
    found: torch.nn.Parameter = policy.get_parameter("table")
    return found


def close(a: Tensor | float, b: Tensor | float, within: float = 1e-12) -> bool:
    a, b = (torch.as_tensor(x, dtype=torch.float64).detach() for x in (a, b))
    return float((a - b).abs().max()) < within


both = pytest.mark.parametrize("make", [TablePolicy, ControllerPolicy])
DOMAINS = {
    "conditional": conditional(),
    "tiny": TinySpace().domain(TinyTask()),
    "cell": CellSpace(layers=3, channels=2, nodes=1).domain(TinyTask()),
}
every = pytest.mark.parametrize("domain", DOMAINS.values(), ids=DOMAINS.keys())


# What is said of every architecture


@both
@every
@torch.no_grad()
def test_the_probabilities_of_all_architectures_add_up_to_one(make: Make, domain: Domain) -> None:
    policy = learnt(make, domain, scale=0.5)
    log_p, _ = policy.log_probabilities(list(domain.enumerate()))
    assert len(log_p) == domain.size
    assert log_p.std() > 0.1  # far from uniform
    assert close(log_p.exp().sum(), 1.0)


@both
@pytest.mark.parametrize("domain", [DOMAINS["conditional"], DOMAINS["tiny"]], ids=["conditional", "tiny"])
@torch.no_grad()
def test_the_entropies_met_on_the_way_have_the_entropy_of_the_policy_as_their_mean(make: Make, domain: Domain) -> None:
    policy = learnt(make, domain, scale=0.5)
    log_p, entropy = policy.log_probabilities(list(domain.enumerate()))
    p = log_p.exp()
    assert close((p * entropy).sum(), -(p * log_p).sum(), 1e-11)


@both
@torch.no_grad()
def test_without_conditions_the_entropy_of_a_table_is_the_same_on_every_way(make: Make) -> None:
    domain = Domain("free", {}, [Decision("a", "one", ("x", "y", "z")), Decision("b", "some", tuple("pqrs"), 2)])
    _, entropy = learnt(make, domain).log_probabilities(list(domain.enumerate()))
    assert (float(entropy.max() - entropy.min()) < 1e-12) == (make is TablePolicy)


@both
def test_the_mean_of_the_scores_is_zero(make: Make) -> None:
    """Σ p ∇ log p = ∇ Σ p = 0: what makes any baseline fair."""
    policy = learnt(make, conditional(), scale=0.5)
    log_p, _ = policy.log_probabilities(list(conditional().enumerate()))
    (log_p.detach().exp() * log_p).sum().backward()
    for parameter in policy.parameters():
        assert parameter.grad is not None
        assert close(parameter.grad, 0.0)


@both
def test_of_many_at_once_is_said_what_is_said_of_each(make: Make) -> None:
    domain = conditional()
    policy = learnt(make, domain)
    architectures = list(domain.enumerate())[::37]
    together = policy.log_probabilities(architectures)
    for index, architecture in enumerate(architectures):
        alone = policy.log_probability(architecture)
        assert close(alone[0], together[0][index])
        assert close(alone[1], together[1][index])


def test_a_table_says_of_an_architecture_the_product_of_the_softmaxes_of_its_active_decisions() -> None:
    domain = conditional()
    policy = learnt(TablePolicy, domain)
    logits = {name: table(policy)[row].tolist() for name, row in policy.rows.items()}
    for architecture in list(domain.enumerate())[::23]:
        expected = 0.0
        for decision in domain.active(architecture):
            if decision.count > 1:
                chances = brute_force(logits[decision.name][: len(decision.options)], decision.k)
                expected += math.log(chances[tuple(decision.indices(architecture.picks[decision.name]))])
        assert close(policy.log_probability(architecture)[0], expected)


def test_decisions_that_are_not_active_learn_nothing() -> None:
    domain = conditional()
    policy = learnt(TablePolicy, domain)
    architecture = domain.complete({"kind": "flat", "depth": 1})
    assert set(architecture.picks) == {"kind", "only", "depth", "all", "three"}
    log_p, entropy = policy.log_probability(architecture)
    (log_p + entropy).backward()
    grad = table(policy).grad
    assert grad is not None
    learning = {name for name, row in policy.rows.items() if grad[row].abs().sum() > 0}
    assert learning == {"kind", "depth", "three"}


# Sets


def brute_force(logits: list[float], k: int) -> dict[tuple[int, ...], float]:
    weights = {kept: math.exp(sum(logits[i] for i in kept)) for kept in combinations(range(len(logits)), k)}
    return {kept: weight / sum(weights.values()) for kept, weight in weights.items()}


@pytest.mark.parametrize(("n", "k"), [(1, 1), (2, 1), (5, 1), (2, 2), (5, 2), (5, 3), (6, 5), (9, 4)])
def test_sets_have_the_sum_and_the_entropy_that_listing_them_gives(n: int, k: int) -> None:
    logits = torch.randn(n, generator=generator(n), dtype=torch.float64).tolist()
    chances = brute_force(logits, k)
    # a row that is longer and one that keeps more, so that neither padding nor a neighbour matters
    rows = torch.tensor([logits + [NEVER] * 3, [0.5] * (n + 3)], dtype=torch.float64)
    normaliser, entropy = sets(rows, torch.tensor([k, min(n + 3, k + 2)]))
    assert close(normaliser[0], math.log(sum(math.exp(sum(logits[i] for i in kept)) for kept in chances)))
    assert close(entropy[0], -sum(p * math.log(p) for p in chances.values()))
    assert close(entropy[1], math.log(math.comb(n + 3, min(n + 3, k + 2))), 1e-11)


def test_gradients_of_sets_are_their_options_chances() -> None:
    """∂ log Σ weights / ∂ logit = how likely the option is among the k."""
    logits = torch.tensor([[0.3, -1.0, 2.0, 0.1, NEVER]], dtype=torch.float64, requires_grad=True)
    sets(logits, torch.tensor([2]))[0].sum().backward()
    chances = brute_force(logits.tolist()[0][:4], 2)
    expected = [sum(p for kept, p in chances.items() if option in kept) for option in range(4)]
    assert logits.grad is not None
    assert close(logits.grad, torch.tensor([[*expected, 0.0]], dtype=torch.float64))


def test_for_equal_logits_a_set_is_as_likely_as_drawing_without_replacement_makes_it() -> None:
    """Where all options weigh the same: any of 5 · 4 · 3 orders, 3! of which are one set."""
    orders = Counter(tuple(sorted(order)) for order in permutations(range(5), 3))
    total = sum(orders.values())
    assert brute_force([0.7] * 5, 3) == pytest.approx({kept: n / total for kept, n in orders.items()})


def test_sets_are_drawn_as_often_as_they_are_likely() -> None:
    logits, rng = [0.3, -1.0, 1.2, 0.1], generator(1)
    chances = brute_force(logits, 2)
    drawn: Counter[tuple[int, ...]] = Counter()
    for _ in range(4_000):
        kept, log_p = draw_set(logits, 2, rng)
        drawn[tuple(sorted(kept))] += 1
        assert log_p == pytest.approx(math.log(chances[tuple(sorted(kept))]))
    assert sum((drawn[kept] - 4_000 * p) ** 2 / (4_000 * p) for kept, p in chances.items()) < 35  # 5 degrees


@pytest.mark.parametrize("far", [50.0, 800.0, 5_000.0])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_logits_that_are_far_apart_leave_everything_finite(far: float, k: int) -> None:
    logits = torch.tensor([[far, 0.0, -far, 0.5], [0.1, 0.2, 0.3, NEVER]], dtype=torch.float64, requires_grad=True)
    normaliser, entropy = sets(logits, torch.tensor([k, 2]))
    (normaliser + entropy).sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(torch.cat([normaliser, entropy, logits.grad.flatten()])).all()
    kept, log_p = draw_set(logits.tolist()[0], k, generator())
    assert len(set(kept)) == k
    assert 0 in kept
    assert math.isfinite(log_p)


# Drawing


@both
def test_architectures_are_drawn_as_often_as_they_are_likely(make: Make) -> None:
    deep = frozenset({(("kind", "deep"),)})
    kind, edges = Decision("kind", "one", ("flat", "deep")), Decision("edges", "some", ("a", "b", "c"), 2, when=deep)
    domain = Domain("small", {}, [kind, edges, Decision("width", "value", (1, 2, 3), when=deep)])
    policy, rng, draws = learnt(make, domain, scale=0.3), generator(5), 600
    architectures = list(domain.enumerate())
    assert len(architectures) == 10
    chances = policy.log_probabilities(architectures)[0].detach().exp().tolist()
    assert min(chances) * draws > 5
    assert max(chances) > 3 * min(chances)
    drawn = Counter(policy.sample(rng).architecture for _ in range(draws))
    distance = sum((drawn[a] - draws * p) ** 2 / (draws * p) for a, p in zip(architectures, chances, strict=True))
    assert distance < 9 + 5 * math.sqrt(2 * 9) + 15


@both
@pytest.mark.parametrize("options", [{}, {"temperature": 5.0, "tanh_constant": 2.5}])
def test_a_sample_knows_its_probability(make: Make, options: dict[str, Any]) -> None:
    """Computed step by step when it was drawn, and all at once here."""
    policy, rng = learnt(make, conditional(), **options), generator(3)
    for _ in range(10):
        sample = policy.sample(rng)
        assert sample.drawn == sample.architecture
        assert close(policy.log_probability(sample.drawn)[0], sample.log_probability, 1e-10)


@both
def test_new_policies_are_all_but_uniform_at_each_decision(make: Make) -> None:
    domain = conditional()
    policy = make(domain, generator())
    for architecture in list(domain.enumerate())[::50]:
        uniform = -sum(math.log(decision.count) for decision in domain.active(architecture))
        log_p, entropy = policy.log_probability(architecture)
        assert close(log_p, uniform, 0.3)
        assert close(entropy, -uniform, 0.02)


@both
def test_a_generator_is_all_that_chance_comes_from(make: Make) -> None:
    before = torch.get_rng_state()
    first, again, other = (
        [make(conditional(), rng).sample(rng).architecture for rng in [generator(seed)] for _ in range(5)]
        for seed in (1, 1, 2)
    )
    assert first == again != other
    assert torch.equal(before, torch.get_rng_state())


@both
def test_a_space_of_one_architecture_is_certain(make: Make) -> None:
    domain = Domain("one", {}, [Decision("only", "value", (1,)), Decision("both", "some", ("a", "b"), 2)])
    policy = make(domain, generator())
    sample = policy.sample(generator())
    assert sample.architecture.picks == {"only": 1, "both": ("a", "b")}
    assert [x.item() for x in policy.log_probability(sample.architecture)] == [0.0, 0.0]
    assert sample.log_probability == 0.0


# Options


def test_temperature_and_tanh_shape_the_logits() -> None:
    domain = Domain("one", {}, [Decision("a", "one", ("x", "y"))])
    policy = learnt(TablePolicy, domain, temperature=5.0, tanh_constant=2.5)
    x, y = (2.5 * math.tanh(logit / 5.0) for logit in table(policy)[0].tolist())
    expected = x - math.log(math.exp(x) + math.exp(y))
    assert close(policy.log_probability(domain.complete({"a": "x"}))[0], expected)


def test_a_tanh_constant_keeps_exploring() -> None:
    """The likeliest of five is at most e^2c times as likely as another, however far its logits go."""
    domain = Domain("one", {}, [Decision("a", "one", tuple("vwxyz"))])
    policy = learnt(TablePolicy, domain, scale=100.0, tanh_constant=1.1)
    log_p, _ = policy.log_probabilities(list(domain.enumerate()))
    assert 2.1 < float(log_p.detach().max() - log_p.detach().min()) <= 2.2 + 1e-12


def test_of_operations_alone_the_tanh_constant_is_reduced() -> None:
    """Logits so large that they are at the bounds, of either sign: their softmax spans twice the constant."""
    names = tuple("stuvwxyz")
    domain = Domain("two", {}, [Decision("operation", "one", names), Decision("edges", "some", names, 1)])
    policy = learnt(ControllerPolicy, domain, scale=20.0, tanh_constant=1.1, operation_tanh_reduction=2.5)
    architectures = list(domain.enumerate())
    p = policy.log_probabilities(architectures)[0].detach().exp().tolist()
    for decision, constant, within in (("operation", 1.1 / 2.5, {}), ("edges", 1.1, {"operation": "s"})):
        chances: Counter[Any] = Counter()
        for architecture, chance in zip(architectures, p, strict=True):
            if all(architecture.picks[name] == pick for name, pick in within.items()):
                chances[architecture.picks[decision]] += chance
        assert math.log(max(chances.values()) / min(chances.values())) == pytest.approx(2 * constant, rel=1e-3)


# What is not allowed


def forbidding(violation: Callable[[Architecture], float]) -> Domain:
    return Domain("numbers", {}, [Decision(f"v{i}", "value", (0, 1, 2, 3)) for i in range(3)], violation=violation)


@both
def test_only_what_is_allowed_is_sampled(make: Make) -> None:
    domain = forbidding(lambda a: float(sum(int(str(pick)) for pick in a.picks.values()) % 2))  # half of them
    policy, rng = learnt(make, domain), generator()
    samples = [policy.sample(rng) for _ in range(40)]
    assert all(domain.allows(sample.architecture) and sample.drawn == sample.architecture for sample in samples)


@both
def test_where_no_draw_is_allowed_one_is_completed_and_the_draw_is_remembered(make: Make) -> None:
    domain = forbidding(lambda a: float(sum(3 - int(str(pick)) for pick in a.picks.values())))  # all but 3, 3, 3
    policy = make(domain, generator())
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.zero_()
        if isinstance(policy, TablePolicy):
            policy.table[:, 0] = 30.0  # 0, 0, 0: allowed as good as never
    samples = [policy.sample(generator(seed)) for seed in range(6)]
    assert all(list(sample.architecture.picks.values()) == [3, 3, 3] for sample in samples)
    completed = [sample for sample in samples if sample.drawn != sample.architecture]
    assert completed
    for sample in completed:
        assert not domain.allows(sample.drawn)
        assert close(policy.log_probability(sample.drawn)[0], sample.log_probability)
