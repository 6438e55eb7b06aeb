"""Images as people see them: bits, orientation, transparency, and folders that programs leave behind."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ordercomp.data.catalog import load_data
from ordercomp.data.images import check_image, is_gray, read_pixels
from ordercomp.data.source import DataError


def saved(path: Path, image: Image.Image, **options: object) -> str:
    image.save(path, **options)
    return str(path)


def test_sixteen_bits_become_eight_on_their_own_scale(tmp_path: Path) -> None:
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    path = saved(tmp_path / "deep.png", Image.fromarray(values))
    assert read_pixels(path, "L")[..., 0].tolist() == [[0, 1, 128, 255]]
    assert is_gray(path)


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_images_without_a_known_white_are_refused(tmp_path: Path, kind: type) -> None:
    path = saved(tmp_path / "open.tiff", Image.fromarray(np.ones((4, 4), dtype=kind)))
    with pytest.raises(DataError, match="has 32 bits a pixel, so that white is not known"):
        read_pixels(path, "L")


def test_the_orientation_that_a_camera_noted_is_applied(tmp_path: Path) -> None:
    pixels = np.zeros((8, 16), dtype=np.uint8)
    pixels[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # lay on its side
    path = saved(tmp_path / "side.png", Image.fromarray(pixels), exif=exif)
    upright = read_pixels(path, "L")[..., 0]
    assert upright.shape == (16, 8)
    assert upright[:8].mean() == 255
    assert upright[8:].mean() == 0


def test_what_is_transparent_lies_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((2, 2, 4), dtype=np.uint8)
    pixels[0, 0] = (10, 20, 30, 255)
    path = saved(tmp_path / "clear.png", Image.fromarray(pixels))
    shown = read_pixels(path, "RGB")
    assert shown[0, 0].tolist() == [10, 20, 30]
    assert shown[1, 1].tolist() == [255, 255, 255]


def test_a_picture_in_transparency_alone_is_refused(tmp_path: Path) -> None:
    pixels = np.full((2, 2, 4), 255, dtype=np.uint8)
    pixels[0, 0, 3] = 0
    path = saved(tmp_path / "ghost.png", Image.fromarray(pixels))
    with pytest.raises(DataError, match="its picture lies in its transparency; flatten it"):
        read_pixels(path, "RGB")


def test_a_damaged_file_is_found_without_reading_it_whole(tmp_path: Path) -> None:
    path = Path(saved(tmp_path / "cut.jpg", Image.fromarray(np.zeros((64, 64, 3), dtype=np.uint8))))
    check_image(str(path))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=r"cut.jpg is no image that can be read"):
        check_image(str(path))


def folder_of(root: Path, *classes: str, images: int = 10) -> Path:
    rng = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True, exist_ok=True)
        for place in range(images):
            pixels = rng.integers(0, 255, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{place}.png")
    return root


def test_hidden_folders_are_no_classes(tmp_path: Path) -> None:
    folder_of(tmp_path, "cat", "dog", ".ipynb_checkpoints", "__MACOSX")
    assert load_data(f"folder:{tmp_path}").classes == 2


def test_a_root_one_level_too_high_is_refused(tmp_path: Path) -> None:
    folder_of(tmp_path / "pets", "cat", "dog")
    with pytest.raises(DataError, match="at least two classes, got only 'pets'; is it a level too high"):
        load_data(f"folder:{tmp_path}")


def test_a_class_that_is_not_measured_is_refused(tmp_path: Path) -> None:
    folder_of(tmp_path / "train", "cat", "dog", images=40)
    folder_of(tmp_path / "train", "owl", images=1)
    folder_of(tmp_path / "test", "cat", "dog", "owl")
    with pytest.raises(DataError, match=r"part drawn from .*train has no image of the class 'owl'"):
        load_data(f"folder:{tmp_path}")
