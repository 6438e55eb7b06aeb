"""Trees of image files with one folder per class, and how they are split into the three parts."""

import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ordercomp.data.assemble import IntArray, hold_out, stratified
from ordercomp.data.source import DataError, Source, val_notice
from ordercomp.torchvision_compat import datasets

_VALIDATION_NAMES = ("val", "valid", "validation")
_HELD_OUT_SHARE = 0.2  # of a tree without any parts of its own, for validation and for test each


@dataclass(frozen=True, slots=True)
class Tree:
    """Files and labels below one folder; classes are numbered in the order of their folders' names."""

    root: Path
    paths: tuple[str, ...]
    labels: IntArray
    classes: tuple[str, ...]

    def __getitem__(self, index: IntArray) -> "Tree":
        return Tree(self.root, tuple(self.paths[i] for i in index), self.labels[index], self.classes)


def find_parts(source: Source, folder: Path) -> tuple[Tree, Tree, Tree]:
    """Read training, validation and test files, in this order, from what lies in `folder`.

    - `train`, `val` (or `valid`, `validation`) and `test`: the three parts.
    - `train` and only one of the others: that one is the test part (ImageNet's test images have no labels),
      and validation images are cut from `train`; with the option `val_is = "validation"` a `val` stays what
      it is called, and test images are cut from `train`.
    - class folders alone: a fifth each is drawn for validation and test.

    Folders whose names start with a dot or two underscores are no classes. Raises DataError if there are not
    at least two class folders, a class has no image in a part, or the parts have other classes.
    """
    if not folder.is_dir():
        raise DataError(f"{source.name} not found: {folder} is no folder")
    others = [folder / name for name in (*_VALIDATION_NAMES, "test") if (folder / name).is_dir()]
    if not (folder / "train").is_dir():
        if others:
            raise DataError(f"{source.name}: {folder} has {others[0].name} but no folder train beside it")
        return _whole(source, _draw_parts(_read_tree(source, folder), source))
    if not others or len(others) > 2 or (len(others) == 2 and others[1].name != "test"):
        raise DataError(
            f"{source.name}: beside {folder / 'train'} there must be val, test, or both, "
            f"got {', '.join(path.name for path in others) or 'neither'}"
        )
    train, *rest = (_read_tree(source, path) for path in (folder / "train", *others))
    for tree in rest:
        if tree.classes != train.classes:
            odd = sorted(set(tree.classes) ^ set(train.classes))
            raise DataError(f"{source.name}: {train.root} and {tree.root} differ in the classes {odd[:5]}")
    if len(rest) == 2:
        return train, rest[0], rest[1]
    kept, held_out = hold_out(train.labels, split_seed=source.split_seed)
    if others[0].name != "test" and source.options.val_is == "validation":
        return _whole(source, (train[kept], rest[0], train[held_out]))
    return _whole(source, (train[kept], train[held_out], rest[0]))


def parts_notices(source: Source, folder: Path) -> tuple[str, ...]:
    """Say, of images of the user's, that a folder val serves as the test part, unless the task says so."""
    held_out = [name for name in (*_VALIDATION_NAMES, "test") if (folder / name).is_dir()]
    is_val = len(held_out) == 1 and held_out[0] != "test" and (folder / "train").is_dir()
    if not is_val or source.options.val_is or ":" not in source.name:
        return ()
    return (val_notice(source, held_out[0]),)


def _whole(source: Source, parts: tuple[Tree, Tree, Tree]) -> tuple[Tree, Tree, Tree]:
    """The parts, if each holds every class of the user's: one that is not measured could be lost unseen."""
    if ":" not in source.name:
        return parts
    for tree, name in zip(parts, ("training", "validation", "test"), strict=True):
        missing = sorted(set(range(len(tree.classes))) - set(tree.labels.tolist()))
        if missing:
            raise DataError(
                f"{source.name}: the {name} part drawn from {tree.root} has no image of the class "
                f"{tree.classes[missing[0]]!r}: give it more images, or folders train, val and test"
            )
    return parts


def _draw_parts(tree: Tree, source: Source) -> tuple[Tree, Tree, Tree]:
    held_out = max(1, round(_HELD_OUT_SHARE * len(tree.labels)))
    sizes = (max(0, len(tree.labels) - 2 * held_out), held_out, held_out)
    if sum(sizes) > len(tree.labels):
        raise DataError(
            f"{source.name} in {tree.root} has {len(tree.labels)} images, too few for three parts"
        )
    rng = np.random.default_rng(source.split_seed)
    train, validation, test = (tree[part] for part in stratified(tree.labels, sizes, rng=rng))
    return train, validation, test


class _Classes(datasets.ImageFolder):  # type: ignore[misc]
    """Class folders without those that programs leave behind, such as .ipynb_checkpoints and __MACOSX."""

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        classes, _ = super().find_classes(directory)
        kept = [name for name in classes if not name.startswith((".", "__"))]
        if not kept:
            raise FileNotFoundError(f"no class folder in {directory}")
        return kept, {name: place for place, name in enumerate(kept)}


def _read_tree(source: Source, folder: Path) -> Tree:
    try:
        listing = _Classes(folder)
    except FileNotFoundError as error:
        reason = textwrap.shorten(str(error), 200)
        raise DataError(
            f"{source.name}: {folder} must hold a folder of images for each class ({reason})"
        ) from error
    if len(listing.classes) < 2:
        raise DataError(
            f"{source.name}: {folder} must hold a folder for each of at least two classes, got only "
            f"{listing.classes[0]!r}; is it a level too high?"
        )
    paths = tuple(path for path, _ in listing.samples)
    return Tree(folder, paths, np.asarray(listing.targets, dtype=np.int64), tuple(listing.classes))
