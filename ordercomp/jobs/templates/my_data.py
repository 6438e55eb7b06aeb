"""The images: a function that returns a torch Dataset, which is split, or one each to train and test with."""

import torch
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset


def my_data() -> TensorDataset:
    """Pairs of an image (channels, height, width), its values from 0 to 1, and the number of its class.

    For parts of your own return (train, validation, test) or {"train": …, "val": …, "test": …}.
    """
    digits = load_digits()
    images = torch.from_numpy(digits.images).float().unsqueeze(1) / 16
    return TensorDataset(images, torch.from_numpy(digits.target))
