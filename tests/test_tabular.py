"""The evaluator that looks candidates up: its format, the benchmarks' own files, and the simulated clock."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import nasengine
from nasengine import Architecture, ConfigError, Context, DataError, Evaluator, Fidelity
from nasengine.evaluators.data.tables import nas_bench_graph_package, read_table
from nasengine.evaluators.tabular import Tabular
from nasengine.search_spaces.nasbench201 import NASBench201Space, from_nasbench201
from nasengine.testing import EvaluatorContract, TinySpace, TinyTask

DATA = Path(__file__).parents[1].parent / "shared" / "data" / "nas"
NB201, NBGRAPH = DATA / "nas_bench_201.csv.gz", DATA / "nas_bench_graph_cora_citeseer.npz"
needs_nb201 = pytest.mark.skipif(not NB201.is_file(), reason=f"needs the benchmark's table, {NB201}")
needs_nbgraph = pytest.mark.skipif(not NBGRAPH.is_file(), reason=f"needs the benchmark's table, {NBGRAPH}")
TINY = "nasengine.testing:TinySpace"
TINY_TASK = "nasengine.testing:TinyTask"


def all_tiny() -> list[Architecture]:
    return list(TinySpace().domain(TinyTask()).enumerate())


def frame_of(architectures: list[Architecture]) -> pd.DataFrame:
    """Each architecture's accuracy is its place, its test accuracy the other way round; each took a minute."""
    places = np.arange(len(architectures)) / len(architectures)
    notations = [TinySpace().notation(architecture) for architecture in architectures]
    return pd.DataFrame(
        {"architecture": notations, "accuracy": places, "test_accuracy": 1 - places, "seconds": 60.0, "note": "by hand"}
    )


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.csv"
    frame_of(all_tiny()).to_csv(path, index=False)
    return path


def context(space: Any = None, final: bool = False) -> Context:
    return Context(space or TinySpace(), TinyTask(), torch.device("cpu"), 0, final)


class TestTabular(EvaluatorContract):
    @pytest.fixture(autouse=True)
    def _table(self, table: Path) -> None:
        self.table = table

    def make(self) -> Evaluator:
        return Tabular(table=str(self.table))


# The plain format


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet", "npz"])
def test_a_table_reads_alike_from_every_kind_of_file(kind: str, tmp_path: Path) -> None:
    frame, path = frame_of(all_tiny()), tmp_path / f"tiny.{kind}"
    if kind == "npz":
        numbers: Any = {name: frame[name].to_numpy(float) for name in ("accuracy", "test_accuracy", "seconds")}
        np.savez(path, architecture=frame["architecture"].to_numpy(str), **numbers)
    elif kind == "parquet":
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    evaluator = Tabular(table=str(path))
    for place, architecture in list(enumerate(all_tiny()))[::40]:
        metrics = evaluator.evaluate(architecture, Fidelity(), context())
        assert metrics == {"accuracy": pytest.approx(place / len(all_tiny())), "simulated_seconds": 60}


def test_a_notation_of_digits_keeps_its_zeros(tmp_path: Path) -> None:
    (tmp_path / "digits.csv").write_text("architecture,accuracy\n02120210,0.5\n")
    assert set(read_table(tmp_path / "digits.csv").rows) == {"02120210"}


def test_the_search_sees_no_test_column_and_the_final_judgement_does(table: Path) -> None:
    evaluator, architecture = Tabular(table=str(table)), all_tiny()[40]
    assert set(evaluator.evaluate(architecture, Fidelity(), context())) == {"accuracy", "simulated_seconds"}
    final = evaluator.evaluate(architecture, Fidelity(), context(final=True))
    assert final["test_accuracy"] == pytest.approx(1 - final["accuracy"])


