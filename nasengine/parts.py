"""From a configuration's names, or a user's own objects, to the four parts of a search, fitted together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from .errors import ConfigError, NasError, PluginError, RunError, one_line
from .plugin import Plugin

if TYPE_CHECKING:
    from .config import Config
    from .plan import Plan
    from .registry import Kind

Objects: TypeAlias = "Mapping[Kind, Plugin]"
"""Plugins that were given as objects, by kind."""


def resolve(config: Config, objects: Objects) -> Plan:
    """The objects that a configuration names, fitted together. Raises NasError where they do not fit."""
    from .plan import Plan
    from .trial import Objective

    space: Any = _part("space", config, objects)
    strategy: Any = _part("strategy", config, objects)
    evaluator: Any = _part("evaluator", config, objects)
    task: Any = _part("task", config, objects)
    with _naming("task", task):
        objectives = [Objective.parse(text) for text in config.objectives or task.objectives]
        for fidelity in (config.fidelity, config.final_fidelity):
            task.check(fidelity)
    if len(objectives) > 1 and not strategy.several_objectives:
        raise ConfigError(
            f"the strategy {strategy.known_as!r} looks at one objective only, and {len(objectives)} were asked for: "
            f"{', '.join(map(str, objectives))}; choose one, or a strategy that takes several, such as random"
        )
    with _naming("space", space, f" for the task {task.known_as!r}"):
        domain = space.domain(task)
    return Plan(config, space, strategy, evaluator, task, domain, objectives)


@contextmanager
def _naming(kind: Kind, plugin: Plugin, beside: str = "") -> Iterator[None]:
    """What a plugin raises while the parts are fitted together, as PluginError that names it."""
    try:
        yield
    except NasError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(f"the {kind} {plugin.known_as!r} does not work{beside}: {one_line(error)}") from error


def restore(kind: Kind, config: Config, about: Mapping[str, Any], objects: Mapping[Any, Plugin]) -> Plugin:
    """A run's plugin made again. Raises RunError where it was an object that has no name."""
    if kind not in objects and kind in about["in_memory"]:
        name = getattr(config, kind).name
        raise RunError(
            f"the run's {kind} was an object ({name}) that cannot be made again from its name; go on from Python: "
            f"nasengine.resume(folder, {kind}=…)"
        )
    return _part(kind, config, objects)


def refuse_other_code(plugins: Mapping[Kind, Plugin], about: Mapping[str, Any]) -> None:
    """Raises RunError where a plugin is not the code that the run was started with."""
    from .registry import fingerprint

    for kind, plugin in plugins.items():
        then, now = about["plugins"][kind], fingerprint(plugin)
        if then != now:
            raise RunError(
                f"the run was started with the {kind} {plugin.known_as!r} of {then}, and {now} is here now; install "
                f"the former to go on, or start a new run"
            )


def _part(kind: Kind, config: Config, objects: Mapping[Any, Plugin]) -> Plugin:
    from .registry import bases, make

    if kind not in objects:
        choice = getattr(config, kind)
        return make(kind, choice.name, choice.options)
    plugin = objects[kind]
    base = bases()[kind]
    if not isinstance(plugin, base):
        raise ConfigError(f"the {kind} is {plugin!r}; expected a name or a nasengine.{base.__name__}")
    return plugin


def choice_of(kind: Any, plugin: Plugin) -> Any:
    """An object as the configuration names it: options that are no JSON values are left to the object."""
    from .config import PluginChoice
    from .registry import importable, name_of

    plugin.known_as = name_of(kind, plugin)
    return PluginChoice(name=plugin.known_as, options=plugin.settings if importable(plugin) else {})
