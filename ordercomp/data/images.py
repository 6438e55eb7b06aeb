"""Folders of small images of one size, read into memory: CINIC-10 and the user's own."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ordercomp.data.assemble import Labeled, assemble
from ordercomp.data.augmentation import Augmentation
from ordercomp.data.pixels import is_gray, read_pixels
from ordercomp.data.source import DataError, Source, find_folder
from ordercomp.data.splits import ImageData
from ordercomp.data.torch_datasets import from_datasets
from ordercomp.data.transforms import OwnTransform, TransformedImages
from ordercomp.data.tree import Tree, find_parts, parts_notices

_MOST_BYTES = 8 * 2**30
_CINIC_ADVICE = (
    "get CINIC-10.tar.gz from datashare.ed.ac.uk/handle/10283/3192 and unpack it into the first of these"
)


def load_cinic10(source: Source) -> ImageData:
    """CINIC-10 (Darlow et al. 2018): 32x32 in color; 90 000 images each for training, validation and test."""
    folders = ("CINIC-10", "cinic10", "cinic-10")
    folder = find_folder(source, folders, ("train", "valid", "test"), advice=_CINIC_ADVICE)
    return _load(source, folder, Augmentation(padding=4, flip=True))


def load_folder(source: Source) -> ImageData:
    """The images of `folder:PATH`, of one size or resized to the task's image_size. Usually not augmented.

    They are laid out as find_parts says, and gray if the first image is, else in color. Raises DataError if
    sizes differ or 8 GiB are not enough; `photos:PATH` takes such images.
    """
    return _load(source, Path(source.name.partition(":")[2]).expanduser(), Augmentation())


def _load(source: Source, folder: Path, augmentation: Augmentation) -> ImageData:
    trees = find_parts(source, folder)
    if source.options.transforms:
        return _load_transformed(source, folder, trees)
    side = source.options.image_size
    first = read_pixels(trees[0].paths[0], "L" if is_gray(trees[0].paths[0]) else "RGB", side=side)
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
        notices=parts_notices(source, folder),
    )


def _load_transformed(source: Source, folder: Path, trees: tuple[Tree, Tree, Tree]) -> ImageData:
    """The images as transforms of the user's make them, which draw anew in each epoch that is augmented."""
    mode = "L" if is_gray(trees[0].paths[0]) else "RGB"
    path = source.options.transforms
    parts = {
        name: TransformedImages(tree, mode, OwnTransform(path, training=name == "train"))
        for name, tree in zip(("train", "val", "test"), trees, strict=True)
    }
    data = from_datasets(parts, source)
    return replace(data, names=trees[0].classes, notices=(*parts_notices(source, folder), *data.notices))


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
