"""From a configuration's names, or a user's own objects, to the four parts of a search, fitted together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from .architecture import Architecture
from .cost import refuse_the_impossible
from .errors import ArchitectureError, ConfigError, NasError, PluginError, RunError, near_miss, one_line
from .latency import LatencyTable, check_tables
from .plugin import Plugin
from .scaling import check_fidelity, check_proxy, final_options

if TYPE_CHECKING:
    from .config import Config
    from .domain import Domain
    from .evaluator import Evaluator
    from .plan import Plan, Stage
    from .registry import Kind
    from .settings import PluginChoice
    from .stopper import Stopper
    from .strategy import Strategy
    from .task import Task
    from .trial import Objective

Objects: TypeAlias = "Mapping[Kind, Plugin]"
"""Plugins that were given as objects, by kind."""


def resolve(config: Config, objects: Objects, note: Callable[[str], None] = lambda text: None) -> Plan:
    """The objects that a configuration names, fitted together. Raises NasError where they do not fit.

    note: is told of what takes a while.
    """
    from .plan import Plan
    from .strategy import OneShotStrategy

    space: Any = _part("space", config, objects)
    strategy: Any = _part("strategy", config, objects)
    evaluator: Any = _part("evaluator", config, objects)
    task: Any = _part("task", config, objects)
    roles: dict[str, Plugin] = {"space": space, "strategy": strategy, "evaluator": evaluator, "task": task}
    funnel, judge = _funnel(config, roles)
    objectives = funnel[0].objectives
    if config.clock == "simulated" and not evaluator.simulates:
        raise ConfigError(
            f"the clock is 'simulated', but the evaluator {evaluator.known_as!r} simulates none; expected 'real', or "
            f"an evaluator such as tabular"
        )
    if len(objectives) > 1 and not strategy.several_objectives:
        raise ConfigError(
            f"the strategy {strategy.known_as!r} looks at one objective only, and {len(objectives)} were asked for: "
            f"{', '.join(map(str, objectives))}; choose one, or a strategy that takes several, such as random"
        )
    latency_table = config.latency_table and LatencyTable.from_dict(config.latency_table)
    space = roles["space"] = space.constrained(config.constraints, latency_table)
    searched = funnel[0].task
    try:
        with _naming("space", space, f" for the task {searched.known_as!r}"):
            domain = space.domain(searched)
            check_tables(space, domain, [searched, task])
            refuse_the_impossible(space, searched, domain, config.seed, note)
            if isinstance(strategy, OneShotStrategy):
                space.check_supernet(searched)
            final = final_options(space, domain, task, config)
            check_fidelity(space, domain, searched, config.fidelity)
    except PluginError:
        space.check(searched)  # says why, where the two are not of one family
        raise
    if searched is not task:
        with _naming("space", space, f" for the task {task.known_as!r}"):
            check_proxy(space, domain, searched, task)
    for stage in (*funnel, judge):
        with _naming("evaluator", stage.evaluator):
            stage.evaluator.check(space, stage.task)
    firsts = _firsts(config, strategy, domain)
    plan = Plan(
        config, space, strategy, evaluator, task, domain, objectives, funnel, judge, roles, firsts, final
    )  # fmt: skip
    if final != domain.options and latency_table and latency_table.metric in plan.measures:
        raise ConfigError(
            f"the latency table is of the networks that are searched, and cannot say the {latency_table.metric} of "
            f"those of the final training; leave out the table, or what changes their size (--final, --final-fidelity)"
        )
    return plan


def _funnel(config: Config, roles: dict[str, Plugin]) -> tuple[list[Stage], Stage]:
    """The stages of the search, one where there is no funnel, and how what was found is judged in the end. Adds their
    plugins to the roles. Raises ConfigError."""
    from inspect import isgeneratorfunction

    from .plan import Stage, role_of_evaluator
    from .settings import PluginChoice
    from .strategy import OneShotStrategy

    strategy, task, evaluator = roles["strategy"], cast("Task", roles["task"]), cast("Evaluator", roles["evaluator"])
    proxy = cast("Task", _made("task", config.proxy)) if config.proxy else None
    if proxy is not None:
        roles["proxy"] = proxy
    if config.funnel and isinstance(strategy, OneShotStrategy):
        raise ConfigError(
            f"the strategy {strategy.known_as!r} learns inside a supernet and proposes nothing that a funnel could "
            f"judge; choose one that judges candidates one by one, such as random or evolution"
        )
    judges = [(evaluator, config.trials)]
    for stage, given in enumerate(config.funnel[1:], 1):
        made = roles[role_of_evaluator(stage)] = _made("evaluator", given.evaluator)
        judges.append((cast("Evaluator", made), given.candidates))
    funnel = []
    for index, (by, candidates) in enumerate(judges):
        last = 0 < index == len(judges) - 1
        on = task if proxy is None or last else proxy
        stoppers = []
        for number, choice in enumerate(config.stoppers, 1):
            roles[f"stopper {number}"] = _made("stopper", choice)
            if isgeneratorfunction(type(by).evaluate):
                stoppers.append(cast("Stopper", _made("stopper", choice)))
        funnel.append(Stage(by, on, _objectives(config, by, on, [other for other, _ in judges]), candidates, stoppers))
    if config.stoppers and not any(stage.stoppers for stage in funnel) and not isinstance(strategy, OneShotStrategy):
        names = " and ".join(repr(by.known_as) for by, _ in judges)
        give = "gives" if len(judges) == 1 else "give"
        raise ConfigError(
            f"the stopper {config.stoppers[0].name!r} needs a curve, and {names} {give} none; leave it out"
        )
    judge = judges[-1][0]
    if judge.provisional:
        judge = roles["judge"] = cast("Evaluator", _made("evaluator", PluginChoice(name="train")))
    for by, _ in judges:
        with _naming("evaluator", by):
            by.check_fidelity(config.fidelity)
    with _naming("task", task):
        for searched in funnel:
            searched.task.check(config.fidelity)
        task.check(config.final_fidelity)
    return funnel, Stage(judge, task, _objectives(config, judge, task, [by for by, _ in judges]), 0)


def _objectives(config: Config, evaluator: Evaluator, task: Task, judges: Sequence[Evaluator]) -> list[Objective]:
    """What the evaluator is asked for: what the user says, else what it says itself, else what the task does. One that
    foretells the task's objective by another metric is asked for that one instead; the others are not."""
    from .trial import Objective

    with _naming("task", task):
        asked, tasks = ([Objective.parse(text) for text in texts] for texts in (config.objectives, task.objectives))
        own = [Objective.parse(text) for text in evaluator.objectives]
        usual = {objective.metric for objective in tasks}
        foretold = {Objective.parse(text).metric for judge in judges for text in judge.objectives}
        if own:
            wanted = [one for objective in asked for one in (own if objective.metric in usual else [objective])]
        else:
            wanted = [objective for objective in asked if objective.metric not in foretold]
        return list(dict.fromkeys(wanted)) or own or tasks


