"""Data sets: names, splits, batches."""

import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import integers, lists
from sklearn.datasets import load_digits

from ordercomp.data.builtin import read_digits
from ordercomp.data.catalog import load_data
from ordercomp.data.parts import stratified
from ordercomp.data.source import DataError
from ordercomp.data.splits import Augmentation, Crops, ImageData, MemorySplit


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_data("digits")


def test_digits_are_those_of_scikit_learn() -> None:
    images, classes = read_digits()
    theirs = load_digits()
    assert images.dtype == theirs.images.dtype
    assert (images == theirs.images).all()
    assert (classes == theirs.target).all()


def test_digits_are_split_into_three_stratified_parts(digits: ImageData) -> None:
    parts = (digits.train, digits.validation, digits.test)
    assert [len(part) for part in parts] == [1077, 360, 360]
    for part in parts:
        shares = torch.bincount(part.labels, minlength=10) / len(part)
        assert ((shares - 0.1).abs() < 0.006).all()


def test_parts_of_digits_share_no_image(digits: ImageData) -> None:
    parts = [part.images for part in (digits.train, digits.validation, digits.test)]  # type: ignore[attr-defined]
    images = torch.cat(parts).flatten(1)
    assert len(images.unique(dim=0)) == len(images) == 1797


def test_the_same_seed_gives_the_same_data_and_another_seed_another_digest(digits: ImageData) -> None:
    assert load_data("digits").digest == digits.digest
    assert load_data("digits", split_seed=1).digest != digits.digest
    assert load_data("digits", train_limit=500).digest != digits.digest


def test_train_limit_keeps_a_stratified_choice_and_leaves_the_other_parts() -> None:
    limited, whole = load_data("digits", train_limit=100), load_data("digits")
    assert torch.bincount(limited.train.labels).tolist() == pytest.approx([10] * 10, abs=1)
    assert torch.equal(limited.test.labels, whole.test.labels)
    assert len(load_data("digits", train_limit=5000).train) == 1077


@given(
    counts=lists(integers(1, 40), min_size=1, max_size=6),
    fractions=lists(integers(0, 10), min_size=1, max_size=3),
    seed=integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_stratified_parts_are_disjoint_of_the_right_size_and_near_the_exact_shares(
    counts: list[int], fractions: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int64)
    sizes = [len(labels) * fraction // (10 * len(fractions)) for fraction in fractions]
    parts = stratified(labels, sizes, rng=rng)
    assert [len(part) for part in parts] == sizes
    assert len(np.unique(np.concatenate(parts))) == sum(sizes)
    for part in parts:
        exact = np.array(counts) * len(part) / len(labels)
        assert (np.abs(np.bincount(labels[part], minlength=len(counts)) - exact) <= 2).all()


def test_sizes_beyond_the_number_of_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"nor exceed 3 in all, got \[2, 2\]"):
        stratified(np.zeros(3, dtype=np.int64), [2, 2], rng=np.random.default_rng(0))


def make_split(count: int = 10, augmentation: Augmentation = Augmentation()) -> MemorySplit:  # noqa: B008
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 6, 5, 3), dtype=torch.uint8, generator=rng)
    mean, std = (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)
    labels = torch.arange(count) % 3
    return MemorySplit(images=images, labels=labels, mean=mean, std=std, augmentation=augmentation)


def test_batches_without_rng_keep_the_order_and_cover_everything() -> None:
    split = make_split()
    batches = list(split.batches(4))
    assert [len(batch.labels) for batch in batches] == [4, 4, 2]
    assert torch.cat([batch.index for batch in batches]).tolist() == list(range(10))
    assert torch.equal(torch.cat([batch.labels for batch in batches]), split.labels)


def test_batches_are_normalized_channels_last_float32() -> None:
    split = make_split()
    batch = next(iter(split.batches(4)))
    expected = (split.images[:4].float() - torch.tensor(split.mean)) / torch.tensor(split.std)
    assert batch.images.shape == (4, 3, 6, 5)
    assert batch.images.dtype == torch.float32
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(batch.images, expected.permute(0, 3, 1, 2), atol=1e-5, rtol=0)


def test_shuffled_batches_match_their_index_and_repeat_with_the_seed() -> None:
    split = make_split()
    images, labels = split.tensors()
    first = list(split.batches(4, rng=torch.Generator().manual_seed(3)))
    again = list(split.batches(4, rng=torch.Generator().manual_seed(3)))
    assert sorted(torch.cat([batch.index for batch in first]).tolist()) == list(range(10))
    for batch, same in zip(first, again, strict=True):
        assert torch.equal(batch.index, same.index)
        assert torch.equal(batch.images, images[batch.index])
        assert torch.equal(batch.labels, labels[batch.index])


def test_a_generator_goes_on_from_epoch_to_epoch() -> None:
    rng = torch.Generator().manual_seed(0)
    split = make_split(100)
    first, second = (next(iter(split.batches(100, rng=rng))).index for _ in range(2))
    assert not torch.equal(first, second)


def test_augmented_batches_hold_crops_of_their_own_images() -> None:
    augmentation = Augmentation(padding=1, flip=True)
    split = make_split(augmentation=augmentation)
    every = [torch.tensor(choice) for choice in zip(*product(range(3), range(3), (False, True)), strict=True)]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (split.mean, split.std))
    for batch in split.batches(4, rng=torch.Generator().manual_seed(0), augment=True):
        assert torch.equal(batch.labels, split.labels[batch.index])
        for image, number in zip(batch.images, batch.index, strict=True):
            crops = augmentation.crop(augmentation.pad(split.images), number.repeat(18), Crops(*every))
            expected = (crops.permute(0, 3, 1, 2) - mean) / std
            assert any(torch.allclose(image, crop, atol=1e-5) for crop in expected)


