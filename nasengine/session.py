"""A search from start to end: from names to objects, a folder, a ledger, an executor, and the engine between them."""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from .device import environment, threads_of
from .errors import NasError, RunError
from .machine import MACHINE, MachineSettings
from .parts import Objects, around, check_objectives, choice_of, refuse_other_code, resolve, restore
from .plugin import Plugin

if TYPE_CHECKING:
    from .architecture import Architecture
    from .config import Config
    from .evaluator import Evaluator, Fidelity
    from .plan import Observer, Plan
    from .run import Run
    from .settings import PluginChoice
    from .space import SearchSpace
    from .strategy import Strategy
    from .task import Task


DATA = {"space": None, "strategy": None, "evaluator": "table", "task": "path"}
"""The kinds of plugin, and of each the option that names a place where data is."""


def search(
    space: str | SearchSpace | None = None,
    strategy: str | Strategy = "darts",
    task: str | Task = "digits",
    evaluator: str | Evaluator | None = None,
    *,
    out: str | Path | None = None,
    funnel: str | Sequence[Any] | None = None,
    stoppers: str | Sequence[Any] = (),
    proxy: str | None = None,
    trials: int | None = None,
    time_limit: float | str | None = None,
    clock: str = "real",
    seed: int = 0,
    objectives: tuple[str, ...] | str = (),
    fidelity: Fidelity | str | None = None,
    final_fidelity: Fidelity | str | None = None,
    final: Mapping[str, Any] | str | None = None,
    constraints: Sequence[str] | str = (),
    latency_table: str | Path | Mapping[str, Any] | None = None,
    start_from: Sequence[str | Mapping[str, Any]] | str = (),
    baseline: int = 3,
    max_failures: float = 0.5,
    threads: int | None = None,
    data: str | None = None,
    storage: str | None = None,
    observer: Observer | None = None,
    durable: bool = True,
    **machine: Unpack[MachineSettings],
) -> Run:
    """Searches, trains what was found, compares it with random architectures, and returns the run.

    Without a `space`, it is `cell`, or that of the first architecture to start from. Without an `evaluator` it is
    `train`, and there are 20 `trials`, unless a `funnel` says otherwise.

    Each of the four parts is a name (with options: `"cell:layers=4"`), an import path, or an object of your own. The
    other arguments are the settings of `nas run`, by the same names; `MachineSettings` has those that say where the
    run works (`workers=4`, `ray="auto"`). `observer` is told what happens; `durable=False` trades the record's safety
    against a power cut for speed.

    Raises NasError: ConfigError, PluginError, DataError, RunError for what was asked, RunFailed where every candidate
    failed.
    """
    from .config import Config

    named = {"space": space, "strategy": strategy, "task": task, "evaluator": evaluator}
    objects: dict[Any, Plugin] = {kind: given for kind, given in named.items() if isinstance(given, Plugin)}
    asked = {kind: given for kind, given in named.items() if given is not None}
    settings: dict[str, Any] = {kind: given for kind, given in asked.items() if kind not in objects}
    for kind, given in objects.items():
        settings[kind] = choice_of(kind, given)
    settings |= {
        "stoppers": stoppers if isinstance(stoppers, str) else tuple(stoppers),
        "time_limit": time_limit, "clock": clock, "seed": seed,
        "objectives": objectives, "baseline": baseline, "max_failures": max_failures, "threads": threads, "data": data,
        "storage": storage, **machine,
        "constraints": constraints if isinstance(constraints, str) else tuple(constraints),
        "start_from": start_from if isinstance(start_from, str) else tuple(start_from),
    }  # fmt: skip
    given_only = {"trials": trials, "funnel": funnel, "proxy": proxy, "latency_table": latency_table}
    settings |= {name: value for name, value in given_only.items() if value is not None}
    settings |= {"final": dict(final) if isinstance(final, Mapping) else final} if final is not None else {}
    settings |= {"fidelity": fidelity} if fidelity is not None else {}
    settings |= {"final_fidelity": final_fidelity} if final_fidelity is not None else {}
    return start(Config.of(settings, "search"), out, objects, observer, durable)


