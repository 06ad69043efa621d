"""Latency tables: what a fit recovers, how honestly it says its error, and what a search does with one."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import nasengine
from nasengine import Architecture, Chooser, ConfigError, Decision, Domain, Observer, SearchSpace, Task, Trial
from nasengine.latency import LatencyTable, fit
from nasengine.profiling import drawn, errors, held_out, held_out_line, profile
from nasengine.testing import TinySpace, TinyTask

CHEAP = f"{Path(__file__).parent / 'parts' / 'cheap.py'}:Cheap"
TINY = ("nasengine.testing:TinySpace", "nasengine.testing:TinyTask")


def conditional() -> Domain:
    """Every kind of decision, and some inside options of others: a network of up to three layers, and edges."""
    layer = [(("depth", index),) for index in range(3)]
    return Domain(
        "conditional",
        {},
        [
            Decision("depth", "depth", (1, 2, 3)),
            *(Decision(f"layer{i}", "one", ("conv", "pool", "skip"), when=frozenset({layer[i]})) for i in range(3)),
            Decision("kernel", "value", (3, 5, 7), when=frozenset({(*layer[1], ("layer1", "conv"))})),
            Decision("edges", "some", ("a", "b", "c", "d"), k=2),
            Decision("inside", "one", ("sum", "product"), when=frozenset({(("edges", "c"),)})),
        ],
    )


KNOWN: dict[str, dict[Any, float]] = {
    "depth": {1: 0.0, 2: 0.5, 3: 1.25},
    "layer0": {"conv": 2.0, "pool": 0.75, "skip": 0.0},
    "layer1": {"conv": 1.5, "pool": 0.5, "skip": 0.0},
    "layer2": {"conv": 3.0, "pool": 0.0, "skip": 0.25},
    "kernel": {3: 0.0, 5: 0.4, 7: 0.9},
    "edges": {"a": 0.0, "b": 0.3, "c": 0.6, "d": 1.0},
    "inside": {"sum": 0.0, "product": 0.35},
}
BASE = 1.75


def known_latency(architecture: Architecture) -> float:
    picks = {name: pick if isinstance(pick, tuple) else (pick,) for name, pick in architecture.picks.items()}
    return BASE + sum(KNOWN[name][option] for name, pick in picks.items() for option in pick)


def table(**changes: Any) -> LatencyTable:
    """Of TinySpace, by hand: 1 ms, 4 more at width 4, and half of one for a second layer."""
    domain = TinySpace().domain(TinyTask())
    costs = {name: [(option, 0.0) for option in decision.options] for name, decision in domain.decisions.items()}
    costs |= {"width": [(2, 0.0), (4, 4.0)], "depth": [(1, 0.0), (2, 0.5)]}
    given: dict[str, Any] = {
        "space": TINY[0], "options": {}, "task": TINY[1], "input_shape": [1, 4, 4], "classes": 2, "device": "cpu: mine",
        "threads": 1, "batch": 1, "torch": "2", "base": 1.0, "costs": costs, "error": {},
    }  # fmt: skip
    return LatencyTable(**{**given, **changes})


def foretold(architecture: Architecture) -> float:
    return 1.0 + (4.0 if architecture.picks["width"] == 4 else 0.0) + (0.5 if architecture.picks["depth"] == 2 else 0.0)


# The fit


def test_a_fit_recovers_what_each_option_costs_in_a_space_with_conditions() -> None:
    domain = conditional()
    architectures = drawn(domain, 150, np.random.default_rng(0))
    base, costs = fit(domain, architectures, [known_latency(architecture) for architecture in architectures])
    assert base == pytest.approx(BASE, abs=1e-4)
    for name, options in KNOWN.items():
        assert dict(costs[name]) == pytest.approx(options, abs=1e-4), name
    made = table(base=base, costs=costs)
    unseen = [architecture for architecture in domain.enumerate() if architecture not in architectures]
    assert len(unseen) > 100
    assert [made.latency(a) for a in unseen] == pytest.approx([known_latency(a) for a in unseen], rel=1e-4)


def test_no_option_of_a_fit_costs_less_than_nothing() -> None:
    domain, rng = conditional(), np.random.default_rng(1)
    architectures = drawn(domain, 40, rng)
    base, costs = fit(domain, architectures, list(rng.uniform(1, 9, len(architectures))))
    assert base >= 0
    assert min(cost for options in costs.values() for _, cost in options) >= 0


def test_the_error_is_that_of_architectures_which_the_table_had_not_seen() -> None:
    """Latencies of pure chance: whoever had seen them would seem to foretell them."""
    domain, rng = conditional(), np.random.default_rng(0)
    architectures = drawn(domain, 60, rng)
    chance = list(rng.uniform(1, 9, len(architectures)))
    spearman = errors(held_out(domain, architectures, chance), chance)["spearman"]
    assert spearman is not None
    assert spearman < 0.3
    true = [known_latency(architecture) for architecture in architectures]
    honest = errors(held_out(domain, architectures, true), true)
    assert honest["mape"] is not None
    assert honest["mape"] < 0.02
    assert honest["spearman"] is not None
    assert honest["spearman"] > 0.98


def test_the_error_and_the_line_through_one_number_are_those_of_the_textbook() -> None:
    sizes = [float(size) for size in range(1, 21)]
    assert held_out_line(sizes, [3 + 2 * size for size in sizes]) == pytest.approx([3 + 2 * size for size in sizes])
    assert errors([2.0, 3.0, 9.0], [1.0, 4.0, 9.0]) == {"mape": pytest.approx((1 + 0.25) / 3), "spearman": 1.0}
    assert errors([1.0, 1.0], [1.0, 2.0])["spearman"] is None


def test_every_pick_of_a_decision_is_drawn_about_as_often() -> None:
    """Uniform over all 567 networks, 7 in 10 would have three layers."""
    depths = [a.picks["depth"] for a in drawn(conditional(), 90, np.random.default_rng(0))]
    assert min(depths.count(depth) for depth in (1, 2, 3)) >= 15


# Measuring


class Loops(SearchSpace):
    """A number of layers, each a product of large matrices."""

    def build(self, choose: Chooser, task: Task) -> nn.Module:
        layers = [lambda: nn.Linear(256, 256)] * 16
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 256), choose.depth("depth", layers), nn.Linear(256, 2))


def test_a_profile_says_that_more_layers_take_longer() -> None:
    steps: list[tuple[int, int]] = []
    before = torch.get_num_threads()
    for _ in range(3):  # others may be at work on this machine
        found = profile(
            Loops(), TinyTask(), architectures=12, batch=32, threads=1, rounds=2, step=lambda *step: steps.append(step)
        )
        costs = dict(found.table.costs["depth"])
        if found.table.error["latency table"]["spearman"] is not None and costs[16] > costs[1]:
            break
    assert costs[16] > costs[1]
    assert found.table.metric == "latency_32"
    assert (found.table.threads, torch.get_num_threads()) == (1, before)
    assert len(found.measured) == len(found.architectures) == 12
    assert steps[0] == (0, 24)
    assert steps[-1] == (24, 24)
    assert set(found.foretold) == {"latency table", "flops", "parameters"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"architectures": 3}, "architectures is 3; expected at least 10"),
        ({"batch": 0}, "batch is 0; expected at least 1"),
        ({"threads": 0}, "threads is 0; expected at least 1"),
        ({"space": "sell"}, "no space named 'sell'. Did you mean 'cell'"),
    ],
)
def test_what_cannot_be_profiled_is_a_sentence(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(nasengine.NasError, match=said):
        profile(**{"space": TinySpace(), "task": TinyTask(), **settings})


def test_a_space_too_small_to_be_told_anything_about_is_a_sentence() -> None:
    class Two(SearchSpace):
        def build(self, choose: Chooser, task: Task) -> nn.Module:
            return nn.Sequential(nn.Flatten(), choose.one("only", {"a": nn.Identity, "b": nn.ReLU}))

    with pytest.raises(nasengine.NasError, match="has 2 different architectures; expected at least 10"):
        profile(Two(), TinyTask())


# The file


def test_a_table_is_the_same_after_json() -> None:
    made = table()
    again = LatencyTable.from_dict(json.loads(json.dumps(made.to_dict())))
    assert again.to_dict() == made.to_dict()
    for architecture in TinySpace().domain(TinyTask()).enumerate():
        assert again.latency(architecture) == made.latency(architecture) == foretold(architecture)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is no latency table"),
        ("[1, 2]", "is no latency table"),
        ("{}", "is no latency table"),
        (json.dumps({**table().to_dict(), "more": 1}), "is no latency table"),
        (json.dumps({**table().to_dict(), "base": float("nan")}), "is damaged"),
        (json.dumps({**table().to_dict(), "costs": {"width": [[2]]}}), "is damaged"),
        (json.dumps({**table().to_dict(), "costs": 3}), "is damaged"),
        (json.dumps({**table().to_dict(), "batch": 0}), "is damaged"),
        (json.dumps({**table().to_dict(), "input_shape": "no"}), "is damaged"),
    ],
)
def test_a_file_that_holds_no_table_is_a_sentence(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "latency.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=said):
        nasengine.search(TinySpace(), "random", TinyTask(), CHEAP, latency_table=path, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# In a search


def search(out: Path, strategy: str = "random", given: LatencyTable | None = None, **settings: Any) -> nasengine.Run:
    settings = {"evaluator": CHEAP, "trials": 8, "baseline": 2, "durable": False, **settings}
    if given is not None:
        settings["latency_table"] = given.to_dict()
    return nasengine.search(TINY[0], strategy, TINY[1], out=out, **settings)


@pytest.mark.parametrize(
    ("given", "constraint", "said"),
    [
        (None, "latency<=3", "needs a latency table, .*; make one with: nas profile .*TinySpace --task .*TinyTask"),
        (None, "latency_8<=3", "make one with: nas profile .* --batch 8, and give it with: --latency-table"),
        (table(), "latency_8<=3", "and the one given is of latency;"),
        (table(space="cell"), "parameters<=1k", "of the space 'cell', not of"),
        (table(options={"layers": 3}), "parameters<=1k", "with other options"),
        (table(input_shape=[3, 32, 32]), "parameters<=1k", "of examples of 3×32×32 and 2 classes"),
        (table(costs={}), "parameters<=1k", "knows other options of the decision 'width'"),
        (table(), "latency<=0.5", "the smallest that was found has a latency of 1 ms"),
    ],
)
def test_a_constraint_on_latency_needs_the_table_for_it(
    given: LatencyTable | None, constraint: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        search(tmp_path / "run", given=given, constraints=constraint)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("strategy", ["random", "nsga2:population=4", "evolution:population=3,sample=2"])
def test_a_search_keeps_to_a_bound_on_the_latency_that_the_table_foretells(strategy: str, tmp_path: Path) -> None:
    run = search(tmp_path / "run", strategy, table(), constraints="latency<=1.2")
    found = [trial.architecture for trial in run.all_trials if trial.architecture]
    assert len(found) == 11
    assert all(foretold(architecture) == 1.0 for architecture in found)


def test_one_shot_strategies_derive_what_keeps_to_it(tmp_path: Path) -> None:
    run = search(
        tmp_path / "run", "darts:epochs=1", table(), constraints="latency<=1.2", evaluator="train:epochs=1", baseline=0
    )
    assert run.best.architecture is not None
    assert foretold(run.best.architecture) == 1.0


def test_with_a_table_the_latency_of_a_run_is_the_one_it_foretells(tmp_path: Path) -> None:
    run = search(tmp_path / "run", "nsga2:population=4", table(), objectives=("accuracy", "latency:min"))
    for trial in run.all_trials:
        assert trial.architecture is not None
        assert trial.metrics["latency"] == foretold(trial.architecture)


def test_a_table_says_nothing_of_larger_networks_of_the_final_training(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot say the latency of those of the final training"):
        nasengine.search(
            "nasbench201", "random", TinyTask(), CHEAP, out=tmp_path / "run", objectives="latency:min",
            latency_table=_of_nasbench201().to_dict(), final="channels=32",
        )  # fmt: skip


def _of_nasbench201() -> LatencyTable:
    from nasengine.registry import make

    domain = make("space", "nasbench201", {}).domain(TinyTask())  # type: ignore[attr-defined]
    costs = {name: [(option, 0.0) for option in decision.options] for name, decision in domain.decisions.items()}
    return table(space="nasbench201", options=domain.options, costs=costs)


class Stops(Observer):
    """Ends the run after some trials."""

    def __init__(self, after: int) -> None:
        self.left = after

    def ended(self, trial: Trial) -> None:
        self.left -= 1
        self.stop_requested = self.left <= 0


def test_a_search_under_a_bound_on_latency_resumes_to_its_end_without_the_file(tmp_path: Path) -> None:
    file = tmp_path / "latency.json"
    file.write_text(json.dumps(table().to_dict()))
    settings: dict[str, Any] = {"constraints": "latency<=1.6", "trials": 12, "objectives": ("accuracy", "latency:min")}
    whole = search(tmp_path / "whole", "nsga2:population=4", latency_table=file, **settings)
    with pytest.raises(nasengine.NasError):
        search(tmp_path / "run", "nsga2:population=4", latency_table=file, observer=Stops(5), **settings)
    file.write_text(json.dumps(table(base=50.0).to_dict()))  # no longer the run's
    copy = tmp_path / "run" / "config.yaml"
    recorded = copy.read_text()
    copy.write_text(recorded.replace("base: 1.0", "base: 50.0"))
    with pytest.raises(nasengine.RunError, match=r"says latency_table = .*put it back to go on"):
        nasengine.resume(tmp_path / "run")
    copy.write_text(recorded)
    resumed = nasengine.resume(tmp_path / "run")
    assert resumed.finished
    assert [(t.architecture, t.metrics) for t in resumed.all_trials] == [
        (t.architecture, t.metrics) for t in whole.all_trials
    ]


def test_the_configuration_of_a_run_repeats_it_without_the_file(tmp_path: Path) -> None:
    from nasengine.config import Config
    from nasengine.session import start

    run = search(tmp_path / "run", given=table(), constraints="latency<=1.2")
    again = start(Config.read(tmp_path / "run" / "config.yaml"), tmp_path / "again", durable=False)
    assert [t.architecture for t in again.all_trials] == [t.architecture for t in run.all_trials]


@pytest.mark.slow
def test_workers_elsewhere_measure_and_foretell_alike(tmp_path: Path) -> None:
    run = search(
        tmp_path / "run", given=table(), constraints="latency<=1.2",
        objectives=("accuracy", "latency:min", "latency_4:min"), workers=2, trials=4, baseline=0,
    )  # fmt: skip
    assert all(trial.metrics["latency"] == 1.0 and trial.metrics["latency_4"] > 0 for trial in run.all_trials)


# The command


def test_the_command_measures_shows_writes_and_draws(nas: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = nas(
        "profile", TINY[0], "--task", TINY[1], "--architectures", 12, "--rounds", 1, "--threads", 1,
        "--plot", "latency.png",
    )  # fmt: skip
    assert code == 0
    for expected in ("12 architectures of", "1×4×4, 1 at a time", "1 thread:", "ms in all places", "latency table",
                     "FLOPs", "parameters", "Written: latency.json, latency.png", "Next: nas run --space"):  # fmt: skip
        assert expected in out
    assert "12 of 12 measurements" in err
    assert Path("latency.png").read_bytes().startswith(b"\x89PNG")
    made = LatencyTable.from_dict(json.loads(Path("latency.json").read_text()))
    limit = 2 * max(made.latency(architecture) for architecture in TinySpace().domain(TinyTask()).enumerate())
    code, _, err = nas(
        "run", "--space", TINY[0], "--task", TINY[1], "--evaluator", CHEAP, "--strategy", "random", "--trials", 2,
        "--baseline", 0, "-q", "--latency-table", "latency.json", "--constraint", f"latency<={limit:.6f}",
        "--out", "run",
    )  # fmt: skip
    assert (code, err) == (0, "")


def test_the_result_as_json_holds_the_table_and_what_was_measured(nas: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = nas("profile", TINY[0], "--task", TINY[1], "--architectures", 10, "--rounds", 1, "--json", "-q")
    assert (code, err) == (0, "")
    shown = json.loads(out)
    assert len(shown["measured"]) == 10
    assert set(shown["measured"][0]) == {"architecture", "measured", "foretold"}
    assert {name: shown[name] for name in shown if name != "measured"} == json.loads(Path("latency.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sell"], "no space named 'sell'"),
        (["cell", "--architectures", 2], "architectures is 2; expected at least 10"),
        (["cell", "-o", "nowhere/latency.json"], "nowhere/latency.json cannot be written"),
        (["cell", "--plot", "latency.gif"], "no picture is written as 'latency.gif'"),
        (["cell", "--task", "digit"], "no task named 'digit'"),
        (["cell", "--task", "karate"], "choose two of one family"),
        (["cell:layers=0"], "layers"),
    ],
)
def test_a_mistake_ends_the_command_with_a_sentence(
    arguments: list[object], said: str, nas: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, err = nas("profile", *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err
