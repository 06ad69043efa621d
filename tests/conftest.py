"""What several test modules share."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def _ray_ends() -> Iterator[None]:
    """Ends what `ray_cluster` began, when all tests of the process are done."""
    yield
    import ray

    ray.shutdown()


@pytest.fixture
def ray_cluster(_ray_ends: None) -> None:
    """A Ray of four CPUs on this machine, for all tests of the process; they belong to the xdist group `ray`.

    Started once, and again where a test with a Ray of its own has ended it.
    """
    # a worker without a GPU keeps CUDA_VISIBLE_DEVICES as it is: Ray warns of the opposite otherwise
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if not ray.is_initialized():
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
