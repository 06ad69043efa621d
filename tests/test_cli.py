"""The command `nas` as a user meets it: what it prints, where, and its exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nasengine import Run

CHEAP = f"{Path(__file__).parent / 'parts' / 'cheap.py'}:Cheap"
STEPWISE = f"{Path(__file__).parent / 'parts' / 'cheap.py'}:Stepwise"
CHAIN = "chain:stages=1,layers=2,widths=[4,8],"
CHAIN += "kernels=[3],activations=[relu],norms=[batch],dropouts=[0.0],heads=[average],hidden_layers=0"

Nas = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small finished run with trained models."""
    import nasengine

    folder = tmp_path_factory.mktemp("finished") / "run"
    nasengine.search(CHAIN, "random", evaluator="train:epochs=2", trials=3, baseline=2, out=folder)
    return folder


def test_a_run_ends_with_what_was_found_how_it_compares_and_what_to_do_next(nas: Nas) -> None:
    code, out, err = nas(
        "run", "--space", CHAIN, "--strategy", "random", "--evaluator", "train:epochs=1", "--trials", 2, "--baseline", 2
    )
    assert code == 0
    folder = next(Path("runs").iterdir())
    for expected in ("Architecture found", "stage 0:", "validation accuracy", "test accuracy", "parameters"):
        assert expected in out
    assert "points over random (n = 2, ± " in out
    assert f"nas show {folder}" in out
    assert f"nas export {folder} -o model.py" in out
    assert "1,078 training, 360 validation and 359 test images" in err  # progress goes to stderr
    assert "trial 1: done" in err


def test_the_result_as_json_is_all_that_stdout_holds(nas: Nas) -> None:
    code, out, err = nas(
        "run", "--space", CHAIN, "--strategy", "random", "--evaluator", CHEAP, "--trials", 2, "--json", "-q"
    )
    result = json.loads(out)
    assert code == 0
    assert err == ""
    assert result["finished"]
    assert result["states"] == {"done": 6}
    assert result["comparison"]["metric"] == "accuracy"
    assert len(result["comparison"]["baseline"]) == 3


def test_the_runs_configuration_repeats_it(nas: Nas) -> None:
    nas("run", "--space", CHAIN, "--strategy", "evolution:population=2", "--evaluator", CHEAP, "--trials", 5,
        "--seed", 7, "--out", "first")  # fmt: skip
    code, _, _ = nas("run", "--config", "first/config.yaml", "--out", "second")
    assert code == 0
    assert [row["id"] for row in Run("first").rows()] == [row["id"] for row in Run("second").rows()]


def test_flags_override_the_configuration_file(nas: Nas) -> None:
    Path("mine.yaml").write_text(
        f"space:\n  chain: {{stages: 1, layers: 1}}\nstrategy: random\nevaluator: {CHEAP}\ntrials: 9\n"
    )
    code, out, _ = nas("run", "--config", "mine.yaml", "--trials", 3, "--baseline", 0, "--json", "-q", "--out", "run")
    assert code == 0
    assert json.loads(out)["trials"] == 4
    assert Run("run").config.space.options == {"stages": 1, "layers": 1}


def test_show_gives_the_result_the_table_and_the_curve_of_a_run(nas: Nas, finished: Path) -> None:
    code, out, _ = nas("show", finished)
    assert code == 0
    assert "finished · 6 done" in out
    assert "test accuracy" in out
    assert "by epoch" in out
    assert len(re.findall(r"^\d+ +(?:search|final|baseline) ", out, re.MULTILINE)) == 6
    code, out, _ = nas("show", finished, "--json")
    assert [row["number"] for row in json.loads(out)["trials"]] == list(range(6))


def test_show_gives_one_trial_whole(nas: Nas, finished: Path) -> None:
    code, out, _ = nas("show", finished, "--trial", 1)
    assert code == 0
    assert out.startswith("trial 1: evaluate, search, done")
    assert "epoch" in out
    code, out, _ = nas("show", finished, "--trial", 1, "--json")
    assert len(json.loads(out)["curve"]) == 2


def test_show_explains_a_plugin_and_its_options(nas: Nas) -> None:
    for arguments in (("strategy", "darts"), ("strategy:darts",)):
        code, out, _ = nas("show", *arguments)
        assert code == 0
        assert "Liu et al. 2019" in out
        assert "order (int, default 1)" in out
    _, out, _ = nas("show", "evaluator", "train")
    assert "keep (best | last, default best)" in out
    assert "optimizer (sgd | adam | adamw | None, default None)" in out
    assert "patience (int | None, default None)" in out
    _, out, _ = nas("show", "task", "images", "--json")
    options = {option["name"]: option for option in json.loads(out)["options"]}
    assert options["path"]["required"]


