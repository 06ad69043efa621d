"""Config: what was asked, from flags, a YAML file or Python, as one validated object."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from .cost import Constraint
from .errors import ConfigError
from .evaluator import Fidelity
from .latency import read_table
from .machine import MACHINE
from .settings import (
    FidelityField,
    FunnelStage,
    PluginChoice,
    PluginField,
    Text,
    amount_of_bytes,
    as_tuple,
    funnel_of,
    options_by_name,
    plugin,
    seconds,
    sentence_of,
    sentenced,
)
from .trial import Objective

ONLY_WHERE_ASKED = ("final", "constraints", "latency_table", "start_from", "clock", "proxy", "funnel", "stoppers")
"""Settings that a run's file leaves out where they say nothing."""


class Config(BaseModel):
    """Everything that decides what a run does. `nas run --config FILE` reads it; every run's folder holds it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    space: PluginField = PluginChoice(name="cell")
    strategy: PluginField = PluginChoice(name="darts")
    evaluator: PluginField = PluginChoice(name="train")
    task: PluginField = PluginChoice(name="digits")
    proxy: PluginField | None = None
    funnel: tuple[FunnelStage, ...] = ()
    stoppers: Annotated[tuple[PluginField, ...], BeforeValidator(as_tuple)] = ()
    trials: Annotated[int, Field(ge=0, strict=True)] = 20
    time_limit: Annotated[float, Field(gt=0), BeforeValidator(seconds)] | None = None
    clock: Literal["real", "simulated"] = "real"
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)] = 0
    objectives: tuple[str, ...] = ()
    fidelity: FidelityField = Fidelity()
    final_fidelity: FidelityField = Fidelity()
    final: Annotated[dict[str, Any], BeforeValidator(sentenced(options_by_name))] = {}
    constraints: tuple[str, ...] = ()
    latency_table: Annotated[dict[str, Any], BeforeValidator(sentenced(read_table))] | None = None
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
    memory_per_trial: Annotated[int, Field(ge=2**20), BeforeValidator(amount_of_bytes)] | None = None
    time_per_trial: Annotated[float, Field(gt=0), BeforeValidator(seconds)] | None = None
    retries: Annotated[int, Field(ge=0, strict=True)] = 2
    dashboard: bool = False
    dashboard_host: str = "127.0.0.1"
    allow_public: bool = False

    @model_validator(mode="before")
    @classmethod
    def _judged_first(cls, given: Any) -> Any:
        """A funnel says by whom the candidates are judged first, and how many there are."""
        if not isinstance(given, dict) or given.get("funnel") in (None, (), []):
            return given
        stages = sentenced(funnel_of)(given["funnel"])
        first = stages[0]
        evaluator, trials = given.get("evaluator"), given.get("trials")
        if evaluator is not None and sentenced(plugin)(evaluator) != first.evaluator:
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
        return tuple(sentenced(lambda text: str(Constraint.parse(text)))(text) for text in value)

    @field_validator("start_from")
    @classmethod
    def _known(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if not all(isinstance(given, str | dict) for given in value):
            raise ValueError("names of reference architectures, files, or architectures' JSON")
        return value

    @field_validator("objectives")
    @classmethod
    def _parsed(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sentenced(lambda text: str(Objective.parse(text)))(text) for text in value)

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
            raise ConfigError(sentence_of(error, source, list(cls.model_fields))) from None

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
