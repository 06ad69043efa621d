"""The user's own images: every format that they come in, how they are split, and what is said where they are wrong."""

from __future__ import annotations

import gzip
import math
import pickle
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from nasengine import ConfigError, DataError
from nasengine.evaluators.data.dataset import shares
from nasengine.evaluators.data.images import ImageSplits
from nasengine.evaluators.tasks.images import Images
from nasengine.registry import make

REAL_DATA = Path(__file__).parents[1].parent / "shared" / "data"
Array = NDArray[Any]


def read(path: Path, **options: Any) -> ImageSplits:
    splits: ImageSplits = Images(path=str(path), **options).read()
    return splits


def sizes(splits: ImageSplits) -> tuple[int, int, int]:
    return len(splits.train), len(splits.valid), len(splits.test)


def noise(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def cycled(count: int, classes: int) -> Array:
    return np.arange(count) % classes


def write_image(file: Path, pixels: Array) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def write_class(folder: Path, count: int, *, shape: tuple[int, ...] = (6, 6), suffix: str = "png") -> None:
    for index in range(count):
        write_image(folder / f"{index}.{suffix}", noise(*shape, seed=index))


def write_idx(file: Path, array: Array) -> None:
    content = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress(content, mtime=0) if file.suffix == ".gz" else content)


def write_mnist(folder: Path, part: str, count: int, suffix: str = "", dot: str = "-") -> None:
    write_idx(folder / f"{part}-images{dot}idx3-ubyte{suffix}", noise(count, 5, 4))
    write_idx(folder / f"{part}-labels{dot}idx1-ubyte{suffix}", cycled(count, 10).astype(np.uint8))


