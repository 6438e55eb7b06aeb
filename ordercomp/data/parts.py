"""Training, validation and test part of data: what is missing is drawn by a seed, in the classes' shares."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self, TypeVar

import numpy as np
import numpy.typing as npt

from ordercomp.data.source import DataError, Source

IntArray = npt.NDArray[np.int64]
Labels = npt.NDArray[Any]  # class numbers, int64, or real targets, float32

PURPOSES = ("training", "validation", "test")
_TENTHS = 10
_VALIDATION_SHARE, _MOST_VALIDATION = 0.1, 50_000  # of official training images
_HELD_OUT_SHARE = 0.2  # of data without any parts of their own, for validation and for test each


def stratified(labels: Labels, sizes: Sequence[int], *, rng: np.random.Generator) -> list[IntArray]:
    """Draw disjoint parts of the given sizes in which the classes have the shares that they have in `labels`.

    Of real targets each tenth of their range, by rank, counts as a class.
    Returns one sorted index array per size. Class counts are within two of exact shares.
    Raises ValueError if a size is negative or the sizes add up to more than there is.
    """
    if sum(sizes) > len(labels) or min(sizes, default=0) < 0:
        raise ValueError(f"sizes must not be negative nor exceed {len(labels)} in all, got {list(sizes)}")
    if labels.dtype.kind == "f":
        labels = np.argsort(np.argsort(labels, kind="stable")) * _TENTHS // max(1, len(labels))
    # Shuffle, then spread the images of each class evenly over [0, 1): every stretch of it is stratified.
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    counts = np.unique(labels, return_counts=True)[1]
    places = [(np.arange(count) + rng.random()) / count for count in counts]
    spread = order[np.argsort(np.concatenate([*places, []]), kind="stable")]
    return [np.sort(part) for part in np.split(spread, np.cumsum(sizes))[: len(sizes)]]


def hold_out(labels: Labels, *, split_seed: int) -> tuple[IntArray, IntArray]:
    """Cut a validation part from official training images: a tenth, at most 50 000; returns (kept, cut)."""
    cut = min(max(1, round(_VALIDATION_SHARE * len(labels))), _MOST_VALIDATION)
    kept, held_out = stratified(labels, (len(labels) - cut, cut), rng=np.random.default_rng(split_seed))
    return kept, held_out


def draw_parts(labels: Labels, *, held_out: int, split_seed: int) -> list[IntArray]:
    """Draw a training part, and `held_out` images each for validation and test."""
    sizes = (len(labels) - 2 * held_out, held_out, held_out)
    return stratified(labels, sizes, rng=np.random.default_rng(split_seed))


class Part(Protocol):
    """Labeled images of a data set of which some can be taken."""

    @property
    def labels(self) -> Labels: ...

    def __getitem__(self, index: IntArray) -> Self: ...


AnyPart = TypeVar("AnyPart", bound=Part)


def complete_parts(
    parts: Mapping[str, AnyPart], source: Source, *, name: str
) -> tuple[AnyPart, AnyPart, AnyPart]:
    """Training, validation and test part; what is missing is drawn in the classes' shares.

    `parts` are "all" alone, of which a fifth each is held out, or "train" with "val", "test" or both. One
    held-out part alone is the test part, and validation images are cut from the training images; with the
    option `val_is = "validation"` a "val" stays what it is called, and test images are cut from them. Of what
    weights were trained on nothing is cut: with the option `trained_on` one held-out part is halved, alike
    for every seed.
    Raises DataError, which calls the data `name`, if there are too few images.
    """
    if whole := parts.get("all"):
        held_out = max(1, round(_HELD_OUT_SHARE * len(whole.labels)))
        if len(whole.labels) <= 2 * held_out:
            raise DataError(f"{name} has {len(whole.labels)} images, too few for three parts")
        drawn = draw_parts(whole.labels, held_out=held_out, split_seed=source.split_seed)
        train, validation, test = (whole[index] for index in drawn)
        return train, validation, test
    if {"val", "test"} <= set(parts):
        return parts["train"], parts["val"], parts["test"]
    train = parts["train"]
    if source.options.trained_on:
        unseen = parts["test"] if "test" in parts else parts["val"]
        count, rng = len(unseen.labels), np.random.default_rng(0)
        if count < 2:
            raise DataError(f"{name} has {count} image that its weights have not seen, and two are needed")
        halves = stratified(unseen.labels, (count // 2, count - count // 2), rng=rng)
        return train, unseen[halves[0]], unseen[halves[1]]
    kept, cut = (train[index] for index in hold_out(train.labels, split_seed=source.split_seed))
    if source.options.val_is == "validation" and "val" in parts:
        return kept, parts["val"], cut
    return kept, cut, parts["test"] if "test" in parts else parts["val"]


def part_notices(source: Source, names: Sequence[str]) -> tuple[str, ...]:
    """Say where validation and test images come from if a user may think otherwise; `names` are held out.

    That is, of trained weights always; else if a part called validation, alone, serves as the test part, of
    data sets that not everybody has, and where the task does not tell what it is.
    """
    if trained_on := source.options.trained_on:
        return (_seen_notice(source, names, trained_on),)
    if len(names) != 1 or names[0] == "test" or source.options.val_is or ":" not in source.name:
        return ()
    return (
        f"{source.name}: there is {names[0]} and no test, so that {names[0]} is the test part and validation "
        "images are drawn from train; val_is = 'validation' in the task keeps it for validation and draws "
        "test images from train, val_is = 'test' says that it is meant so",
    )


def _seen_notice(source: Source, names: Sequence[str], trained_on: str) -> str:
    """Say which images decide where weights have seen others."""
    if not names and trained_on in ("train", "unknown"):
        return (
            f"{source.name} has no parts of its own, so the weights may have seen the images that decide, "
            "and losses may be overstated: set trained_on to the folder that they were trained on, or to "
            "'elsewhere' if to none of these, or keep apart a folder test"
        )
    halved = "" if len(names) == 2 else f"half of {names[0] if names else 'the others'} each, "
    doubt = (
        "" if trained_on != "unknown" else "; nobody knows whether the weights have seen them (trained_on)"
    )
    return f"{source.name}: validation images, {halved}decide and test images report{doubt}"


def keep_limit(labels: Labels, source: Source, *, classes: int) -> IntArray:
    """Indices of the training images to keep: all, or a stratified choice of `train_limit`.

    Raises DataError if the limit is smaller than the number of classes.
    """
    limit = source.train_limit
    if limit is None or limit >= len(labels):
        return np.arange(len(labels))
    if limit < classes:
        raise DataError(f"train_limit of {source.name} must be at least its {classes} classes, got {limit}")
    return stratified(labels, [limit], rng=np.random.default_rng((source.split_seed, 1)))[0]
