"""Rotated digits: the embedded digits, each turned by an angle that is to be told, in degrees."""

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits as _bunch

from ordercomp.data.assemble import Labeled, assemble, stratified
from ordercomp.data.source import Source
from ordercomp.data.splits import ImageData

MOST_DEGREES = 45.0  # to either side
_HELD_OUT = 360
_TURNS = 2  # of each training digit; held-out ones are turned once
_SIDE = 12  # pixels: nothing of a turned 8x8 image is cut off
_BRIGHTER = 15  # stored values 0 … 240, so that rounding after interpolation costs little


def load_rotated_digits(source: Source) -> ImageData:
    """Handwritten digits in one channel, 12x12: 1077 for training, at two angles each, 360 each held out.

    The angle, drawn evenly from -45 to 45 degrees, counterclockwise, is the target. Angles are the same for
    every seed, which draws only the parts. Digits as in `load_digits`.
    """
    bunch = _bunch()
    count = len(bunch.target)
    angles = np.random.default_rng(0).uniform(-MOST_DEGREES, MOST_DEGREES, (_TURNS, count))
    sizes = (count - 2 * _HELD_OUT, _HELD_OUT, _HELD_OUT)
    rng = np.random.default_rng(source.split_seed)
    train, validation, test = stratified(bunch.target.astype(np.int64), sizes, rng=rng)

    def turned(index: npt.NDArray[np.int64], turns: int) -> Labeled:
        told = angles[:turns, index].reshape(-1)
        images = np.concatenate([bunch.images[index]] * turns)
        return Labeled(rotate(images, told)[..., None], told.astype(np.float32))

    return assemble(source, (turned(train, _TURNS), turned(validation, 1), turned(test, 1)), classes=0)


def rotate(images: npt.NDArray[np.float64], degrees: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Turn images, shape (n, h, w), counterclockwise about their middle; bilinear, black where nothing is.

    Returns shape (n, 12, 12). Values are 15 times what they were, rounded.
    """
    _, height, width = images.shape
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    turn = np.deg2rad(degrees)[:, None, None]
    rows, columns = np.mgrid[:_SIDE, :_SIDE] - (_SIDE - 1) / 2
    above = np.cos(turn) * rows + np.sin(turn) * columns + (height - 1) / 2 + 1
    left = -np.sin(turn) * rows + np.cos(turn) * columns + (width - 1) / 2 + 1
    above, left = np.clip(above, 0, height + 1 - 1e-9), np.clip(left, 0, width + 1 - 1e-9)
    row, column = above.astype(int), left.astype(int)
    down, right = above - row, left - column
    which = np.arange(len(images))[:, None, None]
    corners = (
        (padded[which, row, column], (1 - down) * (1 - right)),
        (padded[which, row, column + 1], (1 - down) * right),
        (padded[which, row + 1, column], down * (1 - right)),
        (padded[which, row + 1, column + 1], down * right),
    )
    turned: npt.NDArray[np.float64] = np.sum([values * shares for values, shares in corners], axis=0)
    return np.round(_BRIGHTER * turned).astype(np.uint8)
