"""Config: what was asked, from flags, a YAML file or Python, as one validated object."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from .cost import Constraint
from .errors import ConfigError, near_miss
from .evaluator import Fidelity
from .latency import read_table
from .machine import MACHINE
from .registry import split
from .trial import Objective


class PluginChoice(BaseModel):
    """A plugin's name and options. In YAML: `cell`, `cell:layers=4`, or `cell: {layers: 4}`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    options: dict[str, Any] = {}

    def __str__(self) -> str:
        """`cell:layers=4`, as a command has it."""
        options = [f"{key}={v if isinstance(v, str) else json.dumps(v)}" for key, v in _plain(self.options).items()]
        return f"{self.name}:{','.join(options)}" if options else self.name

    def to_dict(self) -> Any:
        return {self.name: _plain(self.options)} if self.options or ":" in self.name else self.name


def _plain(value: Any) -> Any:
    """What YAML and JSON hold, all the way down: tuples as lists, numpy's numbers as Python's."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return next((kind(value) for kind in (bool, int, float, str) if isinstance(value, kind)), value)


def _sentenced(validate: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The validator, whose ConfigError is the answer as it stands."""

    def validated(value: Any) -> Any:
        try:
            return validate(value)
        except ConfigError as error:
            raise PydanticCustomError("sentence", "{said}", {"said": str(error)}) from None

    return validated


def _plugin(value: Any) -> Any:
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


def _seconds(value: Any) -> Any:
    """`90`, `90s`, `10m`, `1.5h` or `2d` in seconds."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd]?)\s*", value)
        if not match:
            raise ValueError("a time such as 90s, 10m or 1.5h")
        return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
    return value


def _bytes(value: Any) -> Any:
    """`800m`, `4g` or `2.5GB` in bytes."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", value.lower())
        if not match:
            raise ValueError("an amount of memory such as 800m or 4g")
        return int(float(match[1]) * 1024 ** " kmgt".index(match[2] or " "))
    return value


def _fidelity(value: Any) -> Any:
    """`epochs=5,data=0.25`, a mapping, or a Fidelity."""
    if isinstance(value, str):
        value = split(f"fidelity:{value}")[1]
    if isinstance(value, dict):
        if unknown := set(value) - set(Fidelity.__dataclass_fields__):
            name = min(map(str, unknown))
            allowed = ", ".join(Fidelity.__dataclass_fields__)
            raise ValueError(f"of the fields {allowed}; there is no {name!r}.{near_miss(name, allowed.split(', '))}")
        if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in value.values() if v is not None):
            raise ValueError("numbers, such as epochs=5,data=0.25")
        return Fidelity(**value)
    return value


def _options(value: Any) -> Any:
    """`layers=20,channels=36`, or a mapping."""
    if isinstance(value, str):
        return split(f"final:{value}")[1]
    if isinstance(value, dict) and not _has_names(value):
        raise ValueError("options by name")
    return value


ONLY_WHERE_ASKED = ("final", "constraints", "latency_table", "start_from", "clock", "proxy", "funnel", "stoppers")
"""Settings that a run's file leaves out where they say nothing."""

PluginField = Annotated[PluginChoice, BeforeValidator(_sentenced(_plugin))]
FidelityField = Annotated[Fidelity, BeforeValidator(_sentenced(_fidelity))]
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