def check_objectives(plan: Plan) -> None:
    """Raises ConfigError where an evaluator is known to give no such metric, and no worker could measure it. For runs:
    where others judge, they have their own objectives."""
    from .hardware import measurable

    for stage in (*plan.funnel, plan.judge):
        if _overridden(stage.evaluator, "evaluate") or _overridden(stage.task, "metrics"):
            continue
        given = stage.evaluator.metric_names(stage.task)
        for metric in (objective.metric for objective in stage.objectives):
            if given and metric not in given and not measurable([metric]):
                raise ConfigError(
                    f"the evaluator {stage.evaluator.known_as!r} gives no {metric!r} on the task "
                    f"{stage.task.known_as!r}.{near_miss(metric, given)} It gives: {', '.join(given)}"
                )


def _overridden(plugin: Plugin, method: str) -> bool:
    """Whether a subclass gives metrics of its own, and only its base says which."""
    defined = [vars(cls) for cls in type(plugin).__mro__]
    says = next(place for place, own in enumerate(defined) if "metric_names" in own)
    return any(method in own for own in defined[:says])


def _made(kind: Kind, choice: PluginChoice) -> Plugin:
    from .registry import make

    return make(kind, choice.name, choice.options)


def _firsts(config: Config, strategy: Strategy, domain: Domain) -> tuple[Architecture, ...]:
    """The architectures to start from. Raises ConfigError where they are not of the domain, or of no use."""
    from .strategy import OneShotStrategy

    firsts = tuple(named_architecture(given) for given in config.start_from)
    if firsts and isinstance(strategy, OneShotStrategy):
        raise ConfigError(
            f"the strategy {strategy.known_as!r} learns inside a supernet and cannot start from an architecture; "
            f"choose one that judges candidates one by one, such as evolution"
        )
    for architecture, given in zip(firsts, config.start_from, strict=True):
        name = given if isinstance(given, str) else architecture.short
        try:
            if architecture.space != domain.space:
                raise ArchitectureError(f"it is of the space {architecture.space!r}, not {domain.space!r}")
            if architecture.options != Architecture("", domain.options, {}).options:
                raise ArchitectureError(f"it is of the space {architecture.space!r} with other options")
            domain.validate(architecture)
        except ArchitectureError as error:
            why = f"the search cannot start from {name!r}: {error}; leave --space out to search the space around it"
            if config.trials == 0:
                task = config.task.name
                why = f"{name!r} cannot be trained for the task {task!r}: {error}; choose another (nas list references)"
            raise ConfigError(why) from None
    return firsts


def named_architecture(given: str | Mapping[str, Any]) -> Architecture:
    """A reference's name, a file of an architecture's JSON, or that JSON itself. Raises ConfigError."""
    from .reference import reference

    try:
        if not isinstance(given, str):
            return Architecture.from_dict(dict(given))
        path = Path(given).expanduser()
        if path.is_file():
            return Architecture.from_json(path.read_bytes())
    except ArchitectureError as error:
        raise ConfigError(f"{given if isinstance(given, str) else 'start_from'}: {error}") from None
    except OSError as error:
        raise ConfigError(f"the architecture {given} cannot be read: {error.strerror}") from None
    if path.suffix == ".json" or "/" in given:
        raise ConfigError(f"there is no file {given}, and no reference architecture of that name")
    return reference(given)


def around(config: Config, fixed: bool = False) -> Config:
    """The configuration whose `start_from` holds what its files hold, and whose space, where none was asked for, or
    none with options, is that of the first; a fixed one is left as it is."""
    from .settings import PluginChoice

    if not config.start_from:
        return config
    found = [named_architecture(given) for given in config.start_from]
    kept = [
        given if isinstance(given, str) and not Path(given).expanduser().is_file() else architecture.to_dict()
        for given, architecture in zip(config.start_from, found, strict=True)
    ]
    changes: dict[str, Any] = {"start_from": tuple(kept)}
    first, asked = found[0], config.space
    if not fixed and ("space" not in config.model_fields_set or (asked.name == first.space and not asked.options)):
        changes["space"] = PluginChoice(name=first.space, options=first.to_dict()["options"])
    return config.model_copy(update=changes)


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


def refuse_other_code(plugins: Mapping[str, Plugin], about: Mapping[str, Any]) -> None:
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
    from .registry import importable, name_of
    from .settings import PluginChoice

    plugin.known_as = name_of(kind, plugin)
    return PluginChoice(name=plugin.known_as, options=plugin.settings if importable(plugin) else {})
