"""Architecture: a point of a search space, as an immutable, hashable, JSON value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import Any, TypeAlias

from .errors import ArchitectureError

Pick: TypeAlias = str | int | float | tuple[str, ...]
"""What was picked at a decision: an option's name, a number, or the names kept by a k-of-n choice."""


class Architecture:
    """The name and options of a space, and what was picked at each of its active decisions.

    Two architectures are equal when their canonical JSON is; `id` is its SHA-256, the same in every process.
    """

    __slots__ = ("_id", "_options", "options", "picks", "space")

    space: str
    options: Mapping[str, Any]
    picks: Mapping[str, Pick]
    _id: str
    _options: str
    """The options as canonical JSON: architectures of one space share it, and it is most of what an id is made of."""

    def __init__(self, space: str, options: Mapping[str, Any], picks: Mapping[str, Pick]) -> None:
        set_ = object.__setattr__
        set_(self, "space", space)
        trusted = type(options) is MappingProxyType  # another architecture's: a domain makes many and looks at few
        set_(self, "options", options if trusted else _frozen(options))
        set_(self, "picks", _frozen(picks))
        set_(self, "_options", "")
        set_(self, "_id", "" if trusted else self._digest())

    def with_picks(self, picks: Mapping[str, Pick]) -> Architecture:
        """Another architecture of the same space with the same options."""
        made = Architecture(self.space, self.options, picks)
        object.__setattr__(made, "_options", self._options_json())
        return made

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"an Architecture is immutable: cannot set {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"an Architecture is immutable: cannot delete {name!r}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Architecture) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.space, _plain(self.options), dict(self.picks), self.id)

    def __repr__(self) -> str:
        return f"Architecture({self.space!r}, id={self.short!r}, {len(self.picks)} picks)"

    @property
    def id(self) -> str:
        """SHA-256 of the canonical JSON: the same in every process and release."""
        if not self._id:
            object.__setattr__(self, "_id", self._digest())
        return self._id

    def _digest(self) -> str:
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def _options_json(self) -> str:
        if not self._options:
            object.__setattr__(self, "_options", _canonical(_plain(self.options)))
        return self._options

    @property
    def short(self) -> str:
        """The first ten digits of the id, for people."""
        return self.id[:10]

    def to_dict(self) -> dict[str, Any]:
        """What `to_json` writes, as fresh dicts and lists: equal to what reading that JSON gives."""
        return {"space": self.space, "options": _plain(self.options), "picks": _plain(self.picks)}

    def to_json(self, indent: int | None = None) -> str:
        """Canonical JSON: sorted keys and no spaces, unless an indent is asked for."""
        if indent is not None:
            return json.dumps(self.to_dict(), sort_keys=True, indent=indent, allow_nan=False)
        picks, space = _canonical(_plain(self.picks)), _canonical(self.space)
        return f'{{"options":{self._options_json()},"picks":{picks},"space":{space}}}'

    @classmethod
    def from_dict(cls, data: object) -> Architecture:
        """Raises ArchitectureError where `data` is not what `to_dict` gives."""
        if not isinstance(data, dict) or set(data) != {"space", "options", "picks"}:
            raise ArchitectureError("an architecture is a mapping with the keys 'space', 'options' and 'picks'")
        space, options, picks = data["space"], data["options"], data["picks"]
        if not isinstance(space, str) or not isinstance(options, dict) or not isinstance(picks, dict):
            raise ArchitectureError("an architecture's 'space' is a name, its 'options' and 'picks' are mappings")
        for name, pick in picks.items():
            if not isinstance(name, str):
                raise ArchitectureError(f"an architecture's picks have names; one has {name!r}")
            kept = isinstance(pick, list | tuple) and all(isinstance(item, str) for item in pick)
            if not kept and not isinstance(pick, str | int | float):
                kind = type(pick).__name__  # not the pick itself: it may be too deep to be shown
                raise ArchitectureError(f"the pick {name!r} is a {kind}; expected a name, a number or a list of names")
        try:
            return cls(space, options, picks)
        except (TypeError, ValueError, RecursionError) as error:
            raise ArchitectureError(f"an architecture holds something that JSON cannot: {error}") from None

    @classmethod
    def from_json(cls, text: str | bytes) -> Architecture:
        """Raises ArchitectureError where `text` is not an architecture's JSON."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ArchitectureError(f"not an architecture's JSON: {str(error)[:100]}") from None
        return cls.from_dict(data)

    def to_nasbench201(self) -> str:
        """The cell as a string of NAS-Bench-201. Raises ArchitectureError unless it is of the space `nasbench201`."""
        text: str = _space("nasbench201").to_nasbench201(self)
        return text

    @classmethod
    def from_nasbench201(cls, text: str, **options: int | None) -> Architecture:
        """The architecture of a string of NAS-Bench-201, in the space `nasbench201` with these options.

        Raises ArchitectureError where `text` is no such string.
        """
        architecture: Architecture = _space("nasbench201").from_nasbench201(text, **options)
        return architecture


def _unpickled(space: str, options: dict[str, Any], picks: dict[str, Pick], identity: str) -> Architecture:
    """From another process of ours, which has worked out the id."""
    architecture = Architecture(space, _frozen(options), picks)  # the options are trusted: no id is worked out
    object.__setattr__(architecture, "_id", identity)
    return architecture


@cache
def _space(name: str) -> Any:
    """The module of a registered space."""
    from .registry import load

    return import_module(load("space", name).__module__)


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode

SCALARS = frozenset({str, int, float, bool, type(None)})


def _frozen(value: Any) -> Any:
    """The value with nothing left in it that can be changed: an id stays true as long as the object lives."""
    if type(value) in SCALARS:  # nearly all are, and an abstract class is slow to ask
        return value
    if isinstance(value, Mapping):
        return MappingProxyType({n: item if type(item) in SCALARS else _frozen(item) for n, item in value.items()})
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value


def _plain(value: Any) -> Any:
    """The inverse, in JSON's types."""
    if type(value) in SCALARS:
        return value
    if isinstance(value, Mapping):
        return {name: item if type(item) in SCALARS else _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
