"""Tasks that start from trained weights: which images decide, the normalization, what the weights know."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_data import (
    write_cifar10,
    write_cifar100,
    write_cinic10,
    write_fashion_mnist,
    write_image_tree,
    write_svhn,
)
from torch import Tensor
from torch.utils.data import TensorDataset

from ordercomp import torchvision_compat
from ordercomp.data.assemble import Labeled, assemble
from ordercomp.data.catalog import load_data
from ordercomp.data.source import IMAGENET, DataError, ImageOptions, Source
from ordercomp.data.splits import ImageData
from ordercomp.data.torch_datasets import from_datasets
from ordercomp.measuring.start import check_baseline, check_weights
from ordercomp.networks.weights import pretrained_normalization
from ordercomp.running.node import check_start, task_data
from ordercomp.running.task import Task

SEEN = ImageOptions(trained_on="train")


def source(name: str, *, seed: int = 0, options: ImageOptions = SEEN, root: Path = Path()) -> Source:
    return Source(name=name, root=root, split_seed=seed, train_limit=None, augmentation=None, options=options)


def images(data: ImageData, part: str) -> set[bytes]:
    split: Any = getattr(data, part)
    if hasattr(split, "paths"):
        return {Path(path).read_bytes() for path in split.paths}
    return {image.numpy().tobytes() for image in split.images}


@pytest.mark.parametrize("kind", ["folder", "photos"])
@pytest.mark.parametrize("held_out", ["val", "test"])
def test_images_of_folders_that_weights_were_trained_on_do_not_decide(
    kind: str, held_out: str, tmp_path: Path
) -> None:
    for part, count, size in (("train", 20, (32, 32)), (held_out, 6, (32, 32))):
        write_image_tree(tmp_path / part, classes=2, per_class=count, size=size)
    name = f"{kind}:{tmp_path}"
    first, second = (load_data(name, split_seed=seed, options=SEEN) for seed in (0, 1))
    assert [len(part) for part in (first.train, first.validation, first.test)] == [40, 6, 6]
    assert not images(first, "validation") & images(first, "test")
    assert images(first, "validation") == images(second, "validation")  # test images stay unseen by a choice
    assert f"half of {held_out} each, decide" in first.notices[0]


def test_both_held_out_folders_stay_what_they_are(tmp_path: Path) -> None:
    for part, count in (("train", 8), ("val", 3), ("test", 4)):
        write_image_tree(tmp_path / part, classes=2, per_class=count)
    data = load_data(f"folder:{tmp_path}", options=SEEN)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [16, 6, 8]


OFFICIAL: dict[str, tuple[Callable[[Path], None], list[int]]] = {
    "cifar10": (write_cifar10, [200, 20, 20]),
    "cifar100": (write_cifar100, [200, 100, 100]),
    "svhn": (write_svhn, [100, 50, 50]),
    "fashion-mnist": (write_fashion_mnist, [100, 50, 50]),
    "cinic10": (write_cinic10, [40, 40, 40]),  # which has three parts
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_of_official_training_images_none_decides(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ordercomp.data.builtin._FOLDERS", ("fashion-mnist",))
    write, sizes = OFFICIAL[name]
    write(tmp_path)
    data, again = (load_data(name, root=tmp_path, options=SEEN, split_seed=seed) for seed in (0, 3))
    assert [len(part) for part in (data.train, data.validation, data.test)] == sizes
    assert images(data, "validation") == images(again, "validation")


@pytest.mark.parametrize("targets", [torch.arange(60) % 2, torch.linspace(0, 1, 60).double()])
def test_held_out_datasets_are_halved(targets: Tensor) -> None:
    pixels = torch.rand(60, 3, 8, 8)
    own = {
        "train": TensorDataset(pixels[:40], targets[:40]),
        "test": TensorDataset(pixels[40:], targets[40:]),
    }
    data, again = (from_datasets(own, source("own:data", seed=seed)) for seed in (0, 3))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [40, 10, 10]
    assert torch.equal(data.validation.labels, again.validation.labels)
    assert data.train.labels.dtype == (torch.float32 if data.real else torch.int64)


def test_images_without_parts_are_told_to_be_known(tmp_path: Path) -> None:
    write_image_tree(tmp_path, classes=2, per_class=10)
    for name in (f"folder:{tmp_path}", "digits", "rotated-digits"):
        assert any("may have seen the images that decide" in n for n in load_data(name, options=SEEN).notices)
    assert load_data("digits").notices == ()


@pytest.mark.parametrize("kind", ["folder", "photos"])
def test_images_of_the_folder_that_weights_were_trained_on_only_train(kind: str, tmp_path: Path) -> None:
    write_image_tree(tmp_path / "all", classes=2, per_class=20)
    for label in range(2):
        (tmp_path / "seen").mkdir(exist_ok=True)
        for number in range(12):  # the same bytes by another name
            there = tmp_path / "all" / f"class{label}" / f"{number}.png"
            shutil.copy(there, tmp_path / "seen" / f"{label}-{number}.png")
    known = ImageOptions(trained_on=str(tmp_path / "seen"))
    data = load_data(f"{kind}:{tmp_path / 'all'}", options=known)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [24, 8, 8]
    trained = load_data(f"{kind}:{tmp_path / 'all'}", options=known, split_seed=5)
    assert images(trained, "train") == images(data, "train")
    with pytest.raises(DataError, match="has no image for the part test"):
        load_data(f"{kind}:{tmp_path / 'all'}", options=ImageOptions(trained_on=str(tmp_path / "all")))


def link(seen: Path, to: Path) -> None:
    """A folder of links to what a folder holds."""
    to.mkdir()
    for path in seen.iterdir():
        (to / path.name).symlink_to(path)


SEEN_FOLDERS: dict[str, Callable[[Path, Path], object]] = {
    "flat": lambda seen, to: shutil.copytree(seen / "class1", to),
    "deep": lambda seen, to: shutil.copytree(seen, to / "2024" / "spring"),
    "linked": lambda seen, to: to.symlink_to(seen),
    "of linked folders": link,
    "of linked files": lambda seen, to: link(seen / "class1", to),
}


@pytest.mark.parametrize("layout", SEEN_FOLDERS)
def test_seen_images_are_found_however_their_folder_is_laid_out(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part, count in (("train", 8), ("test", 6)):
        write_image_tree(tmp_path / "all" / part, classes=2, per_class=count)
    (tmp_path / "copy" / "class1").mkdir(parents=True)
    for number in range(2):
        shutil.copy(tmp_path / "all" / "test" / "class1" / f"{number}.png", tmp_path / "copy" / "class1")
    SEEN_FOLDERS[layout](tmp_path / "copy", tmp_path / "seen")
    monkeypatch.chdir(tmp_path)
    data = load_data("folder:all", options=ImageOptions(trained_on="seen"))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [16, 5, 5]
    known = {np.asarray(Image.open(path)).tobytes() for path in tmp_path.glob("copy/*/*.png")}
    assert not known & (images(data, "validation") | images(data, "test"))


@pytest.mark.parametrize("parts", [("train", "test"), ("",)])
def test_a_folder_without_any_of_the_images_is_no_answer(parts: tuple[str, ...], tmp_path: Path) -> None:
    for part in parts:
        write_image_tree(tmp_path / "all" / part, classes=2, per_class=6)
    write_image_tree(tmp_path / "val", classes=2, per_class=3)
    with pytest.raises(DataError, match=r"no image of folder:.* is in trained_on = .*val', byte for byte"):
        load_data(f"folder:{tmp_path / 'all'}", options=ImageOptions(trained_on=str(tmp_path / "val")))


@pytest.mark.parametrize("name", ["digits", "nowhere.py:data"])
def test_a_folder_of_seen_images_needs_folders(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="trained_on must be train, unknown or elsewhere for"):
        load_data(name, options=ImageOptions(trained_on=str(tmp_path)))


def test_weights_of_other_images_leave_the_split_as_it_was() -> None:
    task = Task(name="t", model="resnet8(width=4)", data="digits", weights="w.pt", normalize="data")
    assert task.image_options.trained_on == "train"
    assert replace(task, trained_on="elsewhere").image_options.trained_on == ""
    library = Task(name="t", model="torchvision:resnet18", data="folder:x", weights="pretrained")
    assert library.image_options.trained_on == ""
    assert replace(library, data="imagenet").image_options.trained_on == "train"
    assert replace(task, trained_on="unknown").digest != task.digest


# Normalization


def test_weights_of_a_library_get_the_normalization_of_their_configuration(tmp_path: Path) -> None:
    write_image_tree(tmp_path, classes=2, per_class=10)
    task = Task(name="t", model="torchvision:resnet18", data=f"folder:{tmp_path}", weights="pretrained")
    mean, std = task_data(task, 0).normalization
    assert mean == pytest.approx([255 * value for value in IMAGENET[0]])
    assert std == pytest.approx([255 * value for value in IMAGENET[1]])
    told = task_data(replace(task, mean=(0.5,) * 3, std=(0.5,) * 3), 0)
    assert told.normalization == ((127.5,) * 3, (127.5,) * 3)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_networks_that_normalize_by_themselves_get_what_they_were_trained_with(name: str) -> None:
    mean, std = (torch.tensor(one)[:, None, None] for one in pretrained_normalization(f"torchvision:{name}"))
    make = getattr(torchvision_compat.models, name)
    inside = make(weights=None, init_weights=False, transform_input=True)._transform_input
    pixels = torch.rand(2, 3, 4, 4)
    usual = (pixels - torch.tensor(IMAGENET[0])[:, None, None]) / torch.tensor(IMAGENET[1])[:, None, None]
    assert torch.allclose((pixels - mean) / std, inside(usual), atol=1e-5)
    told = pretrained_normalization(f"torchvision:{name}(transform_input=true)")
    assert told == IMAGENET


HALF, CLIP = (
    ((0.5,) * 3, (0.5,) * 3),
    ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
)


@pytest.mark.parametrize(
    ("model", "numbers"),
    [
        ("timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k(img_size=64)", HALF),
        ("timm:mixer_b16_224", HALF),
        ("timm:inception_v3.tf_adv_in1k", HALF),
        ("timm:vit_base_patch16_clip_224.openai", CLIP),
        ("timm:resnet18.a1_in1k", IMAGENET),
        ("torchvision:vit_b_16(image_size=64)", IMAGENET),
    ],
)
def test_every_weights_of_a_library_have_their_own_normalization(model: str, numbers: object) -> None:
    pytest.importorskip("timm")
    assert pretrained_normalization(model) == numbers


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("timm:mnv4", "timm has no network 'mnv4'"),
        ("timm:resnet18.a9", "timm has no weights 'a9' of resnet18"),
        ("torchvision:resnet19", "torchvision has no trained weights for 'resnet19'"),
    ],
)
def test_normalizations_of_no_weights_are_refused(model: str, told: str) -> None:
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match=told):
        pretrained_normalization(model)


SHOWN = torch.linspace(0, 1, 40 * 48).view(40, 3, 4, 4)  # white is 1


@pytest.mark.parametrize(
    ("made", "told", "warned"),
    [
        (SHOWN, {"mean": (0.5,) * 3, "std": (0.5,) * 3}, False),
        (2 * SHOWN - 1, {"normalize": "none"}, False),
        (2 * SHOWN - 1, {"mean": (0.5,) * 3, "std": (0.5,) * 3}, True),  # by a transform, and again
        ((SHOWN - 0.45) / 0.22, {"normalize": "imagenet"}, True),
        (255 * SHOWN, {"normalize": "imagenet"}, True),
        (255 * SHOWN, {"mean": (0.5,) * 3, "std": (0.5,) * 3}, True),
        (1.1 * SHOWN - 0.05, {"normalize": "imagenet"}, False),  # a smooth resize overshoots
    ],
)
def test_pixels_that_are_not_from_black_to_white_are_told_where_these_count(
    made: Tensor, told: dict[str, Any], warned: bool
) -> None:
    pictures = TensorDataset(made, torch.arange(40) % 2)
    data = from_datasets(pictures, source("own:data", options=ImageOptions(**told)))
    assert any("before the task's normalization, with white as 1" in one for one in data.notices) == warned


def test_pixels_from_0_to_255_are_a_normalization_too() -> None:
    told = ImageOptions(mean=(0.0,) * 3, std=(1 / 255,) * 3)
    data = from_datasets(TensorDataset(SHOWN, torch.arange(40) % 2), source("own:data", options=told))
    (batch,) = data.train.batches(100)
    assert float(batch.images.max()) == pytest.approx(255, abs=10)
    assert batch.images.dtype == torch.float32


@pytest.mark.parametrize("kind", ["folder", "photos"])
def test_normalize_names_usual_numbers(kind: str, tmp_path: Path) -> None:
    write_image_tree(tmp_path, classes=2, per_class=10)
    name = f"{kind}:{tmp_path}"
    plain = load_data(name, options=ImageOptions(normalize="none")).normalization
    assert plain == ((0.0,) * 3, (255.0,) * 3)
    usual = load_data(name, options=ImageOptions(normalize="imagenet")).normalization
    assert usual[0] == pytest.approx([123.675, 116.28, 103.53])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalize": "imagenet"}, "must have 1 numbers for digits, got 3"),
        ({"normalize": "imagenet", "mean": (0.5,), "std": (0.5,)}, "does not go with mean and std"),
        ({"normalize": "zca"}, "normalize must be imagenet, none or data"),
    ],
)
def test_normalization_that_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_data("digits", options=ImageOptions(**options))


# What the weights get right


def reader(images: Tensor) -> tuple[Tensor]:
    """Logits of a network that reads the class from the first pixel."""
    return (torch.nn.functional.one_hot((images[:, 0, 0, 0] * 10).round().long() % 4, 4).double(),)


def readable(*right: float, real: bool = False) -> ImageData:
    """Images of 4 classes whose first pixel tells the class in a share of each part."""
    parts = []
    for share in right:
        labels = np.arange(400) % 4
        shown = np.where(np.arange(400) < 400 * share, labels, labels + 1)
        pixels = np.zeros((400, 2, 2, 1), np.float32)
        pixels[:, 0, 0, 0] = shown / 10
        parts.append(Labeled(pixels, labels.astype(np.float32) if real else labels))
    told = source("own:pixels", options=ImageOptions(normalize="none"))
    return assemble(told, (parts[0], parts[1], parts[2]), classes=0 if real else 4)


def network(module: Any = reader) -> Any:
    module.eval = lambda: None
    return SimpleNamespace(module=module, device=torch.device("cpu"))


def test_what_weights_get_right_is_told_before_anything_trains() -> None:
    (told,) = check_weights(network(), readable(1.0, 0.85, 0.84))
    assert told == (
        "the weights get 100.0 % of training, 85.0 % of validation, 84.0 % of test images right before any "
        "training"
    )


def test_a_gap_between_images_that_weights_know_and_others_warns() -> None:
    *_, gap = check_weights(network(), readable(0.95, 0.95, 0.8))
    assert "validation images are 15.0 points more often right than test images" in gap


@pytest.mark.parametrize("right", [0.0, 0.25, 0.3])
def test_weights_near_chance_stop_the_run(right: float) -> None:
    with pytest.raises(ValueError, match=r"where guessing gets 25.0 %: are mean and std"):
        check_weights(network(), readable(1.0, right, right))


def test_a_baseline_near_chance_ends_the_run() -> None:
    with pytest.raises(ValueError, match=r"gets 27.0 % of the validation images .* gets 25.0 %"):
        check_baseline(network(), readable(1.0, 0.27, 1.0))
    check_baseline(network(), readable(0.0, 0.8, 0.0))


def test_real_targets_are_judged_by_their_variance() -> None:
    data = readable(1.0, 1.0, 1.0, real=True)

    def exact(images: Tensor) -> tuple[Tensor]:
        return (((images[:, :1, 0, 0] * 10).double() - data.center) / data.spread,)

    assert "100.0 % of validation" in check_weights(network(exact), data)[0]
    with pytest.raises(ValueError, match=r"guessing gets 0.0 %"):
        check_weights(network(lambda images: (torch.zeros(len(images), 1),)), data)


def test_weights_that_are_trained_on_are_not_judged() -> None:
    task = Task(name="t", model="resnet8(width=4)", data="digits", weights="w.pt", baseline_epochs=1)
    check_start(task, network(lambda images: (torch.zeros(len(images), 10),)), seed=0)
