"""The registry: from a plugin's name to its class, whether it was installed, is importable, or stands in a file.

Listing imports nothing: names come from the entry points' metadata. Loading a plugin that is broken fails that one
only, and says whose it is.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .errors import ConfigError, NasError, PluginError, near_miss, one_line
from .options import check_options
from .plugin import Plugin, is_json

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints, SelectableGroups

    from .evaluator import Evaluator
    from .strategy import Strategy

Kind: TypeAlias = Literal["space", "strategy", "evaluator", "task", "stopper"]

GROUPS: dict[Kind, str] = {
    "space": "nasengine.search_spaces",
    "strategy": "nasengine.strategies",
    "evaluator": "nasengine.evaluators",
    "task": "nasengine.tasks",
    "stopper": "nasengine.stoppers",
}


@dataclass(frozen=True, slots=True)
class Listed:
    """An installed plugin, as its distribution's metadata describes it."""

    kind: Kind
    name: str
    target: str
    distribution: str
    version: str


def bases() -> dict[Kind, type[Plugin]]:
    """What a plugin of each kind must be a subclass of."""
    from .evaluator import Evaluator
    from .space import SearchSpace
    from .stopper import Stopper
    from .strategy import Strategy
    from .task import Task

    return {"space": SearchSpace, "strategy": Strategy, "evaluator": Evaluator, "task": Task, "stopper": Stopper}


def installed(kind: Kind) -> list[Listed]:
    """The installed plugins of a kind, by name; two distributions that claim one name both appear.

    Reading the files of a hundred distributions takes some milliseconds, and a run asks 25 times: they are read anew
    where a folder of Python's path has changed.
    """
    folders = [os.path.abspath(folder) for folder in sys.path]
    return list(_installed(kind, tuple((f, os.stat(f).st_mtime_ns) for f in folders if os.path.exists(f))))


@cache
def _installed(kind: Kind, path: tuple[tuple[str, int], ...]) -> list[Listed]:
    points = _entry_points(path).select(group=GROUPS[kind])
    known: dict[int, tuple[str, str]] = {}  # reading a distribution's metadata takes a millisecond
    found = {}
    for point in points:
        owner = known[id(point.dist)] = known.get(id(point.dist)) or _distribution(point)
        found[point.name, point.value, owner] = Listed(kind, point.name, point.value, *owner)
    return sorted(found.values(), key=lambda listed: (listed.name, listed.distribution))


@cache
def _entry_points(path: tuple[tuple[str, int], ...]) -> EntryPoints | SelectableGroups:
    """Of all kinds: to read the files of one kind is to read those of all."""
    try:
        return entry_points()
    except Exception as error:  # the standard library reads every distribution's file and trusts them all
        raise PluginError(f"the metadata of an installed distribution cannot be read: {one_line(error)}") from error


def split(text: str) -> tuple[str, dict[str, Any]]:
    """`cell:layers=4,channels=8` or `./mine.py:Mine:epochs=10` as the plugin's name and its options.

    Values are numbers, true, false, null, [lists] or text; a comma ends a value only where another `name=` follows.
    Raises ConfigError.
    """
    name, _, rest = text.partition(":")
    attribute, _, options_text = rest.partition(":")
    is_class = attribute[:1].isupper() and "=" not in attribute
    if rest and ("/" in name or "." in name or is_class):  # a file, or a module and its class
        rest = options_text
        name = f"{name}:{attribute}"
    options: dict[str, Any] = {}
    for part in re.split(r",(?=\s*[A-Za-z_]\w*\s*=)", rest) if rest else []:
        key, equals, value = part.partition("=")
        if not equals or not key.strip().isidentifier():
            raise ConfigError(f"{text!r}: {part!r} is no option; write options as NAME:option=value,option=value")
        options[key.strip()] = _value(value.strip())
    return name.strip(), options


def _value(text: str) -> Any:
    """A value as it was most likely meant. Not YAML's rules, by which `no` is a yes or no and 1e-3 is text."""
    import yaml

    if text[:1] in ("[", "{"):
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            return text
    if re.fullmatch(r"[-+]?\d+", text):
        return int(text)
    if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text):
        return float(text)
    return {"true": True, "false": False, "null": None}.get(text.lower(), text)


def load(kind: Kind, name: str) -> type[Plugin]:
    """The plugin's class. Raises PluginError where there is none, more than one, or it cannot be imported."""
    if ":" in name:
        return _checked(kind, f"{kind} {name!r}", _from_path(kind, name))
    if name.endswith(".py") or "/" in name:
        raise PluginError(f"{name!r} is a file; say which class of it: {name}:NAME")
    matching = [listed for listed in installed(kind) if listed.name == name]
    if not matching:
        hint = near_miss(name, [listed.name for listed in installed(kind)])
        raise PluginError(f"no {kind} named {name!r}.{hint} See: nas list {_plural(kind)}")
    if len(matching) > 1:
        owners = " and ".join(f"{listed.distribution} {listed.version}" for listed in matching)
        raise PluginError(f"the {kind} {name!r} is claimed by {owners}; uninstall one, or name it by its import path")
    listed = matching[0]
    owner = f"{kind} {name!r} (of {listed.distribution} {listed.version})"
    try:
        found = EntryPoint(name, listed.target, GROUPS[kind]).load()
    except (Exception, SystemExit) as error:
        raise PluginError(f"the {owner} cannot be loaded: {one_line(error)}") from error
    return _checked(kind, owner, found)


