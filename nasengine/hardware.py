"""What a network takes where it runs: latency, memory and energy; measured, beside what `cost` counts.

Latency and energy are those of the device at hand, in evaluation mode and without gradients, with as many threads as
the process has; on a machine that others use at the same time they are what they are there.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING

from .cost import LATENCY, Costs, one_example, weight_bytes
from .cost import METRICS as COUNTED
from .errors import ConfigError, one_line

if TYPE_CHECKING:
    import torch
    from torch import nn

    from .architecture import Architecture
    from .space import SearchSpace
    from .task import Task

WARM_UP, REPEATS = 5, 30
SECONDS_OF_REPEATS = 2.0
"""After which no more are made, but for the first three."""
SECONDS_OF_ENERGY = 2.0
SECONDS_BETWEEN_POWERS = 0.05
RAPL = Path("/sys/class/powercap")
"""Where Linux counts what processors take (Running Average Power Limit)."""


def measurable(metrics: Iterable[str]) -> tuple[str, ...]:
    """Those that can be had of any network: `parameters`, `flops`, `memory`, `energy`, `latency`, `latency_32`."""
    return tuple(dict.fromkeys(m for m in metrics if m in (*COUNTED, "energy") or batch_of(m)))


def batch_of(metric: str) -> int:
    """How many examples at a time a latency is of: 1 for `latency`, 32 for `latency_32`; 0 for another metric."""
    match = re.fullmatch(LATENCY, metric)
    return int(match[1] or 1) if match else 0


def measured(
    space: SearchSpace, task: Task, architecture: Architecture, metrics: Sequence[str], device: torch.device
) -> dict[str, float]:
    """The metrics of an architecture: counted, foretold by the space's latency table, or measured on the device.

    Raises ConfigError where the task's examples are nothing that can be measured with.
    """
    from .context import Context

    costs, table = Costs(space, task), space.latency_table
    known = {"parameters", "flops", table.metric if table else ""} | ({"memory"} if device.type != "cuda" else set())
    found = {name: float(costs.of(architecture, name)) for name in metrics if name in known}
    rest = [name for name in metrics if name not in found]
    if rest:
        model = Context(space, task, device, seed=0).model(architecture)
        found |= {name: _measure(name, model, task, device) for name in rest}
    return found


def _measure(metric: str, model: nn.Module, task: Task, device: torch.device) -> float:
    if metric == "memory":
        return float(memory(model, task, device))
    return energy(model, task, device) if metric == "energy" else latency(model, task, device, batch_of(metric))


def latency(model: nn.Module, task: Task, device: torch.device, batch: int = 1, repeats: int = REPEATS) -> float:
    """The milliseconds of a forward pass of so many examples: the median of the repeats, after a warm-up."""
    run, finish = _forward(model, task, device, batch), _finish(device)
    for _ in range(WARM_UP):
        run()
    taken: list[float] = []
    while len(taken) < 3 or (len(taken) < repeats and sum(taken) < SECONDS_OF_REPEATS):
        finish()
        began = time.perf_counter()
        run()
        finish()
        taken.append(time.perf_counter() - began)
    return 1000 * median(taken)


def memory(model: nn.Module, task: Task, device: torch.device) -> int:
    """The bytes on a GPU that a forward pass of one example takes at most: weights, input, and what the layers and
    their libraries hold. On a CPU they are counted: see `cost.memory`."""
    import torch

    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    _forward(model, task, device, 1)()
    torch.cuda.synchronize(device)
    return weight_bytes(model) + torch.cuda.max_memory_allocated(device) - before


def energy(model: nn.Module, task: Task, device: torch.device, counters: Path = RAPL) -> float:
    """The joules of a forward pass of one example, one at a time: all that the GPU, or the processors, take in the
    meantime, whoever else makes them work."""
    import torch

    run, finish = _forward(model, task, device, 1), _finish(device)
    warm = time.perf_counter() + SECONDS_OF_ENERGY / 2  # a GPU tells its power as a mean over the last second
    while time.perf_counter() < warm:
        run()
        finish()
    passes, powers = 0, []
    before = {} if device.type == "cuda" else joules(counters)
    began = now = time.perf_counter()
    asked = 0.0
    while now - began < SECONDS_OF_ENERGY:
        run()
        finish()
        passes, now = passes + 1, time.perf_counter()
        if device.type == "cuda" and now - asked > SECONDS_BETWEEN_POWERS:
            powers.append(torch.cuda.power_draw(device) / 1000)
            asked = now
    if device.type == "cuda":
        return fmean(powers) * (now - began) / passes
    return used(before, joules(counters), counters) / passes


def joules(counters: Path = RAPL) -> dict[str, float]:
    """What the processors have taken, each since its counter was last at zero, by the counter's name; those only that
    may be read."""
    found = {}
    for counter in sorted(counters.glob("intel-rapl:*")):
        if counter.name.count(":") == 1:  # a whole processor: those inside it are its parts
            with suppress(OSError, ValueError):
                found[counter.name] = int((counter / "energy_uj").read_text()) / 1e6
    return found


def used(before: Mapping[str, float], after: Mapping[str, float], counters: Path = RAPL) -> float:
    """The joules between two readings, none of the counters having gone round more than once."""
    total = 0.0
    for name, start in before.items():
        end = after[name]
        if end < start:
            end += int((counters / name / "max_energy_range_uj").read_text()) / 1e6
        total += end - start
    return total


def check_energy(device: torch.device, counters: Path = RAPL) -> None:
    """Raises ConfigError where the device does not tell what it takes."""
    import torch

    if device.type != "cuda":
        if not joules(counters):
            raise ConfigError(
                f"energy cannot be measured here: no {counters}/intel-rapl:*/energy_uj may be read, where Linux "
                f"counts it; choose another objective, such as latency:min, or another device"
            )
        return
    try:
        torch.cuda.power_draw(device)
    except Exception as error:  # of the driver's own kinds, or a module that is missing
        raise ConfigError(
            f"energy cannot be measured here: the GPU does not tell its power ({one_line(error)}); pip install "
            f"nvidia-ml-py may help, or choose another objective, such as latency:min"
        ) from None


def _forward(model: nn.Module, task: Task, device: torch.device, batch: int) -> Callable[[], None]:
    import torch

    given = one_example(task, batch).to(device)
    model.eval()

    def run() -> None:
        with torch.no_grad():
            model(given)

    return run


def _finish(device: torch.device) -> Callable[[], None]:
    """Waits until the device has done what it was given."""
    import torch

    return (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else lambda: None
