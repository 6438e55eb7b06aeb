"""Tiny data sets in the formats that the real ones have on disk, for tests."""

import gzip
import pickle
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

__all__ = [
    "labels_of",
    "write_cifar10",
    "write_cifar100",
    "write_cinic10",
    "write_fashion_mnist",
    "write_image_tree",
    "write_imagenet",
    "write_svhn",
]


def labels_of(count: int, classes: int) -> list[int]:
    """Labels 0, 1, …, classes - 1, 0, 1, … of `count` images."""
    return [place % classes for place in range(count)]


def write_cifar10(root: Path, *, images: int = 200, classes: int = 10) -> None:
    """Five training batches with `images` in all, and a test batch of as many as one of them."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    for seed, name in enumerate(names):
        labels = labels_of(images // 5, classes)
        _dump(folder / name, {"batch_label": name, "labels": labels, "data": _rows(len(labels), seed)})
    _dump(folder / "batches.meta", {"label_names": [f"class{number}" for number in range(10)]})


def write_cifar100(root: Path, *, images: int = 200) -> None:
    """`images` for training and as many for the test, of all 100 classes from 100 images on."""
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for seed, name in enumerate(("train", "test")):
        labels = labels_of(images, 100)
        coarse = [label // 5 for label in labels]
        content = {"fine_labels": labels, "coarse_labels": coarse, "data": _rows(images, seed)}
        _dump(folder / name, content)
    _dump(folder / "meta", {"fine_label_names": [f"class{number}" for number in range(100)]})


def write_svhn(root: Path, *, images: int = 100) -> None:
    """MATLAB files with images (32, 32, 3, n) and labels 1 to 10, where 10 stands for the digit 0."""
    root.mkdir(parents=True, exist_ok=True)
    for seed, part in enumerate(("train", "test")):
        pixels = _rows(images, seed).reshape(images, 32, 32, 3).transpose(1, 2, 3, 0)
        labels = np.array([label or 10 for label in labels_of(images, 10)], dtype=np.uint8)[:, None]
        savemat(root / f"{part}_32x32.mat", {"X": pixels, "y": labels})


def write_fashion_mnist(root: Path, *, images: int = 100, packed: bool = True) -> None:
    """The four IDX files, gzipped or as torchvision unpacks them."""
    folder = root / ("fashion-mnist" if packed else "FashionMNIST/raw")
    folder.mkdir(parents=True)
    for seed, part in enumerate(("train", "t10k")):
        pixels = np.random.default_rng(seed).integers(256, size=(images, 28, 28), dtype=np.uint8)
        labels = np.array(labels_of(images, 10), dtype=np.uint8)
        for name, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            content = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()
            path = folder / (f"{part}-{name}-ubyte" + (".gz" if packed else ""))
            path.write_bytes(gzip.compress(content) if packed else content)


def write_cinic10(root: Path, *, per_class: int = 4) -> None:
    """PNG images of 32x32 in train, valid and test, one folder per class."""
    for part in ("train", "valid", "test"):
        write_image_tree(root / "CINIC-10" / part, classes=10, per_class=per_class)


def write_imagenet(root: Path, *, classes: int = 3, per_class: int = 4) -> None:
    """JPEG photographs of two sizes in train and val, one folder per class."""
    for part in ("train", "val"):
        folder = root / "imagenet" / part
        write_image_tree(folder, classes=classes, per_class=per_class, size=(60, 40), suffix="JPEG")
        _save(folder / "class0" / "tall.JPEG", (30, 70), "RGB", seed=99)


def write_image_tree(
    folder: Path,
    *,
    classes: int,
    per_class: int,
    size: tuple[int, int] = (32, 32),
    suffix: str = "png",
    mode: str = "RGB",
) -> None:
    """Images of `size` (width, height) in folders class0, class1, …; others in each part."""
    first = {"val": 1000, "valid": 1000, "test": 2000}.get(folder.name, 0)
    for label in range(classes):
        (folder / f"class{label}").mkdir(parents=True)
        for number in range(per_class):
            path = folder / f"class{label}" / f"{number}.{suffix}"
            _save(path, size, mode, seed=first + label * per_class + number)


def _save(path: Path, size: tuple[int, int], mode: str, *, seed: int) -> None:
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    pixels = np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def _rows(count: int, seed: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(256, size=(count, 3072), dtype=np.uint8)


def _dump(path: Path, content: dict[str, object]) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))
