"""A search on a simulated cluster whose machines come and go: python nodes.py FOLDER TRIALS REMOVALS.

Prints as JSON what became of it. A process of its own, because it is connected to a Ray of its own.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

import nasengine
from nasengine import Observer

PERILOUS = f"{Path(__file__).with_name('perilous.py')}:Perilous"


class Losses(Observer):
    """Counts the workers that were lost, by cause, and the trials that came back."""

    def __init__(self) -> None:
        self.causes: Counter[str] = Counter()
        self.told: Counter[int] = Counter()

    def lost(self, number: int, error: str) -> None:
        self.causes[error] += 1

    def ended(self, trial: nasengine.Trial) -> None:
        self.told[trial.number] += 1


def come_and_go(cluster: Any, nodes: list[Any], removals: int, losses: Losses, search: threading.Thread) -> int:
    """Takes a machine away, as a power cut would, and adds another, again and again; how often.

    In the main thread, because Ray answers signals for each machine that it simulates.
    """
    done = 0
    while done < removals:
        before = sum(losses.told.values())
        while sum(losses.told.values()) < before + 3:
            if not search.is_alive():
                return done
            time.sleep(0.05)
        cluster.remove_node(nodes.pop(0), allow_graceful=False)
        done += 1
        nodes.append(cluster.add_node(num_cpus=1))
    return done


def main(folder: Path, trials: int, removals: int) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    marks = folder / "marks"
    marks.mkdir()
    losses = Losses()
    asked: dict[str, Any] = {
        "evaluator": f"{PERILOUS}:how=none,marks={marks},seconds=0.2", "trials": trials, "baseline": 0, "workers": 2,
        "ray": "auto", "max_failures": 0,
    }  # fmt: skip
    found: list[nasengine.Run] = []
    space = "chain:stages=1,layers=3,widths=[4,8]"
    search = threading.Thread(
        target=lambda: found.append(nasengine.search(space, "random", out=folder / "run", observer=losses, **asked))
    )
    search.start()
    removed = come_and_go(cluster, nodes, removals, losses, search)
    search.join()
    trials_ended = found[0].all_trials if found else []
    result = {
        "trials": len(trials_ended),
        "done": sum(trial.state == "done" for trial in trials_ended),
        "told_once": set(losses.told.values()) == {1} and len(losses.told) == len(trials_ended),
        "evaluated_again": sum(len(mark.read_text().splitlines()) > 1 for mark in marks.iterdir()),
        "removed": removed,
        "lost": losses.causes,
    }
    print(json.dumps(result))
    ray.shutdown()
    cluster.shutdown()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
