"""Pixels of one image as 8-bit values: upright, opaque, and scaled by what its kind calls white."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from ordercomp.data.source import DataError

_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_OPEN_ENDED = ("I", "F")  # 32 bits a pixel: nothing says what white is
_GRAY = ("1", "L", "I", *_SIXTEEN_BITS)
_SMALL = (32, 32)


def read_pixels(path: str, mode: str, *, side: int = 0) -> npt.NDArray[np.uint8]:
    """Read an image in the mode "L" or "RGB", shape (h, w, 1 or 3). Raises DataError as `open_image` does.

    With `side` its middle is cut to a square and resized to that many pixels.
    """
    image = open_image(path).convert(mode)
    if side:
        image = ImageOps.fit(image, (side, side), method=Image.Resampling.BILINEAR)
    return np.asarray(image)[..., None] if mode == "L" else np.asarray(image)


def open_image(path: str) -> Image.Image:
    """Open an image as people see it, in the mode "L" or "RGB".

    The orientation that a camera noted is applied, 16 bits become 8, and what is transparent lies on white.
    Raises DataError if the file cannot be read, has 32 bits a pixel, or shows nothing on white although its
    transparency does.
    """
    with _reading(path) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
        if image.format == "PPM" and image.mode == "I":  # scaled to 16 bits already
            upright = Image.fromarray(np.asarray(upright).astype(np.uint16))
    return as_seen(upright, path)


def as_seen(image: Image.Image, what: str) -> Image.Image:
    """An opened image in the mode "L" or "RGB", as `open_image` says, which calls it `what` in errors."""
    if image.mode in _OPEN_ENDED:
        raise DataError(f"{what} has 32 bits a pixel, so that white is not known; save it with 8 or 16 bits")
    if image.mode in _SIXTEEN_BITS:
        return Image.fromarray((np.asarray(image, dtype=np.uint16) // 257).astype(np.uint8))
    if image.has_transparency_data:
        return _on_white(image.convert("RGBA"), what)
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def is_gray(path: str) -> bool:
    """Whether an image has no color by its kind, which its header tells. Raises DataError if it is none."""
    with _reading(path) as image:
        return image.mode in _GRAY and not image.has_transparency_data


def check_image(path: str) -> None:
    """Decode an image as quickly as can be. Raises DataError if it cannot be read."""
    with _reading(path) as image:
        image.draft(None, _SMALL)
        image.load()


@contextmanager
def _reading(path: str) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is no image that can be read: {error}") from error


def _on_white(image: Image.Image, path: str) -> Image.Image:
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    shown = Image.alpha_composite(white, image).convert("RGB")
    if _is_plain(shown) and not _is_plain(image.getchannel("A")):
        raise DataError(f"{path} shows nothing on white: its picture lies in its transparency; flatten it")
    return shown


def _is_plain(image: Image.Image) -> bool:
    """Whether all pixels are the same."""
    ends = image.getextrema()
    return all(low == high for low, high in ([ends] if isinstance(ends[0], int | float) else ends))