def write_cifar(file: Path, count: int, classes: int, coarse: bool = False) -> None:
    labels = cycled(count, classes).astype(np.uint8)[:, None]
    columns = [labels // 5, labels] if coarse else [labels]
    file.parent.mkdir(parents=True, exist_ok=True)
    np.concatenate([*columns, noise(count, 3072)], axis=1).astype(np.uint8).tofile(file)


def write_npz(file: Path, **arrays: Array) -> Path:
    np.savez(file, allow_pickle=True, **arrays)
    return file


def test_class_folders_are_split_into_three_parts_with_every_class_in_each(tmp_path: Path) -> None:
    write_class(tmp_path / "cat", 20)
    write_class(tmp_path / "dog", 10)
    splits = read(tmp_path)
    assert splits.names == ("cat", "dog")
    assert splits.found == "Image folders: 18 training, 6 validation and 6 test images, 6×6 grey, 2 classes"
    for part in (splits.train, splits.valid, splits.test):
        assert np.bincount(part.labels).tolist() == [len(part) * 2 // 3, len(part) // 3]
    assert splits.train.pixels.dtype == np.uint8
    assert splits.train.pixels.shape == (18, 1, 6, 6)


def test_the_parts_hold_every_image_once_with_its_label(tmp_path: Path) -> None:
    for index in range(20):
        write_image(tmp_path / "ab"[index % 2] / f"{index}.png", np.full((3, 3), index, np.uint8))
    splits = read(tmp_path)
    seen = [
        (int(pixels[0, 0, 0]), int(label))
        for part in (splits.train, splits.valid, splits.test)
        for pixels, label in zip(part.pixels, part.labels, strict=True)
    ]
    assert sorted(seen) == [(index, index % 2) for index in range(20)]


@pytest.mark.parametrize("valid", ["valid", "val", "validation"])
def test_parts_that_the_folder_comes_with_are_used_as_they_are(tmp_path: Path, valid: str) -> None:
    for part, count in (("train", 8), (valid, 2), ("test", 3)):
        for name in ("a", "b"):
            write_class(tmp_path / part / name, count)
    assert sizes(read(tmp_path)) == (16, 4, 6)


def test_with_an_official_test_part_only_the_validation_part_is_drawn_from_the_training_part(tmp_path: Path) -> None:
    for part, count in (("train", 10), ("test", 3)):
        for name in ("a", "b"):
            write_class(tmp_path / part / name, count)
    assert sizes(read(tmp_path, valid=0.3)) == (14, 6, 6)


def test_with_an_official_validation_part_only_the_test_part_is_drawn_from_the_training_part(tmp_path: Path) -> None:
    for part, count in (("train", 10), ("val", 3)):
        for name in ("a", "b"):
            write_class(tmp_path / part / name, count)
    assert sizes(read(tmp_path, test=0.1)) == (18, 6, 2)


def test_a_test_folder_without_classes_is_left_out_and_said_to_be(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_class(tmp_path / "train" / name, 10)
    write_class(tmp_path / "test", 4)
    splits = read(tmp_path)
    assert sizes(splits) == (12, 4, 4)
    assert splits.found.endswith("2 classes (test/ left out: no images in class folders)")


def test_one_image_in_colour_makes_all_of_them_colour(tmp_path: Path) -> None:
    write_class(tmp_path / "a", 5)
    write_class(tmp_path / "b", 5, shape=(6, 6, 3))
    splits = read(tmp_path)
    assert splits.train.pixels.shape == (6, 3, 6, 6)
    assert "6×6 colour" in splits.found
    grey = splits.train.pixels[splits.train.labels == 0]
    assert (grey[:, :1] == grey).all()


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "bmp", "gif", "webp", "tif", "tiff", "ppm", "PNG", "JPG"])
def test_the_usual_kinds_of_image_files_are_read(tmp_path: Path, suffix: str) -> None:
    write_class(tmp_path / "a", 3, shape=(8, 8, 3), suffix=suffix)
    write_class(tmp_path / "b", 3, shape=(8, 8, 3), suffix=suffix)
    assert read(tmp_path).train.pixels.shape == (2, 3, 8, 8)


def test_images_of_various_sizes_get_the_median_height_and_width(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for index, shape in enumerate([(4, 10), (6, 12), (20, 14)]):
            write_image(tmp_path / name / f"{index}.png", noise(*shape))
    splits = read(tmp_path)
    assert splits.train.pixels.shape[1:] == (1, 6, 12)
    assert splits.found.endswith("(resized from 3 different sizes to 6×12, the median height and width)")


def test_a_size_that_is_asked_for_holds_for_every_format(tmp_path: Path) -> None:
    pixels, labels = noise(20, 9, 9), cycled(20, 2)
    for index in range(20):
        write_image(tmp_path / "folders" / str(labels[index]) / f"{index:02}.png", pixels[index])
    folders = read(tmp_path / "folders", size=5)
    arrays = read(write_npz(tmp_path / "a.npz", x=pixels, y=labels), size=5)
    assert folders.train.pixels.shape == arrays.train.pixels.shape == (12, 1, 5, 5)
    for splits in (folders, arrays):
        assert splits.found.endswith("5×5 grey, 2 classes (resized from 9×9 to 5×5, as asked)")

    def everything(splits: ImageSplits) -> list[bytes]:
        return sorted(image.tobytes() for part in (splits.train, splits.valid, splits.test) for image in part.pixels)

    assert everything(folders) == everything(arrays)


def test_grey_images_of_16_bits_keep_their_depth_and_the_proportion_to_those_of_8(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for index in range(3):
            write_image(tmp_path / name / f"{index}.png", np.full((4, 4), 65535, np.uint16))
            write_image(tmp_path / name / f"8 bit {index}.png", np.full((4, 4), 255, np.uint8))
    splits = read(tmp_path)
    assert splits.train.pixels.dtype == np.float32
    assert np.unique(splits.train.pixels).tolist() == [65535.0]


def test_grey_images_of_16_bits_among_colours_become_bytes(tmp_path: Path) -> None:
    for index in range(3):
        write_image(tmp_path / "deep" / f"{index}.png", np.full((4, 4), 100 * 257, np.uint16))
        write_image(tmp_path / "flat" / f"{index}.png", np.full((4, 4, 3), 100, np.uint8))
    splits = read(tmp_path)
    assert splits.train.pixels.dtype == np.uint8
    assert np.unique(splits.train.pixels).tolist() == [100]


def test_images_of_one_bit_are_grey(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for index in range(3):
            write_image(tmp_path / name / f"{index}.png", noise(4, 4, seed=index) > 127)
    assert read(tmp_path).train.pixels.shape == (2, 1, 4, 4)
    assert np.unique(read(tmp_path).train.pixels).tolist() == [0, 255]


def test_a_photo_taken_on_its_side_is_set_upright(tmp_path: Path) -> None:
    orientation = Image.Exif()
    orientation[0x0112] = 6
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(3):
            Image.fromarray(noise(4, 8)).save(tmp_path / name / f"{index}.jpg", exif=orientation)
    splits = read(tmp_path)
    assert splits.train.pixels.shape[1:] == (1, 8, 4)
    assert "resized" not in splits.found


def test_a_large_photo_is_reduced_as_if_it_had_been_decoded_whole(tmp_path: Path) -> None:
    smooth = Image.fromarray(noise(6, 8, 3)).resize((1600, 1200), Image.Resampling.BICUBIC)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in range(3):
            smooth.save(tmp_path / name / f"{index}.jpg", quality=95)
    with Image.open(tmp_path / "a" / "0.jpg") as whole:
        expected = np.asarray(whole.resize((32, 32), Image.Resampling.BILINEAR)).transpose(2, 0, 1).astype(int)
    assert np.abs(read(tmp_path, size=32).train.pixels[0] - expected).max() <= 4


def test_hidden_files_and_files_that_are_no_images_are_passed_over(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_class(tmp_path / name, 5)
        (tmp_path / name / "._0.png").write_bytes(b"left by an archiver")
        (tmp_path / name / "Thumbs.db").write_bytes(b"left by a file manager")
    write_class(tmp_path / ".thumbnails", 5)
    write_class(tmp_path / "__MACOSX", 5)
    (tmp_path / "README.md").write_text("what this is")
    splits = read(tmp_path)
    assert splits.names == ("a", "b")
    assert sum(sizes(splits)) == 10


def test_links_that_lead_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    for name in ("a", "b"):
        write_class(data / name, 5)
    write_class(elsewhere, 2)
    (data / "a" / "out.png").symlink_to(elsewhere / "0.png")
    (data / "a" / "loop.png").symlink_to(data / "a" / "loop.png")
    (data / "a" / "inside.png").symlink_to(data / "b" / "0.png")
    splits = read(data)
    assert sum(sizes(splits)) == 11
    assert splits.found.endswith("(1 link out of the folder not followed)")


@pytest.mark.parametrize("link", ["a", "train"])
def test_a_class_that_lies_outside_the_folder_is_an_error_that_says_why(tmp_path: Path, link: str) -> None:
    for name in ("a", "b"):
        write_class(tmp_path / "elsewhere" / "train" / name, 3)
    data = tmp_path / "data"
    if link == "train":
        data.mkdir()
        (data / "train").symlink_to(tmp_path / "elsewhere" / "train")
    else:
        write_class(data / "b", 3)
        (data / "a").symlink_to(tmp_path / "elsewhere" / "train" / "a")
    with pytest.raises(DataError, match=r"class folder 'a' holds no images except links .* not followed"):
        read(data)


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_class(tmp_path / name, 5)
    (tmp_path / "b" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"broken\.png cannot be read as an image"):
        read(tmp_path)


def test_an_image_that_ends_too_early_is_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_class(tmp_path / name, 5, shape=(32, 32))
    whole = (tmp_path / "b" / "0.png").read_bytes()
    (tmp_path / "b" / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"half\.png cannot be read as an image"):
        read(tmp_path)


def test_an_image_with_floating_point_pixels_is_refused(tmp_path: Path) -> None:
    write_class(tmp_path / "a", 3)
    write_image(tmp_path / "b" / "0.tif", np.ones((6, 6), np.float32))
    with pytest.raises(DataError, match=r"0\.tif has floating-point pixels"):
        read(tmp_path)


def test_a_class_folder_without_images_is_named(tmp_path: Path) -> None:
    write_class(tmp_path / "a", 5)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="class folder 'empty' holds no images; fill it"):
        read(tmp_path)


def test_a_class_that_only_the_test_part_has_is_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_class(tmp_path / "train" / name, 5)
    write_class(tmp_path / "test" / "c", 5)
    with pytest.raises(DataError, match="'c' is in the test part but not in the training part"):
        read(tmp_path)


def test_two_folders_for_one_part_are_refused(tmp_path: Path) -> None:
    for part in ("train", "val", "valid"):
        write_class(tmp_path / part / "a", 5)
    with pytest.raises(DataError, match="both valid/ and val/"):
        read(tmp_path)


def test_images_that_lie_in_the_parts_folders_have_no_classes(tmp_path: Path) -> None:
    write_class(tmp_path / "train", 5)
    write_class(tmp_path / "test", 5)
    with pytest.raises(DataError, match="images in test and train are in no class folders; expected train/<class>"):
        read(tmp_path)


@pytest.mark.parametrize("keys", [("images", "labels"), ("x", "y"), ("X", "y"), ("x_train", "y_train")])
def test_one_pair_of_arrays_is_split_into_three_parts(tmp_path: Path, keys: tuple[str, str]) -> None:
    write_npz(tmp_path / "mine.npz", **{keys[0]: noise(50, 7, 7), keys[1]: cycled(50, 5)})
    splits = read(tmp_path)
    assert (
        splits.found == "NumPy arrays of mine.npz: 30 training, 10 validation and 10 test images, 7×7 grey, 5 classes"
    )


@pytest.mark.parametrize("valid", ["x_valid y_valid", "x_val y_val"])
def test_arrays_of_three_parts_are_used_as_they_are(tmp_path: Path, valid: str) -> None:
    valid_images, valid_labels = valid.split()
    arrays = {
        "x_train": noise(12, 7, 7), "y_train": cycled(12, 2), "x_test": noise(6, 7, 7), "y_test": cycled(6, 2),
        valid_images: noise(4, 7, 7), valid_labels: cycled(4, 2),
    }  # fmt: skip
    splits = read(write_npz(tmp_path / "a.npz", **arrays))
    assert sizes(splits) == (12, 4, 6)
    assert (splits.test.pixels[:, 0] == arrays["x_test"]).all()
    assert (splits.test.labels == arrays["y_test"]).all()


def test_medmnist_is_read(tmp_path: Path) -> None:
    arrays: dict[str, Array] = {}
    for part, count in (("train", 12), ("val", 4), ("test", 6)):
        arrays |= {f"{part}_images": noise(count, 28, 28, 3), f"{part}_labels": cycled(count, 2)[:, None]}
    splits = read(write_npz(tmp_path / "pathmnist.npz", **arrays))
    assert sizes(splits) == (12, 4, 6)
    assert splits.train.pixels.shape == (12, 3, 28, 28)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((9, 4, 5), (1, 4, 5)), ((9, 4, 5, 1), (1, 4, 5)), ((9, 4, 5, 3), (3, 4, 5)), ((9, 1, 4, 5), (1, 4, 5)),
     ((9, 3, 4, 5), (3, 4, 5))],
)  # fmt: skip
def test_the_place_of_the_channels_is_detected(tmp_path: Path, shape: tuple[int, ...], expected: object) -> None:
    splits = read(write_npz(tmp_path / "a.npz", x=noise(*shape), y=cycled(9, 3)))
    assert splits.train.pixels.shape[1:] == expected


def test_channels_that_are_stored_last_stay_with_their_pixels(tmp_path: Path) -> None:
    pixels = noise(10, 4, 5, 3)
    train = write_npz(tmp_path / "a.npz", x=pixels, y=cycled(10, 2), x_test=pixels, y_test=cycled(10, 2))
    assert (read(train).test.pixels == pixels.transpose(0, 3, 1, 2)).all()


@pytest.mark.parametrize(
    ("stored", "kept"),
    [("uint8", "uint8"), ("bool", "uint8"), ("int64", "float32"), ("uint16", "float32"), ("float16", "float32"),
     ("float64", "float32")],
)  # fmt: skip
def test_bytes_stay_bytes_and_other_numbers_become_float32(tmp_path: Path, stored: str, kept: str) -> None:
    splits = read(write_npz(tmp_path / "a.npz", x=noise(9, 4, 4).astype(stored), y=cycled(9, 3)))
    assert splits.train.pixels.dtype == np.dtype(kept)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (np.array(["dog", "cat", "eel"]), ("cat", "dog", "eel")),
        (np.array([b"dog", b"cat", b"eel"]), ("cat", "dog", "eel")),
        (np.array([7, -1, 100]), ("-1", "7", "100")),
        (np.array([2.0, 1.0, 3.0]), ("1", "2", "3")),
        (np.array([2, 1, 3], dtype=np.uint64), ("1", "2", "3")),
    ],
)
def test_labels_of_any_range_and_text_are_numbered_from_zero(
    tmp_path: Path, labels: Array, names: tuple[str, ...]
) -> None:
    splits = read(write_npz(tmp_path / "a.npz", x=noise(9, 4, 4), y=np.tile(labels, 3)))
    assert splits.names == names
    assert set(splits.train.labels.tolist()) == {0, 1, 2}
    assert splits.train.labels.dtype == np.int64