def test_a_search_may_see_another_column_as_its_objective(table: Path) -> None:
    evaluator = Tabular(table=str(table), search_on="test_accuracy")
    assert evaluator.evaluate(all_tiny()[0], Fidelity(), context())["accuracy"] == 1
    with pytest.raises(DataError, match="no column 'tset' to search on; it has: accuracy, test_accuracy, seconds"):
        Tabular(table=str(table), search_on="tset").evaluate(all_tiny()[0], Fidelity(), context())


def test_of_several_trainings_the_longest_that_the_fidelity_allows_is_taken(tmp_path: Path) -> None:
    notation = TinySpace().notation(all_tiny()[0])
    path = tmp_path / "curves.csv"
    epochs = [4, 1, 12]
    pd.DataFrame({"architecture": notation, "epochs": epochs, "accuracy": epochs}).to_csv(path, index=False)
    evaluator = Tabular(table=str(path))
    for asked, taken in ((None, 12), (1, 1), (3, 1), (4, 4), (11, 4), (50, 12)):
        assert evaluator.evaluate(all_tiny()[0], Fidelity(epochs=asked), context()) == {"accuracy": taken}


def test_an_architecture_that_the_table_does_not_know_is_a_failed_trial(table: Path, tmp_path: Path) -> None:
    frame_of(all_tiny()[::2]).to_csv(table, index=False)
    run = nasengine.search(
        TINY, "random", TINY_TASK, f"tabular:table={table}", trials=30, baseline=0, out=tmp_path / "run",
        max_failures=1.0,
    )  # fmt: skip
    failed = [trial for trial in run.all_trials if trial.state == "failed"]
    assert 0 < len(failed) < 30
    assert failed[0].error is not None
    assert "the table knows no {" in failed[0].error


def test_the_canonical_architecture_speaks_for_those_that_are_the_same_network() -> None:
    class Folded(TinySpace):
        def canonical(self, architecture: Architecture) -> Architecture:
            return Architecture(architecture.space, architecture.options, {**architecture.picks, "width": 2})

    known = next(a for a in all_tiny() if a.picks["width"] == 2)
    other = Architecture(known.space, known.options, {**known.picks, "width": 4})
    table = read_table.__globals__["table"]([TinySpace().notation(known)], {"accuracy": np.array([0.5])})
    evaluator = Tabular(table="unread.csv")
    evaluator.table = table
    assert evaluator.evaluate(other, Fidelity(), context(Folded())) == {"accuracy": 0.5}
    with pytest.raises(LookupError):
        evaluator.evaluate(other, Fidelity(), context())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.csv", None, "No such file or directory; expected a table as .csv, .csv.gz, .parquet or .npz"),
        ("table.txt", b"architecture,accuracy\n", "of a kind that is not read"),
        ("table.npz", b"PK\x03\x04 and no more", "cannot be read"),
        ("table.csv.gz", b"plain", "cannot be read"),
        ("table.csv", b"", "cannot be read"),
        ("table.csv", b"network,accuracy\nx,0.5\n", "has no column 'architecture'; it has: network, accuracy"),
        ("table.csv", b"architecture,seconds\nx,0.5\n", "has no column of numbers, such as accuracy"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_table_is_a_sentence(name: str, content: bytes | None, said: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as raised:
        read_table(tmp_path / name)
    assert said in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_arrays_of_objects_are_refused_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "hostile.npz", architecture=np.array([{"a": 1}], dtype=object), accuracy=np.ones(1))
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path / "hostile.npz")


def test_options_that_contradict_each_other_are_refused() -> None:
    for options in ({}, {"table": "a.csv", "package": "nas-bench-graph"}, {"package": "nasbench"}):
        with pytest.raises(ConfigError, match="the evaluator 'tabular'"):
            Tabular(**options)


# The simulated clock


