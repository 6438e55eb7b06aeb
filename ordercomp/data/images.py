"""Images in folders, one for each class: files, trees of them, and data sets that are read into memory."""

import os
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from ordercomp import torchvision_compat
from ordercomp.data.assemble import Labeled, assemble
from ordercomp.data.parts import PURPOSES, IntArray, complete_parts, part_notices
from ordercomp.data.pixels import is_gray, open_image, read_pixels
from ordercomp.data.source import DataError, Source, find_folder
from ordercomp.data.splits import Augmentation, ImageData
from ordercomp.data.torch_datasets import as_pixels, from_datasets
from ordercomp.errors import is_out_of_memory, one_line
from ordercomp.files import file_digest
from ordercomp.plugins import load_function

_SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp"),
    *(".gif", ".avif", ".jp2", ".heic"),
)
_PARTS = {  # by what people call their folders, in any case
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_DRAWN = ("train", "test")
_MOST_BYTES = 8 * 2**30  # that a data set may take in memory
_CINIC_ADVICE = (
    "get CINIC-10.tar.gz from datashare.ed.ac.uk/handle/10283/3192 and unpack it into the first of these"
)

# Trees of image files, a folder for each class


@dataclass(frozen=True, slots=True)
class Tree:
    """Files and labels below one folder; classes are numbered in the order of their folders' names."""

    root: Path
    paths: tuple[str, ...]
    labels: IntArray
    classes: tuple[str, ...]
    skipped: tuple[str, ...] = ()  # suffixes of files that are no images, once for each file

    def __getitem__(self, index: IntArray) -> "Tree":
        return replace(self, paths=tuple(self.paths[i] for i in index), labels=self.labels[index])


def find_parts(source: Source, folder: Path) -> tuple[tuple[Tree, Tree, Tree], tuple[str, ...]]:
    """Read training, validation and test files, in this order, from what lies in `folder`, and notices of it.

    There are folders `train` and `val` (by any usual name), `test` or both, or class folders alone;
    what is missing is drawn as `complete_parts` says (ImageNet's test images have no labels).
    Folders whose names start with a dot or two underscores are no classes. Raises DataError if there are not
    at least two class folders, a class has no image in a part, or the parts have other classes.
    """
    if not folder.is_dir():
        raise DataError(f"{source.name} not found: {folder} is no folder")
    parts_of = _part_folders(folder)
    names = [*parts_of.values()]
    if not names:
        trees = {"all": _read_tree(source, folder)}
    elif names not in (["train", "val"], ["train", "test"], ["train", "val", "test"]):
        raise DataError(
            f"{source.name}: {folder} must hold train and beside it val, test, or both, "
            f"got {', '.join(parts_of)}"
        )
    else:
        trees = {part: _read_tree(source, folder / name) for name, part in parts_of.items()}
    _check_classes(source, trees)
    if source.options.trained_on not in ("", "train", "unknown"):
        trees = _without_seen(source, trees, Path(source.options.trained_on).expanduser())
    parts = complete_parts(trees, source, name=f"{source.name} in {folder}")
    if ":" in source.name and len(trees) < 3:
        _check_whole(source, parts)
    skipped = Counter(suffix for tree in trees.values() for suffix in tree.skipped)
    notices = part_notices(source, names[1:])
    if source.name.startswith("folder:"):  # which reads all of them; photos may be too many
        notices += _seen_twice(source, parts)
    if skipped and ":" in source.name:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in skipped.most_common(5))
        notices += (f"{source.name}: files that do not end as images do are left out: {kinds}",)
    return parts, notices


def _part_folders(folder: Path) -> dict[str, str]:
    """The parts in a folder, by the names of theirs, training first: those of usual names.

    Or all folders, where each name has the word for another part, as seg_train and seg_test.
    """
    names = [
        path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))
    ]
    words = {name: [*filter(None, map(_PARTS.get, re.findall("[a-z]+", name.lower())))] for name in names}
    parts = {name: part[0] for name, part in words.items() if len(part) == 1}
    if len(parts) < len(names) or len(set(parts.values())) < max(2, len(parts)):
        parts = {name: _PARTS[name.lower()] for name in names if name.lower() in _PARTS}
    return dict(sorted(parts.items(), key=lambda item: [*_PARTS.values()].index(item[1])))


def _seen_twice(source: Source, parts: tuple[Tree, Tree, Tree]) -> tuple[str, ...]:
    """A notice if files of a held-out part are also in another part, in bytes."""
    sizes = [[os.path.getsize(path) for path in tree.paths] for tree in parts]
    common = {
        size for size, times in Counter(s for part in map(set, sizes) for s in part).items() if times > 1
    }
    digests = [
        {file_digest(path) for path, size in zip(tree.paths, own, strict=True) if size in common}
        for tree, own in zip(parts, sizes, strict=True)
    ]
    count = len(digests[0] & digests[1]) + len((digests[0] | digests[1]) & digests[2])
    notice = f"{source.name}: images of held-out parts are also in another part, byte for byte: {count}"
    return (notice,) if count else ()


