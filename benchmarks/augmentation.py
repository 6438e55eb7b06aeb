"""How fast do augmented batches come? Ours against torchvision's transforms image by image, on one thread.

Run: OMP_NUM_THREADS=1 python benchmarks/augmentation.py
"""

import json
import time
from collections.abc import Iterable

import torch
from torch.utils.data import DataLoader, Dataset

from ordercomp import torchvision_compat
from ordercomp.data.splits import Augmentation, MemorySplit

IMAGES, BATCH, REPEATS = 20_000, 128, 5
SHAPES = {"CIFAR-10": (32, 32, 3), "Fashion-MNIST": (28, 28, 1)}


class OneByOne(Dataset[tuple[torch.Tensor, int]]):
    """Images as PIL images through the usual transforms."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images = images.permute(0, 3, 1, 2)
        transforms = torchvision_compat.transforms
        self.transform = transforms.Compose(
            [
                transforms.ToPILImage(),
                transforms.RandomCrop(images.shape[1], padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.5,), (0.25,)),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[index]), index


def main() -> None:
    """Print one JSON line per kind of image."""
    torch.set_num_threads(1)
    for name, (height, width, channels) in SHAPES.items():
        images = torch.randint(256, (IMAGES, height, width, channels), dtype=torch.uint8)
        split = MemorySplit(
            images=images,
            labels=torch.zeros(IMAGES, dtype=torch.int64),
            mean=(128.0,) * channels,
            std=(64.0,) * channels,
            augmentation=Augmentation(padding=4, flip=True),
        )
        rng = torch.Generator().manual_seed(0)
        plain = max(images_per_second(split.batches(BATCH, rng=rng)) for _ in range(REPEATS))
        ours = max(images_per_second(split.batches(BATCH, rng=rng, augment=True)) for _ in range(REPEATS))
        theirs = images_per_second(DataLoader(OneByOne(images), batch_size=BATCH, shuffle=True))
        report = {"data": name, "plain": plain, "augmented": ours, "one_by_one": theirs}
        print(json.dumps({**report, "ratio": round(ours / theirs, 1)}))


def images_per_second(batches: Iterable[object]) -> int:
    """Speed of one pass."""
    start = time.perf_counter()
    for _ in batches:
        pass
    return round(IMAGES / (time.perf_counter() - start))


if __name__ == "__main__":
    main()