def test_large_splits_stay_uint8_and_give_the_same_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    small = list(make_split().batches(4))
    monkeypatch.setattr("ordercomp.data.splits._FLOAT_BYTES", 0)
    for batch, large in zip(small, make_split().batches(4), strict=True):
        assert torch.equal(batch.images, large.images)


def test_errors_of_batches_come_at_the_call_not_at_the_first_batch() -> None:
    with pytest.raises(ValueError, match="batch_size must be positive, got 0"):
        make_split().batches(0)
    with pytest.raises(ValueError, match="augment needs rng"):
        make_split().batches(4, augment=True)


def test_splits_check_type_and_length() -> None:
    labels = torch.zeros(2, dtype=torch.int64)
    options = {"mean": (0.0,), "std": (1.0,), "augmentation": Augmentation()}
    with pytest.raises(ValueError, match="images must be uint8 or float32"):
        MemorySplit(images=torch.zeros(2, 4, 4, 1, dtype=torch.float64), labels=labels, **options)
    with pytest.raises(ValueError, match="3 images do not fit 2 labels"):
        MemorySplit(images=torch.zeros(3, 4, 4, 1, dtype=torch.uint8), labels=labels, **options)


def test_normalized_training_images_have_mean_zero_and_deviation_one(digits: ImageData) -> None:
    images = digits.train.tensors()[0]  # type: ignore[attr-defined]
    assert abs(float(images.mean())) < 1e-4
    assert abs(float(images.std(correction=0)) - 1) < 1e-4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit", "data set must be one of digits, .*, got 'digit'; did you mean digits"),
        ("folder", "folder:PATH"),
        ("cifar10:/somewhere", "got 'cifar10:/somewhere'"),
    ],
)
def test_unknown_names_are_answered_with_the_known_ones(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_data(name)


def test_negative_seeds_and_limits_below_the_classes_are_refused() -> None:
    with pytest.raises(DataError, match="split_seed must not be negative, got -1"):
        load_data("digits", split_seed=-1)
    with pytest.raises(DataError, match="train_limit of digits must be at least its 10 classes, got 9"):
        load_data("digits", train_limit=9)


def test_the_root_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ORDERCOMP_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(DataError, match="elsewhere"):
        load_data("cifar10")


def test_data_sets_that_torchvision_does_not_offer_cannot_be_downloaded(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cinic10 cannot be downloaded; only fashion-mnist, "):
        load_data("cinic10", root=tmp_path, download=True)


USER_MODULE = """
import numpy as np
from ordercomp.data.assemble import Labeled, assemble

def stripes(source):
    labels = np.arange(60) % 2
    images = np.zeros((60, 4, 4, 1), dtype=np.uint8)
    images[labels == 1, ::2] = 255
    part = Labeled(images, labels)
    return assemble(source, (part, part, part), classes=2)

def nothing(source):
    return None
"""


def test_a_function_of_the_user_can_make_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "user_stripes.py").write_text(USER_MODULE)
    monkeypatch.chdir(tmp_path)
    data = load_data("user_stripes:stripes", train_limit=20)
    assert (data.classes, data.channels, data.size, len(data.train)) == (2, 1, (4, 4), 20)
    with pytest.raises(DataError, match=r"user_stripes:nothing must return a Dataset, .*, got NoneType"):
        load_data("user_stripes:nothing")
    with pytest.raises(ValueError, match="cannot import 'no_such_module'"):
        load_data("no_such_module:stripes")


FAILING_MODULE = """
import numpy as np
from ordercomp.data.assemble import Labeled, assemble

IMAGES = np.zeros((6, 4, 4, 1), dtype=np.uint8)
LABELS = np.arange(6) % 2

def make(source, images=IMAGES, labels=LABELS):
    return assemble(source, (Labeled(images, labels),) * 3, classes=2)

def broken(source):
    raise RuntimeError("no\\nsuch file")

def leaving(source):
    raise SystemExit("bye")

def empty_handed():
    return None

def nan(source):
    return make(source, labels=np.where(LABELS, np.nan, 0.0))

def column(source):
    return make(source, labels=LABELS[:, None])

def short(source):
    return make(source, labels=LABELS[:5])

def fractions(source):
    return make(source, images=IMAGES / 255)

def flat(source):
    return make(source, images=IMAGES[..., 0])
"""


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("broken", "user_failing:broken failed: RuntimeError: no such file"),
        ("leaving", "user_failing:leaving failed: SystemExit: bye"),
        ("empty_handed", "user_failing:empty_handed must return a Dataset, .*, or ImageData, got NoneType"),
        ("nan", r"labels of user_failing:nan .training part. must be whole numbers .*, got float64 of .6,."),
        ("column", r"whole numbers of shape .6,., got int64 of .6, 1."),
        ("short", r"whole numbers of shape .6,., got int64 of .5,."),
        ("fractions", r"must be uint8 or float32 of shape .n, h, w, c., got float64 of .6, 4, 4, 1."),
        ("flat", r"must be uint8 or float32 of shape .n, h, w, c., got uint8 of .6, 4, 4."),
    ],
)
def test_a_failing_function_of_the_user_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, message: str
) -> None:
    (tmp_path / "user_failing.py").write_text(FAILING_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "user_failing", raising=False)
    with pytest.raises(DataError, match=message) as caught:
        load_data(f"user_failing:{function}")
    assert "\n" not in str(caught.value)
