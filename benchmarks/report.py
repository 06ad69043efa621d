"""What the benchmarks share: how they are called, how things are timed by turns, and how a result is printed."""

from __future__ import annotations

import os
import platform
import statistics
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")


def parser(description: str | None, repetitions: int | None = None) -> ArgumentParser:
    """The options that every benchmark has; `--repetitions` where there is a default for it."""
    found = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    found.add_argument(
        "--quick", action="store_true", help="a few seconds, to see that it works; the numbers say little"
    )
    found.add_argument("--markdown", action="store_true", help="print a markdown table")
    if repetitions is not None:
        found.add_argument("--repetitions", type=int, default=repetitions, help="of everything (default: %(default)s)")
    return found


def benchmark_file(given: Path | None, name: str) -> Path:
    """The table of a benchmark, as it was named, or in the data folder. Where it is not there, the script ends with a
    sentence; that is no failure: `make bench` goes on with the next."""
    path = given or Path(os.environ.get("NASENGINE_DATA", ".")) / name
    if given is None and not path.exists():
        print(f"skipped: {path} is not there; name the benchmark's table with --table, or its folder by NASENGINE_DATA")
        sys.exit(0)
    return path.resolve()


def by_turns(cases: Mapping[str, Callable[[int], Result]], repetitions: int) -> dict[str, list[Result]]:
    """Calls every case with the number of the repetition, all of them before the next repetition begins, each time
    starting with another one: what disturbs the machine for a while then disturbs all cases alike."""
    names = list(cases)
    results: dict[str, list[Result]] = {name: [] for name in names}
    for repetition in range(repetitions):
        start = repetition % len(names)
        for name in names[start:] + names[:start]:
            print(f"repetition {repetition + 1} of {repetitions}: {name}", file=sys.stderr)
            results[name].append(cases[name](repetition))
    return results


def ratios(values: Sequence[float], reference: Sequence[float]) -> list[float]:
    """Each repetition's value as a multiple of the same repetition's reference."""
    return [value / other for value, other in zip(values, reference, strict=True)]


def number(value: float) -> str:
    """Three significant digits, whole numbers from 100 on."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:#.3g}"


def spread(values: Sequence[float]) -> str:
    """Median (smallest–largest)."""
    if len(values) == 1:
        return number(values[0])
    return f"{number(statistics.median(values))} ({number(min(values))}–{number(max(values))})"


def mean(values: Sequence[float], digits: int = 3) -> str:
    """Mean ± standard deviation."""
    deviation = f" ± {statistics.stdev(values):,.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):,.{digits}f}{deviation}"


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> str:
    """Processor, cores and memory."""
    processor = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{processor}, {cores()} cores, {memory:.0f} GiB; load {os.getloadavg()[0]:.1f} at the start"


def versions(*others: str) -> str:
    names = ("torch", "nasengine", *others)
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in names)])


def print_head(title: str, facts: Mapping[str, str], markdown: bool) -> None:
    """What the numbers were made with. Print it before the work begins: it reads the machine's load."""
    if markdown:
        print("\n".join([f"### {title}", "", *(f"- {name}: {fact}" for name, fact in facts.items()), ""]))
    else:
        width = max(map(len, facts)) + 2
        print("\n".join([title, *(f"{name:<{width}}{fact}" for name, fact in facts.items()), ""]))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], markdown: bool) -> None:
    """Columns of text, two spaces between them, or a markdown table."""
    if markdown:
        for row in (columns, ["---"] * len(columns), *rows):
            print("| " + " | ".join(row) + " |")
    else:
        widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
        for row in (columns, *rows):
            print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    print()
