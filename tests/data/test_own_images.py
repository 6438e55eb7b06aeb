"""What a task says of its images: size, normalization, names, and what a folder val is."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_data import write_image_tree

from ordercomp import CompressedNetwork, load_network
from ordercomp.data.catalog import load_data
from ordercomp.data.source import ImageOptions
from ordercomp.running.node import create_network
from ordercomp.running.task import Task
from ordercomp.shipping.packed import save_packed

TASK = {"name": "mine", "model": "resnet8(width=4)", "data": "digits"}


@pytest.mark.parametrize("kind", ["folder", "photos"])
def test_images_take_the_size_and_the_normalization_of_the_task(kind: str, tmp_path: Path) -> None:
    write_image_tree(tmp_path, classes=2, per_class=5, size=(30, 20))
    Image.fromarray(np.full((40, 24, 3), 255, np.uint8)).save(tmp_path / "class0" / "tall.png")
    told = ImageOptions(image_size=16, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    data = load_data(f"{kind}:{tmp_path}", options=told)
    images = torch.cat(
        [batch.images for part in (data.train, data.validation, data.test) for batch in part.batches(100)]
    )
    assert (data.size, images.shape) == ((16, 16), (11, 3, 16, 16))
    assert images.max() == pytest.approx(2, abs=1e-5)  # white, in units of std
    assert data.normalization == ((127.5,) * 3, (63.75,) * 3)
    assert data.names == ("class0", "class1")
    assert data.digest != load_data(f"{kind}:{tmp_path}", options=replace(told, image_size=8)).digest


@pytest.mark.parametrize("kind", ["folder", "photos"])
def test_a_folder_val_without_test_is_told_or_said(kind: str, tmp_path: Path) -> None:
    for part, count in (("train", 20), ("val", 3)):
        write_image_tree(tmp_path / part, classes=2, per_class=count)
    name = f"{kind}:{tmp_path}"
    told = load_data(name)
    assert (len(told.validation), len(told.test)) == (4, 6)
    (notice,) = told.notices
    assert "val is the test part" in notice
    said = load_data(name, options=ImageOptions(val_is="validation"))
    assert (len(said.validation), len(said.test), said.notices) == (6, 4, ())
    assert load_data(name, options=ImageOptions(val_is="test")).notices == ()


@pytest.mark.parametrize(
    "names",
    [
        ("train", "valid", "test"),
        ("Train", "Validation", "Test"),
        ("training", "dev", "testing"),
        ("training_set", "validation_set", "test_set"),
        ("seg_train", "seg_dev", "seg_test"),
        ("train2017", "val2017", "test2017"),
        ("Flowers-Train", "Flowers-Valid", "Flowers-Test"),
    ],
)
def test_parts_are_found_by_any_usual_name(names: tuple[str, str, str], tmp_path: Path) -> None:
    for place, part in enumerate(names):
        write_image_tree(tmp_path / part, classes=2, per_class=3 + place)
    data = load_data(f"folder:{tmp_path}")
    assert (data.names, [len(one) for one in (data.train, data.validation, data.test)]) == (
        ("class0", "class1"),
        [6, 8, 10],
    )


@pytest.mark.parametrize(
    "names", [("bullet_train", "test_tube", "owl"), ("owl", "train_a", "train_b", "test_a")]
)
def test_classes_may_have_the_words_of_parts_in_their_names(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / "made").mkdir(exist_ok=True)
        write_image_tree(tmp_path / "made", classes=1, per_class=5)
        (tmp_path / "made" / "class0").rename(tmp_path / name)
    (tmp_path / "made").rmdir()
    assert load_data(f"folder:{tmp_path}").names == tuple(sorted(names))


@pytest.mark.parametrize("names", [("Training", "training", "test"), ("Testing", "val"), ("train",)])
def test_parts_that_cannot_be_told_apart_are_refused(names: tuple[str, ...], tmp_path: Path) -> None:
    for part in names:
        write_image_tree(tmp_path / part, classes=2, per_class=3)
    with pytest.raises(ValueError, match=rf"must hold train and beside it val, .*, got .*{names[0]}"):
        load_data(f"folder:{tmp_path}")


def test_parts_within_classes_are_refused(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        write_image_tree(tmp_path / name / "train", classes=1, per_class=3)
        write_image_tree(tmp_path / name / "Test", classes=1, per_class=3)
    with pytest.raises(ValueError, match="holds parts within classes; it must hold classes within parts"):
        load_data(f"folder:{tmp_path}")


def test_images_that_are_in_two_parts_are_told(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        write_image_tree(tmp_path / part, classes=2, per_class=4)
    assert load_data(f"folder:{tmp_path}").notices == ()
    for part, number in (("val", 0), ("test", 1)):
        shutil.copy(tmp_path / "train" / "class0" / f"{number}.png", tmp_path / part / "class0" / "again.png")
    (notice,) = load_data(f"folder:{tmp_path}").notices
    assert notice.endswith("images of held-out parts are also in another part, byte for byte: 2")


def test_files_that_begin_with_a_dot_are_no_images(tmp_path: Path) -> None:
    write_image_tree(tmp_path, classes=2, per_class=5)
    (tmp_path / "class0" / "._0.png").write_bytes(b"\0\5\x16\7")  # as macOS leaves them in archives
    data = load_data(f"folder:{tmp_path}")
    assert len(data.train) + len(data.validation) + len(data.test) == 10
    assert data.notices == ()


@pytest.mark.parametrize("kind", ["folder", "photos"])
def test_names_of_classes_in_another_order_than_the_folders_are_refused(kind: str, tmp_path: Path) -> None:
    write_image_tree(tmp_path, classes=12, per_class=5)  # class0, class1, class10, class11, class2, …
    counted = tuple(f"class{number}" for number in range(12))
    with pytest.raises(
        ValueError, match=r"class_names must have the order of the folders .* class1, class10"
    ):
        load_data(f"{kind}:{tmp_path}", options=ImageOptions(class_names=counted))
    own = tuple(f"a {name}" for name in counted)
    data = load_data(f"{kind}:{tmp_path}", options=ImageOptions(class_names=own))
    assert data.names == own
    assert (
        "10 before 2, so that class10 is called 'a class2', class11 is called 'a class3'" in data.notices[-1]
    )


def test_names_of_classes_are_kept_in_every_file_and_told_with_a_prediction(tmp_path: Path) -> None:
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    network = create_network(Task.from_mapping({**TASK, "class_names": list(names)}), seed=0)
    network.save(tmp_path / "whole.safetensors")
    save_packed(network, tmp_path / "packed.safetensors")
    assert CompressedNetwork.load(tmp_path / "whole.safetensors").serving.names == names
    for file in ("whole", "packed"):
        told = load_network(tmp_path / f"{file}.safetensors").predict(torch.zeros(1, 8, 8))
        assert told.name == names[told.label]
    assert load_network(tmp_path / "whole.safetensors").serving.names == names


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("image_size", -1, "image_size must be a number of pixels"),
        ("image_size", 32.5, "key 'image_size' must be a whole number, got 32.5"),
        ("mean", [0.5], "mean and std must have a number for each channel, got 1 and 0"),
        ("mean", 0.5, "key 'mean' must be a list, got 0.5"),
        ("class_names", ["cat", "cat"], "class_names must be distinct"),
        ("class_names", "cats", "key 'class_names' must be a list, got 'cats'"),
        ("val_is", "training", "key 'val_is' must be validation or test, got 'training'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(key: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Task.from_mapping({**TASK, key: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": (127.0,), "std": (50.0,)}, "white is 1"),
        ({"mean": (0.5,) * 3, "std": (0.5,) * 3}, "must have 1 numbers for digits, got 3"),
        ({"image_size": 16}, "image_size is for folder:PATH and photos:PATH; digits has"),
        ({"class_names": ("a", "b")}, "class_names must name the 10 classes of digits, got 2"),
    ],
)
def test_options_that_do_not_suit_the_data_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_data("digits", options=ImageOptions(**options))  # type: ignore[arg-type]


def test_only_options_that_are_set_make_another_task() -> None:
    plain = Task.from_mapping(TASK)
    for key, value in (("mean", [0.5]), ("class_names", ["a", "b"]), ("val_is", "test")):
        more = {"std": [0.5]} if key == "mean" else {}
        assert Task.from_mapping({**TASK, key: value, **more}).digest != plain.digest
    assert Task.from_mapping({**TASK, "mean": [], "val_is": "", "image_size": 0}).digest == plain.digest
