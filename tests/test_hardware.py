"""What a network takes where it runs: latency, memory and energy, as metrics of any search."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nasengine
from nasengine import Architecture, ConfigError, Context, Evaluator, Fidelity, Metrics
from nasengine import hardware as measuring
from nasengine.cost import Costs, memory, weight_bytes
from nasengine.hardware import batch_of, check_energy, energy, joules, latency, measurable, measured, used
from nasengine.registry import make
from nasengine.testing import TinySpace, TinyTask

CPU = torch.device("cpu")
CHEAP = f"{Path(__file__).parent / 'parts' / 'cheap.py'}:Cheap"


class Sleeps(nn.Module):
    """Takes its time, and notes how it was called."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.calls: list[tuple[bool, bool, int]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append((self.training, torch.is_grad_enabled(), len(x)))
        time.sleep(self.seconds)
        return x


def deep(layers: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 512), *(nn.Linear(512, 512) for _ in range(layers)))


# What is measured


def test_the_metrics_of_the_hardware_are_known_by_their_names() -> None:
    asked = ["accuracy", "latency", "latency_32", "latency_0", "latency_", "memory", "flops", "energy", "latency"]
    assert measurable(asked) == ("latency", "latency_32", "memory", "flops", "energy")
    assert [batch_of(name) for name in asked] == [0, 1, 32, 0, 0, 0, 0, 0, 1]


def test_what_sleeps_longer_has_the_greater_latency() -> None:
    task = TinyTask()
    short, long = (latency(Sleeps(seconds), task, CPU, repeats=5) for seconds in (0.001, 0.004))
    assert 1.0 <= short < long


def test_latency_is_measured_in_evaluation_mode_without_gradients_on_the_batch_asked_for() -> None:
    model = Sleeps(0.0)
    model.train()
    latency(model, TinyTask(), CPU, batch=3, repeats=4)
    assert set(model.calls) == {(False, False, 3)}
    assert len(model.calls) == measuring.WARM_UP + 4


def test_a_network_twice_as_deep_takes_longer() -> None:
    task = TinyTask()
    for _ in range(5):  # others may be at work on this machine
        ratio = latency(deep(16), task, CPU, batch=64) / latency(deep(8), task, CPU, batch=64)
        if ratio > 1.2:
            break
    assert ratio > 1.2


def test_memory_is_that_of_the_weights_the_input_and_the_tensors_alive_at_a_time() -> None:
    weights = 4 * (16 * 8 + 8 + 8 * 2 + 2)
    given = 4 * 16
    layers = nn.Flatten(), nn.Linear(16, 8)
    model = nn.Sequential(*layers, nn.ReLU(), nn.Linear(8, 2))
    assert memory(model, TinyTask()) == weights + given + 4 * (8 + 8)  # while the rectification runs
    in_place = nn.Sequential(*layers, nn.ReLU(inplace=True), nn.Linear(8, 2))
    assert memory(in_place, TinyTask()) == weights + given + 4 * (8 + 2)