def _without_seen(source: Source, trees: Mapping[str, Tree], seen: Path) -> dict[str, Tree]:
    """The trees without held-out files that are also in the folder `seen`, in bytes; of "all", those train.

    Raises DataError if that is no folder, if it has none of the images, or if nothing is left.
    """
    if not seen.is_dir():
        raise DataError(f"trained_on must be train, unknown, elsewhere or a folder, got {str(seen)!r}")
    walk = os.walk(seen, followlinks=True)  # as classes are read, too
    known = {file_digest(Path(folder, name)) for folder, _, names in walk for name in names}
    marked = {
        name: np.array([file_digest(path) in known for path in tree.paths]) for name, tree in trees.items()
    }
    if not any(marks.any() for marks in marked.values()):
        raise DataError(
            f"no image of {source.name} is in trained_on = {str(seen)!r}, byte for byte: 'elsewhere' says "
            "that the weights were trained on other images, 'unknown' that nobody knows"
        )
    if "all" in trees:
        parts = {name: trees["all"][np.flatnonzero(marked["all"] == (name == "train"))] for name in _DRAWN}
    else:
        parts = {name: tree[np.flatnonzero(~marked[name])] for name, tree in trees.items() if name != "train"}
        parts["train"] = trees["train"]
    for name, tree in parts.items():
        if not tree.paths:
            raise DataError(f"{source.name} has no image for the part {name}, by the files in {seen}")
    return parts


def _check_classes(source: Source, trees: Mapping[str, Tree]) -> None:
    """Raise DataError unless all trees have the same classes."""
    first, *others = trees.values()
    for tree in others:
        if tree.classes != first.classes:
            odd = sorted(set(tree.classes) ^ set(first.classes))
            raise DataError(f"{source.name}: {first.root} and {tree.root} differ in the classes {odd[:5]}")


def _check_whole(source: Source, parts: tuple[Tree, Tree, Tree]) -> None:
    """Raise DataError unless each part has every class: one that is not measured could be lost unseen."""
    for tree, purpose in zip(parts, PURPOSES, strict=True):
        missing = sorted(set(range(len(tree.classes))) - set(tree.labels.tolist()))
        if missing:
            raise DataError(
                f"{source.name}: the {purpose} part drawn from {tree.root} has no image of the class "
                f"{tree.classes[missing[0]]!r}: give it more images, or folders train, val and test"
            )


def _read_tree(source: Source, folder: Path) -> Tree:
    skipped: list[str] = []

    def is_image(path: str) -> bool:
        name = Path(path)
        if name.name.startswith((".", "Thumbs.db")):
            return False
        if not (is_known := name.suffix.lower() in _SUFFIXES):
            skipped.append(name.suffix.lower() or "without a suffix")
        return is_known

    folders = torchvision_compat.datasets.folder
    try:
        classes = [name for name in folders.find_classes(folder)[0] if not name.startswith((".", "__"))]
        if not classes:
            raise FileNotFoundError(f"no class folder in {folder}")
        numbers = {name: number for number, name in enumerate(classes)}
        samples = folders.make_dataset(str(folder), numbers, is_valid_file=is_image)
    except FileNotFoundError as error:
        reason = textwrap.shorten(str(error), 200)
        raise DataError(
            f"{source.name}: {folder} must hold a folder of images for each class ({reason})"
        ) from error
    if len(classes) < 2:
        raise DataError(
            f"{source.name}: {folder} must hold a folder for each of at least two classes, got only "
            f"{classes[0]!r}; is it a level too high?"
        )
    if all(_part_folders(folder / name) for name in classes):
        raise DataError(
            f"{source.name}: {folder} holds parts within classes; it must hold classes within parts"
        )
    labels = np.asarray([label for _, label in samples], dtype=np.int64)
    return Tree(folder, tuple(path for path, _ in samples), labels, tuple(classes), tuple(skipped))


# Transforms of the user's: one for training, and one for all else


