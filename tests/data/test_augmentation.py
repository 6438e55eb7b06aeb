"""Augmentation against a slow, obvious version of itself."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import booleans, integers
from torch import Tensor

from ordercomp.data.splits import Augmentation, Crops


def crop_one_by_one(images: Tensor, padding: int, index: Tensor, draws: Crops) -> Tensor:
    """Pad, cut and mirror each image by itself."""
    height, width = images.shape[1:3]
    results = []
    for place, number in enumerate(index.tolist()):
        border = images.new_zeros(height + 2 * padding, width + 2 * padding, images.shape[3])
        border[padding : padding + height, padding : padding + width] = images[number]
        row, column = int(draws.rows[place]), int(draws.columns[place])
        cut = border[row : row + height, column : column + width]
        results.append(cut.flip(1) if draws.mirrored[place] else cut)
    return torch.stack(results)


@given(
    padding=integers(0, 3),
    flip=booleans(),
    channels=integers(1, 3),
    width=integers(1, 5),
    seed=integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_one_gather_does_the_same_as_cropping_image_by_image(
    padding: int, flip: bool, channels: int, width: int, seed: int
) -> None:
    rng = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (6, 4, width, channels), dtype=torch.uint8, generator=rng)
    augmentation = Augmentation(padding=padding, flip=flip)
    index = torch.randint(6, (9,), generator=rng)
    draws = augmentation.draw(9, rng)
    fast = augmentation.crop(augmentation.pad(images), index, draws)
    assert torch.equal(fast, crop_one_by_one(images, padding, index, draws))


def test_crops_start_everywhere_and_half_of_them_are_mirrored() -> None:
    draws = Augmentation(padding=2, flip=True).draw(2000, torch.Generator().manual_seed(0))
    assert set(draws.rows.tolist()) == set(draws.columns.tolist()) == {0, 1, 2, 3, 4}
    assert 900 < int(draws.mirrored.sum()) < 1100


def test_nothing_is_mirrored_without_flip() -> None:
    draws = Augmentation(padding=2).draw(100, torch.Generator().manual_seed(0))
    assert not draws.mirrored.any()


def test_augmentation_of_nothing_changes_nothing() -> None:
    assert not Augmentation().changes
    assert Augmentation(padding=1).changes
    assert Augmentation(flip=True).changes


def test_negative_padding_is_refused() -> None:
    with pytest.raises(ValueError, match="padding must not be negative, got -1"):
        Augmentation(padding=-1)