def test_show_says_how_large_a_space_is_where_it_comes_from_and_how_to_use_it(nas: Nas) -> None:
    code, out, _ = nas("show", "space:nasbench201")
    assert code == 0
    assert 'From: Dong and Yang 2020, "NAS-Bench-201: Extending the Scope of Reproducible Neural' in out
    assert re.search(r"architectures +15,625\n +decisions +6\n", out)
    assert "  nas run --space nasbench201 --strategy random\n  nas draw nasbench201 --seed 1" in out
    _, out, _ = nas("show", "space", "nasbench201", "--shape", "3,32,32", "--classes", 7)
    assert "for examples of 3×32×32 and 7 classes" in out
    _, out, _ = nas("show", "space", "chain:stages=1,layers=1,norms=[batch]", "--json")
    assert json.loads(out)["architectures"] == len(list(small().enumerate()))
    _, out, _ = nas("show", "space", "nasbench_graph")
    assert "nas run --space nasbench_graph --strategy random --task graph_families\n" in out
    _, out, _ = nas("show", "task", "karate")
    assert "nas run --strategy random --task karate --space gnn\n" in out


def small() -> Any:
    from nasengine.registry import make

    task: Any = make("task", "digits", {})
    space: Any = make("space", "chain", {"stages": 1, "layers": 1, "norms": ["batch"]})
    return space.domain(task)


def test_the_size_of_a_space_that_cannot_be_recorded_is_not_known(nas: Nas) -> None:
    code, out, _ = nas("show", "space", "mobile", "--shape", "5")
    assert code == 0
    assert "Its size for examples of 5 and 1,000 classes is not known: " in out
    code, _, error = nas("show", "space", "mobile:layer=2")
    assert code == 2
    assert "has no option 'layer'. Did you mean 'layers'?" in error


def test_a_number_of_many_figures_is_also_a_power_of_ten() -> None:
    from nasengine.cli.explain import written

    assert written(15_625) == "15,625"
    assert written(9_119_789_245_425_254_400) == "9,119,789,245,425,254,400 (9.1 × 10¹⁸)"
    assert written(9_990_000_000_000) == "9,990,000,000,000 (1.0 × 10¹³)"
    assert written(10**5000) == "about 1.0 × 10⁵⁰⁰⁰"


@pytest.mark.slow  # the space is recorded fifty times
def test_the_command_that_show_gives_for_every_builtin_plugin_fits_together(nas: Nas) -> None:
    from nasengine.config import Config
    from nasengine.parts import resolve
    from nasengine.registry import installed

    open_: list[str] = []
    for kind in ("space", "strategy", "evaluator", "task", "stopper"):
        for plugin in (plugin for plugin in installed(kind) if plugin.distribution == "nasengine"):
            _, out, _ = nas("show", kind, plugin.name, "--json")
            words = json.loads(out)["examples"][0].split()[2:]
            if any("…" in word for word in words):
                open_.append(plugin.name)
                continue
            given = zip(words[::2], words[1::2], strict=True)
            resolve(Config.of({{"--stopper": "stoppers"}.get(flag, flag[2:]): word for flag, word in given}, "it"), {})
    assert sorted(open_) == ["graph", "graphs", "images", "planetoid", "tabular", "threshold"]


def test_every_option_of_every_builtin_plugin_is_explained(nas: Nas) -> None:
    from nasengine.registry import installed

    for kind in ("space", "strategy", "evaluator", "task"):
        for plugin in installed(kind):
            if plugin.distribution == "nasengine":
                _, out, _ = nas("show", kind, plugin.name, "--json")
                for option in json.loads(out)["options"]:
                    assert option["about"], f"{kind} {plugin.name}: {option['name']} is not explained"


def test_list_names_the_plugins_by_kind(nas: Nas) -> None:
    code, out, _ = nas("list")
    assert code == 0
    groups = [part.splitlines() for part in out.split("\n\n")]
    assert [group[0] for group in groups] == ["CNN", "GAN", "GNN", "for all families"]
    *families, rest = ([line.split()[:2] for line in group[1:]] for group in groups)
    assert [{kind for kind, _ in rows} for rows in families] == [{"space", "task"}] * 3
    assert {kind for kind, _ in rest} == {"strategy", "evaluator", "stopper"}
    assert ["space", "cell"] in families[0]
    assert ["task", "generation"] in families[1]
    assert ["space", "nasbench_graph"] in families[2]
    assert {plugin["family"] for plugin in json.loads(nas("list", "tasks", "--json")[1])} == {"CNN", "GAN", "GNN"}
    _, out, _ = nas("list", "strategies", "--json")
    assert {"darts", "evolution", "random"} <= {plugin["name"] for plugin in json.loads(out)}