def make(kind: Kind, name: str, options: Mapping[str, Any]) -> Plugin:
    """The plugin with its options checked and set. Raises PluginError or ConfigError."""
    cls = load(kind, name)
    checked = check_options(kind, name, cls, options)
    try:
        plugin: Plugin = cls(**checked)
    except NasError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the {kind} {name!r} does not accept its options: {one_line(error)}") from error
    except (Exception, SystemExit) as error:
        raise PluginError(f"the {kind} {name!r} cannot be made with these options: {one_line(error)}") from error
    plugin.known_as = name
    return plugin


def strategy_named(given: str | Mapping[str, Any]) -> Strategy:
    """A strategy for another one to work with, as a configuration names it: `random`, `evolution:population=20`, or
    `{evolution: {population: 20}}`. Raises PluginError or ConfigError."""
    return _named("strategy", given)  # type: ignore[return-value]


def evaluator_named(given: str | Mapping[str, Any]) -> Evaluator:
    """An evaluator for another one to work with, likewise."""
    return _named("evaluator", given)  # type: ignore[return-value]


def _named(kind: Kind, given: str | Mapping[str, Any]) -> Plugin:
    choices = [split(given)] if isinstance(given, str) else list(given.items())
    if len(choices) != 1 or not isinstance(choices[0][1], Mapping):
        raise ConfigError(f"{given!r:.80} is no {kind}; expected its name, or its name and a mapping of its options")
    return make(kind, *choices[0])


def name_of(kind: Kind, plugin: Plugin) -> str:
    """What to ask for to get this object's class again: its entry point's name, or its import path."""
    target = f"{type(plugin).__module__}:{type(plugin).__qualname__}"
    names = [listed.name for listed in installed(kind) if listed.target == target]
    return names[0] if len(names) == 1 else target


def fingerprint(plugin: Plugin) -> str:
    """Which code a plugin is, for refusing to resume with another: distribution and version, or a file's digest."""
    return fingerprint_of(type(plugin))


def fingerprint_of(cls: type[Plugin]) -> str:
    """The same for a plugin's class."""
    target = f"{cls.__module__}:{cls.__qualname__}"
    for kind in GROUPS:
        for listed in installed(kind):
            if listed.target == target:
                return f"{listed.distribution} {listed.version}"
    try:
        source = inspect.getsourcefile(cls)
        return f"sha256 {hashlib.sha256(Path(source or '').read_bytes()).hexdigest()[:16]}"
    except (OSError, TypeError):
        return "defined in memory"


def importable(plugin: Plugin) -> bool:
    """Whether another process can make the same plugin from its name and settings."""
    cls = type(plugin)
    if not is_json(plugin.settings):
        return False
    return cls.__module__ not in ("__main__", "builtins") and "<locals>" not in cls.__qualname__


def _from_path(kind: Kind, name: str) -> object:
    where, _, attribute = name.rpartition(":")
    module = module_named(kind, where)
    try:
        return getattr(module, attribute)
    except AttributeError:
        classes = [n for n, value in vars(module).items() if isinstance(value, type)]
        hint = near_miss(attribute, classes)
        raise PluginError(f"{where} has no class {attribute!r}.{hint}") from None


def module_named(kind: str, where: str) -> ModuleType:
    """The module at a file or an import path, which is to hold such a thing. Raises PluginError."""
    if where.endswith(".py") or "/" in where:
        return _module_of_file(kind, Path(where))
    _reach(Path.cwd())
    try:
        return importlib.import_module(where)
    except (Exception, SystemExit) as error:
        raise PluginError(f"the {kind} in {where!r} cannot be imported: {one_line(error)}") from error


def _reach(folder: Path) -> None:
    """Lets a plugin import its neighbours, as Python does for a script; last, so that nothing installed is shadowed."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _module_of_file(kind: str, path: Path) -> ModuleType:
    """A module made from a file, the same object each time the same file is named."""
    path = path.expanduser().resolve()
    if not path.is_file():
        raise PluginError(f"no file {path} to load a {kind} from")
    _reach(path.parent)
    module_name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickling look their own module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        raise PluginError(f"the {kind} in {path} cannot be loaded: {one_line(error)}") from error
    return module


def _checked(kind: Kind, owner: str, found: object) -> type[Plugin]:
    base = bases()[kind]
    if not isinstance(found, type) or not issubclass(found, base):
        raise PluginError(
            f"the {owner} is no {kind}: expected a subclass of nasengine.{base.__name__}, got {found!r:.80}"
        )
    if inspect.isabstract(found):
        lacking = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
        raise PluginError(f"the {owner} is not complete: it does not define {lacking}")
    return found


def _distribution(point: EntryPoint) -> tuple[str, str]:
    if point.dist is None:
        return "unknown", "?"
    return point.dist.name or "unknown", point.dist.version or "?"


def _plural(kind: Kind) -> str:
    return "strategies" if kind == "strategy" else f"{kind}s"
