"""Lets Python read what the installed distributions offer once, and again only where a folder of its path has changed.

    python remembering.py SCRIPT ARGUMENTS…    is `python SCRIPT ARGUMENTS…` that does so

A search asks for plugins some 25 times, and each time Python reads a file of each of a hundred distributions: a third
of the time that a small search takes. Python itself looks at a folder's time of change before it lists it anew.
"""

from __future__ import annotations

import importlib.metadata
import os
import runpy
import sys
from functools import cache, cached_property
from importlib.metadata import Distribution, PathDistribution
from typing import Any

read = importlib.metadata.entry_points


@cache
def remembered(path: tuple[tuple[str, int], ...]) -> Any:
    return read()


def entry_points(**asked: str) -> Any:
    folders = [os.path.abspath(folder) for folder in sys.path]
    path = tuple((folder, os.stat(folder).st_mtime_ns) for folder in folders if os.path.exists(folder))
    return remembered(path).select(**asked)


def remember() -> None:
    """From here on; before anything imports `entry_points` by its name."""
    metadata: Any = cached_property(Distribution.metadata.fget)  # type: ignore[attr-defined]
    metadata.__set_name__(PathDistribution, "metadata")
    PathDistribution.metadata = metadata  # type: ignore[method-assign]
    importlib.metadata.entry_points = entry_points  # type: ignore[assignment]


if __name__ == "__main__":
    remember()
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