def train(
    architecture: str | Architecture,
    task: str | Task = "digits",
    evaluator: str | Evaluator = "train",
    *,
    options: Mapping[str, Any] | str | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    fidelity: Fidelity | str | None = None,
    threads: int | None = None,
    data: str | None = None,
    observer: Observer | None = None,
    **machine: Unpack[MachineSettings],
) -> Run:
    """Trains one architecture, which is given, reads the test data, and returns the run, with the model in its folder.

    architecture: a reference's name (`"resnet18"`), a file of an architecture's JSON, or an Architecture. options: of
    its space, where others are wanted than it came with: `"layers=20,channels=36"`.

    Raises NasError, as `search` does.
    """
    given: Any = architecture if isinstance(architecture, str) else architecture.to_dict()
    return search(
        None, "random", task, evaluator, start_from=[given], trials=0, baseline=0, final=options, out=out, seed=seed,
        final_fidelity=fidelity, threads=threads, data=data, observer=observer, **machine,
    )  # fmt: skip


def start(
    config: Config,
    out: str | Path | None = None,
    objects: Objects | None = None,
    observer: Observer | None = None,
    durable: bool = True,
) -> Run:
    """A new run in a new folder."""
    from . import __version__
    from .ledger import Ledger, RunLock
    from .registry import fingerprint, importable

    config = around(absolute(config), fixed="space" in (objects or {}))
    # the number of threads changes the last digits of results, so it is a setting of the run, not of the day
    config = config.model_copy(update={"threads": config.threads or threads_of(config)})
    plan = resolve(config, objects or {}, observer.note if observer else lambda text: None)
    check_objectives(plan)
    folder = _new_folder(out, config)
    lock = RunLock(folder)
    try:
        _refuse_a_run(folder)  # again: another process may have been quicker
        about = {
            "config": config.to_dict(),
            "objectives": [str(objective) for objective in plan.objectives],
            "stages": [[str(objective) for objective in stage.objectives] for stage in plan.funnel],
            "final_objectives": [str(objective) for objective in plan.judge.objectives],
            "nasengine": __version__,
            "environment": environment(),
            "plugins": {role: fingerprint(plugin) for role, plugin in plan.roles.items()},
            "in_memory": [role for role, plugin in plan.roles.items() if not importable(plugin)],
            "storage": f"{config.storage.rstrip('/')}/{folder.name}-{secrets.token_hex(4)}" if config.storage else None,
        }
        _written(folder / "config.yaml", config.to_yaml())
        Ledger.create(folder, about, durable).close()
        try:
            return _go_on(folder, plan, observer, durable)
        except NasError as error:
            if error.exit_code == NasError.exit_code and not any(Ledger.read(folder).events()):
                _withdraw(folder)
            raise
    finally:
        lock.release()


def _withdraw(folder: Path) -> None:
    """Removes a run that did not begin, so that the command can be given again as it was meant."""
    from .ledger import FILE

    for name in ("config.yaml", f"{FILE}-shm", f"{FILE}-wal", FILE, "lock"):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # there is something else in it
        folder.rmdir()


def resume(
    folder: str | Path,
    *,
    space: SearchSpace | None = None,
    strategy: Strategy | None = None,
    task: Task | None = None,
    evaluator: Evaluator | None = None,
    observer: Observer | None = None,
    durable: bool = True,
    **machine: Unpack[MachineSettings],
) -> Run:
    """Goes on with an interrupted run, to the end that it would have had. A finished run is returned as it is.

    It may go on elsewhere: on more workers, on Ray, on another device (`MachineSettings`, the flags of `nas resume`).
    Objects of your own that the run was started with, and that cannot be made again from their names, must be given
    again. Raises RunError where the run is in use, damaged, or its settings or plugins have changed.
    """
    from .config import Config
    from .ledger import Ledger, RunLock
    from .run import Run

    folder = Path(folder)
    Ledger.read(folder).close()
    lock = RunLock(folder)
    try:
        about = Ledger.read(folder).about()
        config = _changed(folder, Config.of(about["config"], str(folder)), machine)
        given = {"space": space, "strategy": strategy, "task": task, "evaluator": evaluator}
        objects: dict[Any, Plugin] = {kind: plugin for kind, plugin in given.items() if plugin is not None}
        run = Run(folder, objects)
        if run.finished:
            return run
        kinds: tuple[Any, ...] = ("space", "strategy", "evaluator", "task")
        restored = {kind: restore(kind, config, about, objects) for kind in kinds}
        plan = resolve(config, restored, observer.note if observer else lambda text: None)
        refuse_other_code(plan.roles, about)
        return _go_on(folder, plan, observer, durable)
    finally:
        lock.release()


