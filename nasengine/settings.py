"""How settings are written, in flags, YAML and Python, and what is said of those that are not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from .errors import ConfigError, near_miss
from .evaluator import Fidelity
from .registry import split


class PluginChoice(BaseModel):
    """A plugin's name and options. In YAML: `cell`, `cell:layers=4`, or `cell: {layers: 4}`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    options: dict[str, Any] = {}

    def __str__(self) -> str:
        """`cell:layers=4`, as a command has it."""
        options = [f"{key}={v if isinstance(v, str) else json.dumps(v)}" for key, v in plain(self.options).items()]
        return f"{self.name}:{','.join(options)}" if options else self.name

    def to_dict(self) -> Any:
        return {self.name: plain(self.options)} if self.options or ":" in self.name else self.name


def plain(value: Any) -> Any:
    """What YAML and JSON hold, all the way down: tuples as lists, numpy's numbers as Python's."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return next((kind(value) for kind in (bool, int, float, str) if isinstance(value, kind)), value)


def sentenced(validate: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The validator, whose ConfigError is the answer as it stands."""

    def validated(value: Any) -> Any:
        try:
            return validate(value)
        except ConfigError as error:
            raise PydanticCustomError("sentence", "{said}", {"said": str(error)}) from None

    return validated


def plugin(value: Any) -> Any:
    if isinstance(value, str):
        _text(value)
        name, options = split(value)
        return PluginChoice(name=name, options=options)
    if isinstance(value, dict) and len(value) == 1:
        ((name, options),) = value.items()
        if isinstance(name, str) and isinstance(options, dict | None):
            if not _has_names(options):
                raise ValueError("options whose mappings have texts as keys, which is all that the record keeps")
            return PluginChoice(name=_text(name), options=options or {})
    if isinstance(value, PluginChoice):
        return value
    raise ValueError("a plugin's name, or its name and a mapping of its options")


def _has_names(value: Any) -> bool:
    """Whether the keys of all mappings in it are texts: as JSON they would become so."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _has_names(item) for key, item in value.items())
    return all(map(_has_names, value)) if isinstance(value, list | tuple) else True


def _text(value: str) -> str:
    """Raises ValueError for a text that no file can have as its name."""
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("a text without NUL bytes and halves of characters")
    return value


def seconds(value: Any) -> Any:
    """`90`, `90s`, `10m`, `1.5h` or `2d` in seconds."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd]?)\s*", value)
        if not match:
            raise ValueError("a time such as 90s, 10m or 1.5h")
        return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
    return value


def amount_of_bytes(value: Any) -> Any:
    """`800m`, `4g` or `2.5GB` in bytes."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", value.lower())
        if not match:
            raise ValueError("an amount of memory such as 800m or 4g")
        return int(float(match[1]) * 1024 ** " kmgt".index(match[2] or " "))
    return value


def _by_name(text: str, expected: str) -> dict[str, Any]:
    try:
        return split(f"these:{text}")[1]
    except ConfigError:
        raise ValueError(expected) from None


def _fidelity(value: Any) -> Any:
    """`epochs=5,data=0.25`, a mapping, or a Fidelity."""
    if isinstance(value, str):
        value = _by_name(value, "numbers by name, such as epochs=5,data=0.25")
    if isinstance(value, dict):
        if unknown := set(value) - set(Fidelity.__dataclass_fields__):
            name = min(map(str, unknown))
            allowed = ", ".join(Fidelity.__dataclass_fields__)
            raise ValueError(f"of the fields {allowed}; there is no {name!r}.{near_miss(name, allowed.split(', '))}")
        if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in value.values() if v is not None):
            raise ValueError("numbers, such as epochs=5,data=0.25")
        return Fidelity(**value)
    return value


def options_by_name(value: Any) -> Any:
    """`layers=20,channels=36`, or a mapping."""
    if isinstance(value, str):
        return _by_name(value, "options by name, such as layers=20,channels=36")
    if isinstance(value, dict) and not _has_names(value):
        raise ValueError("options by name")
    return value


PluginField = Annotated[PluginChoice, BeforeValidator(sentenced(plugin))]
FidelityField = Annotated[Fidelity, BeforeValidator(sentenced(_fidelity))]
Text = Annotated[str, AfterValidator(_text)]


class FunnelStage(BaseModel):
    """How a funnel's candidates are judged at one stage, and how many of them: `zero_cost:proxy=synflow:1000`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    evaluator: PluginField
    candidates: Annotated[int, Field(ge=1, strict=True)]

    def __str__(self) -> str:
        return f"{self.evaluator}:{self.candidates}"

    def to_dict(self) -> dict[str, Any]:
        return {"evaluator": self.evaluator.to_dict(), "candidates": self.candidates}


def funnel_of(value: Any) -> tuple[FunnelStage, ...]:
    """`zero_cost:1000,train:5`, or a list of stages, each such a text or a mapping. Raises ConfigError."""
    expected = "expected EVALUATOR:CANDIDATES,EVALUATOR:CANDIDATES, such as zero_cost:1000,train:5"
    if isinstance(value, str):
        parts = re.findall(r"(?:^|,)(.+?:\d+)(?=,|$)", value)
        if not parts or ",".join(parts) != value:
            raise ConfigError(f"the funnel is {value!r:.80}; {expected}")
        value = parts
    if not isinstance(value, list | tuple):
        raise ConfigError(f"the funnel is {value!r:.80}; {expected}")
    stages = []
    for given in value:
        if isinstance(given, str):
            name, _, count = given.rpartition(":")
            if not name or not count.isdigit():
                raise ConfigError(f"a stage of the funnel is {given!r:.80}; {expected}")
            given = {"evaluator": name, "candidates": int(count)}
        if not isinstance(given, dict | FunnelStage):
            raise ConfigError(f"a stage of the funnel is {given!r:.80}; {expected}")
        try:
            stages.append(FunnelStage.model_validate(given))
        except ValidationError as error:
            raise ConfigError(sentence_of(error, "a stage of the funnel", list(FunnelStage.model_fields))) from None
    if len(stages) == 1:
        raise ConfigError(f"the funnel is one stage only; {expected}")
    for before, after in pairwise(stages):
        if after.candidates > before.candidates:
            raise ConfigError(
                f"the funnel is to grow from {before.candidates} candidates to {after.candidates}; {expected}"
            )
    return tuple(stages)


def as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str | dict) else value


def sentence_of(error: ValidationError, source: str, allowed: Sequence[str]) -> str:
    """What is wrong, in one sentence that names the key, what it was given and what is allowed."""
    first = error.errors()[0]
    key = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        return f"{source}: no setting is named {key!r}.{near_miss(key, allowed)} Settings: {', '.join(allowed)}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "sentence":
        named = message if not key or message.startswith(f"{key} is ") else f"{key}: {message}"
        return f"{source}: {named}"
    if not key:  # about several settings at once: it names them itself
        return f"{source}: {message}"
    if first["type"] == "missing":
        return f"{source}: {key} is not there; expected {' and '.join(allowed)}"
    message = message.removeprefix("Assertion failed, ").removeprefix("Input should be ")
    return f"{source}: {key} is {first['input']!r:.80}; expected {message}"
