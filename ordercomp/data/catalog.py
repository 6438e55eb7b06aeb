"""Image data sets by name, split into training, validation and test images.

`load_data("digits")` needs nothing else; other data sets lie below a root folder or are downloaded there.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from ordercomp.data import builtin, images, streamed
from ordercomp.data.source import DataError, ImageOptions, Source
from ordercomp.data.splits import Augmentation, ImageData
from ordercomp.data.torch_datasets import from_datasets, takes_source
from ordercomp.errors import did_you_mean, is_out_of_disk, is_out_of_memory, one_line
from ordercomp.plugins import load_function

DATASETS: Mapping[str, Callable[[Source], ImageData]] = {
    "digits": builtin.load_digits,
    "rotated-digits": builtin.load_rotated_digits,
    "fashion-mnist": builtin.load_fashion_mnist,
    "fashion-mnist-32": builtin.load_fashion_mnist_32,
    "cifar10": builtin.load_cifar10,
    "cifar100": builtin.load_cifar100,
    "svhn": builtin.load_svhn,
    "cinic10": images.load_cinic10,
    "imagenet": streamed.load_imagenet,
    "folder": images.load_folder,
    "photos": streamed.load_photos,
}
_WITH_PATH = ("folder", "photos")


def load_data(
    name: str,
    *,
    root: Path | None = None,
    split_seed: int = 0,
    train_limit: int | None = None,
    download: bool = False,
    augmentation: Augmentation | None = None,
    options: ImageOptions = ImageOptions(),  # noqa: B008 (frozen)
) -> ImageData:
    """Load a data set and split it; the splits are stratified and depend on `split_seed` alone.

    An official test set is the test part; validation images are cut from the training images.

    Args:
        name: a name of DATASETS; `folder:PATH` for small images of one size, with a folder per class, that
            fit into memory; `photos:PATH` for images of any size, treated like ImageNet's; or
            `package.module:function` or `module.py:function`, a function of yours that returns torch
            Datasets, as `from_datasets` reads them, or, from a Source, ImageData, as `assemble` makes it.
        root: folder of the data sets; else that in the variable ORDERCOMP_DATA, or ~/.cache/ordercomp/data.
        split_seed: not negative; draws the validation images, and the test images where none are official.
        train_limit: keep at most that many training images, in the classes' shares.
        download: get it from the internet first, if it is not in the root.
        augmentation: in place of the usual one of the data set. It only acts where batches are augmented.
        options: size, normalization, names of classes, and what a folder val is, of images of your own.

    Raises:
        DataError: (a ValueError) the name is unknown; the files are missing, incomplete, damaged or in the
            wrong layout; there are fewer images than classes. It says where, and how to get the data.
        ValueError: a function of yours cannot be imported, or fails.
    """
    kind, colon, path = name.partition(":")
    own = colon != "" and kind not in DATASETS
    if not own and (kind not in DATASETS or (path != "") != (kind in _WITH_PATH)):
        known = [f"{known}:PATH" if known in _WITH_PATH else known for known in DATASETS]
        raise DataError(
            f"data set must be one of {', '.join(known)} or package.module:function, got {name!r}"
            f"{did_you_mean(kind, DATASETS)}"
        )
    if split_seed < 0:
        raise DataError(f"split_seed must not be negative, got {split_seed}")
    usual = os.environ.get("ORDERCOMP_DATA") or Path.home() / ".cache" / "ordercomp" / "data"
    source = Source(
        name=name,
        root=Path(usual) if root is None else root,
        split_seed=split_seed,
        train_limit=train_limit,
        augmentation=augmentation,
        options=options,
    )
    if download:
        builtin.download(source)
    if own or kind not in _WITH_PATH:
        _refuse_folder_options(name, options)
    data = _call_own(name, source) if own else DATASETS[kind](source)
    return _named(data, options)


def _refuse_folder_options(name: str, options: ImageOptions) -> None:
    """Raise DataError for what only images in folders can be told."""
    if options.image_size:
        raise DataError(f"image_size is for folder:PATH and photos:PATH; {name} has images of its own size")
    if options.transforms:
        raise DataError(f"transforms is for folder:PATH and photos:PATH; {name} has its own")
    if options.trained_on not in ("", "train", "unknown"):
        raise DataError(
            f"trained_on must be train, unknown or elsewhere for {name}, got {options.trained_on!r}: "
            "a folder is for folder:PATH and photos:PATH"
        )


def _named(data: ImageData, options: ImageOptions) -> ImageData:
    """The data with the names of classes that the task tells."""
    if not options.class_names:
        return data
    if len(options.class_names) != data.classes:
        raise DataError(
            f"class_names must name the {data.classes} classes of {data.name}, got {len(options.class_names)}"
        )
    if data.names != options.class_names and sorted(data.names) == sorted(options.class_names):
        raise DataError(
            f"class_names must have the order of the folders of {data.name}, {', '.join(data.names)}: labels "
            f"follow it, and predictions would be called wrongly; got {', '.join(options.class_names)}"
        )
    counted = sorted(data.names, key=_by_number)
    called = dict(zip(data.names, options.class_names, strict=False))
    odd = [
        f"{folder} is called {called[folder]!r}"
        for folder, other in zip(data.names, counted, strict=True)
        if folder != other
    ]
    notice = f"{data.name}: folders are numbered by their letters, 10 before 2, so that {', '.join(odd[:3])}"
    return replace(data, names=options.class_names, notices=(*data.notices, *((notice,) if odd else ())))


def _by_number(name: str) -> list[tuple[int, str]]:
    """What sorts names as people count, 2 before 10."""
    return [(int(part or 0), letters) for letters, part in re.findall(r"(\D*)(\d*)", name)]


def _call_own(path: str, source: Source) -> ImageData:
    """What a function of the user's makes; whatever it raises becomes one line that names it."""
    function = load_function(path)
    try:
        returned = function(source) if takes_source(function) else function()
        return returned if isinstance(returned, ImageData) else from_datasets(returned, source)
    except DataError:
        raise
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error) or is_out_of_disk(error):
            raise
        raise DataError(f"{path} failed: {type(error).__name__}: {one_line(error)}") from error
