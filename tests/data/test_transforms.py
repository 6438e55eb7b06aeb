"""Transforms of the user's for images in folders: sizes, fresh draws, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_data import write_image_tree
from torch import Tensor

from ordercomp.data.catalog import load_data
from ordercomp.data.source import DataError, ImageOptions
from ordercomp.data.splits import ImageData
from ordercomp.jobs.check import check_task
from ordercomp.running.fingerprint import fingerprint_task
from ordercomp.running.node import task_data
from ordercomp.running.task import Task
from ordercomp.training.recipe import Recipe

MODULE = """
import random
import numpy as np
from torchvision import transforms
from torchvision.transforms.functional import pil_to_tensor

def small(training):
    def make(image):
        image = image.resize((6, 4))
        return image.rotate(180) if training and random.random() < 0.5 else image
    return make

def tensors(training):
    return lambda image: pil_to_tensor(image.resize((6, 4))) / 255

def normalized(training):
    return lambda image: pil_to_tensor(image.resize((6, 4))) / 128 - 1.0

def as_they_are(training):
    return lambda image: image

def gray(training):
    return lambda image: np.asarray(image.convert("L"))

def usual(training):
    return transforms.Compose(
        [transforms.Resize((8, 8)), transforms.ToTensor(), transforms.Normalize([0.4] * 3, [0.2] * 3)]
    )

def two_sizes(training):
    return lambda image: image.resize((6, 4) if training else (4, 4))

def broken(training):
    return lambda image: image.explode()

def nothing(training):
    return None

def no_argument():
    return lambda image: image
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    write_image_tree(tmp_path / "images", classes=2, per_class=10, size=(9, 7))
    name = f"transforms_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


def load(kind: str, path: str) -> ImageData:
    return load_data(f"{kind}:images", options=ImageOptions(transforms=path))


def epoch(data: ImageData, seed: int) -> Tensor:
    """The training images of an epoch in their own order."""
    rng = torch.Generator().manual_seed(seed)
    (batch,) = data.train.batches(100, rng=rng, augment=True)
    return batch.images[batch.index.argsort()]


@pytest.mark.parametrize("kind", ["folder", "photos"])
def test_transforms_make_the_images_and_draw_anew_in_each_epoch(kind: str, module: str) -> None:
    data = load(kind, f"{module}:small")
    assert (data.size, len(data.train), data.names) == ((4, 6), 12, ("class0", "class1"))
    first, second = epoch(data, 0), epoch(data, 1)
    assert first.shape == (12, 3, 4, 6)
    assert torch.equal(first, epoch(data, 0))
    turned = [not torch.equal(one, other) for one, other in zip(first, second, strict=True)]
    assert 0 < sum(turned) < 12
    held_out = [torch.cat([batch.images for batch in data.test.batches(3)]) for _ in range(2)]
    assert torch.equal(*held_out)


@pytest.mark.integration
@pytest.mark.parametrize("augment", [False, True])
def test_every_stage_trains_on_images_that_transforms_normalize(augment: bool, module: str) -> None:
    task = Task(
        name="t",
        model="resnet8(width=4)",
        data="folder:images",
        transforms=f"{module}:usual",
        recipe=Recipe(epochs=0.1, batch_size=4, augment=augment, precision="float32"),
    )
    check_task(task)
    (first, *_) = (batch.images for batch in task_data(task, 0).train.batches(4))
    assert first.dtype == torch.float32
    (plain, *_) = (batch.images for batch in task_data(replace(task, normalize="none"), 0).train.batches(4))
    assert (plain * 0.2 + 0.4).min() > -1e-5  # normalized as the transforms do it, and not twice


@pytest.mark.parametrize("kind", ["folder", "photos"])
def test_pictures_and_tensors_are_the_same_images(kind: str, module: str) -> None:
    images = [
        next(iter(load(kind, f"{module}:{name}").test.batches(4))).images for name in ("small", "tensors")
    ]
    assert torch.equal(*images)


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("folder", "broken", "broken failed on .*0.png: AttributeError: .*explode"),
        ("folder", "nothing", "nothing must return a function of one PIL image, got NoneType"),
        ("folder", "no_argument", "no_argument failed with training=True: TypeError"),
        ("folder", "absent", "transforms: .*:absent' must name a function"),
        ("folder", "two_sizes", r"must have one shape .* got \(4, 6, 3\) in train and \(4, 4, 3\) in val"),
        ("photos", "normalized", "must give pixels from 0 to 1, or bytes, got .* tell mean and std"),
        ("photos", "gray", "must give 3 channels, got 1"),
        ("photos", "two_sizes", r"must give one size, got \(4, 6\) in training and \(4, 4\) else"),
    ],
)
def test_transforms_that_cannot_be_used_are_told_in_one_line(
    kind: str, name: str, message: str, module: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(kind, f"{module}:{name}")
    assert "\n" not in str(caught.value)


def test_photographs_that_keep_their_sizes_are_found_before_training(module: str, tmp_path: Path) -> None:
    data = load("photos", f"{module}:as_they_are")
    for part in (data.train, data.validation, data.test):
        part.check()  # type: ignore[attr-defined]
    Image.new("RGB", (5, 5)).save(tmp_path / "images" / "class1" / "odd.png")
    data = load("photos", f"{module}:as_they_are")
    parts = (data.train, data.validation, data.test)
    with pytest.raises(DataError, match=r"one size .*, got \(7, 9\) and \(5, 5\) for .*odd.png"):
        [part.check() for part in parts]  # type: ignore[attr-defined]


def test_transforms_are_for_images_in_folders_and_make_the_size(module: str) -> None:
    with pytest.raises(DataError, match="transforms is for folder:PATH and photos:PATH; digits has its own"):
        load_data("digits", options=ImageOptions(transforms=f"{module}:small"))
    with pytest.raises(ValueError, match="image_size does not go with transforms"):
        ImageOptions(transforms=f"{module}:small", image_size=8)


def test_edited_transforms_are_another_task(module: str, tmp_path: Path) -> None:
    task = Task(name="mine", model="resnet8(width=4)", data="photos:images", transforms=f"{module}.py:small")
    before = fingerprint_task(task).digest
    file = tmp_path / f"{module}.py"
    file.write_text(file.read_text().replace("0.5", "0.6"))
    assert fingerprint_task(task).digest != before
