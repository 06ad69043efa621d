"""Profiling a search space: what random architectures take on the device at hand, and the latency table made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .architecture import Architecture
from .cost import Costs
from .errors import ArchitectureError, ConfigError, NasError, PluginError, one_line
from .latency import LatencyTable, fit, folds, label, relative_error

if TYPE_CHECKING:
    import torch

    from .domain import Domain
    from .space import SearchSpace
    from .task import Task

FEWEST = 10
"""Architectures, from which anything can be told about others."""
FOLDS = 5
ROUNDS = 5
REPEATS = 10
TRIES = 20
"""To draw an architecture that is another one, for each that is asked for."""
TABLE = "latency table"


@dataclass(frozen=True, slots=True)
class Profile:
    """A table, and what it was made from.

    architectures: those measured. measured: their latencies in milliseconds. foretold: for each, by predictor, what was
    foretold by a predictor that had not seen it.
    """

    table: LatencyTable
    architectures: Sequence[Architecture]
    measured: Sequence[float]
    foretold: dict[str, Sequence[float]]
    domain: Domain

    def operations(self) -> list[tuple[str, float, int]]:
        """Options by what they add in all decisions together: name, milliseconds, and the number of decisions; the
        dearest first."""
        found: dict[str, tuple[float, int]] = {}
        for name, decision in self.domain.decisions.items():
            for option, cost in self.table.costs[name]:
                total, count = found.get(label(decision, option), (0.0, 0))
                found[label(decision, option)] = total + cost, count + 1
        return sorted(((name, *sums) for name, sums in found.items()), key=lambda row: (-row[1], row[0]))

    def write(self, path: str | Path) -> Path:
        """The table as JSON, for `nas run --latency-table`. Raises ConfigError where it cannot be written."""
        import json

        from .storage import write_atomically

        path = Path(path)
        try:
            write_atomically(path, (json.dumps(self.table.to_dict(), indent=1) + "\n").encode())
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise ConfigError(f"{path} cannot be written: {why}; choose another path") from None
        return path


def profile(
    space: str | SearchSpace,
    task: str | Task = "digits",
    *,
    architectures: int = 100,
    batch: int = 1,
    threads: int | None = None,
    device: str = "auto",
    seed: int = 0,
    rounds: int = ROUNDS,
    data: str | None = None,
    step: Callable[[int, int], None] = lambda done, total: None,
) -> Profile:
    """Measures random architectures of a space, and makes a latency table of what they take.

    batch: how many examples at a time. threads: of the CPU; all cores but one unless it is said. rounds: how often each
    is measured, in turn with the others, so that what else the machine does meets all of them alike. step: is told how
    many of how many measurements are done.

    Raises NasError where something cannot be as it was asked for.
    """
    import torch

    from .device import default_threads, pick_device

    for name, number, least in (("architectures", architectures, FEWEST), ("batch", batch, 1), ("rounds", rounds, 1)):
        if number < least:
            raise ConfigError(f"{name} is {number}; expected at least {least}")
    if threads is not None and threads < 1:
        raise ConfigError(f"threads is {threads}; expected at least 1")
    made_space, made_task = _made(space, task, data)
    made_space.check(made_task)
    where = torch.device(pick_device(device))
    before, used = torch.get_num_threads(), threads or default_threads()
    try:
        torch.set_num_threads(used)
        chosen, latencies, domain = _measured(made_space, made_task, architectures, batch, where, seed, rounds, step)
    except NasError:
        raise
    except Exception as error:
        raise PluginError(
            f"the space {made_space.known_as!r} cannot be measured for the task {made_task.known_as!r}: "
            f"{one_line(error)}"
        ) from error
    finally:
        torch.set_num_threads(before)
    base, costs = fit(domain, chosen, latencies)
    known = Costs(made_space, made_task)
    foretold: dict[str, Sequence[float]] = {TABLE: held_out(domain, chosen, latencies)}
    for metric in ("flops", "parameters"):
        foretold[metric] = held_out_line([known.of(architecture, metric) for architecture in chosen], latencies)
    wrong = {"architectures": len(chosen)} | {name: errors(values, latencies) for name, values in foretold.items()}
    table = LatencyTable(
        domain.space, domain.options, made_task.known_as, list(made_task.input_shape), made_task.classes,
        _name_of(where), used, batch, torch.__version__, base, costs, wrong,
    )  # fmt: skip
    # as it would be read again
    return Profile(LatencyTable.from_dict(table.to_dict()), chosen, latencies, foretold, domain)


def held_out(domain: Domain, architectures: Sequence[Architecture], latencies: Sequence[float]) -> list[float]:
    """What a table foretells of each architecture that was made from others (FOLDS-fold cross-validation)."""
    found = np.zeros(len(architectures))
    blank = LatencyTable("", {}, "", (), 1, "", 1, 1, "", 0.0, {}, {})
    for out in folds(len(architectures), FOLDS):
        kept = [index for index in range(len(architectures)) if not out[index]]
        base, costs = fit(domain, [architectures[i] for i in kept], [latencies[i] for i in kept])
        table = replace(blank, base=base, costs=costs)
        for index in map(int, np.flatnonzero(out)):
            found[index] = table.latency(architectures[index])
    return [float(value) for value in found]


def held_out_line(sizes: Sequence[float], latencies: Sequence[float]) -> list[float]:
    """The same by a straight line through one number of each architecture, none of its ends below zero."""
    from scipy.optimize import nnls

    x, y = np.asarray(sizes, np.float64), np.asarray(latencies, np.float64)
    rows = np.stack([np.ones(len(x)), x / max(x.max(), 1.0)], 1)
    found = np.zeros(len(y))
    for out in folds(len(y), FOLDS):
        weights, _ = nnls(rows[~out] / y[~out, None], np.ones(int((~out).sum())))
        found[out] = rows[out] @ weights
    return [float(value) for value in found]


def errors(foretold: Sequence[float], measured: Sequence[float]) -> dict[str, float | None]:
    """`mape`, the mean absolute error as a fraction, and `spearman`, the rank correlation; None where one side is all
    the same."""
    from scipy.stats import spearmanr

    told, true = np.asarray(foretold, np.float64), np.asarray(measured, np.float64)
    constant = np.ptp(told) == 0 or np.ptp(true) == 0
    return {
        "mape": relative_error(told, true),
        "spearman": None if constant else float(spearmanr(told, true).statistic),
    }


def drawn(domain: Domain, count: int, rng: np.random.Generator) -> list[Architecture]:
    """So many different architectures, fewer where there are no more; in each decision, all picks equally likely.

    Not all architectures: nearly all of them have the most layers there can be, and nothing would be told of others.
    """
    found: dict[str, Architecture] = {}
    for _ in range(TRIES * count):
        architecture = domain.walk(lambda decision: decision.sample(rng))
        if not domain.allows(architecture):
            architecture = domain.sample(rng)
        found.setdefault(domain.canonical(architecture).id, architecture)
        if len(found) == count:
            break
    return list(found.values())


def _measured(
    space: SearchSpace,
    task: Task,
    count: int,
    batch: int,
    device: torch.device,
    seed: int,
    rounds: int,
    step: Callable[[int, int], None],
) -> tuple[list[Architecture], list[float], Domain]:
    from .context import Context
    from .hardware import latency

    domain = space.domain(task)
    chosen = drawn(domain, count, np.random.default_rng(seed))
    if len(chosen) < FEWEST:
        raise ArchitectureError(
            f"the space {space.known_as!r} has {len(chosen)} different architectures; expected at least {FEWEST}"
        )
    taken: NDArray[np.float64] = np.zeros((rounds, len(chosen)))
    total = rounds * len(chosen)
    step(0, total)
    for turn in range(rounds):
        for index, architecture in enumerate(chosen):
            model = Context(space, task, device, seed).model(architecture)
            taken[turn, index] = latency(model, task, device, batch, REPEATS)
            step(turn * len(chosen) + index + 1, total)
    return chosen, [float(value) for value in np.median(taken, 0)], domain


def _made(space: str | SearchSpace, task: str | Task, data: str | None) -> tuple[SearchSpace, Task]:
    from .config import Config
    from .registry import make
    from .session import absolute

    named = {kind: given for kind, given in (("space", space), ("task", task)) if isinstance(given, str)}
    config = absolute(Config.of({**named, "data": data}, "nas profile"))
    made_space: Any = make("space", config.space.name, config.space.options) if isinstance(space, str) else space
    made_task: Any = make("task", config.task.name, config.task.options) if isinstance(task, str) else task
    return made_space, made_task


def _name_of(device: torch.device) -> str:
    """`cpu: AMD EPYC …`, `cuda: NVIDIA H200`."""
    import torch

    from .device import environment

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else environment()["processor"]
    return f"{device.type}: {name}"
