"""Architectures that are given: references, searches that start from them, trainings alone, and larger final ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import nasengine
from nasengine import ConfigError, Evaluate
from nasengine.registry import installed, make
from nasengine.testing import TinySpace, TinyTask

UNPACK = Path(__file__).parents[1].parent / "shared" / "data" / "unpack.py"
CHEAP = f"{Path(__file__).parent / 'parts' / 'cheap.py'}:Cheap"


def test_every_reference_is_a_point_of_an_installed_space() -> None:
    found = nasengine.references()
    assert {"vgg16", "resnet50", "lenet5", "darts_v2", "nasbench201_resnet", "softmax_regression"} <= set(found)
    assert {architecture.space for architecture in found.values()} <= {plugin.name for plugin in installed("space")}


def test_an_unknown_reference_is_a_sentence_with_a_near_miss() -> None:
    with pytest.raises(ConfigError, match=r"no reference architecture is named 'lenet'. Did you mean 'lenet5'\?"):
        nasengine.reference("lenet")


def test_a_search_judges_first_what_it_starts_from(tmp_path: Path) -> None:
    names = ["mlp", "softmax_regression"]
    run = nasengine.search(
        None, "evolution:population=2", "digits", CHEAP, start_from=names, trials=4, baseline=0, out=tmp_path / "run"
    )
    searched = [trial for trial in run.all_trials if trial.purpose == "search"]
    assert [trial.architecture for trial in searched[:2]] == [nasengine.reference(name) for name in names]
    assert run.config.space.name == "chain"
    assert len(searched) == 4


def test_a_search_resumes_with_what_it_started_from_when_the_file_is_gone(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(nasengine.reference("mlp").to_json())
    run = nasengine.search(
        None, "random", "digits", CHEAP, start_from=[str(file)], trials=2, baseline=0, out=tmp_path / "run"
    )
    file.unlink()
    assert nasengine.resume(run.folder).best.metrics == run.best.metrics
    assert run.config.start_from[0]["space"] == "chain"


def test_the_strategy_learns_from_what_the_search_starts_from(tmp_path: Path) -> None:
    told: list[str] = []

    class Listening(nasengine.Strategy):
        def ask(self) -> Evaluate | None:
            return self.evaluate(self.domain.sample(self.rng))

        def tell(self, trial: nasengine.Trial) -> None:
            assert trial.architecture is not None
            told.append(trial.architecture.id)

    space = TinySpace()
    first = space.domain(TinyTask()).complete({"width": 4})
    given, folder = [first.to_dict()], tmp_path / "run"
    nasengine.search(space, Listening(), TinyTask(), CHEAP, start_from=given, trials=3, baseline=0, out=folder)
    assert told[0] == first.id
    assert len(told) == 3


@pytest.mark.parametrize(
    ("space", "strategy", "given", "said"),
    [
        ("chain:layers=1", "random", "resnet18", "with other options; leave --space out"),
        ("cell", "random", "resnet18", "'resnet18': it is of the space 'chain', not 'cell'; leave --space out"),
        ("nasbench201", "random", "vgg16", "it is of the space 'chain', not 'nasbench201'; leave --space out"),
        (None, "darts", "darts_v2", "learns inside a supernet and cannot start from an architecture"),
        (None, "random", "resnet81", "Did you mean 'resnet18'"),
    ],
)
def test_what_a_search_cannot_start_from_is_a_sentence(
    space: str | None, strategy: str, given: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        nasengine.search(space, strategy, "digits", CHEAP, start_from=given, out=tmp_path / "run")


def test_a_file_that_is_no_architecture_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ConfigError, match="not an architecture's JSON"):
        nasengine.search(
            None, "random", "digits", CHEAP, start_from=str(tmp_path / "broken.json"), out=tmp_path / "run"
        )


def test_a_given_architecture_is_trained_and_read_against_the_test_data(tmp_path: Path) -> None:
    run = nasengine.train("mlp", "digits", "train:epochs=3", out=tmp_path / "run")
    assert [trial.purpose for trial in run.all_trials] == ["final"]
    assert run.best.architecture == nasengine.reference("mlp")
    assert run.best.metrics["test_accuracy"] > 0.8
    assert run.has_model
    assert run.best.metrics["parameters"] == 64 * 300 + 300 + 300 * 100 + 100 + 1010


def test_a_training_has_options_of_its_own(tmp_path: Path) -> None:
    cell = nasengine.reference("darts_v2")
    run = nasengine.train(cell, "digits", "train:epochs=1", options="layers=3,channels=2", out=tmp_path / "run")
    assert run.best.architecture is not None
    assert dict(run.best.architecture.options)["layers"] == 3
    assert run.best.architecture.picks == cell.picks


def test_nothing_to_search_and_nothing_given_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="trials is 0; expected at least 1, or an architecture to start from"):
        nasengine.search("chain", "random", trials=0, out=tmp_path / "run")


def test_a_cell_found_with_few_is_trained_with_many(tmp_path: Path) -> None:
    run = nasengine.search(
        "cell:layers=3,channels=2,nodes=2", "random", TinyTask(), "train:epochs=1", trials=2, baseline=1,
        final="layers=4,channels=4", out=tmp_path / "run",
    )  # fmt: skip
    best = run.best.architecture
    assert best is not None
    assert (best.options["layers"], best.options["channels"], best.options["nodes"]) == (4, 4, 2)
    searched = {
        json.dumps(t.architecture.to_dict()["picks"])
        for t in run.all_trials
        if t.purpose == "search" and t.architecture
    }
    assert json.dumps(best.to_dict()["picks"]) in searched
    baseline = [trial.architecture for trial in run.all_trials if trial.purpose == "baseline"]
    assert [a.options["layers"] for a in baseline if a] == [4]
    assert sum(p.numel() for p in run.best_model().parameters()) == run.best.metrics["parameters"]


@pytest.mark.parametrize(
    ("final", "said"),
    [
        ("nodes=3", "than without: there is another decision, 'normal"),
        ("layer=4", "layers"),
        ("layers=0", "at least 1"),
    ],
)
def test_final_options_that_do_not_fit_are_a_sentence(final: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        nasengine.search(
            "cell:layers=3,channels=2,nodes=2", "random", TinyTask(), CHEAP, final=final, out=tmp_path / "run"
        )


def test_a_space_is_its_own_at_its_own_options() -> None:
    space = TinySpace()
    architecture = space.domain(TinyTask()).complete({})
    assert space.at(architecture.options) is space
    cell = nasengine.reference("darts_v2")
    smaller = make("space", "cell", cell.options).at({**cell.options, "layers": 2})  # type: ignore[attr-defined]
    assert smaller.layers == 2
    assert smaller.known_as == "cell"


@pytest.mark.slow
@pytest.mark.skipif(not UNPACK.is_file(), reason="the real MNIST is not at hand")
@pytest.mark.parametrize(
    ("name", "recipe", "least", "most"),
    [
        (
            "softmax_regression",
            "learning_rate=0.01,schedule=constant,epochs=10,batch_size=64,weight_decay=0",
            91.5,
            92.6,
        ),
        ("lenet5", "learning_rate=0.05,epochs=12,batch_size=128", 98.8, 100.0),
    ],
)
def test_a_well_known_network_reaches_on_mnist_what_it_is_known_for(
    name: str, recipe: str, least: float, most: float, tmp_path: Path
) -> None:
    """The softmax regression 92 %; LeNet-5 about 99 %."""
    subprocess.run([sys.executable, UNPACK, tmp_path, "mnist"], check=True)
    command = [
        sys.executable, "-m", "nasengine", "train", name, "--task", f"images:path={tmp_path},valid=0.1", "--json", "-q",
        "--evaluator", f"train:{recipe}", "--out", str(tmp_path / "run"),
    ]  # fmt: skip
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    accuracy = 100 * json.loads(ended.stdout)["best"]["metrics"]["test_accuracy"]
    assert least <= accuracy <= most