def _funnel(value: Any) -> tuple[FunnelStage, ...]:
    """`zero_cost:1000,train:5`, or a list of stages, each such a text or a mapping. Raises ConfigError."""
    expected = "a funnel is written as EVALUATOR:CANDIDATES,EVALUATOR:CANDIDATES, such as zero_cost:1000,train:5"
    if isinstance(value, str):
        parts = re.findall(r"(?:^|,)(.+?:\d+)(?=,|$)", value)
        if ",".join(parts) != value:
            raise ConfigError(f"{value!r:.80} is no funnel; {expected}")
        value = parts
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{value!r:.80} is no funnel; {expected}")
    stages = []
    for given in value:
        if isinstance(given, str):
            name, _, count = given.rpartition(":")
            if not name or not count.isdigit():
                raise ConfigError(f"{given!r:.80} is no stage of a funnel; {expected}")
            given = {"evaluator": name, "candidates": int(count)}
        try:
            stages.append(FunnelStage.model_validate(given))
        except ValidationError as error:
            raise ConfigError(_sentence(error, "a stage of the funnel")) from None
    if len(stages) == 1:
        raise ConfigError(f"the funnel has one stage; {expected}")
    for before, after in pairwise(stages):
        if after.candidates > before.candidates:
            raise ConfigError(f"the funnel grows from {before.candidates} candidates to {after.candidates}; {expected}")
    return tuple(stages)


def _stoppers(value: Any) -> Any:
    return (value,) if isinstance(value, str | dict) else value