def _go_on(folder: Path, plan: Plan, observer: Observer | None, durable: bool) -> Run:
    from .engine import Engine
    from .executors.selection import executor_for, on_ray
    from .ledger import Ledger
    from .pictures import make_pictures
    from .plan import Observer as Nobody
    from .run import Run
    from .storage import storage_at

    observer = observer or Nobody()
    if on_ray(plan.config):
        from .executors.metrics import RayMetrics

        observer = RayMetrics(observer)
    ledger = Ledger.open(folder, durable)
    try:
        storage = ledger.about()["storage"]
        observer.opened(folder, plan)
        executor = executor_for(plan, folder.resolve(), storage, observer)
        try:
            Engine(plan, ledger, executor, storage_at(storage or folder), folder, observer).run()
        finally:
            executor.close()
    finally:
        ledger.close()
    run = Run(folder, plan.roles)
    make_pictures(run, observer.note)
    return run


def _new_folder(out: str | Path | None, config: Config) -> Path:
    """The folder asked for, which must not hold a run, or the next free one under `runs`."""
    try:
        if out is not None:
            folder = Path(out)
            _refuse_a_run(folder)
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        strategy = _word(config.strategy.name) if config.trials else "train"
        stem = f"{date.today()}-{_word(config.space.name)}-{strategy}"
        for count in itertools.count(1):
            folder = Path("runs") / f"{stem}-{count}"
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                continue
            return folder
    except OSError as error:
        raise RunError(f"the run's folder {str(error.filename)[:80]} cannot be made: {error.strerror}") from None
    except ValueError as error:
        raise RunError(f"the run's folder {str(out)!r:.80} cannot be made: {error}") from None
    raise NasError("no folder")  # pragma: no cover: count() has no end


def _refuse_a_run(folder: Path) -> None:
    from .ledger import FILE

    if (folder / FILE).exists():
        raise RunError(f"{folder} holds a run; go on with it: nas resume {folder}, or choose another folder with --out")


def absolute(config: Config) -> Config:
    """Paths of plugin files and of the task's data as absolute ones, so that a run resumes from any folder."""
    changes: dict[str, Any] = {kind: _absolute(kind, getattr(config, kind), config.data) for kind in DATA}
    changes["proxy"] = config.proxy and _absolute("task", config.proxy, config.data)
    changes["stoppers"] = tuple(_absolute("stopper", choice, config.data) for choice in config.stoppers)
    changes["funnel"] = tuple(
        stage.model_copy(update={"evaluator": _absolute("evaluator", stage.evaluator, config.data)})
        for stage in config.funnel
    )
    if config.storage is not None and "://" not in config.storage:
        changes["storage"] = str(Path(config.storage).expanduser().resolve())
    # what was not asked for stays so
    return config.model_copy(update={name: value for name, value in changes.items() if value != getattr(config, name)})


def _absolute(kind: str, choice: PluginChoice, folder: str | None) -> PluginChoice:
    """A plugin's file, and the place where its data is, as absolute paths."""
    file, _, attribute = choice.name.rpartition(":")
    options, option = dict(choice.options), DATA.get(kind)
    if option and isinstance(options.get(option), str):
        options[option] = str(_data_path(options[option], folder))
    name = f"{Path(file).expanduser().resolve()}:{attribute}" if file.endswith(".py") else choice.name
    return choice.model_copy(update={"name": name, "options": options})


def _data_path(path: str, folder: str | None) -> Path:
    """A path as it stands; where nothing is there, inside the data folder (`--data`, else NASENGINE_DATA)."""
    given = Path(path).expanduser()
    base = folder or os.environ.get("NASENGINE_DATA")
    return (Path(base) / given if base and not given.exists() else given).resolve()


def _written(path: Path, text: str) -> None:
    from .storage import write_atomically

    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}") from None


def _word(name: str) -> str:
    """A plugin's name as part of a folder's."""
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name.rpartition(":")[2]).lower()


def _changed(folder: Path, config: Config, machine: MachineSettings) -> Config:
    """The recorded settings, with those of the machine as they are given now, or edited in the folder's config.yaml.

    The others there are a copy for people: a changed one must not be taken for what was run.
    """
    from .config import Config as Read

    path = folder / "config.yaml"
    edited = Read.read(path) if path.exists() and path.stat().st_size else config
    for name in type(config).model_fields:
        before, after = getattr(config, name), getattr(edited, name)
        if before != after and name not in MACHINE:
            raise RunError(
                f"{path} says {name} = {after!r:.80}, but the run was started with {before!r:.80}; put it back "
                f"to go on, or start a new run with: nas run --config {path}"
            )
    now = {name: getattr(edited, name) for name in MACHINE} | dict(machine)
    return Read.of({**config.to_dict(), **now}, f"nas resume {folder}")
