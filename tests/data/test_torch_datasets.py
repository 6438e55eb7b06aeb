"""Torch Datasets of the user's: what is read, how it is split, what is refused in one line."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from ordercomp.data.catalog import load_data
from ordercomp.data.source import DataError, ImageOptions, Source
from ordercomp.data.torch_datasets import DatasetSplit, from_datasets

SOURCE = Source(name="mine:data", root=Path(), split_seed=0, train_limit=None, augmentation=None)


class Made(Dataset[Any]):
    """Items made by a function of their place."""

    def __init__(self, make: Any, count: int = 40) -> None:
        self.make, self.count = make, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, place: int) -> Any:
        return self.make(place)


def pixels(place: int) -> np.ndarray:
    return np.random.default_rng(place).integers(256, size=(6, 5, 3), dtype=np.uint8)


def plain(place: int) -> tuple[Any, Any]:
    return pixels(place), place % 4


FORMS = {
    "an array": lambda place: (pixels(place), place % 4),
    "a tensor": lambda place: (torch.from_numpy(pixels(place)).permute(2, 0, 1), torch.tensor(place % 4)),
    "fractions": lambda place: (torch.from_numpy(pixels(place)).permute(2, 0, 1) / 255, place % 4),
    "a picture": lambda place: (Image.fromarray(pixels(place)), np.int64(place % 4)),
    "a list": lambda place: [pixels(place), place % 4],
    "doubles": lambda place: (pixels(place) / 255, np.uint8(place % 4)),
    "half precision": lambda place: (
        torch.from_numpy(pixels(place)).permute(2, 0, 1).half() / 255,
        place % 4,
    ),
    "16 bits": lambda place: (pixels(place).astype(np.uint16) * 257, np.array([place % 4])),
    "16 bits in a tensor": lambda place: (
        torch.from_numpy(pixels(place).astype(np.uint16) * 257).permute(2, 0, 1),
        place % 4,
    ),
    "an opaque picture": lambda place: (Image.fromarray(pixels(place)).convert("RGBA"), place % 4),
    "with gradients": lambda place: (
        (torch.from_numpy(pixels(place)).permute(2, 0, 1) / 255).requires_grad_(),
        place % 4,
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_images_of_every_form_are_the_same_data(form: str) -> None:
    data = from_datasets(Made(FORMS[form]), SOURCE)
    assert (data.classes, data.channels, data.size) == (4, 3, (6, 5))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [24, 8, 8]
    assert data.digest == from_datasets(Made(plain), SOURCE).digest
    assert {batch.images.dtype for batch in data.train.batches(9)} == {
        torch.float32
    }  # statistics are doubles


def test_parts_that_are_drawn_have_the_shares_of_the_classes() -> None:
    data = from_datasets(Made(lambda place: (pixels(place), int(place % 10 == 0)), 100), SOURCE)
    assert [int(part.labels.sum()) for part in (data.train, data.validation, data.test)] == [6, 2, 2]
    assert "classes are uneven" in data.notices[0]


def gray(place: int) -> np.ndarray:
    return pixels(place)[..., 0]


@pytest.mark.parametrize(
    ("picture", "shown"),
    [
        (lambda place: Image.fromarray(gray(place).astype(np.uint16) * 257), gray),
        (lambda place: Image.fromarray(gray(place) > 99), lambda place: 255 * (gray(place) > 99)),
        (lambda place: gray(place) > 99, lambda place: 255 * (gray(place) > 99)),
        (
            lambda place: torch.from_numpy(gray(place) // 2 * 2)[None].to(torch.bfloat16) / 256,
            lambda place: gray(place) // 2 * 2 * (255 / 256),
        ),
        (
            lambda place: Image.merge("LA", [Image.fromarray(gray(place)), Image.new("L", (5, 6), 0)]),
            lambda place: 255 + 0 * gray(place),
        ),
    ],
    ids=["16 bits in a picture", "a picture of 1 bit", "a mask", "bfloat16", "transparent"],
)
def test_kinds_of_pixels_are_read_on_their_own_scale(picture: Any, shown: Any) -> None:
    data = from_datasets(Made(lambda place: (picture(place), place % 4)), SOURCE)
    kept = torch.cat([part.images for part in (data.train, data.validation, data.test)])
    expected = sorted(np.mean(shown(place)) for place in range(40))
    assert sorted(kept.float().mean((1, 2, 3)).tolist()) == pytest.approx(expected, abs=0.6)


@pytest.mark.parametrize("labels", [(1, 2, 3), (3, 5), (0, 1, 3), (2, 3, 4), (0, 7)], ids=str)
def test_labels_without_images_are_refused_unless_classes_are_named(labels: tuple[int, ...]) -> None:
    made = Made(lambda place: (pixels(place), labels[place % len(labels)]))
    told = f"must be 0 to {len(labels) - 1}, .* got {', '.join(map(str, labels))}: number them anew"
    with pytest.raises(DataError, match=told):
        from_datasets(made, SOURCE)
    named = replace(SOURCE, options=ImageOptions(class_names=tuple("abcdefghij")))
    assert from_datasets(made, named).classes == 10


@pytest.mark.parametrize(
    "target",
    [lambda label: bool(label), lambda label: torch.tensor(label > 0), lambda label: np.bool_(label)],
    ids=["Python", "torch", "numpy"],
)
def test_yes_and_no_are_two_classes(target: Any) -> None:
    data = from_datasets(Made(lambda place: (pixels(place), target(place % 2))), SOURCE)
    assert (data.classes, data.real, int(data.train.labels.sum())) == (2, False, 12)


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (lambda place: float(place % 2), True),  # as a binary cross-entropy takes them
        (lambda place: torch.tensor([float(place % 3)]), True),
        (lambda place: np.float32(place % 4), True),
        (lambda place: place / 7, False),
        (lambda place: float(place), False),
    ],
)
def test_classes_that_come_as_floats_are_told_to_be_real_targets(target: Any, told: bool) -> None:
    data = from_datasets(Made(lambda place: (pixels(place), target(place))), SOURCE)
    assert data.real
    assert any("targets are floats, so real numbers" in one for one in data.notices) == told


def test_normalized_floats_stay_floats() -> None:
    data = from_datasets(Made(lambda place: (torch.full((1, 4, 4), place - 20.5), place % 2)), SOURCE)
    images = torch.cat([batch.images for batch in data.train.batches(100)])
    assert images.mean().abs() < 1e-6
    assert images.std(correction=0) == pytest.approx(1, abs=1e-5)
    assert images.dtype == torch.float32  # statistics are doubles


def test_a_val_without_test_is_told_or_said() -> None:
    made = {"train": Made(plain), "val": Made(plain, 12)}
    told = from_datasets(made, SOURCE)
    assert (len(told.train), len(told.validation), len(told.test)) == (36, 4, 12)
    assert "there is val and no test" in told.notices[0]
    for val_is, sizes in (("validation", (36, 12, 4)), ("test", (36, 4, 12))):
        options = ImageOptions(val_is=val_is)  # type: ignore[arg-type]
        source = Source(
            name="mine:data", root=Path(), split_seed=0, train_limit=None, augmentation=None, options=options
        )
        said = from_datasets(made, source)
        assert (len(said.train), len(said.validation), len(said.test)) == sizes
        assert said.notices == ()


def test_random_transforms_run_anew_in_each_epoch_and_the_same_for_the_same_seed() -> None:
    def noisy(place: int) -> tuple[Any, int]:
        return torch.rand(1, 4, 4) / 2 + np.random.rand() / 2, place % 2

    data = from_datasets(Made(noisy), SOURCE)
    assert isinstance(data.train, DatasetSplit)

    def epoch(seed: int, *, augment: bool) -> torch.Tensor:
        batches = data.train.batches(5, rng=torch.Generator().manual_seed(seed), augment=augment)
        found = torch.empty(len(data.train), 1, 4, 4)
        for batch in batches:
            found[batch.index] = batch.images
            assert (data.train.labels[batch.index] == batch.labels).all()
        return found

    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    assert torch.equal(epoch(1, augment=True), epoch(1, augment=True))
    assert not torch.equal(epoch(1, augment=True), epoch(2, augment=True))
    assert torch.equal(epoch(1, augment=False), epoch(2, augment=False))
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()


BAD = {
    "three things": (
        lambda place: (pixels(place), 1, 2),
        r"item 0 of .* must be \(image, target\), got 3",
    ),
    "an image alone": (lambda place: pixels(place), r"must be \(image, target\), got ndarray"),
    "a path": (lambda place: ("a.png", 1), r"must be a PIL image, a tensor .* got str"),
    "a row": (lambda place: (np.zeros(3, np.uint8), 1), r"got uint8 of \(3,\)"),
    "sizes": (
        lambda place: (np.zeros((4, 4 + place, 1), np.uint8), 1),
        r"one shape, got .4, 4, 1. and .4, 5",
    ),
    "no number": (lambda place: (pixels(place), "cat"), "must be a class number or one float, got"),
    "two numbers": (
        lambda place: (pixels(place), [1, 2]),
        r"a class number or one float, got int64 of \(2,\)",
    ),
    "not finite": (lambda place: (torch.full((1, 4, 4), torch.nan), 1), "item 0 of .* must be finite"),
    "one class": (lambda place: (pixels(place), 0), "at least two classes"),
    "no target": (lambda place: (pixels(place), float("nan")), "target of item 0 .* must be finite, got nan"),
    "constant": (lambda place: (pixels(place), 1.5), "must differ, got 1.5 for every training image"),
    "both": (lambda place: (pixels(place), place if place % 2 else 0.5), "all be floats, got both"),
    "negative": (lambda place: (pixels(place), place % 3 - 1), "must have labels 0 to 1, got -1 to 1"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_image_and_target_is_told_in_one_line(what: str) -> None:
    make, message = BAD[what]
    with pytest.raises(DataError, match=message) as told:
        from_datasets(Made(make), SOURCE)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("found", [None, 3, {"a": Made(plain)}, (Made(plain), Made(plain)), "text"])
def test_what_is_no_dataset_is_told(found: object) -> None:
    with pytest.raises(DataError, match=r"must return a Dataset, .* a mapping with train, val and test"):
        from_datasets(found, SOURCE)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with a module of the user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("shapes_of_mine", None)


def test_a_dataset_is_named_by_file_and_function(here: Path) -> None:
    (here / "shapes_of_mine.py").write_text(
        "import numpy as np\n"
        "def images():\n"
        "    return [(np.full((4, 4), 10 * k, np.uint8), k % 2) for k in range(20)]\n"
        "class Twenty:\n"
        "    def __len__(self): return 20\n"
        "    def __getitem__(self, k): return images()[k]\n"
        "def data(): return Twenty()\n"
        "def broken(source): raise OSError('disk\\nis gone')\n"
    )
    named = ImageOptions(class_names=("even", "odd"))
    data = load_data("shapes_of_mine.py:data", options=named)
    assert (data.names, data.digest) == (("even", "odd"), load_data("shapes_of_mine:data").digest)
    with pytest.raises(DataError, match="failed: OSError: disk is gone"):
        load_data("shapes_of_mine.py:broken")
    with pytest.raises(DataError, match=r"class_names must name the 2 classes of .*, got 3"):
        load_data("shapes_of_mine.py:data", options=ImageOptions(class_names=("a", "b", "c")))


def test_floats_are_real_targets_in_their_own_units() -> None:
    data = from_datasets(Made(lambda place: (pixels(place), torch.tensor([100.0 + place])), 100), SOURCE)
    assert (data.real, data.classes, data.names, data.notices) == (True, 1, (), ())
    targets = [part.labels for part in (data.train, data.validation, data.test)]
    assert sorted(torch.cat(targets).tolist()) == [100.0 + place for place in range(100)]
    assert data.center == pytest.approx(float(targets[0].mean()), abs=1e-4)
    assert data.spread == pytest.approx(float(targets[0].std(correction=0)), abs=1e-4)
    tenths = [sorted({int(target - 100) // 10 for target in part.tolist()}) for part in targets]
    assert tenths == [list(range(10))] * 3


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (np.zeros((4, 5, 1), np.uint8), r"one shape .*, got \(6, 5, 3\) in train and \(4, 5, 1\) in test"),
        (np.full((6, 5, 3), -1.5, np.float32), "pixels or floats .*, got uint8 in train and float32 in test"),
    ],
)
def test_parts_of_different_images_are_told(other: np.ndarray, message: str) -> None:  # type: ignore[type-arg]
    made = {"train": Made(plain), "test": Made(lambda place: (other, place % 2))}
    with pytest.raises(DataError, match=message):
        from_datasets(made, SOURCE)


@pytest.mark.parametrize(
    "make",
    [
        lambda rng, kind: rng.integers(900, 1000, (1, 6, 5)) / 65535 * (1 + kind / 8),  # 12 bits in 16
        lambda rng, kind: rng.uniform(0, 0.002, (1, 6, 5)) * (1 + kind) + (rng.random((1, 6, 5)) > 0.95),
        lambda rng, kind: rng.uniform(0.9, 0.902 + 0.002 * kind, (1, 6, 5)),
        lambda rng, kind: rng.uniform(0.5, 0.502 + 0.002 * kind, (1, 6, 5)) * (rng.random((1, 6, 5)) > 0.3),
        lambda rng, kind: rng.uniform(0, 1, (1, 6, 5)) ** 4 / (20 - 8 * kind),
    ],
    ids=["12 bits in 16", "peaks", "a narrow band", "a narrow band on black", "dark"],
)
def test_small_fractions_keep_what_bytes_would_lose(make: Any) -> None:
    def item(place: int) -> tuple[torch.Tensor, int]:
        values = make(np.random.default_rng(place), place % 2)
        return torch.from_numpy(np.minimum(values, 1)).float(), place % 2

    data = from_datasets(Made(item, 50), SOURCE)
    kept = torch.cat([part.images for part in (data.train, data.validation, data.test)])
    sums = sorted(item(place)[0].sum().item() for place in range(50))
    assert sorted(kept.sum((1, 2, 3)).tolist()) == pytest.approx(sums, rel=1e-5)


def test_parts_of_bytes_and_of_fractions_are_one_kind() -> None:
    """As transforms that end in a rotation for training, and in ToTensor for the rest, make them."""

    def turned(place: int) -> torch.Tensor:
        return torch.rand(3, 6, 5, generator=torch.Generator().manual_seed(place))

    for scale, kind in ((1, torch.uint8), (1 / 500, torch.float32)):
        train = Made(lambda place, scale=scale: (scale * turned(place), place % 4))
        data = from_datasets({"train": train, "test": Made(plain)}, SOURCE)
        assert data.train.images.dtype == data.test.images.dtype == kind
        assert float(data.test.images.max()) == (255 if kind == torch.uint8 else 1)


@pytest.mark.parametrize(
    "image",
    [
        torch.rand(16, 16, 3),
        torch.rand(28, 28, 1),
        np.zeros((3, 16, 20), np.uint8),
        np.zeros((1, 28, 28), np.uint8),
        torch.rand(16, 16, 2),
        torch.rand(16, 20, 4),
        np.zeros((2, 16, 16), np.float32),
    ],
)
def test_channels_in_the_wrong_place_are_refused(image: Any) -> None:
    with pytest.raises(DataError, match=r"its channels in the wrong place: it would have \d+ of \d+x\d+; a"):
        from_datasets(Made(lambda place: (image, place % 2)), SOURCE)


@pytest.mark.parametrize(
    ("image", "channels"),
    [
        (torch.rand(20, 30, 1), "20 channels of 30x1"),
        (np.zeros((6, 16, 16), np.uint8), "16 channels of 6x16"),
    ],
)
def test_many_channels_are_told(image: Any, channels: str) -> None:
    data = from_datasets(Made(lambda place: (image, place % 2)), SOURCE)
    assert any(f"images have {channels}; a tensor is (c, h, w)" in one for one in data.notices)
