"""Pixels of one image file as 8-bit values: upright, opaque, and scaled by what its kind calls white."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from ordercomp.data.source import DataError

_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_OPEN_ENDED = ("I", "F")  # 32 bits a pixel: nothing says what white is
_SMALL = (32, 32)


def read_pixels(path: str, mode: str, *, side: int = 0) -> npt.NDArray[np.uint8]:
    """Read an image in the mode "L" or "RGB", shape (h, w, 1 or 3). Raises DataError as `open_image` does.

    With `side` its middle is cut to a square and resized to that many pixels.
    """
    image = open_image(path).convert(mode)
    pixels = np.asarray(
        ImageOps.fit(image, (side, side), method=Image.Resampling.BILINEAR) if side else image
    )
    return pixels[..., None] if mode == "L" else pixels


def open_image(path: str) -> Image.Image:
    """Open an image as people see it, in the mode "L" or "RGB".

    The orientation that a camera noted is applied, 16 bits become 8, and what is transparent lies on white.
    Raises DataError if the file cannot be read, has 32 bits a pixel, or shows nothing on white although its
    transparency does.
    """
    try:
        with Image.open(path) as image:
            image.load()
            upright = ImageOps.exif_transpose(image)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is no image that can be read: {error}") from error
    if upright.mode in _OPEN_ENDED:
        raise DataError(f"{path} has 32 bits a pixel, so that white is not known; save it with 8 or 16 bits")
    if upright.mode in _SIXTEEN_BITS:
        return Image.fromarray((np.asarray(upright, dtype=np.uint16) // 257).astype(np.uint8))
    if upright.has_transparency_data:
        return _on_white(upright.convert("RGBA"), path)
    return upright.convert("L" if upright.mode in ("1", "L") else "RGB")


def is_gray(path: str) -> bool:
    """Whether an image has no color by its kind. Raises DataError as `open_image` does."""
    return open_image(path).mode == "L"


def check_image(path: str) -> None:
    """Decode an image as quickly as can be. Raises DataError if it cannot be read."""
    try:
        with Image.open(path) as image:
            image.draft(None, _SMALL)
            image.load()
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
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
