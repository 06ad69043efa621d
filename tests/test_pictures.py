"""What a trained model does, as pictures that its task makes: in the run's folder, at its end, and in the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import nasengine
from nasengine import Evaluator, Run
from nasengine.cli.text import result
from nasengine.plan import Observer
from nasengine.registry import make
from nasengine.report import html
from nasengine.testing import TinySpace, TinyTask


class Shown(TinyTask):
    """Shows a grey wedge and a red square."""

    def pictures(self, model: Any) -> dict[str, NDArray[np.uint8]]:
        assert not model.training
        red = np.zeros((5, 5, 3), np.uint8)
        red[..., 0] = 255
        return {"wedge": np.arange(12, dtype=np.uint8).reshape(3, 4), "square": red}


class Broken(TinyTask):
    def pictures(self, model: Any) -> dict[str, NDArray[np.uint8]]:
        raise ValueError("no paint")


class Notes(Observer):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def finished(task: TinyTask, folder: Path, observer: Observer | None = None, trials: int = 1) -> Run:
    trains: Evaluator = make("evaluator", "train", {"epochs": 1})  # type: ignore[assignment]
    return nasengine.search(
        TinySpace(), "random", task, trains, trials=trials, baseline=0, out=folder, observer=observer, durable=False
    )


def test_the_pictures_of_the_model_found_lie_in_the_runs_folder(tmp_path: Path) -> None:
    run = finished(Shown(), tmp_path / "run")
    files = sorted((run.folder / "pictures").iterdir())
    assert [file.name for file in files] == ["square.png", "wedge.png"]
    square, wedge = (np.asarray(Image.open(file)) for file in files)
    assert square.shape == (5, 5, 3)
    assert (square == [255, 0, 0]).all()
    assert (wedge == np.arange(12).reshape(3, 4)).all()
    assert f"picture               {files[0]}" in result(run)


def test_the_report_shows_them_and_fetches_nothing(tmp_path: Path) -> None:
    page = html.page(finished(Shown(), tmp_path / "run"))
    assert page.count('src="data:image/png;base64,iVBOR') == 2
    assert "What the model does" in page
    assert "What the model does" not in html.page(finished(TinyTask(), tmp_path / "other"))


def test_a_task_without_pictures_leaves_no_folder(tmp_path: Path) -> None:
    assert not (finished(TinyTask(), tmp_path / "run").folder / "pictures").exists()


def test_a_task_whose_pictures_fail_is_no_harm_to_the_run(tmp_path: Path) -> None:
    observer = Notes()
    assert finished(Broken(), tmp_path / "run", observer).finished
    assert [note for note in observer.notes if "pictures" in note] == [
        "the pictures of the model could not be made: ValueError: no paint"
    ]


@pytest.mark.slow
def test_a_run_of_adversarial_networks_leaves_a_sheet_of_samples(tmp_path: Path) -> None:
    run = nasengine.train(
        "mlp_gan", "generation:data=ring,steps=2,samples=50", out=tmp_path / "run", fidelity="epochs=1"
    )
    assert Image.open(run.folder / "pictures" / "samples.png").size == (450, 450)
