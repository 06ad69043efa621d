"""The benchmarks run, and their tables hold what they should. How fast anything is, is not tested."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
CORA = Path(__file__).parents[1].parent / "shared" / "data" / "planetoid" / "Cora" / "raw"


def printed(script: str, *options: str) -> str:
    command = [sys.executable, str(BENCHMARKS / f"{script}.py"), "--quick", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def markdown_table(output: str) -> list[dict[str, str]]:
    lines = [[cell.strip() for cell in line[1:-1].split(" | ")] for line in output.splitlines() if line.startswith("|")]
    columns, rule, *rows = lines
    assert set(rule) == {"---"}
    return [dict(zip(columns, row, strict=True)) for row in rows]


def text_table(output: str) -> list[dict[str, str]]:
    """The last block of lines that an empty line ends."""
    columns, *rows = [re.split(r" {2,}", line) for line in output.split("\n\n")[1].splitlines()]
    return [dict(zip(columns, row, strict=True)) for row in rows]


def numbers(cell: str) -> list[float]:
    """`1,234 (1,000–2,000)` or `0.93 ± 0.01` as floats."""
    return [float(part.replace(",", "")) for part in re.findall(r"-?[\d,]*\.?\d+", cell)]


def positive(cell: str) -> bool:
    return bool(numbers(cell)) and all(value > 0 for value in numbers(cell))


def fraction(cell: str) -> bool:
    return all(0 <= value <= 1 for value in numbers(cell)) and bool(numbers(cell))


def says_how_it_was_measured(output: str) -> bool:
    facts = ("machine", "versions", "seeds", "repetitions", "cores", "GiB", "Python 3", "torch 2", "nasengine ")
    return all(fact in output for fact in facts)


@pytest.mark.slow
def test_training_is_compared_with_a_loader_on_two_networks() -> None:
    output = printed("training_throughput", "--markdown")
    assert says_how_it_was_measured(output)
    table = markdown_table(output)
    assert len(table) == 9
    assert {row["network"].split(",")[0] for row in table} == {"none: batches only", "chain", "cell"}
    sources = ["tensor in memory", "DataLoader, no workers", "DataLoader, 2 workers"]
    assert [row["batches from"] for row in table] == 3 * sources
    for row in table:
        assert positive(row["ms an epoch"])
        assert positive(row["time, × memory"])
        trained = not row["network"].startswith("none")
        assert fraction(row["validation accuracy"]) if trained else row["validation accuracy"] == "–"
        assert row["batches from"] != sources[0] or numbers(row["time, × memory"]) == [1.0]


@pytest.mark.slow
@pytest.mark.usefixtures("warm_python")
@pytest.mark.parametrize("form", [pytest.param("text", marks=pytest.mark.slow), "markdown"])
def test_the_loop_is_compared_with_optuna_and_with_what_the_disk_asks(form: str) -> None:
    output = printed("loop_throughput", *(["--markdown"] if form == "markdown" else []))
    assert says_how_it_was_measured(output)
    assert "optuna " in output
    table = markdown_table(output) if form == "markdown" else text_table(output)
    names = [row["what"] for row in table]
    assert sum(name.startswith("nasengine, ") for name in names) == 4
    assert sum(name.startswith("Optuna, ") for name in names) == 2
    assert sum(name.startswith("one ") for name in names) == 2
    for row in table:
        assert all(positive(row[column]) for column in row if column not in ("what", "judged")), row
    assert numbers(table[0]["time, × nasengine, random, durable"]) == [1.0]
    assert [row["judged"] for row in table if row["what"].startswith("Optuna")] == ["10", "20"]
    judged = [numbers(row["judged"])[0] for row in table if row["what"].startswith("nasengine")]
    assert all(0 < number <= 20 for number in judged)


@pytest.mark.slow
def test_dilated_convolutions_are_compared_with_torchs() -> None:
    output = printed("dilation", "--markdown")
    assert says_how_it_was_measured(output)
    table = markdown_table(output)
    assert [row["computed as"] for row in table] == 11 * ["PyTorch's", "nasengine's"]
    assert all(positive(row["ms a step"]) and positive(row["speed, × PyTorch's"]) for row in table)


@pytest.mark.slow
def test_start_up_is_compared_with_torch() -> None:
    output = printed("start_up", "--markdown")
    assert says_how_it_was_measured(output)
    table = {row["what"]: row for row in markdown_table(output)}
    assert set(table) == {
        "bare Python", "import torch", "import torch, an optimizer", "import nasengine", "nas --help", "nas list",
        "nas run, 1 trial that costs nothing", "nas run, 1 trial and the final training, an epoch each",
        "nas resume, after 1,000 trials",
    }  # fmt: skip
    for row in table.values():
        assert positive(row["seconds"])
        assert positive(row["time, × import torch"])


@pytest.mark.slow
@pytest.mark.usefixtures("warm_python")
def test_a_search_is_compared_with_random_networks() -> None:
    output = printed("digits_search", "--markdown")
    assert says_how_it_was_measured(output)
    row, mean = markdown_table(output)
    assert (row["seed"], mean["seed"]) == ("0", "mean")
    accuracies = ["validation accuracy", "test accuracy", "random: test accuracy"]
    assert all(fraction(row[name]) for name in accuracies)
    (gain,), (found,), (random,) = (numbers(row[name]) for name in ("gain", *accuracies[1:]))
    assert gain == pytest.approx(found - random, abs=2e-4)
    assert all(positive(row[name]) for name in ("parameters", "search, s", "final training, s"))
    assert [row[name] for name in row if name != "seed"] == [mean[name] for name in mean if name != "seed"]
    signs = re.search(r"positive in (\d) of 1 runs, zero in (\d), negative in (\d)", output)
    assert signs is not None
    assert sum(map(int, signs.groups())) == 1


@pytest.mark.slow
def test_a_step_in_the_supernet_is_compared_with_a_plain_one() -> None:
    """It ends with an error where the two do not compute the same."""
    output = printed("supernet_step", "--markdown")
    assert says_how_it_was_measured(output)
    table = markdown_table(output)
    assert [(row["order"], row["supernet"]) for row in table] == [*product(("first", "second"), ("plain", "nasengine"))]
    for row in table:
        assert all(positive(row[column]) for column in row if column not in ("order", "supernet"))
        assert row["supernet"] != "plain" or numbers(row["times as fast"]) == [1.0]
    (differences,) = re.findall(r"equality: first order (\S+), second order (\S+): ", output)
    assert all(float(difference) <= 1e-12 for difference in differences)


@pytest.mark.slow
def test_faults_are_shown_by_tests_that_exist() -> None:
    output = printed("faults", "--markdown", "--rows", "9", "14")
    assert says_how_it_was_measured(output)
    table = markdown_table(output)
    assert [row["row"] for row in table] == ["9", "14"]
    assert [row["holds"] for row in table] == ["yes", "yes"]
    assert all(numbers(row["tests"])[0] >= 2 for row in table)


@pytest.mark.slow
def test_orchestration_is_measured_in_four_sections() -> None:
    output = printed("orchestration", "--markdown")
    head, *sections = output.split("\n#### ")
    assert says_how_it_was_measured(head)
    assert all(name in head for name in ("ray 2", "optuna ", "Tune"))
    titles = ["Endurance", "Driver", "Throughput", "Efficiency"]
    assert [section.partition(":")[0] for section in sections] == titles
    tables = dict(zip(titles, map(markdown_table, sections), strict=True))

    assert [row["trials until"] for row in tables["Endurance"]] == [f"{until:,}" for until in range(200, 2001, 200)]
    driver = [(row["strategy"], row["reports a trial"], row["workers"]) for row in tables["Driver"]]
    assert driver == list(product(("random", "evolution"), "05", ("1", "64")))
    throughput = {row["what"]: row for row in tables["Throughput"]}
    assert sum(name.startswith("nasengine") for name in throughput) == 3
    assert sum(name.startswith("Ray Tune") for name in throughput) == 2
    assert sum(name.startswith("Optuna") for name in throughput) == 2
    ours = "nasengine on Ray, durable"
    assert numbers(throughput[ours][f"time, × {ours}"]) == [1.0]
    for row in (*tables["Endurance"], *tables["Driver"], *tables["Throughput"]):
        measured = [cell for column, cell in row.items() if column not in ("what", "strategy", "reports a trial")]
        assert all(map(positive, measured)), row
    for row in tables["Efficiency"]:
        assert 0 < numbers(row["workers' time filled, %"])[0] <= 105
    (best,) = re.findall(r"([\d.,]+) times the trials a second of the best of Tune", output)
    assert numbers(best)[0] > 0


@pytest.mark.usefixtures("warm_python")
def test_sections_of_orchestration_are_chosen_by_name() -> None:
    output = printed("orchestration", "--markdown", "--only", "driver")
    assert re.findall(r"^#### (\w+)", output, re.MULTILINE) == ["Driver"]


DATA = Path(__file__).parents[1].parent / "shared" / "data" / "nas"
NEEDS_TABLE = pytest.mark.skipif(
    not (DATA / "nas_bench_201.csv.gz").is_file(), reason=f"needs the benchmark's table, {DATA}/nas_bench_201.csv.gz"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "table"),
    [("nas_bench_201", "nas_bench_201.csv.gz"), ("nas_bench_graph", "nas_bench_graph_cora_citeseer.npz")],
)
def test_strategies_are_compared_on_a_benchmarks_table(script: str, table: str, tmp_path: Path) -> None:
    if not (DATA / table).is_file():
        pytest.skip(f"needs the benchmark's table, {DATA / table}")
    chosen = ["--strategies", "random;local_search", "--markdown", "--out", str(tmp_path / "out")]
    sections = ["--sections", "budget"] if script == "nas_bench_201" else []
    output = printed(script, "--table", str(DATA / table), *sections, *chosen)
    assert says_how_it_was_measured(output)
    table_printed = markdown_table(output)
    assert [row["strategy"] for row in table_printed] == ["random", "local_search"]
    assert {row["seeds"] for row in table_printed} == {"2"}


@pytest.mark.slow
def test_zero_cost_proxies_are_held_against_a_benchmarks_accuracies_and_gone_on_with(tmp_path: Path) -> None:
    table = DATA / "nas_bench_201.csv.gz"
    if not table.is_file():
        pytest.skip(f"needs the benchmark's table, {table}")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=np.arange(60) % 4)
    asked = [
        "--table",
        str(table),
        "--path",
        str(tmp_path / "images.npz"),
        "--out",
        str(tmp_path / "out"),
        "--markdown",
    ]
    output = printed("zero_cost", *asked)
    assert says_how_it_was_measured(output)
    rows = markdown_table(output)
    assert len(rows) == 12
    assert {"flops", "parameters", "synflow", "vote: synflow + jacob_cov + snip"} <= {row["proxy"] for row in rows}
    for row in rows:
        value, low, high = numbers(row["Spearman"])
        assert -1 <= low <= value <= high <= 1
        assert positive(row["ms a cell"])
    assert [row["published, CIFAR-10"] for row in rows if row["proxy"] == "synflow"] == ["0.737"]

    (kept,) = (tmp_path / "out").iterdir()
    lines = kept.read_text().splitlines(keepends=True)
    kept.write_text("".join([*lines[:5], lines[5][:30]]))  # ended while it wrote
    again = markdown_table(printed("zero_cost", *asked))
    assert kept.read_text().splitlines(keepends=True)[:5] == lines[:5]
    assert {row["proxy"]: row["Spearman"] for row in again} == {row["proxy"]: row["Spearman"] for row in rows}


def test_a_benchmark_whose_table_is_missing_is_skipped_in_a_sentence(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "nas_bench_201.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={"NASENGINE_DATA": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("skipped: ")


def test_the_time_of_a_proposal_is_measured_for_what_is_named() -> None:
    output = printed("ask_time", "--markdown", "--strategies", "random;evolution")
    assert says_how_it_was_measured(output)
    assert [row["strategy"] for row in markdown_table(output)] == ["random", "evolution"]
    assert all(positive(row["ms at 100"]) for row in markdown_table(output))


@pytest.mark.slow
def test_what_one_shot_strategies_derive_is_a_cell_each() -> None:
    output = printed("one_shot", "--markdown", "--only", "darts", "sdarts")
    assert says_how_it_was_measured(output)
    table = markdown_table(output.partition("What the guard said:")[0])
    assert [row["strategy"] for row in table] == ["darts", "sdarts"]
    cells = [row["cell derived"].replace("\\|", "|") for row in table]
    assert all(re.fullmatch(r"(\|\w+~0)\|\+(\|\w+~\d){2}\|\+(\|\w+~\d){3}\|", cell) for cell in cells)
    assert all(positive(row["eigenvalue"]) for row in table)


@pytest.mark.slow
def test_stoppers_are_compared_on_recorded_curves() -> None:
    output = printed("stoppers", "--markdown", "--stoppers", "median", "hypervolume")
    assert says_how_it_was_measured(output)
    first, second = output.split("#### Calibration of the extrapolation")
    table = markdown_table(first)
    assert [row["stopper"] for row in table] == ["median", "hypervolume", "hypervolume"]
    assert [row["objectives"] for row in table] == ["accuracy", "accuracy", "accuracy and parameters"]
    assert all(fraction(row["training saved"].partition(" ")[0]) for row in table)
    assert all(re.fullmatch(r"[012] of 2", row["best stopped"]) for row in table)
    assert all(positive(row["ms each"]) for row in markdown_table(second))
    for column in ("held by the 90 % interval", "held when corrected"):
        assert all(fraction(row[column]) for row in markdown_table(second))


@pytest.mark.slow
def test_shared_weights_are_held_against_trainings_beside_the_costs() -> None:
    output = printed("weight_sharing", "--markdown")
    assert says_how_it_was_measured(output)
    rows = markdown_table(output)
    names = ["parameters", "flops", "shared weights, uniform, 1 epochs", "shared weights, fair, 1 epochs"]
    assert [row["judged by"] for row in rows] == names
    for row in rows:
        for measure in ("Spearman", "Kendall"):
            value, low, high = numbers(row[measure])
            assert -1 <= low <= high <= 1
            assert -1 <= value <= 1
        assert fraction(row["best of the top 3"])
        assert positive(row["learning, s"]) == row["judged by"].startswith("shared")


@pytest.mark.slow
@NEEDS_TABLE
def test_the_funnel_and_plain_training_have_a_regret_each(tmp_path: Path) -> None:
    output = printed("funnel", "--table", str(DATA / "nas_bench_201.csv.gz"), "--out", str(tmp_path), "--markdown")
    rows = markdown_table(output)
    assert [row["search"].rpartition(", ")[2] for row in rows] == ["plain", "funnel"] * 2
    assert all(0 <= numbers(row["regret, points"])[0] < 90 for row in rows)


@pytest.mark.slow
@NEEDS_TABLE
def test_what_the_surrogate_foretells_and_saves_is_measured() -> None:
    output = printed("surrogate", "--table", str(DATA / "nas_bench_201.csv.gz"))
    assert len(re.findall(r"^(one_hot\+path|one_hot|path) +(20|30) +0\.\d+ ±", output, re.MULTILINE)) == 6
    assert len(re.findall(r"^(random|evolution:\S+) +(20|25) +9\d\.\d+ ± .+ of 2$", output, re.MULTILINE)) == 4


@pytest.mark.slow
def test_candidates_an_hour_on_all_cores_are_those_of_the_same_networks() -> None:
    rows = markdown_table(printed("whole_machine", "--markdown"))
    assert [(row["data"], row["networks"], row["loop"]) for row in rows] == [
        ("digits", network, loop) for network in ("chain", "cell, 4 channels") for loop in ("plain", "nasengine")
    ]
    assert all(numbers(row["candidates an hour"])[0] > 0 for row in rows)


@pytest.mark.slow
def test_adversarial_networks_have_distances_and_modes() -> None:
    output = printed("gan", "--markdown")
    assert says_how_it_was_measured(output)
    rows = [[cell.strip() for cell in line[1:-1].split(" | ")] for line in output.splitlines() if "± " in line]
    trained, searched = ([row for row in rows if len(row) == columns] for columns in (8, 6))
    assert [row[0] for row in trained] == [
        "DCGAN, digits", "found, digits", "one generator", "one, as large as four", "one, batches of 512",
        "MAD-GAN of four",
    ]  # fmt: skip
    assert all(numbers(row[2])[0] > 0 for row in trained)
    assert all(0 <= numbers(row[6])[0] <= 10 for row in trained)
    assert [row[0].partition(" ")[0] for row in searched] == [
        "darts", "gdas", "spos", "enas", "darts,", "the", "random",
    ]  # fmt: skip
    assert all(numbers(row[3])[0] > 0 for row in searched)
    assert "DCGAN" in output.split("After 1 epochs")[1]


@pytest.mark.slow
def test_what_the_modes_of_a_ring_depend_on_is_measured_in_plain_torch() -> None:
    output = printed("plain_gan", "--markdown", "--only", "0", "4", "--deviations", "0.05")
    assert says_how_it_was_measured(output)
    rows = markdown_table(output)
    assert [row["setting"] for row in rows] == ["one generator", "four, a batch shared and latents cut"]
    assert all(0 <= value <= 8 for row in rows for value in numbers(row["modes, 0.05"])[:1])


@pytest.mark.slow
@pytest.mark.skipif(
    not find_spec("torch_geometric") or not CORA.is_dir(), reason=f"needs PyTorch Geometric, and {CORA}"
)
def test_known_graph_networks_are_trained_on_cora() -> None:
    output = printed("gnn", "--markdown", "--cora", str(CORA.parents[1]))
    assert says_how_it_was_measured(output)
    table = markdown_table(output)
    assert [row["network"] for row in table] == ["gcn", "gat", "graphsage"]
    for row in table:
        assert 76 < numbers(row["test accuracy, %"])[0] < 86  # one seed
        assert positive(row["seconds a training"])
