"""Architecture: an immutable, hashable JSON value whose id means the same everywhere."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nasengine import Architecture, ArchitectureError

OPTIONS = {"layers": 3, "widths": [16, 32], "nested": {"rate": 0.5, "name": "é"}}
PICKS: dict[str, str | int | float | tuple[str, ...]] = {"op": "conv", "edges": ("a", "c"), "width": 16, "rate": 0.25}

CANONICAL = (
    '{"options":{"layers":3,"nested":{"name":"\\u00e9","rate":0.5},"widths":[16,32]},'
    '"picks":{"edges":["a","c"],"op":"conv","rate":0.25,"width":16},"space":"mine"}'
)
ID = "510e1cdff0d1cf005c06b1cf5112443f6c2697080a9fc6b699c6ce59dd134b28"
"""sha256sum of CANONICAL, taken outside Python: ids stand in ledgers, so no release may change them."""


def made() -> Architecture:
    return Architecture("mine", OPTIONS, PICKS)


def everything_reachable(value: object) -> list[object]:
    """The value and all that its containers hold."""
    if isinstance(value, Mapping):
        return [value, *(found for item in value.values() for found in everything_reachable(item))]
    if isinstance(value, tuple | list):
        return [value, *(found for item in value for found in everything_reachable(item))]
    return [value]


def test_nothing_of_it_can_be_set_or_deleted() -> None:
    architecture = made()
    for name in ("space", "options", "picks", "id", "anything"):
        with pytest.raises(AttributeError, match="immutable"):
            setattr(architecture, name, "x")
        with pytest.raises(AttributeError, match="immutable"):
            delattr(architecture, name)
    assert architecture == made()
    assert architecture.id == ID


def test_nothing_reachable_from_it_can_be_changed() -> None:
    architecture = made()
    for value in [*everything_reachable(architecture.options), *everything_reachable(architecture.picks)]:
        assert not isinstance(value, list | dict | set)
        if isinstance(value, Mapping):
            with pytest.raises(TypeError):
                value["layers"] = 4  # type: ignore[index]


def test_it_does_not_follow_what_it_was_made_from() -> None:
    options: dict[str, Any] = {"widths": [16, 32], "nested": {"deep": [1]}}
    kept = ["a", "c"]
    picks: dict[str, Any] = {"edges": kept, "op": "conv"}
    architecture = Architecture("mine", options, picks)
    before = architecture.to_json()
    options["widths"].append(64)
    options["nested"]["deep"].append(2)
    options["more"] = 1
    kept.append("d")
    picks["op"] = "pool"
    assert architecture.to_json() == before
    assert architecture.id == hashlib.sha256(before.encode()).hexdigest()


def test_it_does_not_follow_what_it_gave_away() -> None:
    architecture = made()
    given = architecture.to_dict()
    given["options"]["widths"].append(64)
    given["options"]["nested"]["rate"] = 1.0
    given["picks"]["edges"].append("d")
    given["picks"]["op"] = "pool"
    assert architecture.to_json() == CANONICAL


def test_its_json_is_canonical_and_its_id_is_the_jsons_sha_256() -> None:
    assert made().to_json() == CANONICAL
    assert made().id == hashlib.sha256(CANONICAL.encode("ascii")).hexdigest() == ID
    assert made().short == ID[:10]


def test_indented_json_is_the_same_architecture() -> None:
    assert "\n" in made().to_json(indent=2)
    assert Architecture.from_json(made().to_json(indent=2)) == made()


def test_to_dict_is_what_reading_the_json_gives() -> None:
    """A ledger compares what was asked with what it reads: a tuple where JSON gives a list would differ."""
    architecture = Architecture("mine", {"widths": (16, 32), "nested": {"pair": (1, (2,))}}, {"edges": ("a", "c")})
    assert architecture.to_dict() == json.loads(architecture.to_json())
    assert Architecture.from_dict(architecture.to_dict()).to_dict() == architecture.to_dict()


def test_order_of_picks_and_options_is_no_difference() -> None:
    turned = Architecture("mine", dict(reversed(OPTIONS.items())), dict(reversed(PICKS.items())))
    assert turned == made()
    assert hash(turned) == hash(made())
    assert len({turned, made()}) == 1


def test_lists_and_tuples_are_no_difference() -> None:
    assert Architecture("s", {"w": (1, 2)}, {"e": ("a",)}) == Architecture("s", {"w": [1, 2]}, {"e": ["a"]})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "other",
    [
        Architecture("yours", OPTIONS, PICKS),
        Architecture("mine", {**OPTIONS, "layers": 4}, PICKS),
        Architecture("mine", {**OPTIONS, "layers": 3.0}, PICKS),
        Architecture("mine", OPTIONS, {**PICKS, "op": "pool"}),
        Architecture("mine", OPTIONS, {**PICKS, "width": 16.0}),
        Architecture("mine", OPTIONS, {**PICKS, "width": "16"}),
        Architecture("mine", OPTIONS, {**PICKS, "edges": ("c", "a")}),
        Architecture("mine", OPTIONS, {name: pick for name, pick in PICKS.items() if name != "op"}),
        "mine",
        None,
    ],
)
def test_whatever_its_json_shows_makes_a_difference(other: object) -> None:
    assert made() != other


def test_one_and_true_are_different_picks() -> None:
    assert Architecture("s", {}, {"a": 1}) != Architecture("s", {}, {"a": True})


def test_the_id_is_equal_in_processes_that_hash_differently() -> None:
    code = (
        "from nasengine import Architecture\n"
        f"a = Architecture('mine', {OPTIONS!r}, {PICKS!r})\n"
        "print(a.id, hash('nasengine'), Architecture.from_json(a.to_json()).id)"
    )
    answers = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        answers.append(done.stdout.split())
    (first, first_hash, first_read), (second, second_hash, second_read) = answers
    assert first_hash != second_hash  # or nothing was tried
    assert first == second == first_read == second_read == ID


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_gives_it_back(protocol: int) -> None:
    back = pickle.loads(pickle.dumps(made(), protocol))  # noqa: S301 (our own)
    assert back == made()
    assert (back.space, back.options, back.picks, back.id) == (made().space, made().options, made().picks, made().id)


def test_copies_are_equal_and_whole() -> None:
    for twin in (copy.copy(made()), copy.deepcopy(made())):
        assert twin == made()
        assert dict(twin.picks) == PICKS


picks = st.one_of(
    st.text(max_size=5),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(st.text(max_size=3), max_size=4).map(tuple),
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
relaxed = settings(deadline=None)
finite_scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)


@relaxed
@given(
    st.text(max_size=8),
    st.dictionaries(st.text(max_size=4), st.lists(finite_scalars, max_size=3) | finite_scalars, max_size=4),
    st.dictionaries(st.text(max_size=4), picks, max_size=5),
)
def test_every_architecture_survives_json(space: str, options: dict[str, Any], picked: dict[str, Any]) -> None:
    architecture = Architecture(space, options, picked)
    back = Architecture.from_json(architecture.to_json())
    assert back == architecture
    assert dict(back.picks) == picked
    assert {name: type(pick) for name, pick in back.picks.items()} == {n: type(p) for n, p in picked.items()}
    assert Architecture.from_json(architecture.to_json().encode()) == architecture


def valid_or_refused(text: str | bytes) -> Architecture | None:
    """The architecture, checked in every respect; None where it was refused as it should be."""
    try:
        architecture = Architecture.from_json(text)
    except ArchitectureError as error:
        return None if str(error) else pytest.fail("a refusal that says nothing")
    assert isinstance(architecture.space, str)
    assert all(type(name) is str for name in architecture.picks)
    for pick in architecture.picks.values():
        assert isinstance(pick, str | int | float) or (type(pick) is tuple and all(type(name) is str for name in pick))
        assert not isinstance(pick, float) or math.isfinite(pick)
    assert architecture.id == hashlib.sha256(architecture.to_json().encode()).hexdigest()
    assert Architecture.from_json(architecture.to_json()) == architecture
    assert pickle.loads(pickle.dumps(architecture)) == architecture  # noqa: S301 (our own)
    hash(architecture)
    return architecture


@relaxed
@given(json_values)
def test_any_json_value_is_refused_unless_it_is_an_architecture(value: object) -> None:
    assert valid_or_refused(json.dumps(value)) is None or (
        isinstance(value, dict) and set(value) == {"space", "options", "picks"}
    )


@settings(relaxed, max_examples=300)
@given(
    st.text(max_size=3) | json_values,
    st.dictionaries(st.text(max_size=3), json_values, max_size=3) | json_values,
    st.dictionaries(st.text(max_size=3), json_values, max_size=3) | json_values,
)
def test_anything_in_an_architectures_place_is_refused_or_valid(space: object, options: object, picked: object) -> None:
    """Refused exactly where a part has the wrong shape or a number that JSON has no notation for."""

    def finite(value: object) -> bool:
        values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return all(map(finite, values)) and not (isinstance(value, float) and not math.isfinite(value))

    def pickable(value: object) -> bool:
        names = isinstance(value, list) and all(isinstance(name, str) for name in value)
        return names or isinstance(value, str | int | float)

    right = (
        isinstance(space, str)
        and isinstance(options, dict)
        and isinstance(picked, dict)
        and finite(options)
        and all(pickable(pick) and finite(pick) for pick in picked.values())
    )
    text = json.dumps({"space": space, "options": options, "picks": picked})
    assert (valid_or_refused(text) is not None) == right


@relaxed
@given(st.text())
@example("")
@example("\ufeff{}")
@example('{"space":"\ud800","options":{},"picks":{}}')
def test_any_text_is_refused_or_valid(text: str) -> None:
    valid_or_refused(text)


@relaxed
@given(st.binary())
@example(b"\xff\xfe{")
@example(b"\x00\x00\x00{")
@example(CANONICAL.encode("utf-16"))
def test_any_bytes_are_refused_or_valid(data: bytes) -> None:
    valid_or_refused(data)


@relaxed
@given(st.integers(0, len(CANONICAL)), st.text(max_size=3), st.integers(0, 10))
def test_a_damaged_file_is_refused_or_valid(where: int, put: str, cut: int) -> None:
    valid_or_refused(CANONICAL[:where] + put + CANONICAL[where + cut :])


@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("levels", [50, 200, 300, 450, 700, 950, 990, 1_000, 2_000, 200_000])
def test_deep_nesting_is_refused_or_valid(opening: str, levels: int) -> None:
    closing = "]" if opening == "[" else "}"
    nested = opening * levels + "1" + closing * levels
    for text in (nested, opening * levels, f'{{"space":"s","options":{{}},"picks":{{"x":{nested}}}}}'):
        with pytest.raises(ArchitectureError):
            Architecture.from_json(text)
    try:
        kept = Architecture.from_json(f'{{"space":"s","options":{{"x":{nested}}},"picks":{{}}}}')
    except ArchitectureError:
        assert levels > 200
    else:
        assert levels < 200_000
        assert nested in kept.to_json()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_numbers_that_are_none_are_refused_wherever_they_stand(number: str) -> None:
    for text in (
        f'{{"space":"s","options":{{}},"picks":{{"a":{number}}}}}',
        f'{{"space":"s","options":{{"a":[1,{{"b":{number}}}]}},"picks":{{}}}}',
        number,
    ):
        with pytest.raises(ArchitectureError):
            Architecture.from_json(text)


def test_huge_integers_keep_every_digit_or_are_refused() -> None:
    digits = "9" * 4_000
    kept = Architecture.from_json(f'{{"space":"s","options":{{}},"picks":{{"a":{digits}}}}}')
    assert digits in kept.to_json()
    with pytest.raises(ArchitectureError):
        Architecture.from_json(f'{{"space":"s","options":{{}},"picks":{{"a":{"9" * 5_000}}}}}')


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ([], "mapping"),
        ({"space": "s", "options": {}}, "'picks'"),
        ({"space": "s", "options": {}, "picks": {}, "more": 1}, "'picks'"),
        ({"space": 1, "options": {}, "picks": {}}, "'space'"),
        ({"space": "s", "options": [], "picks": {}}, "'options'"),
        ({"space": "s", "options": {}, "picks": {"op": None}}, "'op'"),
        ({"space": "s", "options": {}, "picks": {"op": {"a": 1}}}, "'op'"),
        ({"space": "s", "options": {}, "picks": {"op": ["a", 1]}}, "'op'"),
        ({"space": "s", "options": {}, "picks": {3: "a"}}, "3"),
        ({"space": "s", "options": {"f": object()}, "picks": {}}, "JSON"),
    ],
)
def test_a_refusal_names_what_is_wrong(data: object, named: str) -> None:
    with pytest.raises(ArchitectureError, match=named):
        Architecture.from_dict(data)
