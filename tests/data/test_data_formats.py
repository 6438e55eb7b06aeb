"""Data sets read from tiny files in their true formats, and what is said when files are missing or wrong."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_data import (
    write_cifar10,
    write_cifar100,
    write_cinic10,
    write_fashion_mnist,
    write_image_tree,
    write_imagenet,
    write_svhn,
)

from ordercomp.data.builtin import read_idx
from ordercomp.data.catalog import load_data
from ordercomp.data.source import DataError
from ordercomp.data.splits import Augmentation, MemorySplit

WRITERS: dict[str, Callable[[Path], None]] = {
    "cifar10": write_cifar10,
    "cifar100": write_cifar100,
    "svhn": write_svhn,
    "cinic10": write_cinic10,
    "fashion-mnist": write_fashion_mnist,
    "fashion-mnist-32": write_fashion_mnist,
}


@pytest.fixture(autouse=True)
def no_debian_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ordercomp.data.builtin._FOLDERS", ("fashion-mnist", "FashionMNIST/raw"))


@pytest.mark.parametrize(
    ("name", "classes", "shape", "sizes"),
    [
        ("cifar10", 10, (3, 32, 32), (180, 20, 40)),
        ("cifar100", 100, (3, 32, 32), (180, 20, 200)),
        ("svhn", 10, (3, 32, 32), (90, 10, 100)),
        ("cinic10", 10, (3, 32, 32), (40, 40, 40)),
        ("fashion-mnist", 10, (1, 28, 28), (90, 10, 100)),
        ("fashion-mnist-32", 10, (1, 32, 32), (90, 10, 100)),
    ],
)
def test_a_data_set_is_read_from_its_own_format(
    tmp_path: Path, name: str, classes: int, shape: tuple[int, ...], sizes: tuple[int, ...]
) -> None:
    WRITERS[name](tmp_path)
    data = load_data(name, root=tmp_path)
    assert (data.name, data.classes, (data.channels, *data.size)) == (name, classes, shape)
    assert (len(data.train), len(data.validation), len(data.test)) == sizes
    batch = next(iter(data.train.batches(8, rng=torch.Generator().manual_seed(0), augment=True)))
    assert batch.images.shape == (8, *shape)
    assert int(data.train.labels.max()) == classes - 1


def pixels(split: object) -> torch.Tensor:
    assert isinstance(split, MemorySplit)
    return split.images


def test_cifar_rows_hold_red_then_green_then_blue_planes(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    with (tmp_path / "cifar-10-batches-py" / "test_batch").open("rb") as file:
        rows = torch.from_numpy(pickle.load(file)["data"])
    data = load_data("cifar10", root=tmp_path)
    assert torch.equal(pixels(data.test), rows.view(-1, 3, 32, 32).permute(0, 2, 3, 1))


def test_label_ten_of_svhn_is_the_digit_zero(tmp_path: Path) -> None:
    write_svhn(tmp_path)
    assert load_data("svhn", root=tmp_path).test.labels.tolist() == [place % 10 for place in range(100)]


def test_fashion_mnist_is_read_packed_and_unpacked_alike(tmp_path: Path) -> None:
    write_fashion_mnist(tmp_path / "a")
    write_fashion_mnist(tmp_path / "b", packed=False)
    digests = {load_data("fashion-mnist", root=tmp_path / root).digest for root in ("a", "b")}
    assert len(digests) == 1


def test_fashion_mnist_32_has_a_black_margin(tmp_path: Path) -> None:
    write_fashion_mnist(tmp_path)
    small, large = (load_data(name, root=tmp_path) for name in ("fashion-mnist", "fashion-mnist-32"))
    assert torch.equal(pixels(large.test)[:, 2:-2, 2:-2], pixels(small.test))
    assert int(pixels(large.test)[:, :2].max()) == 0


def test_another_augmentation_takes_the_place_of_the_usual_one(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    usual = load_data("cifar10", root=tmp_path).train
    other = load_data("cifar10", root=tmp_path, augmentation=Augmentation(flip=True)).train
    assert isinstance(usual, MemorySplit)
    assert isinstance(other, MemorySplit)
    assert usual.augmentation == Augmentation(padding=4, flip=True)
    assert other.augmentation == Augmentation(flip=True)


def test_a_folder_of_gray_images_without_parts_is_split_by_the_seed(tmp_path: Path) -> None:
    write_image_tree(tmp_path, classes=3, per_class=10, size=(9, 7), mode="L")
    data = load_data(f"folder:{tmp_path}", root=tmp_path)
    assert (data.classes, data.channels, data.size) == (3, 1, (7, 9))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [18, 6, 6]
    assert load_data(f"folder:{tmp_path}", split_seed=1).digest != data.digest


def test_the_digest_follows_the_content_not_the_place(tmp_path: Path) -> None:
    for place in ("a", "b"):
        write_image_tree(tmp_path / place, classes=2, per_class=10)
    first = load_data(f"folder:{tmp_path / 'a'}").digest
    assert load_data(f"folder:{tmp_path / 'b'}").digest == first
    (tmp_path / "b/class0/0.png").write_bytes((tmp_path / "b/class1/0.png").read_bytes())
    assert load_data(f"folder:{tmp_path / 'b'}").digest != first


def test_imagenet_is_streamed_with_its_official_validation_images_as_the_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    write_imagenet(tmp_path)
    data = load_data("imagenet", root=tmp_path)
    assert (data.classes, data.channels, data.size) == (3, 3, (224, 224))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [12, 1, 13]
    batches = list(data.test.batches(8))
    assert [tuple(batch.images.shape) for batch in batches] == [(8, 3, 224, 224), (5, 3, 224, 224)]
    assert torch.equal(torch.cat([batch.labels for batch in batches]), data.test.labels)
    assert batches[0].images.is_contiguous(memory_format=torch.channels_last)


def test_streamed_crops_depend_on_the_seed_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_imagenet(tmp_path)
    streams = []
    for cores in (1, 2):  # decoded here, or by one more process
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        split = load_data("imagenet", root=tmp_path).train
        before = torch.random.get_rng_state()
        streams.append(list(split.batches(8, rng=torch.Generator().manual_seed(5), augment=True)))
        assert torch.equal(torch.random.get_rng_state(), before)
    for batch, same in zip(*streams, strict=True):
        assert torch.equal(batch.index, same.index)
        assert torch.equal(batch.images, same.images)


def test_photos_of_any_size_and_layout_are_streamed(tmp_path: Path) -> None:
    write_image_tree(tmp_path, classes=2, per_class=5, size=(50, 80), suffix="jpg")
    data = load_data(f"photos:{tmp_path}", train_limit=4)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [4, 2, 2]


@pytest.mark.parametrize(
    ("name", "looked_for", "remedy"),
    [
        ("cifar10", "cifar-10-batches-py/batches.meta", "download=True"),
        ("cifar100", "cifar-100-python/meta", "download=True"),
        ("svhn", "train_32x32.mat", "download=True"),
        ("cinic10", "train, valid, test", "datashare.ed.ac.uk"),
        ("imagenet", "train, val", "image-net.org"),
        ("fashion-mnist", "train-images-idx3-ubyte.gz", "dataset-fashion-mnist"),
    ],
)
def test_a_missing_data_set_is_named_with_place_and_remedy_in_one_line(
    tmp_path: Path, name: str, looked_for: str, remedy: str
) -> None:
    with pytest.raises(DataError) as caught:
        load_data(name, root=tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{name} not found: looked for {looked_for}")
    assert str(tmp_path) in message
    assert remedy in message
    assert "\n" not in message


def test_an_incomplete_data_set_is_told_by_what_it_lacks(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-py/data_batch_3").unlink()
    with pytest.raises(DataError, match="is incomplete: cifar-10-batches-py/data_batch_3 is missing"):
        load_data("cifar10", root=tmp_path)


def test_fewer_images_than_classes_are_refused(tmp_path: Path) -> None:
    write_cifar100(tmp_path, images=50)
    with pytest.raises(
        DataError, match=r"cifar100 \(training part\) has 45 images, fewer than its 100 classes"
    ):
        load_data("cifar100", root=tmp_path)


def test_labels_of_another_data_set_are_refused(tmp_path: Path) -> None:
    write_cifar10(tmp_path, classes=12)
    with pytest.raises(
        DataError, match="must have labels 0 to 9, got 0 to 11; are the files those of another"
    ):
        load_data("cifar10", root=tmp_path)


def test_a_cifar_file_that_would_run_code_is_refused_before_it_does(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (Path(tmp_path / "sprung"),)  # type: ignore[return-value]

    write_cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-py/data_batch_2").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError, match="data_batch_2 is no CIFAR file: it asks for pathlib"):
        load_data("cifar10", root=tmp_path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps({"other": 1})])
def test_a_damaged_cifar_file_is_named_in_one_line(tmp_path: Path, content: bytes) -> None:
    write_cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-py/data_batch_1").write_bytes(content)
    with pytest.raises(DataError, match="cifar") as caught:
        load_data("cifar10", root=tmp_path)
    assert "\n" not in str(caught.value)


def test_idx_files_that_are_cut_short_or_foreign_are_refused(tmp_path: Path) -> None:
    write_fashion_mnist(tmp_path)
    path = tmp_path / "fashion-mnist/train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="is no whole gzip file"):
        load_data("fashion-mnist", root=tmp_path)
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match="is no IDX file of unsigned bytes: it starts with 50 4b 03 04"):
        read_idx(foreign)
    foreign.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 9, 1, 2]))
    with pytest.raises(DataError, match=re.escape("must hold (9,) bytes after its header, got 2")):
        read_idx(foreign)


def test_folders_in_the_wrong_layout_are_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder"):
        load_data(f"folder:{tmp_path / 'nowhere'}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="must hold a folder of images for each class"):
        load_data(f"folder:{tmp_path / 'empty'}")
    write_image_tree(tmp_path / "half" / "val", classes=2, per_class=1)
    with pytest.raises(DataError, match="must hold train and beside it val, test, or both, got val"):
        load_data(f"folder:{tmp_path / 'half'}")
    write_image_tree(tmp_path / "alone" / "train", classes=2, per_class=1)
    with pytest.raises(DataError, match="must hold train and beside it val, test, or both, got train"):
        load_data(f"folder:{tmp_path / 'alone'}")
    write_image_tree(tmp_path / "odd" / "train", classes=3, per_class=9)
    write_image_tree(tmp_path / "odd" / "test", classes=2, per_class=1)
    with pytest.raises(DataError, match=r"differ in the classes \['class2'\]"):
        load_data(f"folder:{tmp_path / 'odd'}")


def test_images_of_two_sizes_or_none_at_all_are_named(tmp_path: Path) -> None:
    write_image_tree(tmp_path, classes=2, per_class=5)
    write_image_tree(tmp_path / "class0" / "sub", classes=1, per_class=1, size=(8, 9))
    with pytest.raises(
        DataError, match=r"must have one size, got 32x32 and 8x9 in .*; set image_size, or name it photos:"
    ):
        load_data(f"folder:{tmp_path}")
    (tmp_path / "class1" / "0.png").write_bytes(b"text")
    (tmp_path / "class0" / "sub" / "class0" / "0.png").unlink()
    with pytest.raises(DataError, match=r"0\.png is no image that can be read"):
        load_data(f"folder:{tmp_path}")