class OwnTransform:
    """What the function at `path` makes of a PIL image; it is called with `training`, true or false.

    Raises DataError if the function cannot be had, fails, or makes something that cannot be called.
    """

    def __init__(self, path: str, *, training: bool) -> None:
        self._path = path
        try:
            made = load_function(path)(training=training)
        except Exception as error:
            raise self._failed(error, f"with training={training}") from error
        if not callable(made):
            raise DataError(
                f"transforms {path} must return a function of one PIL image, got {type(made).__name__}"
            )
        self._transform: Callable[[Image.Image], Any] = made

    def __call__(self, image: Image.Image, place: str) -> Any:
        """The image as the function makes it; `place` says where it comes from. Raises DataError."""
        try:
            return self._transform(image)
        except Exception as error:
            raise self._failed(error, f"on {place}") from error

    def bytes(self, image: Image.Image, place: str) -> Tensor:
        """As 8-bit pixels, shape (3, h, w). Raises DataError for values that are none, or no color."""
        pixels = as_pixels(self(image, place), place)
        if pixels.dtype != np.uint8 and (pixels.min() < 0 or pixels.max() > 1):
            raise DataError(
                f"transforms {self._path} must give pixels from 0 to 1, or bytes, got {pixels.min():.3g} to "
                f"{pixels.max():.3g} for {place}; tell mean and std in the task"
            )
        if pixels.shape[2] != 3:
            raise DataError(
                f"transforms {self._path} must give 3 channels, got {pixels.shape[2]} for {place}"
            )
        whole = pixels if pixels.dtype == np.uint8 else np.round(255 * pixels).astype(np.uint8)
        return torch.from_numpy(np.ascontiguousarray(whole.transpose(2, 0, 1)))

    def _failed(self, error: Exception, where: str) -> Exception:
        if isinstance(error, DataError) or is_out_of_memory(error):
            return error
        if isinstance(error, ValueError) and self._path in str(error):
            return DataError(f"transforms: {one_line(error)}")
        return DataError(f"transforms {self._path} failed {where}: {type(error).__name__}: {one_line(error)}")


@dataclass(frozen=True)
class TransformedImages:
    """A Dataset of the images of a tree, transformed, and the numbers of their classes."""

    tree: Tree
    mode: str  # "L" or "RGB"
    transform: OwnTransform

    def __len__(self) -> int:
        return len(self.tree.paths)

    def __getitem__(self, place: int) -> tuple[Any, int]:
        path = self.tree.paths[place]
        return self.transform(open_image(path).convert(self.mode), path), int(self.tree.labels[place])


# Data sets in memory


def load_cinic10(source: Source) -> ImageData:
    """CINIC-10 (Darlow et al. 2018): 32x32 in color; 90 000 images each for training, validation and test."""
    folders = ("CINIC-10", "cinic10", "cinic-10")
    folder = find_folder(source, folders, ("train", "valid", "test"), advice=_CINIC_ADVICE)
    return _load(source, folder, Augmentation(padding=4, flip=True))


def load_folder(source: Source) -> ImageData:
    """The images of `folder:PATH`, of one size or resized to the task's image_size. Usually not augmented.

    They are laid out as find_parts says, and gray if all training images are, else in color. Raises DataError
    if sizes differ or 8 GiB are not enough; `photos:PATH` takes such images.
    """
    return _load(source, Path(source.name.partition(":")[2]).expanduser(), Augmentation())


def _load(source: Source, folder: Path, augmentation: Augmentation) -> ImageData:
    trees, notices = find_parts(source, folder)
    colored = next((path for path in trees[0].paths if not is_gray(path)), "")
    mode = "RGB" if colored else "L"
    if colored not in ("", trees[0].paths[0]):
        notices += (f"{source.name}: gray and color are mixed, and all are read in color, as {colored} is",)
    if source.options.transforms:
        asked = replace(source, options=replace(source.options, trained_on=""))
        data = from_datasets(_transformed(source.options.transforms, trees, mode), asked)
        return replace(data, names=trees[0].classes, notices=(*notices, *data.notices))
    side = source.options.image_size
    first = read_pixels(trees[0].paths[0], mode, side=side)
    total = first.nbytes * sum(len(tree.paths) for tree in trees)
    if total > _MOST_BYTES:
        raise DataError(f"{source.name} takes {total / 2**30:.0f} GiB of memory; name it photos:{folder}")
    train, validation, test = (_read(tree, first, folder, side) for tree in trees)
    return assemble(
        source,
        (train, validation, test),
        classes=len(trees[0].classes),
        augmentation=augmentation,
        names=trees[0].classes,
        notices=notices,
    )


def _transformed(path: str, trees: Sequence[Tree], mode: str) -> dict[str, TransformedImages]:
    """The images as transforms of the user's make them, which draw anew in each epoch that is augmented."""
    return {
        name: TransformedImages(tree, mode, OwnTransform(path, training=name == "train"))
        for name, tree in zip(("train", "val", "test"), trees, strict=True)
    }


def _read(tree: Tree, like: npt.NDArray[np.uint8], folder: Path, side: int) -> Labeled:
    """Read the images of a tree, which must all have the shape of `like`; threads decode side by side."""
    mode = "L" if like.shape[2] == 1 else "RGB"
    images = np.empty((len(tree.paths), *like.shape), dtype=np.uint8)

    def fill(place: int) -> None:
        image = read_pixels(tree.paths[place], mode, side=side)
        if image.shape != like.shape:
            raise DataError(
                f"images must have one size, got {like.shape[1]}x{like.shape[0]} and "
                f"{image.shape[1]}x{image.shape[0]} in {tree.paths[place]}; set image_size, or name it "
                f"photos:{folder}"
            )
        images[place] = image

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(fill, range(len(tree.paths))):
            pass
    return Labeled(images, tree.labels)