def test_a_shortcut_keeps_its_tensor_alive_and_a_view_takes_nothing() -> None:
    class Shortcut(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            kept = x.flatten(1) * 2  # 16 numbers, alive to the end
            narrow = kept[:, :4] * 3  # 4
            narrow = narrow.exp()  # 4, beside the 4 before
            return kept + narrow.repeat(1, 4)  # 16 and 16, beside 4 and 16

    assert memory(Shortcut(), TinyTask()) == 4 * (16 + 16 + 4 + 16 + 16)


def test_buffers_count_as_memory() -> None:
    model = nn.BatchNorm2d(3)
    assert weight_bytes(model) == 4 * 4 * 3 + 8  # weights, biases, means, variances; and a counter of 64 bits


def test_the_memory_of_an_architecture_is_counted_without_memory_and_does_not_change() -> None:
    space, task = make("space", "nasbench201", {}), TinyTask()
    domain = space.domain(task)  # type: ignore[attr-defined]
    for seed in range(3):
        architecture = domain.sample(np.random.default_rng(seed))
        counted = Costs(space, task).of(architecture, "memory")  # type: ignore[arg-type]
        assert counted == Costs(space, task).of(architecture, "memory")  # type: ignore[arg-type]
        there = memory(space.model(architecture, task), task)  # type: ignore[attr-defined]
        assert counted == pytest.approx(there, rel=0.05)  # the layers of the two devices keep different small things
        assert measured(space, task, architecture, ["memory"], CPU) == {"memory": counted}  # type: ignore[arg-type]


def counters(folder: Path, *values: int) -> list[Path]:
    """Energy counters as Linux has them, in microjoules, one a processor; the first also for one of its parts."""
    files = []
    for index, value in enumerate(values):
        counter = folder / f"intel-rapl:{index}"
        counter.mkdir()
        (counter / "energy_uj").write_text(f"{value}\n")
        (counter / "max_energy_range_uj").write_text("10000000\n")
        files.append(counter / "energy_uj")
    part = folder / "intel-rapl:0:0"
    part.mkdir()
    (part / "energy_uj").write_text("77\n")
    return files


def test_the_energy_of_processors_is_that_of_all_of_them_and_counters_go_round(tmp_path: Path) -> None:
    first, second = counters(tmp_path, 9_000_000, 2_000_000)
    before = joules(tmp_path)
    assert before == {"intel-rapl:0": 9.0, "intel-rapl:1": 2.0}
    first.write_text("500000\n")  # it went round at 10 J
    second.write_text("2250000\n")
    assert used(before, joules(tmp_path), tmp_path) == pytest.approx(1.5 + 0.25)


def test_energy_is_the_joules_of_one_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (counter,) = counters(tmp_path, 0)

    class Burns(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            counter.write_text(f"{(int(counter.read_text()) + 3_000) % 10_000_000}\n")
            return x

    monkeypatch.setattr(measuring, "SECONDS_OF_ENERGY", 0.05)
    assert energy(Burns(), TinyTask(), CPU, tmp_path) == pytest.approx(0.003)


def test_energy_is_refused_in_a_sentence_where_the_device_does_not_tell_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"energy cannot be measured here: no .* may be read"):
        check_energy(CPU, tmp_path)
    counters(tmp_path, 1)
    check_energy(CPU, tmp_path)


def test_what_is_measured_on_tensors_is_refused_for_a_task_of_other_examples(tmp_path: Path) -> None:
    class Pairs(TinyTask):
        def example(self) -> object:
            return {"image": torch.zeros(2, 1, 4, 4)}

    with pytest.raises(ConfigError, match="FLOPs, memory and latency are of tensors, or of what has"):
        nasengine.search(TinySpace(), "random", Pairs(), CHEAP, objectives="latency:min", out=tmp_path / "run")


# As metrics of a search


@pytest.mark.parametrize("strategy", ["random", "nsga2:population=4", "evolution:population=3,sample=2"])
def test_any_strategy_finds_the_latency_among_the_metrics_of_any_evaluator(strategy: str, tmp_path: Path) -> None:
    objectives = ("latency:min",) if "evolution" in strategy else ("accuracy:max", "latency:min", "memory:min")
    run = nasengine.search(
        TinySpace(), strategy, TinyTask(), CHEAP, trials=6, baseline=1, objectives=objectives, out=tmp_path / "run",
        durable=False,
    )  # fmt: skip
    assert len(run.all_trials) == 8
    for trial in run.all_trials:
        assert trial.metrics["latency"] > 0
        assert ("memory" in trial.metrics) == (len(objectives) > 1)
    assert run.front()


def test_what_was_trained_is_measured_as_well(tmp_path: Path) -> None:
    run = nasengine.search(
        TinySpace(), "random", TinyTask(), "train:epochs=1", trials=2, baseline=0, out=tmp_path / "run",
        objectives=("accuracy", "latency_4:min", "flops:min"), durable=False,
    )  # fmt: skip
    assert all(trial.metrics["latency_4"] > 0 for trial in run.all_trials)
    assert run.best.metrics["test_accuracy"] >= 0


def test_what_the_evaluator_says_of_the_hardware_stands(tmp_path: Path) -> None:
    class Board(Evaluator):
        measures = frozenset({"latency", "energy"})

        def evaluate(self, architecture: Architecture, fidelity: Fidelity, context: Context) -> Metrics:
            return {"accuracy": 0.5, "latency": 7.0, "energy": 2.0}

    run = nasengine.search(
        TinySpace(), "random", TinyTask(), Board(), trials=2, baseline=0, out=tmp_path / "run",
        objectives=("accuracy", "latency:min", "energy:min", "parameters:min"), durable=False,
    )  # fmt: skip
    assert all((t.metrics["latency"], t.metrics["energy"]) == (7.0, 2.0) for t in run.all_trials)
    assert all(t.metrics["parameters"] > 0 for t in run.all_trials)


def test_candidates_that_are_judged_smaller_are_measured_whole(tmp_path: Path) -> None:
    run = nasengine.search(
        "nasbench201", "random", "digits", CHEAP, trials=2, baseline=0, fidelity="width=0.25", out=tmp_path / "run",
        objectives=("accuracy", "memory:min"), durable=False,
    )  # fmt: skip
    whole = Costs(run.space, run.task)
    for trial in run.all_trials:
        assert trial.architecture is not None
        assert trial.metrics["memory"] == whole.of(trial.architecture, "memory")


def test_memory_may_be_bounded(tmp_path: Path) -> None:
    run = nasengine.search(
        TinySpace(), "random", TinyTask(), CHEAP, trials=6, baseline=0, out=tmp_path / "run", durable=False,
        constraints="memory<=1.5k", objectives=("accuracy", "memory:min"),
    )  # fmt: skip
    assert all(trial.metrics["memory"] <= 1500 for trial in run.all_trials)
    largest = TinySpace().domain(TinyTask()).complete({"width": 4})
    assert Costs(TinySpace(), TinyTask()).of(largest, "memory") > 1500


@pytest.mark.gpu
def test_a_gpu_tells_its_latency_and_memory() -> None:
    space, task, device = TinySpace(), TinyTask(), torch.device("cuda")
    architecture = space.domain(task).complete({})
    found = measured(space, task, architecture, ["latency", "memory"], device)
    assert found["latency"] > 0
    assert found["memory"] > weight_bytes(space.model(architecture, task))
