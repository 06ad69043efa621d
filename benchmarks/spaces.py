"""Every search space: how long recording takes, what is counted, and how long 10,000 samples take.

Recording is building the space on torch's `meta` device; sampling is uniform over all architectures and includes the
decision diagram, which is made for the first of them. Both for 32×32 colour images, the sizes of the papers' spaces.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from report import machine, parser, print_head, print_table, spread, versions

from nasengine import Domain, Shapes
from nasengine.registry import installed, make


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and how many seconds it takes."""
    started = time.perf_counter()
    return work(), time.perf_counter() - started


def sample(domain: Domain, rng: np.random.Generator, count: int) -> None:
    for _ in range(count):
        domain.sample(rng)


def main() -> None:
    options = parser(__doc__, repetitions=3)
    options.add_argument("--samples", type=int, default=10_000, help="how many architectures are sampled")
    given = options.parse_args()
    samples, repetitions = (100, 1) if given.quick else (given.samples, given.repetitions)
    task = Shapes((3, 32, 32), 10)
    names = [plugin.name for plugin in installed("space") if plugin.distribution == "nasengine"]
    make("space", "cell", {}).domain(task)  # type: ignore[attr-defined]  # torch's first use of `meta` imports much
    print_head(
        "Search spaces: recording and sampling",
        {
            "machine": machine(),
            "versions": versions(),
            "task": "3×32×32 images, 10 classes",
            "repetitions": f"{repetitions}, seeds 0 to {repetitions - 1}; times in seconds as median (min–max)",
        },
        given.markdown,
    )
    rows = []
    for name in names:
        space: Any = make("space", name, {})
        recorded, drawn = [], []
        for seed in range(repetitions):
            domain, took = timed(partial(space.domain, task))
            recorded.append(took)
            drawn.append(timed(partial(sample, domain, np.random.default_rng(seed), samples))[1])
        size = f"{domain.size:,}" if domain.size < 10**9 else f"{float(domain.size):.1e}"
        rows.append([name, str(len(domain.decisions)), size, spread(recorded), spread(drawn)])
    header = ["space", "decisions", "architectures", "recording", f"{samples:,} samples"]
    print_table(header, rows, given.markdown)


if __name__ == "__main__":
    main()
