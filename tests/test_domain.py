"""Domain against a reference that knows nothing of conditions: it runs the choosing program, once for each outcome.

A space is here a tree of choices, as its `build` would meet them. The reference is the meaning of `choose` itself: run
the program, decide when something is met for the first time, enter what was kept. The domain has only the list of
decisions with their conditions, and must agree in everything.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, islice, permutations, product
from typing import Any, Literal, TypeAlias

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from nasengine import Architecture, ArchitectureError, Decision, Domain
from nasengine.search_spaces.cell import CellSpace
from nasengine.search_spaces.chain import ChainSpace
from nasengine.testing import TinySpace, TinyTask

Kind: TypeAlias = Literal["one", "some", "depth", "value"]
Pick: TypeAlias = Any
Picks: TypeAlias = dict[str, Pick]
Program: TypeAlias = "tuple[Choice, ...]"


@dataclass(frozen=True)
class Choice:
    """A decision where it is met; `inside`: what is met in each option (of a depth: in each layer)."""

    name: str
    kind: Kind
    options: tuple[Any, ...]
    k: int = 1
    inside: tuple[Program, ...] = ()

    def all_picks(self) -> list[Pick]:
        return list(combinations(self.options, self.k)) if self.kind == "some" else list(self.options)

    def kept(self, pick: Pick) -> list[Program]:
        if self.kind == "value" or not self.inside:
            return []
        if self.kind == "depth":
            return list(self.inside[:pick])
        names = pick if self.kind == "some" else (pick,)
        return [self.inside[self.options.index(name)] for name in names]


def one(name: str, **options: Program) -> Choice:
    return Choice(name, "one", tuple(options), inside=tuple(options.values()))


def some(name: str, k: int, **options: Program) -> Choice:
    return Choice(name, "some", tuple(options), k, tuple(options.values()))


def depth(name: str, *layers: Program, at_least: int = 1) -> Choice:
    return Choice(name, "depth", tuple(range(at_least, len(layers) + 1)), inside=layers)


def value(name: str, *values: Any) -> Choice:
    return Choice(name, "value", values)


def run(program: Program, decide: Callable[[Choice], Pick]) -> Picks:
    """What is picked when the program is run and `decide` answers at each first meeting."""
    picks: Picks = {}

    def meet(choices: Program) -> None:
        for choice in choices:
            if choice.name not in picks:
                picks[choice.name] = decide(choice)
            for within in choice.kept(picks[choice.name]):
                meet(within)

    meet(program)
    return picks


class Undecided(Exception):
    pass


def runs(program: Program) -> Iterator[Picks]:
    """Every outcome once: a run that meets something undecided is run again with each of its picks."""
    waiting: list[Picks] = [{}]
    while waiting:
        given_picks = waiting.pop()

        def decide(choice: Choice, given_picks: Picks = given_picks) -> Pick:
            if choice.name not in given_picks:
                waiting.extend({**given_picks, choice.name: pick} for pick in choice.all_picks())
                raise Undecided
            return given_picks[choice.name]

        try:
            yield run(program, decide)
        except Undecided:
            continue


def recorded(program: Program, name: str = "mine") -> Domain:
    """The domain, as a recording of the program: each decision with the paths to where it is met."""
    found: dict[str, Choice] = {}
    when: dict[str, set[tuple[tuple[str, Any], ...]]] = {}

    def meet(choices: Program, path: tuple[tuple[str, Any], ...]) -> None:
        for choice in choices:
            found.setdefault(choice.name, choice)
            when.setdefault(choice.name, set()).add(path)
            for index, within in enumerate(choice.inside):
                meet(within, (*path, (choice.name, index if choice.kind == "depth" else choice.options[index])))

    meet(program, ())
    always = frozenset({()})
    decisions = [
        Decision(c.name, c.kind, c.options, c.k, always if () in when[c.name] else frozenset(when[c.name]))
        for c in found.values()
    ]
    return Domain(name, {"size": 1}, decisions)


def key(picks: Mapping[str, Pick]) -> tuple[tuple[str, str], ...]:
    """Picks as something that can be compared, 1, 1.0 and True apart."""
    return tuple(sorted((name, repr(pick)) for name, pick in picks.items()))


def one_step(kind: Kind, before: Pick, after: Pick) -> bool:
    """Whether two picks are an edit apart: different; for k of n, one exchanged."""
    return len(set(before) - set(after)) == 1 if kind == "some" else bool(before != after)


def one_edit(domain: Domain, before: Picks, after: Picks) -> bool:
    """Whether exactly one decision that both have was changed, by one step."""
    changed = [name for name in before if name in after and before[name] != after[name]]
    return len(changed) == 1 and one_step(domain.decisions[changed[0]].kind, before[changed[0]], after[changed[0]])


LIMIT = 400
NAMES = ("a", "b", "c", "d", "e", "f")


@st.composite
def signatures(draw: st.DrawFn) -> Choice:
    kind: Kind = draw(st.sampled_from(("one", "some", "depth", "value")))
    if kind == "value":
        count = draw(st.sampled_from((2, 3, 1)))
        values = draw(st.lists(st.sampled_from((1, 2, 16, 0.5, "wide")), min_size=count, max_size=count, unique=True))
        return Choice("", kind, tuple(values))
    if kind == "depth":
        layers = draw(st.sampled_from((2, 3, 1)))
        return Choice("", kind, tuple(range(draw(st.integers(0, layers)), layers + 1)))
    count = draw(st.sampled_from((3, 4, 2, 1) if kind == "some" else (2, 3, 1)))
    return Choice("", kind, tuple("xyzw"[:count]), draw(st.integers(1, count)) if kind == "some" else 1)


@st.composite
def programs(draw: st.DrawFn, limit: int = LIMIT) -> Program:
    """Nested choices. A name means the same decision wherever it is met, but what is inside may differ by place."""
    known = {name: draw(signatures()) for name in NAMES[: draw(st.integers(2, len(NAMES)))]}

    def place(outside: tuple[str, ...], fewest: int) -> Program:
        free = [name for name in known if name not in outside]
        most = 0 if len(outside) >= 3 or not free else 3 if not outside else 2
        names = draw(st.lists(st.sampled_from(free), min_size=min(fewest, most), max_size=most)) if most else []
        return tuple(filled(name, outside) for name in names)

    def filled(name: str, outside: tuple[str, ...]) -> Choice:
        pattern = known[name]
        places = 0 if pattern.kind == "value" else len(pattern.options)
        if pattern.kind == "depth":
            places = max(pattern.options)
        inside = tuple(place((*outside, name), 0) for _ in range(places))
        return Choice(name, pattern.kind, pattern.options, pattern.k, inside)

    program = place((), 2)
    assume(len(list(islice(runs(program), limit + 1))) <= limit)
    return program


seeds = st.integers(0, 2**32 - 1)
relaxed = settings(suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow], deadline=None)

NESTED: Program = (
    one("kind", plain=(), deep=(depth("layers", (one("op", conv=(), pool=()),), (value("rate", 0.1, 0.5),)),)),
    some("inputs", 2, p=(one("op", conv=(), pool=()),), q=(), r=(value("rate", 0.1, 0.5),)),
)
"""Counted by hand. `op` is met where inputs keep p, and in layer 0; `rate` where they keep r, and in layer 1.
plain: pq 2, pr 4, qr 2. deep with one layer (op): pq 2, pr 4, qr 4; with two (op, rate): 4 for each of the 3."""
NESTED_SIZE = (2 + 4 + 2) + (2 + 4 + 4) + 3 * 4


def architecture(domain: Domain, picks: Mapping[str, Pick]) -> Architecture:
    return Architecture(domain.space, domain.options, picks)


# The reference itself


def test_the_reference_gives_what_was_counted_by_hand() -> None:
    outcomes = list(runs(NESTED))
    assert len(outcomes) == len({key(outcome) for outcome in outcomes}) == NESTED_SIZE
    assert {"kind": "plain", "inputs": ("q", "r"), "rate": 0.1} in outcomes
    assert {"kind": "plain", "inputs": ("p", "q"), "op": "conv", "rate": 0.1} not in outcomes


# Counting and enumerating


@relaxed
@given(programs())
def test_enumeration_gives_exactly_what_running_the_program_gives(program: Program) -> None:
    domain = recorded(program)
    expected = [key(outcome) for outcome in runs(program)]
    listed = list(domain.enumerate())
    assert sorted(key(a.picks) for a in listed) == sorted(expected)
    assert domain.size == len(listed) == len(set(listed)) == len(set(expected))


@relaxed
@given(programs())
def test_every_enumerated_architecture_validates_and_says_where_it_is_from(program: Program) -> None:
    domain = recorded(program)
    for found in domain.enumerate():
        domain.validate(found)
        assert (found.space, dict(found.options)) == ("mine", {"size": 1})


@relaxed
@given(programs())
def test_active_decisions_are_those_picked_in_the_spaces_order(program: Program) -> None:
    domain = recorded(program)
    order = list(domain.decisions)
    for found in islice(domain.enumerate(), 30):
        active = [decision.name for decision in domain.active(found)]
        assert set(active) == set(found.picks)
        assert active == sorted(active, key=order.index)


def test_a_domain_without_decisions_has_one_architecture() -> None:
    domain = Domain("mine", {}, [])
    assert domain.size == 1
    assert list(domain.enumerate()) == [Architecture("mine", {}, {})]
    assert domain.sample(np.random.default_rng(0)) == Architecture("mine", {}, {})
    assert domain.encode(Architecture("mine", {}, {})).shape == (0,)


def test_the_darts_space_has_its_closed_form() -> None:
    """Node n has C(n, 2) pairs of inputs and an operation of 8 on each of the two, n = 2 … 5; two kinds of cell."""
    domain = CellSpace().domain(TinyTask())
    assert domain.size == math.prod(math.comb(n, 2) * 8**2 for n in (2, 3, 4, 5)) ** 2 == (180 * 8**8) ** 2
    assert len(domain.decisions) == 2 * (4 + 14)
    assert domain.width == 2 * (14 + 14 * 8)


def test_without_none_the_darts_space_has_the_published_size() -> None:
    """Liu et al. 2019, appendix A.3: ∏ₖ (k + 1)k/2 · 7² ≈ 10⁹ for a cell, 10¹⁸ for both."""
    operations = {f"op{index}": () for index in range(7)}
    cells = tuple(
        some(f"{kind}{n}", 2, **{f"s{s}": (one(f"{kind}{n}from{s}", **operations),) for s in range(n)})
        for kind in ("normal", "reduce")
        for n in (2, 3, 4, 5)
    )
    size = recorded(cells).size
    assert size == (180 * 7**8) ** 2
    assert size == pytest.approx(1e18, rel=0.1)


@pytest.mark.parametrize(("layers", "nodes", "kinds"), [(1, 1, 1), (2, 2, 1), (3, 1, 2), (8, 3, 2)])
def test_a_cell_space_counts_the_kinds_of_cell_that_it_stacks(layers: int, nodes: int, kinds: int) -> None:
    domain = CellSpace(layers=layers, nodes=nodes).domain(TinyTask())
    assert domain.size == math.prod(math.comb(n, 2) * 64 for n in range(2, 2 + nodes)) ** kinds


@pytest.mark.parametrize(("stages", "layers", "widths"), [(1, 1, (8, 16)), (2, 3, (16, 32)), (3, 5, (4, 8, 16))])
def test_a_chain_has_its_closed_form(stages: int, layers: int, widths: tuple[int, ...]) -> None:
    """A layer has a width and one of 4 convolutions of 4 kernels, 5 normalisations, 7 activations, 2 dropouts, or one
    of 3 other operations; a stage has 1 … L layers, those behind the first also one of 3 reductions; the head is one of
    2, with no fully connected layer or one of 2 widths, 7 activations, 2 dropouts."""
    layer = len(widths) * (4 * 4 * 5 * 7 * 2 + 3)
    stage = sum(layer**d for d in range(1, layers + 1))
    head = 2 * (1 + 2 * 7 * 2)
    domain = ChainSpace(stages=stages, layers=layers, widths=widths).domain(TinyTask())
    assert domain.size == stage * (3 * stage) ** (stages - 1) * head


def test_thousands_of_decisions_are_counted_and_sampled() -> None:
    flat = recorded(tuple(value(f"v{index}", 0, 1) for index in range(2_000)))
    assert flat.size == 2**2_000
    flat.validate(flat.sample(np.random.default_rng(0)))
    tall = recorded((depth("depth", *((value(f"v{index}", 0, 1, 2),) for index in range(200))),))
    assert tall.size == sum(3**d for d in range(1, 201))
    tall.validate(tall.sample(np.random.default_rng(0)))


def test_a_decision_shared_by_many_options_is_counted_without_listing_them() -> None:
    """40 switches, any of which brings up the same decision of 5: 5 · (2⁴⁰ − 1) + 1."""
    domain = recorded(tuple(one(f"s{i}", on=(value("shared", 1, 2, 3, 4, 5),), off=()) for i in range(40)))
    assert domain.size == 5 * (2**40 - 1) + 1


# Sampling


def chi_square(counts: Sequence[int], shares: Sequence[float]) -> float:
    total = sum(counts)
    return sum((count - total * share) ** 2 / (total * share) for count, share in zip(counts, shares, strict=True))


def limit(cells: int) -> float:
    """A chi-square of so many cells exceeds this about once in a million times."""
    freedom = cells - 1
    return freedom + 5 * math.sqrt(2 * freedom) + 15


def uniformity(draws: Counter[Architecture], domain: Domain) -> float:
    return chi_square([draws[a] for a in domain.enumerate()], [1 / domain.size] * domain.size)


def test_samples_of_a_conditional_domain_are_uniform() -> None:
    domain, rng = recorded(NESTED), np.random.default_rng(0)
    draws = Counter(domain.sample(rng) for _ in range(300 * NESTED_SIZE))
    assert set(draws) == set(domain.enumerate())
    assert uniformity(draws, domain) < limit(NESTED_SIZE)


def test_the_uniformity_test_sees_picks_drawn_one_by_one() -> None:
    """Uniform picks at each decision are not uniform architectures: the test above must tell them apart."""
    domain, rng = recorded(NESTED), np.random.default_rng(0)
    naive = [run(NESTED, lambda c: c.all_picks()[rng.integers(len(c.all_picks()))]) for _ in range(300 * NESTED_SIZE)]
    assert uniformity(Counter(architecture(domain, picks) for picks in naive), domain) > 3 * limit(NESTED_SIZE)


@settings(relaxed, max_examples=15)
@given(programs(limit=12), seeds)
def test_samples_of_any_domain_are_uniform(program: Program, seed: int) -> None:
    domain, rng = recorded(program), np.random.default_rng(seed)
    draws = Counter(domain.sample(rng) for _ in range(100 * domain.size))
    assert uniformity(draws, domain) < limit(domain.size) + 15


def test_the_same_generator_gives_the_same_samples() -> None:
    domain = CellSpace().domain(TinyTask())
    first, second = (np.random.default_rng(3) for _ in range(2))
    assert [domain.sample(first) for _ in range(20)] == [domain.sample(second) for _ in range(20)]


def test_sampling_is_exact_beyond_64_bits() -> None:
    """a leaves 2⁷⁰ architectures, b twice as many, c as many as both: 1/6, 1/3 and 1/2 of 3 · 2⁷¹."""

    def switches(count: int) -> Program:
        return tuple(value(f"v{index}", 0, 1) for index in range(count))

    domain = recorded((one("big", a=switches(70), b=switches(71), c=(*switches(70), value("w", 1, 2, 3))),))
    assert domain.size == 6 * 2**70
    rng = np.random.default_rng(0)
    draws = [domain.sample(rng) for _ in range(3_000)]
    counts = Counter(a.picks["big"] for a in draws)
    assert chi_square([counts[name] for name in "abc"], [1 / 6, 1 / 3, 1 / 2]) < limit(3)
    ones = sum(a.picks[f"v{i}"] == 1 for a in draws for i in range(70))
    assert abs(ones - 3_000 * 35) < 5 * math.sqrt(3_000 * 70) / 2
    assert len(set(draws)) == 3_000


def test_depths_are_drawn_by_what_they_leave_beyond_64_bits() -> None:
    """100 layers of 10: nine architectures in ten have all the layers, nine in a hundred one less."""
    domain = recorded((depth("depth", *((value(f"v{i}", *range(10)),) for i in range(100))),))
    assert domain.size == sum(10**d for d in range(1, 101)) > 2**64
    rng = np.random.default_rng(1)
    counts = Counter(domain.sample(rng).picks["depth"] for _ in range(2_000))
    rest = 2_000 - counts[100] - counts[99]
    assert chi_square([counts[100], counts[99], rest], [0.9, 0.09, 0.01]) < limit(3)


# Mutation, crossover, neighbours


@relaxed
@given(programs(), seeds)
def test_a_mutation_is_valid_and_exactly_one_edit_away(program: Program, seed: int) -> None:
    domain, rng = recorded(program), np.random.default_rng(seed)
    assume(domain.size > 1)
    for _ in range(10):
        before = domain.sample(rng)
        if all(decision.count == 1 for decision in domain.active(before)):
            continue
        after = domain.mutate(before, rng)
        domain.validate(after)
        assert after != before
        assert one_edit(domain, dict(before.picks), dict(after.picks))


def test_mutations_reach_every_architecture_one_edit_away_and_no_other() -> None:
    domain, rng = recorded(NESTED), np.random.default_rng(0)
    for before in domain.enumerate():
        reached = {domain.mutate(before, rng) for _ in range(400)}
        expected = {a for a in domain.enumerate() if one_edit(domain, dict(before.picks), dict(a.picks))}
        assert reached == expected


def test_each_open_decision_is_mutated_as_often_as_the_others() -> None:
    program = (value("two", 0, 1), value("nine", *range(9)), value("single", 7), some("pair", 2, x=(), y=(), z=()))
    domain, rng = recorded(program), np.random.default_rng(0)
    before = domain.complete({})
    mutants = [domain.mutate(before, rng) for _ in range(3_000)]
    changed = Counter(name for m in mutants for name in before.picks if m.picks[name] != before.picks[name])
    assert set(changed) == {"two", "nine", "pair"}
    assert chi_square([changed[name] for name in ("two", "nine", "pair")], [1 / 3] * 3) < limit(3)
    nines = Counter(m.picks["nine"] for m in mutants if m.picks["nine"] != 0)
    assert chi_square([nines[v] for v in range(1, 9)], [1 / 8] * 8) < limit(8)


def test_a_single_architecture_cannot_be_mutated() -> None:
    domain = recorded((value("only", 3), some("all", 2, x=(), y=())))
    with pytest.raises(ArchitectureError, match="'mine' has one architecture only"):
        domain.mutate(domain.complete({}), np.random.default_rng(0))


@relaxed
@given(programs(), seeds)
def test_a_child_has_every_pick_from_a_parent_that_has_one(program: Program, seed: int) -> None:
    domain, rng = recorded(program), np.random.default_rng(seed)
    for _ in range(10):
        a, b = domain.sample(rng), domain.sample(rng)
        child = domain.crossover(a, b, rng)
        domain.validate(child)
        for name, pick in child.picks.items():
            inherited = [parent.picks[name] for parent in (a, b) if name in parent.picks]
            assert not inherited or pick in inherited
        assert domain.crossover(a, a, rng) == a


def test_children_are_all_combinations_of_their_parents_equally_often() -> None:
    domain, rng = recorded(tuple(value(name, 0, 1, 2) for name in "abc")), np.random.default_rng(0)
    zeros, ones = ({name: digit for name in "abc"} for digit in (0, 1))
    parents = architecture(domain, zeros), architecture(domain, ones)
    children = Counter(tuple(domain.crossover(*parents, rng).picks.values()) for _ in range(2_000))
    assert set(children) == set(product((0, 1), repeat=3))
    assert chi_square(list(children.values()), [1 / 8] * 8) < limit(8)


def test_a_child_samples_what_neither_parent_has() -> None:
    program = (one("a", x=(one("b", u=(value("new", 1, 2, 3),), v=()),), y=()), one("b", u=(), v=()))
    domain, rng = recorded(program), np.random.default_rng(0)
    mother = architecture(domain, {"a": "x", "b": "v"})
    father = architecture(domain, {"a": "y", "b": "u"})
    children = [domain.crossover(mother, father, rng) for _ in range(400)]
    for child in children:
        domain.validate(child)
    assert {child.picks.get("new") for child in children} == {None, 1, 2, 3}


@relaxed
@given(programs(), seeds)
def test_neighbours_are_all_single_edits_with_first_options_where_something_opens(program: Program, seed: int) -> None:
    domain, rng = recorded(program), np.random.default_rng(seed)
    before = domain.sample(rng)
    choices = {name: Choice(name, d.kind, d.options, d.k) for name, d in domain.decisions.items()}
    expected = set()
    for name, pick in before.picks.items():
        for other in choices[name].all_picks():
            if one_step(choices[name].kind, pick, other):
                wanted = {**before.picks, name: other}
                expected.add(key(run(program, lambda c, w=wanted: w.get(c.name, c.all_picks()[0]))))  # type: ignore[misc]
    neighbours = domain.neighbors(before)
    assert len(neighbours) == len(set(neighbours))
    assert {key(a.picks) for a in neighbours} == expected
    assert before not in neighbours
    for neighbour in neighbours:
        domain.validate(neighbour)
        assert one_edit(domain, dict(before.picks), dict(neighbour.picks))


def test_neighbours_of_a_cell_are_as_many_as_its_edits() -> None:
    """Each of 16 edges has 7 other operations; node n may exchange one of 2 inputs for one of n − 2."""
    domain = CellSpace().domain(TinyTask())
    found = domain.sample(np.random.default_rng(0))
    assert len(domain.neighbors(found)) == 16 * 7 + 2 * sum(2 * (n - 2) for n in (2, 3, 4, 5))


# Encoding


def test_a_walk_asks_at_exactly_the_decisions_that_its_picks_leave_open() -> None:
    domain = CellSpace(layers=3, channels=2, nodes=2).domain(TinyTask())
    for architecture in (domain.sample(np.random.default_rng(seed)) for seed in range(20)):
        asked: list[str] = []

        def choose(decision: Decision, picks: Mapping[str, Pick] = architecture.picks) -> Pick:
            asked.append(decision.name)  # noqa: B023 (called at once)
            return picks[decision.name]

        assert domain.walk(choose) == architecture
        assert sorted(asked) == sorted(architecture.picks)


@relaxed
@given(programs())
def test_decoding_inverts_encoding(program: Program) -> None:
    domain = recorded(program)
    codes = set()
    for found in islice(domain.enumerate(), 60):
        vector = domain.encode(found)
        assert vector.shape == (domain.width,)
        assert domain.width == sum(len(decision.options) for decision in domain.decisions.values())
        assert set(np.unique(vector)) <= {0.0, 1.0}
        assert vector.sum() == sum(decision.k for decision in domain.active(found))
        assert domain.decode(vector) == found
        codes.add(vector.tobytes())
    assert len(codes) == min(domain.size, 60)


def test_an_encoding_has_its_ones_where_the_options_stand() -> None:
    domain = recorded((value("w", 8, 16), some("in", 2, p=(), q=(), r=()), one("op", x=(value("z", 1, 2),), y=())))
    found = architecture(domain, {"w": 16, "in": ("p", "r"), "op": "y"})
    assert domain.encode(found).tolist() == [0, 1, 1, 0, 1, 0, 1, 0, 0]


@relaxed
@given(programs(), st.data())
def test_decoding_takes_the_largest_entries_of_any_vector(program: Program, data: st.DataObject) -> None:
    domain = recorded(program)
    entries = st.floats(-10, 10) | st.sampled_from((0.0, 1.0))
    vector = np.array(data.draw(st.lists(entries, min_size=domain.width, max_size=domain.width)))
    slots: dict[str, int] = {}
    for name in domain.decisions:
        slots[name] = sum(len(domain.decisions[earlier].options) for earlier in slots)

    def largest(choice: Choice) -> Pick:
        part = vector[slots[choice.name] :][: len(choice.options)]
        # brute force: of all picks the one with the largest sum of entries, the first of equals
        sums = [sum(Fraction(part[choice.options.index(o)]) for o in _as_tuple(pick)) for pick in choice.all_picks()]
        return choice.all_picks()[sums.index(max(sums))]

    decoded = domain.decode(vector)
    domain.validate(decoded)
    if len(set(vector.tolist())) == len(vector):  # of equal sums either is right
        assert key(decoded.picks) == key(run(program, largest))


def _as_tuple(pick: Pick) -> tuple[Any, ...]:
    return pick if isinstance(pick, tuple) else (pick,)


@pytest.mark.parametrize("filler", [0.0, -1.0, math.inf, -math.inf, math.nan, 1e300])
def test_decoding_is_defined_for_every_filling(filler: float) -> None:
    domain = recorded(NESTED)
    for dtype in (np.float32, np.float64):
        with np.errstate(over="ignore"):
            domain.validate(domain.decode(np.full(domain.width, filler, dtype)))


# Validation


@st.composite
def nearly(draw: st.DrawFn) -> tuple[Program, Picks]:
    """A program, and picks that are its or nearly so."""
    program = draw(programs())
    domain = recorded(program)
    picks = dict(draw(st.sampled_from(list(islice(domain.enumerate(), 50)))).picks)
    junk: tuple[Pick, ...] = (0, 1, 1.0, True, 2.0, "x", "", "wide", ("x",), ("y", "x"), ("x", "x"), (), -1)
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from((*domain.decisions, "other")))
        decision = domain.decisions.get(name)
        picked = draw(st.sampled_from((None, *junk, *(decision.picks() if decision else ()))))
        if picked is None:
            picks.pop(name, None)
        else:
            picks[name] = picked
    return program, picks


@settings(relaxed, max_examples=300)
@given(nearly())
def test_validation_accepts_what_the_program_can_pick_and_nothing_else(case: tuple[Program, Picks]) -> None:
    program, picks = case
    domain = recorded(program)
    if key(picks) in {key(outcome) for outcome in runs(program)}:
        domain.validate(architecture(domain, picks))
    else:
        with pytest.raises(ArchitectureError):
            domain.validate(architecture(domain, picks))


GOOD: Picks = {"kind": "plain", "inputs": ("p", "q"), "op": "conv"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"imputs": ("p", "q")}, "no decision 'imputs'. Did you mean 'inputs'?"),
        ({"zzzzzz": 1}, "no decision 'zzzzzz'."),
        ({"op": "convolution"}, "'convolution' is no pick for the decision 'op'; allowed: one of conv, pool"),
        ({"inputs": ("q", "p")}, "is no pick for the decision 'inputs'; allowed: 2 of p, q, r"),
        ({"inputs": ("p", "p")}, "is no pick for the decision 'inputs'"),
        ({"inputs": ("p", "q", "r")}, "is no pick for the decision 'inputs'"),
        ({"inputs": "p"}, "is no pick for the decision 'inputs'"),
        ({"op": None}, "lacks a pick for the decision 'op'"),
        ({"inputs": None}, "lacks a pick for the decision 'inputs'"),
        ({"inputs": ("p", "r")}, "lacks a pick for the decision 'rate'"),
        ({"rate": 0.1}, "picks 'rate', which its other picks leave no place for"),
        ({"layers": 1}, "picks 'layers', which its other picks leave no place for"),
    ],
)
def test_a_refusal_names_the_decision(changes: Picks, said: str) -> None:
    domain = recorded(NESTED)
    domain.validate(architecture(domain, GOOD))
    picks = {name: pick for name, pick in {**GOOD, **changes}.items() if pick is not None}
    with pytest.raises(ArchitectureError) as refusal:
        domain.validate(architecture(domain, picks))
    assert said in str(refusal.value)


def test_an_architecture_of_another_space_is_refused() -> None:
    domain = recorded(NESTED)
    with pytest.raises(ArchitectureError, match="of the space 'yours', not 'mine'"):
        domain.validate(Architecture("yours", domain.options, GOOD))


@pytest.mark.parametrize("pick", [True, 1.0, "1", (1,)])
def test_a_pick_is_of_its_options_very_type(pick: Pick) -> None:
    domain = recorded((value("width", 1, 2),))
    domain.validate(architecture(domain, {"width": 1}))
    with pytest.raises(ArchitectureError, match="'width'"):
        domain.validate(architecture(domain, {"width": pick}))


def test_a_pick_that_is_no_value_is_refused_too() -> None:
    """Only code can make these: a strategy's mistake is a sentence all the same."""
    domain = recorded(NESTED)
    for strange in (("p", ["q"]), (("p",), "q"), ("p", 1)):
        with pytest.raises(ArchitectureError, match="'inputs'"):
            domain.validate(architecture(domain, {**GOOD, "inputs": strange}))


