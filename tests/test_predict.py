"""`nas predict`: a trained model judges files that its training has never seen."""

# the rooms are seen by mypy as folders, not under their import names, so what comes from them is Any here
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load, save

import nasengine
from nasengine import ConfigError, DataError, ExportError, Run, predict
from nasengine.evaluators.data.inputs import white_of
from nasengine.evaluators.tasks.digits import Digits
from nasengine.evaluators.tasks.images import Images

Nas = Callable[..., tuple[int, str, str]]
COLOURS = {"blue": (30, 40, 200), "red": (210, 40, 30)}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return nasengine.train("mlp", "digits", "train:epochs=6", out=tmp_path_factory.mktemp("digits") / "run", threads=1)


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Trained on a user's own folder: colour images, 12 pixels high and 10 wide, a folder a class."""
    folder = tmp_path_factory.mktemp("colours")
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / "data" / name).mkdir(parents=True)
        for number in range(24):
            pixels = np.clip(np.array(colour) + rng.integers(-25, 26, (12, 10, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "data" / name / f"{number}.png")
    return nasengine.train(
        "softmax_regression", f"images:path={folder / 'data'}", "train:epochs=8,learning_rate=0.02,augment=none",
        out=folder / "run", threads=1,
    )  # fmt: skip


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    """The digits' test part as an .npz file."""
    test = Digits().splits.test
    np.savez(tmp_path / "held-out.npz", images=test.pixels, labels=test.labels)
    return tmp_path / "held-out.npz"


def test_on_the_test_data_it_is_right_as_often_as_the_run_says(digits: Run, held_out: Path) -> None:
    found = predict(digits.folder, [held_out])
    assert len(found) == 359
    right = sum(bool(one.right) for one in found) / len(found)
    assert right == pytest.approx(digits.best.metrics["test_accuracy"])


@pytest.mark.parametrize("ending", ["safetensors", "onnx"])
def test_an_exported_model_says_what_the_run_says(digits: Run, held_out: Path, tmp_path: Path, ending: str) -> None:
    if ending == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    exported = digits.export(tmp_path / f"model.{ending}")
    for mine, theirs in zip(predict(exported, [held_out]), predict(digits.folder, [held_out]), strict=True):
        assert mine.classes[0][0] == theirs.classes[0][0]
        assert mine.classes[0][1] == pytest.approx(theirs.classes[0][1], abs=1e-5)


def test_probabilities_are_the_softmax_of_the_models_scores(digits: Run, held_out: Path) -> None:
    task = Digits()
    images, _ = next(task.test_batches())
    with torch.no_grad():
        expected = digits.best_model()(images[:5]).softmax(1)
    for one, row in zip(predict(digits.folder, [held_out], top=10), expected, strict=False):
        assert {name: share for name, share in one.classes} == pytest.approx(
            dict(zip("0123456789", row.tolist(), strict=True)), abs=1e-6
        )
        assert list(one.classes) == sorted(one.classes, key=lambda pair: -pair[1])


@pytest.mark.parametrize("size", [(8, 8), (20, 31), (3, 2)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "I;16"])
def test_digits_are_known_in_image_files_of_other_kinds(
    digits: Run, tmp_path: Path, mode: str, size: tuple[int, int]
) -> None:
    """What the model learnt from 0 … 16 comes as bytes, as 16 bits, in colour, and in other sizes."""
    test = Digits().splits.test
    for index in range(10):
        grey = test.pixels[index, 0] / 16
        if mode == "I;16":
            image = Image.fromarray((grey * 65535).astype(np.uint16))
        else:
            image = Image.fromarray((grey * 255).round().astype(np.uint8)).convert(mode)
        image.resize(size, Image.Resampling.NEAREST).save(tmp_path / f"{index}.png")
    found = predict(digits.folder, [tmp_path])
    assert [one.name for one in found] == [str(tmp_path / f"{index}.png") for index in range(10)]
    if size == (8, 8):
        np.savez(tmp_path / "same.npz", x=test.pixels[:10])
        for one, same in zip(found, predict(digits.folder, [tmp_path / "same.npz"]), strict=True):
            assert one.classes[0][0] == same.classes[0][0]
            assert one.classes[0][1] == pytest.approx(same.classes[0][1], abs=0.02)


def test_class_names_go_with_the_exported_model(colours: Run, tmp_path: Path) -> None:
    exported = colours.export(tmp_path / "model.safetensors")
    Image.new("RGB", (300, 200), COLOURS["red"]).save(tmp_path / "large.jpg")
    Image.new("RGB", (5, 7), COLOURS["blue"]).save(tmp_path / "small.bmp")
    found = predict(exported, [tmp_path / "large.jpg", tmp_path / "small.bmp"])
    assert [one.classes[0][0] for one in found] == ["red", "blue"]
    assert all(one.label is None and one.right is None for one in found)


def test_in_a_folder_a_class_the_folders_names_are_the_truth(colours: Run, tmp_path: Path) -> None:
    for folder, colour in (("red", "red"), ("blue", "blue"), ("green", "red")):
        (tmp_path / "more" / folder).mkdir(parents=True)
        Image.new("RGB", (12, 10), COLOURS[colour]).save(tmp_path / "more" / folder / "1.png")
    assert [(one.label, one.right) for one in predict(colours.folder, [tmp_path / "more"])] == [
        ("blue", True), ("green", False), ("red", True),
    ]  # fmt: skip


def test_numbers_for_labels_are_places_where_classes_have_names(colours: Run, tmp_path: Path) -> None:
    names = colours.task.description()["class_names"]
    images = np.zeros((3, 12, 10, 3), np.uint8)
    np.savez(tmp_path / "some.npz", x=images, y=np.array([0, 1, 7]))
    assert [one.label for one in predict(colours.folder, [tmp_path / "some.npz"])] == [*names[:2], "7"]


def test_the_command_prints_a_table_writes_csv_and_says_how_many_were_right(
    digits: Run, held_out: Path, tmp_path: Path, nas: Nas
) -> None:
    code, out, err = nas("predict", digits.folder, held_out, "--csv", tmp_path / "all.csv", "--top", 2)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["file", "is", "found", "probability", "2."]
    assert "… and 319 more" in out
    assert lines[-1].endswith(f"of 359 are right: {100 * digits.best.metrics['test_accuracy']:.2f} %")
    with (tmp_path / "all.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == 359
    assert list(table[0]) == ["file", "is", "found", "probability", "found_2", "probability_2"]
    assert all(1 >= float(row["probability"]) >= float(row["probability_2"]) >= 0 for row in table)
    shown = json.loads(nas("predict", digits.folder, held_out, "--json")[1])
    assert shown[0].keys() == {"name", "classes", "label", "right"}
    assert len(shown) == 359


def test_mistakes_are_one_sentence_and_exit_code_2(digits: Run, tmp_path: Path, nas: Nas) -> None:
    (tmp_path / "text.txt").write_text("no image")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    (tmp_path / "empty").mkdir()
    np.savez(tmp_path / "other.npz", spectra=np.zeros(3))
    for inputs, says in (
        ("text.txt", "is neither an image file"),
        ("broken.png", "cannot be read as an image"),
        ("empty", "holds no images"),
        ("missing", "there is no file or folder"),
        ("other.npz", "holds spectra; expected images, x, or x_test"),
    ):
        code, out, err = nas("predict", digits.folder, tmp_path / inputs)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert says in err
    assert nas("predict", tmp_path / "model.py", tmp_path)[2].count("it is a program: python") == 1
    assert "expected .safetensors or .onnx" in nas("predict", tmp_path / "text.txt", tmp_path)[2]


def test_a_models_file_is_data_and_never_runs_code_that_it_names(digits: Run, tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Task: ...\n")
    exported = digits.export(tmp_path / "model.safetensors")
    content = exported.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    for name in (f"{tmp_path}/evil.py:Task", "os:system", "evil:Task"):
        exported.write_bytes(save(load(content), {**header, "task_name": name}))
        with pytest.raises(ConfigError, match="code that a file names is not run"):
            predict(exported, [tmp_path])
        architecture = json.loads(header["architecture"]) | {"space": name}
        exported.write_bytes(save(load(content), {**header, "architecture": json.dumps(architecture)}))
        with pytest.raises(ConfigError, match="code that a file names is not run"):
            predict(exported, [tmp_path])
    assert not (tmp_path / "ran").exists()


def test_a_file_that_is_no_model_of_ours_says_so(digits: Run, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(save({"weight": torch.zeros(2)}))
    with pytest.raises(ExportError, match="does not say what its inputs are"):
        predict(path, [tmp_path])
    path.write_bytes(b"rubbish")
    with pytest.raises(ExportError, match="is damaged, or no safetensors file"):
        predict(path, [tmp_path])
    content = digits.export(path).read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    path.write_bytes(save({"weight": torch.zeros(2)}, header))
    with pytest.raises(ExportError, match="are not those of its architecture"):
        predict(path, [tmp_path])


def test_what_stands_for_white_is_told_by_the_training_data() -> None:
    assert white_of(np.zeros((2, 1, 4, 4), np.uint8)) == 255
    assert white_of(Digits().splits.train.pixels) == 16
    assert [white_of(np.array([0.0, high], np.float32)) for high in (0.7, 200, 4000)] == [1, 255, 65535]
    assert white_of(np.array([-2.0, 2.0], np.float32)) is None


def test_pixels_cannot_be_given_to_a_model_of_standardised_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", x=rng.normal(size=(40, 6, 6)).astype(np.float32), y=np.arange(40) % 2)
    about = Images(path=str(tmp_path / "data.npz")).description()
    Image.new("L", (6, 6)).save(tmp_path / "one.png")
    with pytest.raises(ConfigError, match="learnt from numbers of another kind"):
        list(Images.read_inputs(tmp_path / "one.png", about))
    assert len(list(Images.read_inputs(tmp_path / "data.npz", about))) == 40
    with pytest.raises(DataError, match="there is no file"):
        list(Images.read_inputs(tmp_path / "two.png", about))
