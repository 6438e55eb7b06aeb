"""Downloads of the data sets that torchvision knows where to get."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ordercomp.data.source import DataError, Source
from ordercomp.torchvision_compat import datasets


def download(source: Source) -> None:
    """Download a data set into the root, unless it is there; checksums are verified.

    Raises DataError if torchvision cannot get it, or the download fails.
    """
    fetch = _FETCH.get(source.name)
    if fetch is None:
        raise DataError(f"{source.name} cannot be downloaded; only {', '.join(_FETCH)} can")
    try:
        source.root.mkdir(parents=True, exist_ok=True)
        fetch(source.root)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{source.name} could not be downloaded into {source.root}: {reason}") from error


def _fashion(root: Path) -> Any:
    return datasets.FashionMNIST(root, download=True)


def _svhn(root: Path) -> Any:
    return [datasets.SVHN(root, split=split, download=True) for split in ("train", "test")]


_FETCH: dict[str, Callable[[Path], Any]] = {
    "fashion-mnist": _fashion,
    "fashion-mnist-32": _fashion,
    "cifar10": lambda root: datasets.CIFAR10(root, download=True),
    "cifar100": lambda root: datasets.CIFAR100(root, download=True),
    "svhn": _svhn,
}