@relaxed
@given(nearly())
def test_completion_keeps_what_fits_and_fills_the_rest_with_first_options(case: tuple[Program, Picks]) -> None:
    program, picks = case
    domain = recorded(program)

    def decide(choice: Choice) -> Pick:
        allowed = {repr(pick) for pick in choice.all_picks()}
        return picks[choice.name] if repr(picks.get(choice.name)) in allowed else choice.all_picks()[0]

    assert key(domain.complete(picks).picks) == key(run(program, decide))


# k of n, by brute force


@pytest.mark.parametrize(("n", "k"), [(n, k) for n in range(1, 6) for k in range(1, n + 1)])
def test_k_of_n_is_every_subset_in_order(n: int, k: int) -> None:
    names = tuple("pqrst"[:n])
    decision = Decision("some", "some", names, k)
    subsets = list(combinations(names, k))
    assert list(decision.picks()) == subsets
    assert decision.count == len(subsets) == math.comb(n, k)
    tuples = [pick for size in range(n + 2) for pick in product((*names, "other"), repeat=size)] if n < 5 else subsets
    assert [pick for pick in tuples if decision.allows(pick)] == subsets
    assert not any(decision.allows(list(pick)) for pick in subsets)
    if k > 1:
        assert not any(decision.allows(pick) for subset in subsets for pick in permutations(subset) if pick != subset)
    for subset in subsets:
        expected = {other for other in subsets if len(set(subset) & set(other)) == k - 1}
        neighbours = decision.neighbors(subset)
        assert len(neighbours) == len(expected) == k * (n - k)
        assert set(neighbours) == expected
        assert [names[index] for index in decision.indices(subset)] == list(subset)
        assert all(decision.includes(subset, name) == (name in subset) for name in names)


