"""A plugin's options: its constructor's arguments, and what a user says of them as the types that they have."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import is_dataclass
from types import NoneType, SimpleNamespace, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from .errors import ConfigError, near_miss
from .plugin import Plugin


def options_of(cls: type[Plugin]) -> dict[str, inspect.Parameter]:
    """The keyword arguments of the plugin's constructor."""
    if cls.__init__ is object.__init__:
        return {}
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    return {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def _hints(cls: type[Plugin]) -> dict[str, Any]:
    """The types of the constructor's arguments, but for those that exist for type checkers only. What a dataclass's
    field says is looked up where the base is that has the field."""
    own = cls.__init__  # object's, where there is none
    given = [(getattr(own, "__annotations__", {}), getattr(own, "__globals__", {}))]
    if is_dataclass(cls):
        bases = [base for base in reversed(cls.__mro__) if base.__module__ in sys.modules]
        given = [(vars(base).get("__annotations__", {}), vars(sys.modules[base.__module__])) for base in bases]
    hints: dict[str, Any] = {}
    for annotated, names in given:
        for name, hint in annotated.items():
            with suppress(NameError, TypeError):
                hints |= get_type_hints(SimpleNamespace(__annotations__={name: hint}), names)
    return hints


def check_options(kind: str, name: str, cls: type[Plugin], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options converted to the types of the constructor. Raises ConfigError, naming the option."""
    from pydantic import TypeAdapter, ValidationError

    known, hints = options_of(cls), _hints(cls)
    checked = {}
    for option, value in options.items():
        if option not in known:
            allowed = ", ".join(known) or "none"
            raise ConfigError(
                f"the {kind} {name!r} has no option {option!r}.{near_miss(option, known)} It has: {allowed}"
            )
        hint = hints.get(option, Any)
        if isinstance(value, int) and not isinstance(value, bool) and hint in (str, str | None):
            value = str(value)  # a path or a name that happens to be a number
        try:
            checked[option] = TypeAdapter(hint).validate_python(value)
            if isinstance(value, bool) and hint is not Any and not isinstance(checked[option], bool):
                raise ValueError("a yes or no")
        except (ValidationError, ValueError):
            expected = _shown(hint)
            raise ConfigError(
                f"the option {option!r} of the {kind} {name!r} is {value!r}; expected {expected}"
            ) from None
    missing = [n for n, p in known.items() if p.default is p.empty and n not in options]
    if missing:
        raise ConfigError(f"the {kind} {name!r} needs the option {missing[0]!r}: {name}:{missing[0]}=…")
    return checked


def types_of(cls: type[Plugin]) -> dict[str, str]:
    """The types of the options as their values are written: `int | None`, `sgd | adam | adamw`."""
    return {name: _shown(hint) for name, hint in _hints(cls).items()}


def _shown(hint: Any) -> str:
    """A type as an option's value is written."""
    if get_origin(hint) in (Union, UnionType):
        return " | ".join(_shown(part) for part in get_args(hint))
    if get_origin(hint) is Literal:
        return " | ".join(map(str, get_args(hint)))
    if hint is NoneType:
        return "None"
    return str(getattr(hint, "__name__", hint)) if get_origin(hint) is None else str(hint).replace("typing.", "")