def test_the_time_limit_may_count_simulated_seconds(table: Path, tmp_path: Path) -> None:
    run = nasengine.search(
        TINY, "random", TINY_TASK, f"tabular:table={table}", trials=100, time_limit="10m", clock="simulated",
        baseline=1, out=tmp_path / "run",
    )  # fmt: skip
    searched = [trial for trial in run.all_trials if trial.purpose == "search"]
    assert len(searched) == 10
    assert run.simulated == run.summary()["simulated_seconds"] == 600
    assert "test_accuracy" in run.best.metrics
    assert run.comparison() is not None
    resumed = nasengine.resume(run.folder)
    assert len(resumed.all_trials) == len(run.all_trials)


def test_a_clock_that_nothing_moves_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the clock is 'simulated', but the evaluator 'train' simulates none"):
        nasengine.search(TINY, "random", TINY_TASK, time_limit=10, clock="simulated", out=tmp_path / "run")


def test_a_table_beside_the_data_is_found_there(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run = nasengine.search(
        TINY, "random", TINY_TASK, f"tabular:table={table.name}", trials=2, baseline=0, data=str(tmp_path)
    )
    assert run.config.evaluator.options["table"] == str(table)


# The benchmarks' own files


@needs_nb201
def test_nas_bench_201_is_read_as_its_rows_say() -> None:
    with gzip.open(NB201, "rt", encoding="ascii") as file:
        rows = list(csv.DictReader(file))
    table, hundred = read_table(NB201), read_table(NB201, "cifar100")
    assert len(table.rows) == 15_625
    for row in rows[::1000]:
        at = table.row(row["arch_str"])
        assert at is not None
        assert table.columns["accuracy"][at] == pytest.approx(float(row["c10_valid_ep12"]) / 100)
        assert table.columns["test_accuracy"][at] == pytest.approx(float(row["c10_test_ep200"]) / 100)
        assert table.columns["seconds"][at] == pytest.approx(float(row["c10_ep12_cost_s"]))
        assert hundred.columns["test_accuracy"][at] == pytest.approx(float(row["c100_test_ep200"]) / 100)
    assert table.columns["test_accuracy"].max() == pytest.approx(0.94373, abs=1e-5)
    assert hundred.columns["test_accuracy"].max() == pytest.approx(0.73513, abs=1e-5)
    with pytest.raises(DataError, match="no data set 'mnist'; expected cifar10 or cifar100"):
        read_table(NB201, "mnist")


@needs_nb201
def test_every_cell_of_nas_bench_201_is_found() -> None:
    space = NASBench201Space()
    table = read_table(NB201)
    assert all(space.notation(from_nasbench201(cell)) in table.rows for cell in list(table.rows)[::97])


@needs_nb201
def test_a_search_on_the_benchmark_reports_what_it_would_have_cost(tmp_path: Path) -> None:
    run = nasengine.search(
        "nasbench201", "random", evaluator=f"tabular:table={NB201}", trials=20, baseline=1, out=tmp_path / "run"
    )
    assert 20 * 50 < run.simulated < 20 * 300
    assert 0.5 < run.best.metrics["test_accuracy"] < 0.9438


@needs_nbgraph
def test_the_package_of_nas_bench_graph_and_the_arrays_hold_the_same() -> None:
    pytest.importorskip("nas_bench_graph")
    package, arrays = nas_bench_graph_package("citeseer"), read_table(NBGRAPH, "citeseer")
    assert package.rows.keys() == arrays.rows.keys()
    assert len(arrays.rows) == 26_206
    for name in ("accuracy", "test_accuracy", "latency", "parameters"):
        ours = [package.columns[name][package.rows[key][0]] for key in arrays.rows]
        assert np.allclose(ours, arrays.columns[name], rtol=1e-5)
    with pytest.raises(DataError, match="no data set"):
        nas_bench_graph_package("../../../hostile")


@needs_nbgraph
def test_the_best_of_nas_bench_graph_is_the_published_one() -> None:
    assert read_table(NBGRAPH).columns["accuracy"].max() == pytest.approx(0.8193, abs=5e-5)