@pytest.mark.parametrize(("n", "k"), [(4, 2), (5, 3), (6, 1)])
def test_subsets_are_drawn_equally_often(n: int, k: int) -> None:
    decision = Decision("some", "some", tuple("pqrstu"[:n]), k)
    rng = np.random.default_rng(0)
    cells = math.comb(n, k)
    counts = Counter(decision.sample(rng) for _ in range(200 * cells))
    assert chi_square([counts[pick] for pick in decision.picks()], [1 / cells] * cells) < limit(cells)


@pytest.mark.parametrize(("n", "k", "inside"), [(4, 2, 3), (5, 3, 2), (6, 1, 4), (3, 3, 5)])
def test_k_of_n_with_choices_inside_has_its_closed_form(n: int, k: int, inside: int) -> None:
    options = {f"o{i}": (value(f"v{i}", *range(inside)),) for i in range(n)}
    assert recorded((some("some", k, **options),)).size == math.comb(n, k) * inside**k


@pytest.mark.parametrize(("layers", "at_least", "inside"), [(3, 1, 2), (4, 0, 3), (2, 2, 5)])
def test_a_depth_has_its_closed_form(layers: int, at_least: int, inside: int) -> None:
    tall = depth("depth", *((value(f"v{i}", *range(inside)),) for i in range(layers)), at_least=at_least)
    assert recorded((tall,)).size == sum(inside**d for d in range(at_least, layers + 1))
    same = depth("depth", *((value("v", *range(inside)),) for _ in range(layers)), at_least=at_least)
    assert recorded((same,)).size == sum(inside if d else 1 for d in range(at_least, layers + 1))


def test_the_tiny_space_has_as_many_architectures_as_it_says() -> None:
    domain = TinySpace().domain(TinyTask())
    assert f"{domain.size} architectures" in (TinySpace.__doc__ or "")
    assert domain.size == len(set(domain.enumerate()))
