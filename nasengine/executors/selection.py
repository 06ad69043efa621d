"""Which executor a run's settings ask for: this process for one worker, Ray for more or where it is named."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..device import pick_device
from . import Executor

if TYPE_CHECKING:
    from ..config import Config
    from ..plan import Observer, Plan


def on_ray(config: Config) -> bool:
    """Whether the run's settings ask for Ray."""
    return config.workers > 1 or config.ray is not None or config.dashboard


def executor_for(plan: Plan, folder: Path, storage: str | None, observer: Observer) -> Executor:
    """The executor, its workers on their way. Raises ConfigError where the machine has not what was asked for."""
    config = plan.config
    if on_ray(config):
        from .ray import RayExecutor

        return RayExecutor(plan, folder, storage, observer)

    import torch

    from ..storage import storage_at
    from ..worker import Worker
    from .local import LocalExecutor

    torch.set_num_threads(config.threads or 1)
    torch.backends.cudnn.deterministic = True  # the same seed gives the same search on a GPU, too
    device = pick_device(config.device)
    worker = Worker(
        plan.space, plan.strategy, plan.evaluator, plan.task, device, storage_at(storage or folder),
        roles=plan.roles, stages=len(plan.funnel), measures=plan.measures,
    )  # fmt: skip
    return LocalExecutor(worker, config.time_per_trial, config.memory_per_trial)
