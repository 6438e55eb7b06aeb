"""Images as people see them: bits, orientation, transparency, and folders that programs leave behind."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ordercomp.data.catalog import load_data
from ordercomp.data.pixels import check_image, is_gray, read_pixels
from ordercomp.data.source import DataError


def saved(path: Path, image: Image.Image, **options: object) -> str:
    image.save(path, **options)
    return str(path)


def pgm(path: Path, maximum: int) -> None:
    """The same on another scale, in a file of two bytes a pixel."""
    values = np.ceil(DEEP / 65535 * maximum).astype(">u2")
    path.write_bytes(b"P5 4 1 %d\n" % maximum + values.tobytes())


DEEP = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
DEEPER: dict[str, Callable[[Path], None]] = {  # how 16 bits a pixel come in files
    "PNG": lambda path: Image.fromarray(DEEP).save(path, format="PNG"),
    "TIFF": lambda path: Image.fromarray(DEEP).save(path, format="TIFF"),
    "TIFF, big endian": lambda path: Image.fromarray(DEEP.astype(">u2")).save(path, format="TIFF"),
    "JPEG 2000": lambda path: Image.fromarray(DEEP).save(path, format="JPEG2000", irreversible=False),
    "PGM": lambda path: pgm(path, 65535),
    "PGM of 12 bits": lambda path: pgm(path, 4095),
}


@pytest.mark.parametrize("kind", DEEPER)
def test_sixteen_bits_become_eight_on_their_own_scale(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "deep"
    DEEPER[kind](path)
    read = read_pixels(str(path), "L")[..., 0]
    assert read.tolist() == [[0, 1, 128, 255]]
    assert is_gray(str(path))


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


def test_a_gray_first_image_does_not_take_the_color_from_the_others(tmp_path: Path) -> None:
    root = folder_of(tmp_path, "a", "b", images=20)
    color = np.zeros((8, 8, 3), dtype=np.uint8)
    color[..., 2] = 200
    for place in range(5, 20):
        Image.fromarray(color).save(root / "b" / f"{place}.png")
    data = load_data(f"folder:{root}")
    assert (data.channels, data.names) == (3, ("a", "b"))
    assert any("gray and color are mixed, and all are read in color, as " in one for one in data.notices)
    blue = {tuple(image[0, 0].tolist()) for image in data.train.images if not image[..., 0].any()}
    assert blue == {(0, 0, 200)}


def test_files_of_other_suffixes_are_read_or_counted(tmp_path: Path) -> None:
    root = folder_of(tmp_path, "a", "b", images=20)
    for name in ("one.gif", "two.jfif", "three.jp2", "four.avif"):
        kind = {"format": "JPEG"} if name.endswith("jfif") else {}
        Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(root / "a" / name, **kind)
    for name in ("b/notes.txt", "b/more.txt", "a/scan.psd", "a/.DS_Store"):
        (root / name).write_text("")
    data = load_data(f"folder:{root}")
    assert len(data.train) + len(data.validation) + len(data.test) == 44
    assert f"folder:{root}: files that do not end as images do are left out: 2 .txt, 1 .psd" in data.notices


def test_values_of_twelve_bits_in_sixteen_are_told(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        for place in range(10):
            values = np.random.default_rng((ord(name), place)).integers(0, 4096, (8, 8)).astype(np.uint16)
            Image.fromarray(values).save(tmp_path / name / f"{place}.png")
    (notice,) = load_data(f"folder:{tmp_path}").notices
    assert "pixels take only the values 0 to 15 of 255, as 12 bits stored in 16 do" in notice