class Config(BaseModel):
    """Everything that decides what a run does. `nas run --config FILE` reads it; every run's folder holds it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    space: PluginField = PluginChoice(name="cell")
    strategy: PluginField = PluginChoice(name="darts")
    evaluator: PluginField = PluginChoice(name="train")
    task: PluginField = PluginChoice(name="digits")
    proxy: PluginField | None = None
    funnel: tuple[FunnelStage, ...] = ()
    stoppers: Annotated[tuple[PluginField, ...], BeforeValidator(_stoppers)] = ()
    trials: Annotated[int, Field(ge=0, strict=True)] = 20
    time_limit: Annotated[float, Field(gt=0), BeforeValidator(_seconds)] | None = None
    clock: Literal["real", "simulated"] = "real"
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)] = 0
    objectives: tuple[str, ...] = ()
    fidelity: FidelityField = Fidelity()
    final_fidelity: FidelityField = Fidelity()
    final: Annotated[dict[str, Any], BeforeValidator(_sentenced(_options))] = {}
    constraints: tuple[str, ...] = ()
    latency_table: Annotated[dict[str, Any], BeforeValidator(_sentenced(read_table))] | None = None
    start_from: tuple[Any, ...] = ()
    baseline: Annotated[int, Field(ge=0, strict=True)] = 3
    max_failures: Annotated[float, Field(ge=0, le=1)] = 0.5
    threads: Annotated[int, Field(ge=1, strict=True)] | None = None
    data: Text | None = None
    storage: Text | None = None
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    workers: Annotated[int, Field(ge=1, strict=True)] = 1
    ray: str | None = None
    cpus_per_trial: Annotated[float, Field(gt=0)] | None = None
    gpus_per_trial: Annotated[float, Field(ge=0)] | None = None
    memory_per_trial: Annotated[int, Field(ge=2**20), BeforeValidator(_bytes)] | None = None
    time_per_trial: Annotated[float, Field(gt=0), BeforeValidator(_seconds)] | None = None
    retries: Annotated[int, Field(ge=0, strict=True)] = 2
    dashboard: bool = False
    dashboard_host: str = "127.0.0.1"
    allow_public: bool = False

    @model_validator(mode="before")
    @classmethod
    def _judged_first(cls, given: Any) -> Any:
        """A funnel says by whom the candidates are judged first, and how many there are."""
        if not isinstance(given, dict) or not given.get("funnel"):
            return given
        stages = _sentenced(_funnel)(given["funnel"])
        first = stages[0]
        evaluator, trials = given.get("evaluator"), given.get("trials")
        if evaluator is not None and _sentenced(_plugin)(evaluator) != first.evaluator:
            raise ValueError(f"the funnel begins with {first}, and the evaluator is {evaluator!r:.80}; leave one out")
        if trials not in (None, first.candidates):
            raise ValueError(f"the funnel begins with {first}, and trials is {trials!r:.80}; leave one out")
        return {**given, "funnel": stages, "evaluator": first.evaluator, "trials": first.candidates}

    @model_validator(mode="after")
    def _something_to_do(self) -> Self:
        if self.trials == 0 and not self.start_from:
            raise ValueError("trials is 0; expected at least 1, or an architecture to start from, to be trained")
        return self

    @model_validator(mode="after")
    def _private(self) -> Self:
        host, private = self.dashboard_host, ("127.0.0.1", "localhost", "::1")
        if host not in private and not self.allow_public:
            raise ValueError(
                f"dashboard_host is {host!r}; expected 127.0.0.1: whoever reaches Ray's dashboard can run code as you. "
                f"If all who reach it may, say so with --allow-public"
            )
        return self

    @field_validator("objectives", mode="before")
    @classmethod
    def _objectives(cls, value: Any) -> Any:
        return tuple(part for part in value.split(",") if part) if isinstance(value, str) else value

    @field_validator("constraints", "start_from", mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | dict) else value

    @field_validator("constraints")
    @classmethod
    def _bounds(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_sentenced(lambda text: str(Constraint.parse(text)))(text) for text in value)

    @field_validator("start_from")
    @classmethod
    def _known(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if not all(isinstance(given, str | dict) for given in value):
            raise ValueError("names of reference architectures, files, or architectures' JSON")
        return value

    @field_validator("objectives")
    @classmethod
    def _parsed(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_sentenced(lambda text: str(Objective.parse(text)))(text) for text in value)

    def requests_in(self, phase: str) -> int:
        """How many requests a phase of the run has at most (see `Observer.began`)."""
        if phase.startswith("stage "):
            return self.funnel[int(phase.split()[1]) - 1].candidates
        return {"search": self.trials, "preparation": 1}.get(phase, 1 + self.baseline)

    @property
    def searched(self) -> int:
        """How many requests the search has at most, all stages of a funnel together."""
        return sum(stage.candidates for stage in self.funnel) or self.trials

    @classmethod
    def of(cls, settings: dict[str, Any], source: str = "the settings") -> Self:
        """Raises ConfigError: one sentence that names the key, what it was given and what is allowed."""
        try:
            return cls.model_validate(settings)
        except ValidationError as error:
            raise ConfigError(_sentence(error, source)) from None

    @classmethod
    def read(cls, path: Path, **overrides: Any) -> Self:
        """A YAML file's settings, with others on top. Raises ConfigError."""
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"the configuration {path} cannot be read: {error.strerror}") from None
        except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
            problem = str(error).splitlines()[0] if str(error) else "nested too deeply"
            mark = getattr(error, "problem_mark", None)
            where = f", line {mark.line + 1}" if mark else ""
            raise ConfigError(f"the configuration {path} is no YAML{where}: {problem}") from None
        if content is None:
            content = {}
        if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
            raise ConfigError(f"the configuration {path} holds {content!r:.60}; expected settings by name")
        return cls.of({**content, **overrides}, str(path))

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values, which `of` takes back."""
        settings: dict[str, Any] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if name in (*MACHINE, *ONLY_WHERE_ASKED) and value == type(self).model_fields[name].default:
                continue
            if isinstance(value, PluginChoice):
                value = value.to_dict()
            elif isinstance(value, Fidelity):
                value = value.reductions
            elif isinstance(value, tuple):
                value = [item.to_dict() if isinstance(item, PluginChoice | FunnelStage) else item for item in value]
            if value is not None:
                settings[name] = value
        return settings

    def to_yaml(self) -> str:
        """The file that would repeat the run."""
        text = yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)
        return f"# nas run --config THIS_FILE repeats the run.\n{text}"


def _sentence(error: ValidationError, source: str) -> str:
    first = error.errors()[0]
    key = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        allowed = list(Config.model_fields)
        return f"{source}: no setting is named {key!r}.{near_miss(key, allowed)} Settings: {', '.join(allowed)}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "sentence":
        return f"{source}: {key}: {message}"
    if not key:  # about several settings at once: it names them itself
        return f"{source}: {message}"
    message = message.removeprefix("Assertion failed, ").removeprefix("Input should be ")
    return f"{source}: {key} is {first['input']!r:.80}; expected {message}"
