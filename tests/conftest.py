"""What several test modules share."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pytest

IN_ONE_PROCESS = {
    "test_ray": "ray",
    "test_metrics": "ray",
    "test_integrations_tune": "ray",
    "test_main_job": "main job",
}
"""Modules whose tests share something that is dear: a Ray, or the main job's run."""


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Sends them to one process each, first of all, and every other test to whichever process is free.

    (xdist's own `loadgroup` does that by a mark, but not with pytest 9.)
    """
    from xdist.scheduler.loadscope import LoadScopeScheduling

    class Grouped(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return IN_ONE_PROCESS.get(PurePosixPath(nodeid.split("::")[0]).stem, nodeid)

    return Grouped(config, log)


@pytest.fixture(scope="session")
def _ray_ends() -> Iterator[None]:
    """Ends what `ray_cluster` began, when all tests of the process are done."""
    yield
    import ray

    ray.shutdown()


@pytest.fixture
def ray_cluster(_ray_ends: None) -> None:
    """A Ray of four CPUs on this machine, for all tests of the process; see IN_ONE_PROCESS.

    Started once, and again where a test with a Ray of its own has ended it.
    """
    # workers are as welcome to the cores as the other tests are
    os.environ.setdefault("RAY_worker_niceness", "0")
    # a worker without a GPU keeps CUDA_VISIBLE_DEVICES as it is: Ray warns of the opposite otherwise
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if not ray.is_initialized():
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