def test_export_infers_the_format_from_the_ending(nas: Nas, finished: Path) -> None:
    code, out, _ = nas("export", finished, "-o", "architecture.json")
    assert code == 0
    assert out.startswith("architecture.json (")
    assert json.loads(Path("architecture.json").read_text())["space"] == "chain"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "--space", "cel"], "no space named 'cel'. Did you mean 'cell'? See: nas list spaces"),
        (["run", "--strategy", "dart"], "no strategy named 'dart'. Did you mean 'darts'? See: nas list strategies"),
        (["run", "--evaluator", "tain"], "no evaluator named 'tain'. Did you mean 'train'?"),
        (["run", "--task", "digit"], "no task named 'digit'. Did you mean 'digits'?"),
        (["run", "--strategy", "darts:epoch=3"], "the strategy 'darts' has no option 'epoch'. Did you mean 'epochs'?"),
        (["run", "--strategy", "darts:epochs=many"], "the option 'epochs' of the strategy 'darts' is 'many'; expected int | None"),
        (["run", "--fidelity", "epochs"], "fidelity is 'epochs'; expected numbers by name, such as epochs=5,data=0.25"),
        (["run", "--final", "layers"], "final is 'layers'; expected options by name, such as layers=20,channels=36"),
        (["run", "--strategy", "darts:epochs"], "'epochs' is no option; write options as NAME:option=value"),
        (["run", "--strategy", "darts:order=3"], "has order = 3; expected 1 or 2"),
        (["run", "--strategy", "darts:epochs=true"], "is True; expected int | None"),
        (["run", "--space", "cell:layers=0"], "has layers = 0; expected at least 1"),
        (["run", "--trials", "0"], "trials is 0; expected at least 1, or an architecture to start from"),
        (["run", "--time-limit", "soon"], "time_limit is 'soon'; expected a time such as 90s, 10m or 1.5h"),
        (["run", "--fidelity", "epoch=3"], "there is no 'epoch'. Did you mean 'epochs'?"),
        (["run", "--fidelity", "data=2"], "the fidelity's data is 2; expected a fraction"),
        (["run", "--space", "chain", "--fidelity", "layers=2"], "the space 'chain' cannot scale layers (asked for 2)"),
        (["run", "--objective", "accuracy:up"], "'accuracy:up' is no objective; expected METRIC:max or METRIC:min"),
        (["run", "--objective", "acuracy"], "gives no 'acuracy' on the task 'digits'. Did you mean 'accuracy'?"),
        (
            ["run", "--strategy", "random", "--evaluator", "zero_cost", "--objective", "naswot"],
            "the evaluator 'zero_cost' gives no 'naswot' on the task 'digits'. It gives: synflow",
        ),
        (["run", "--device", "tpu"], "device is 'tpu'"),
        (["run", "--task", "images"], "the task 'images' needs the option 'path': images:path=…"),
        (["run", "--task", "images:path=nowhere"], "nowhere"),
        (["run", "--config", "none.yaml"], "the configuration none.yaml cannot be read: No such file or directory"),
        (["run", "--config", "broken.yaml"], "the configuration broken.yaml is no YAML, line 3: while parsing a flow sequence"),
        (["run", "--config", "typo.yaml"], "typo.yaml: no setting is named 'tirals'. Did you mean 'trials'?"),
        (["run", "--config", "wrong.yaml"], "wrong.yaml: trials is 'ten'; expected a valid integer"),
        (["run", "--config", "list.yaml"], "expected settings by name"),
        (["run", "--space", "./none.py:Mine"], "no file"),
        (["run", "--space", "no.such.module:Mine"], "cannot be imported: ModuleNotFoundError"),
        (["run", "--space", "json:loads"], "'loads' is no option; write options as NAME:option=value"),
        (["run", "--space", "collections:OrderedDict"], "is no space: expected a subclass of nasengine.SearchSpace"),
        (["run", "--space", "json.decoder:JSONDecoder"], "is no space: expected a subclass of nasengine.SearchSpace"),
        (["run", "--strategy", "cell"], "no strategy named 'cell'"),
        (["resume", "nowhere"], "nowhere does not exist: it should hold ledger.sqlite"),
        (["resume", "."], ". is no run's folder: it should hold ledger.sqlite"),
        (["show", "nowhere"], "nowhere does not exist"),
        (["show", "strategy", "darst"], "no strategy named 'darst'. Did you mean 'darts'?"),
        (["list", "strategeis"], "'strategeis' is no kind of plugin. Did you mean 'strategies'?"),
        (["export", "nowhere", "-o", "model.py"], "nowhere does not exist"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_and_exit_code_2(arguments: list[str], says: str, nas: Nas) -> None:
    Path("broken.yaml").write_text("space: cell\nstrategy: [darts\n")
    Path("typo.yaml").write_text("tirals: 3\n")
    Path("wrong.yaml").write_text("trials: ten\n")
    Path("list.yaml").write_text("- cell\n- darts\n")
    code, out, err = nas(*arguments)
    assert code == 2
    assert says in err
    assert err.startswith("nas: ")
    assert len(err.strip().splitlines()) == 1
    assert out == ""
    assert not Path("runs").exists()


def test_a_flag_that_does_not_exist_is_named_with_exit_code_2(nas: Nas) -> None:
    code, _, err = nas("run", "--stratgey", "darts")
    assert code == 2
    assert "--stratgey" in err
    assert "--strategy" in err


def test_debug_shows_the_traceback_of_a_mistake(nas: Nas) -> None:
    code, _, err = nas("run", "--space", "cel", "--debug")
    assert code == 2
    assert "Traceback" in err
    assert "no space named 'cel'" in err


def test_a_cuda_device_that_is_not_there_is_a_sentence(nas: Nas) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    code, _, err = nas("run", "--space", CHAIN, "--strategy", "random", "--device", "cuda")
    assert code == 2
    assert "torch finds no CUDA GPU here; use --device cpu" in err


def test_a_run_that_fails_says_why_with_exit_code_1(nas: Nas) -> None:
    faulty = f"{Path(CHEAP.rpartition(':')[0])}:Faulty:how=raise,every=1"
    code, _, err = nas("run", "--space", CHAIN, "--strategy", "random", "--evaluator", faulty, "--trials", 3)
    assert code == 1
    assert "no candidate could be judged. 3 of 3 trials failed, the first (0) with: ValueError: this candidate" in err


def test_a_folder_that_holds_a_run_is_refused_with_the_way_out(nas: Nas, finished: Path) -> None:
    before = (finished / "ledger.sqlite").read_bytes()
    code, _, err = nas("run", "--out", finished)
    assert code == 2
    assert f"{finished} holds a run; go on with it: nas resume {finished}, or choose another folder with --out" in err
    assert (finished / "ledger.sqlite").read_bytes() == before


def test_a_folder_that_cannot_be_made_is_a_sentence(nas: Nas) -> None:
    Path("file").write_text("")
    code, _, err = nas("run", "--strategy", "random", "--space", CHAIN, "--out", "file/run")
    assert code == 2
    assert "the run's folder" in err


def launch(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "nasengine", *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)  # fmt: skip
@pytest.mark.usefixtures("warm_python")
def test_a_signal_keeps_everything_and_says_how_to_go_on(sent: signal.Signals, code: int, tmp_path: Path) -> None:
    process = launch(
        tmp_path, "run", "--space", CHAIN, "--strategy", "random", "--evaluator", f"{STEPWISE}:seconds=0.1",
        "--trials", "50", "--out", "run",
    )  # fmt: skip
    wait_for(lambda: (tmp_path / "run" / "ledger.sqlite").exists() and len(Run(tmp_path / "run").all_trials) >= 1)
    os.kill(process.pid, sent)
    _, err = process.communicate(timeout=10)
    assert process.returncode == code
    assert "nas: interrupted; everything finished so far is kept. Go on with: nas resume run" in err
    assert "Traceback" not in err
    assert len(Run(tmp_path / "run").all_trials) >= 1


@pytest.mark.slow
def test_ctrl_c_in_every_phase_loses_nothing(tmp_path: Path) -> None:
    """The phases: importing, learning in a supernet, and the final trainings."""
    arguments = [
        "run",
        "--space",
        CHAIN,
        "--strategy",
        "darts:epochs=2",
        "--evaluator",
        "train:epochs=12,patience=0",
        "--baseline",
        "1",
    ]

    def importing(process: subprocess.Popen[str], run: Path) -> bool:
        return "libtorch" in Path(f"/proc/{process.pid}/maps").read_text()

    def learning(process: subprocess.Popen[str], run: Path) -> bool:
        return (run / "ledger.sqlite").exists()

    def training(process: subprocess.Popen[str], run: Path) -> bool:
        return learning(process, run) and any(r.purpose == "final" for r in Run(run).requests.values())

    for phase, begun in {"importing": importing, "learning": learning, "final": training}.items():
        process = launch(tmp_path, *arguments, "--out", phase)
        wait_for(partial(begun, process, tmp_path / phase))
        time.sleep(0.1)
        os.kill(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert process.returncode == 130, err
        assert "interrupted" in err
        assert "Traceback" not in err
        if phase != "importing":
            resumed = launch(tmp_path, "resume", phase, "--json", "-q")
            out, err = resumed.communicate(timeout=60)
            assert resumed.returncode == 0, err
            assert json.loads(out)["finished"]


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.mark.usefixtures("warm_python")
def test_twenty_processes_on_one_run_have_one_owner(tmp_path: Path) -> None:
    owner = launch(
        tmp_path, "run", "--space", CHAIN, "--strategy", "random", "--evaluator", f"{STEPWISE}:seconds=0.2",
        "--trials", "200", "--out", "run",
    )  # fmt: skip
    wait_for((tmp_path / "run" / "ledger.sqlite").exists)
    others = [launch(tmp_path, "resume", "run") for _ in range(19)]
    for other in others:
        _, err = other.communicate(timeout=60)
        assert other.returncode == 2
        assert f"in use by process {owner.pid}" in err
    assert owner.poll() is None
    owner.kill()
    owner.communicate()


@pytest.mark.usefixtures("warm_python")
def test_a_full_disk_is_a_sentence_and_nothing_recorded_is_lost(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: both make a write fail part of the way."""
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, resource.RLIM_INFINITY)); "
        "from nasengine.cli import main; sys.argv = ['nas', *sys.argv[1:]]; main()"
    )
    arguments = [
        "run",
        "--space",
        CHAIN,
        "--strategy",
        "random",
        "--evaluator",
        CHEAP,
        "--trials",
        "150",
        "--out",
        "run",
    ]
    full = subprocess.run(
        [sys.executable, "-c", script, *arguments, "-q"], cwd=tmp_path, capture_output=True, text=True
    )
    assert full.returncode == 1, full.stderr
    assert "nothing recorded so far is lost" in full.stderr
    assert "Traceback" not in full.stderr
    kept = Run(tmp_path / "run").rows()
    assert kept
    freed = subprocess.run(
        [sys.executable, "-m", "nasengine", "resume", "run", "-q"], cwd=tmp_path, capture_output=True, text=True
    )
    assert freed.returncode == 0, freed.stderr
    assert Run(tmp_path / "run").rows()[: len(kept)] == kept


def test_a_plugin_file_may_import_its_neighbours(nas: Nas) -> None:
    Path("near_one.py").write_text(Path(CHEAP.rpartition(":")[0]).read_text())
    Path("own_one.py").write_text("from near_one import Cheap\n\n\nclass Mine(Cheap):\n    pass\n")
    for name in ("./own_one.py:Mine", "own_one:Mine"):
        arguments = ["--space", CHAIN, "--strategy", "random", "--evaluator", name, "--trials", 1, "--baseline", 0]
        assert nas("run", *arguments, "-q")[0] == 0
    code, _, err = nas("run", "--evaluator", "./own_one.py")
    assert code == 2
    assert "'./own_one.py' is a file; say which class of it: ./own_one.py:NAME" in err


def test_several_objectives_end_with_their_front(nas: Nas) -> None:
    code, out, _ = nas("run", "--space", CHAIN, "--strategy", "random", "--evaluator", "train:epochs=1", "--trials", 3,
        "--fidelity", "data=0.2", "--baseline", 0, "--objective", "accuracy", "--objective", "parameters:min", "-q")  # fmt: skip
    assert code == 0
    assert "Pareto front" in out
    _, out, _ = nas("show", next(Path("runs").iterdir()))
    header = next(line for line in out.splitlines() if line.startswith("trial  purpose"))
    assert header.count("parameters") == 1


def test_no_export_is_suggested_where_the_evaluator_saved_no_model(nas: Nas) -> None:
    code, out, _ = nas(
        "run", "--space", CHAIN, "--strategy", "random", "--evaluator", CHEAP, "--trials", 1, "-q", "--out", "run"
    )
    assert code == 0
    assert "nas show run" in out
    assert "nas export" not in out
    code, _, err = nas("export", "run", "-o", "model.py")
    assert code == 2
    assert "there is no trained model run/models/1.safetensors: the run's evaluator saved none" in err