GOOD = {"x": noise(10, 4, 4), "y": cycled(10, 2)}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": GOOD["x"], "kinds": GOOD["y"]}, "holds pictures, kinds; expected one .npz file"),
        ({"images": GOOD["x"], "kinds": GOOD["y"]}, "holds images, kinds; expected images and labels together"),
        ({**GOOD, "images": GOOD["x"], "labels": GOOD["y"]}, "both images and x"),
        ({**GOOD, "x": noise(10, 16)}, r"x has the shape \(10, 16\)"),
        ({**GOOD, "x": noise(10, 4, 4, 4)}, "with 1 or 3 channels"),
        ({**GOOD, "x": noise(0, 4, 4), "y": cycled(0, 2)}, "training part holds no images"),
        ({**GOOD, "x": noise(9, 4, 4)}, "9 images and 10 labels; expected one label an image"),
        ({**GOOD, "x": np.full((10, 4, 4), math.nan)}, "NaN or infinite pixels"),
        ({**GOOD, "x": np.full((10, 4, 4), 1e300)}, "NaN or infinite pixels"),
        ({**GOOD, "x": np.full((10, 4, 4), "a")}, "x is an array of <U1; expected numbers"),
        ({**GOOD, "y": np.eye(10)}, r"one-hot labels take labels.argmax\(1\)"),
        ({**GOOD, "y": np.linspace(0, 1, 10)}, "expected whole numbers or text"),
        ({**GOOD, "y": np.zeros(10, int)}, "all of the class 0; expected two classes or more"),
        ({**GOOD, "x_test": noise(4, 5, 5), "y_test": cycled(4, 2)}, r"test images \(1, 5, 5\); expected the same"),
        ({**GOOD, "x_test": np.ones((4, 4, 4)), "y_test": cycled(4, 2)}, "uint8 and the test pixels as float32"),
        ({**GOOD, "x_test": noise(4, 4, 4), "y_test": np.array(list("abab"))}, "some parts' labels are text"),
        ({**GOOD, "x_val": noise(4, 4, 4), "y_val": cycled(4, 3)}, "class 2 is in the validation part"),
    ],
)
def test_arrays_that_are_no_labelled_images_are_refused(tmp_path: Path, arrays: dict[str, Array], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(write_npz(tmp_path / "a.npz", **arrays))


def test_parts_of_different_sizes_fit_once_a_size_is_given(tmp_path: Path) -> None:
    file = write_npz(tmp_path / "a.npz", **GOOD, x_test=noise(4, 5, 5), y_test=cycled(4, 2))
    assert read(file, size=4).test.pixels.shape == (4, 1, 4, 4)


class Trap:
    """Its pickle says to make a file when it is loaded."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def test_an_npz_file_with_python_objects_is_refused_and_not_unpickled(tmp_path: Path) -> None:
    labels = np.array([Trap(tmp_path / "sprung")] * 10, dtype=object)
    file = write_npz(tmp_path / "a.npz", x=GOOD["x"], y=labels)
    with pytest.raises(DataError, match="Python objects, which are pickles that can run code"):
        read(file)
    assert not (tmp_path / "sprung").exists()


def test_a_pickle_that_calls_itself_npz_is_refused_and_not_unpickled(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(DataError, match=r"a\.npz is no \.npz file"):
        read(tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_a_damaged_npz_file_is_named(tmp_path: Path) -> None:
    file = write_npz(tmp_path / "a.npz", **GOOD)
    content = bytearray(file.read_bytes())
    content[200] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.npz is damaged"):
        read(file)


def test_of_several_npz_files_one_must_be_named(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        write_npz(tmp_path / name, **GOOD)
    with pytest.raises(DataError, match=r"2 \.npz files \(a\.npz, b\.npz\); name the one to read, as path="):
        read(tmp_path)
    assert sum(sizes(read(tmp_path / "b.npz"))) == 10


@pytest.mark.parametrize("folder", [".", "raw", "MNIST", "MNIST/raw"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("dot", ["-", "."])
def test_idx_files_are_found_under_their_usual_names(tmp_path: Path, folder: str, suffix: str, dot: str) -> None:
    write_mnist(tmp_path / folder, "train", 50, suffix, dot)
    write_mnist(tmp_path / folder, "t10k", 20, suffix, dot)
    found = "MNIST-style IDX files: 40 training, 10 validation and 20 test images, 5×4 grey, 10 classes"
    assert read(tmp_path).found == found


def test_idx_files_hold_the_same_images_packed_and_unpacked(tmp_path: Path) -> None:
    for folder, suffix in (("plain", ""), ("packed", ".gz")):
        write_mnist(tmp_path / folder, "train", 30, suffix)
        write_mnist(tmp_path / folder, "t10k", 20, suffix)
    plain, packed = read(tmp_path / "plain"), read(tmp_path / "packed")
    assert (plain.test.pixels[:, 0] == noise(20, 5, 4)).all()
    assert (plain.test.labels == cycled(20, 10)).all()
    assert (plain.train.pixels == packed.train.pixels).all()


def test_an_idx_file_that_was_unpacked_but_kept_its_name_is_read(tmp_path: Path) -> None:
    write_mnist(tmp_path, "train", 30)
    for file in list(tmp_path.iterdir()):
        file.rename(f"{file}.gz")
    assert sum(sizes(read(tmp_path))) == 30


def test_idx_files_without_a_test_part_are_split_into_three(tmp_path: Path) -> None:
    write_mnist(tmp_path, "train", 50)
    assert sizes(read(tmp_path)) == (30, 10, 10)


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
WHOLE = bytes([0, 0, 8, 3]) + struct.pack(">3I", 30, 2, 2) + bytes(120)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (IMAGES, b"\x89PNG\r\n\x1a\n", "begins with 89 50 4e 47; expected 00 00 08 03: an IDX file of unsigned bytes"),
        (IMAGES, bytes([0, 0, 13, 3]) + bytes(12), "begins with 00 00 0d 03; expected 00 00 08 03"),
        (LABELS, bytes([0, 0, 8, 2]) + bytes(8), "expected 00 00 08 01: .* with 1 dimension$"),
        (IMAGES, bytes([0, 0, 8, 3, 0]), "ends within its header"),
        (IMAGES, bytes([0, 0, 8, 3]) + struct.pack(">3I", 3, 2, 2) + bytes(11), "holds 12 numbers .* but holds 11"),
        (IMAGES, bytes([0, 0, 8, 3]) + struct.pack(">3I", 3, 2, 2) + bytes(13), "holds 12 numbers .* but holds more"),
        (IMAGES, bytes([0, 0, 8, 3]) + b"\xff" * 12 + bytes(9), "but holds 9; get it again"),
        (IMAGES, bytes([0, 0, 8, 3]) + struct.pack(">3I", 29, 2, 2) + bytes(116), "29 images and 30 labels"),
        (IMAGES, gzip.compress(WHOLE, mtime=0)[:-9], "is no whole gzip file"),
        (IMAGES, gzip.compress(WHOLE, mtime=0)[:-8] + bytes(8), "is no whole gzip file"),
        (IMAGES, b"\x1f\x8bno gzip file", "is no whole gzip file"),
    ],
)  # fmt: skip
def test_a_damaged_idx_file_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    write_mnist(tmp_path, "train", 30)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_idx_images_without_labels_are_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path, "train", 30)
    (tmp_path / LABELS).unlink()
    with pytest.raises(DataError, match=f"lacks {LABELS}"):
        read(tmp_path)


def test_idx_test_files_alone_are_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path, "t10k", 30)
    with pytest.raises(DataError, match="t10k files only; expected the training files"):
        read(tmp_path)


TEN = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.mark.parametrize("folder", [".", "cifar-10-batches-bin"])
def test_binary_cifar_10_is_read(tmp_path: Path, folder: str) -> None:
    for batch in range(1, 6):
        write_cifar(tmp_path / folder / f"data_batch_{batch}.bin", 20, 10)
    write_cifar(tmp_path / folder / "test_batch.bin", 30, 10)
    (tmp_path / folder / "batches.meta.txt").write_text("\n".join(TEN) + "\n\n")
    splits = read(tmp_path)
    assert splits.found == (
        "CIFAR-10 binary version: 80 training, 20 validation and 30 test images, 32×32 colour, 10 classes"
    )
    assert splits.names == tuple(TEN)
    assert (splits.test.pixels == noise(30, 3072).reshape(30, 3, 32, 32)).all()
    assert (splits.test.labels == cycled(30, 10)).all()


@pytest.mark.parametrize("folder", [".", "cifar-100-binary"])
def test_binary_cifar_100_is_read_with_its_fine_labels(tmp_path: Path, folder: str) -> None:
    write_cifar(tmp_path / folder / "train.bin", 300, 100, coarse=True)
    write_cifar(tmp_path / folder / "test.bin", 100, 100, coarse=True)
    names = [f"kind{label:02}" for label in range(100)]
    (tmp_path / folder / "fine_label_names.txt").write_text("\n".join(names))
    splits = read(tmp_path)
    assert splits.names == tuple(names)
    assert sizes(splits) == (200, 100, 100)
    assert (splits.test.labels == np.arange(100)).all()


def test_binary_cifar_without_names_and_test_part_is_read(tmp_path: Path) -> None:
    write_cifar(tmp_path / "data_batch_1.bin", 100, 10)
    splits = read(tmp_path)
    assert sizes(splits) == (60, 20, 20)
    assert splits.names == tuple("0123456789")


def test_a_cifar_file_that_is_no_whole_number_of_records_is_refused(tmp_path: Path) -> None:
    write_cifar(tmp_path / "data_batch_1.bin", 30, 10)
    write_cifar(tmp_path / "data_batch_2.bin", 30, 10, coarse=True)
    with pytest.raises(DataError, match=r"data_batch_2\.bin has 92,220 bytes; expected a multiple of 3,073"):
        read(tmp_path)


def test_an_empty_cifar_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1.bin").touch()
    with pytest.raises(DataError, match="has 0 bytes; expected a multiple of 3,073"):
        read(tmp_path)


def test_a_cifar_label_out_of_range_is_refused(tmp_path: Path) -> None:
    write_cifar(tmp_path / "data_batch_1.bin", 30, 15)
    with pytest.raises(DataError, match="holds the label 14; expected labels below 10"):
        read(tmp_path)


def test_a_cifar_test_part_alone_is_refused(tmp_path: Path) -> None:
    write_cifar(tmp_path / "test_batch.bin", 30, 10)
    with pytest.raises(DataError, match=r"has test_batch\.bin but no data_batch_\*\.bin"):
        read(tmp_path)


def test_a_wrong_number_of_cifar_names_is_refused(tmp_path: Path) -> None:
    write_cifar(tmp_path / "data_batch_1.bin", 30, 10)
    (tmp_path / "batches.meta.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match=r"batches\.meta\.txt names 2 classes; expected 10"):
        read(tmp_path)


@pytest.mark.parametrize(
    "file", ["data_batch_1", "cifar-10-batches-py/data_batch_1", "train", "cifar-100-python/train"]
)
def test_the_python_version_of_cifar_is_refused_and_not_unpickled(tmp_path: Path, file: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    (tmp_path / file).with_name("meta").write_bytes(pickle.dumps({}))
    with pytest.raises(DataError, match="pickles, which can run code and are never loaded; expected the binary"):
        read(tmp_path)
    assert not (tmp_path / "sprung").exists()


EVERY_FORMAT = ["image folders", r"\.npz", "train-images-idx3-ubyte", r"data_batch_\*\.bin", r"train\.bin"]


@pytest.mark.parametrize("expected", EVERY_FORMAT)
def test_a_missing_folder_lists_what_was_expected(tmp_path: Path, expected: str) -> None:
    with pytest.raises(DataError, match=f"there is no folder or file .*/nowhere; expected one of: .*{expected}"):
        read(tmp_path / "nowhere")


@pytest.mark.parametrize("expected", EVERY_FORMAT)
def test_a_folder_with_nothing_recognisable_lists_what_it_holds_and_what_was_expected(
    tmp_path: Path, expected: str
) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=rf"it holds notes\.txt\); expected one of: .*{expected}"):
        read(tmp_path)


def test_an_empty_folder_and_an_unknown_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="it holds nothing"):
        read(tmp_path)
    (tmp_path / "data.csv").touch()
    with pytest.raises(DataError, match=r"data\.csv is no \.npz file; expected one of"):
        read(tmp_path / "data.csv")


def test_two_datasets_in_one_folder_are_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path / "MNIST", "train", 30)
    write_cifar(tmp_path / "cifar-10-batches-bin" / "data_batch_1.bin", 30, 10)
    with pytest.raises(DataError, match=r"more than one dataset: IDX files in .* and CIFAR-10 binary version in"):
        read(tmp_path)


def test_a_folder_that_must_not_be_opened_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", refuse)  # the superuser, who may run the tests, may open anything
    with pytest.raises(DataError, match=r"cannot be read \(.*Permission denied.*\); check the disk and who may read"):
        read(tmp_path)


def test_images_that_do_not_fit_into_memory_ask_for_a_smaller_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError

    for name in ("a", "b"):
        write_class(tmp_path / name, 3)
    monkeypatch.setattr(np, "empty", refuse)
    with pytest.raises(DataError, match="do not fit into memory; give a smaller size, such as size=32"):
        read(tmp_path)


def test_a_class_too_small_to_be_shared_out_is_named(tmp_path: Path) -> None:
    write_class(tmp_path / "many", 10)
    write_class(tmp_path / "few", 2)
    with pytest.raises(DataError, match="'few' has 2 images, which training, validation and test have to share"):
        read(tmp_path)


def test_a_class_too_small_for_a_validation_part_is_named(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_class(tmp_path / part / "many", 10)
        write_class(tmp_path / part / "one", 1)
    with pytest.raises(DataError, match="'one' has 1 image, which training and validation have to share"):
        read(tmp_path)


@pytest.mark.parametrize(("valid", "test"), [(0.2, 0.2), (0.01, 0.01), (0.1, 0.85), (0.85, 0.1)])
def test_three_images_of_a_class_are_enough_for_three_parts(tmp_path: Path, valid: float, test: float) -> None:
    splits = read(write_npz(tmp_path / "a.npz", x=noise(6, 4, 4), y=cycled(6, 2)), valid=valid, test=test)
    assert [part.labels.tolist() for part in (splits.valid, splits.test)] == [[0, 1], [0, 1]]
    assert sorted(splits.train.labels.tolist()) == [0, 1]


@pytest.mark.parametrize("fractions", [(0.2, 0.2), (0.5, 0.3), (0.1, 0.85), (0.01, 0.01)])
def test_a_share_is_never_nothing_and_never_all(fractions: tuple[float, float]) -> None:
    for count in range(3, 200):
        taken = shares(count, fractions)
        assert min(taken) >= 1
        assert sum(taken) < count
        assert np.allclose(taken, np.multiply(fractions, count), atol=2)


def test_any_stretch_of_the_training_part_holds_all_classes_in_proportion(tmp_path: Path) -> None:
    labels = np.repeat([0, 1, 2], [200, 100, 100])
    train = read(write_npz(tmp_path / "a.npz", x=noise(400, 2, 2), y=labels)).train
    for start in range(0, 240, 40):
        counts = np.bincount(train.labels[start : start + 40], minlength=3)
        assert np.abs(counts - [20, 10, 10]).max() <= 1


def test_the_split_follows_from_its_seed_alone(tmp_path: Path) -> None:
    file = write_npz(tmp_path / "a.npz", x=noise(60, 3, 3), y=cycled(60, 3))
    first, again, other = read(file), read(file), read(file, split_seed=1)
    for part in ("train", "valid", "test"):
        assert (getattr(first, part).pixels == getattr(again, part).pixels).all()
    assert (first.test.pixels != other.test.pixels).any()


@pytest.mark.parametrize(
    "options",
    [{"valid": 0.0}, {"valid": 1.0}, {"valid": math.nan}, {"test": 0.0}, {"test": -0.1}, {"valid": 0.5, "test": 0.5},
     {"size": 0}, {"split_seed": -1}],
)  # fmt: skip
def test_options_out_of_range_are_refused_before_anything_is_read(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"the task 'images' has {next(iter(options))} = "):
        Images(path="/nowhere", **options)


def test_nothing_is_read_before_it_is_needed() -> None:
    task = Images(path="/nowhere")
    with pytest.raises(DataError):
        _ = task.input_shape


def test_a_path_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_npz(tmp_path / "a.npz", **GOOD)
    assert Images(path="~/a.npz").read().names == ("0", "1")


def test_the_task_is_made_by_name_and_a_linear_model_learns_it(tmp_path: Path) -> None:
    for index in range(40):
        dark_or_light = np.clip(noise(6, 6, 3, seed=index) // 2 + 128 * (index % 2), 0, 255).astype(np.uint8)
        write_image(tmp_path / ("dark", "light")[index % 2] / f"{index}.png", dark_or_light)
    task: Any = make("task", "images", {"path": str(tmp_path), "valid": 0.25})
    assert (task.input_shape, task.classes) == ((3, 6, 6), 2)
    assert task.found == "Image folders: 22 training, 10 validation and 8 test images, 6×6 colour, 2 classes"
    assert task.description()["class_names"] == ["dark", "light"]
    task.to(torch.device("cpu"))
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 6, task.classes))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        for batch in task.train_batches(8, generator):
            optimizer.zero_grad()
            task.loss(model, batch).backward()
            optimizer.step()
    for split in ("valid", "test"):
        assert task.metrics(model, split)["accuracy"] == 1.0
    assert sum(len(labels) for _, labels in task.train_batches(8, generator, part=(0.0, 0.5))) == 11


@pytest.mark.skipif(not (REAL_DATA / "unpack.py").is_file(), reason="the real MNIST is not at hand")
def test_the_real_mnist_is_read_whole(tmp_path: Path) -> None:
    subprocess.run([sys.executable, REAL_DATA / "unpack.py", tmp_path, "mnist"], check=True)
    splits = read(tmp_path)
    assert sizes(splits) == (48_000, 12_000, 10_000)
    assert splits.train.pixels.shape[1:] == splits.test.pixels.shape[1:] == (1, 28, 28)
    assert splits.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert splits.found == (
        "MNIST-style IDX files: 48,000 training, 12,000 validation and 10,000 test images, 28×28 grey, 10 classes"
    )


@pytest.mark.parametrize(("count", "batch"), [(40, 16), (1000, 32), (4000, 128)])
def test_few_images_are_learnt_from_in_small_batches(tmp_path: Path, count: int, batch: int) -> None:
    """Of 128 images each, 24 would be a single step an epoch."""
    np.savez(tmp_path / "data.npz", x=np.zeros((count, 2, 2), np.uint8), y=np.arange(count) % 2)
    recipe = Images(path=str(tmp_path / "data.npz")).recipe
    assert (recipe.batch_size, recipe.learning_rate) == (batch, 0.1 * batch / 128)
