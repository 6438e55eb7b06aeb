"""Data as users hand them over, of types that networks do not take."""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import torch
from torch.utils.data import Dataset

from ordercomp.data.source import Source
from ordercomp.data.splits import Batch, ImageData, MemorySplit
from ordercomp.data.torch_datasets import from_datasets


class Doubles(Dataset[Any]):
    """Images of 64-bit floats."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, place: int) -> Any:
        return torch.full((1, 8, 8), place - 20.5, dtype=torch.float64), place % 2


def doubles() -> Doubles:
    return Doubles()


def own_split(source: Source) -> ImageData:
    """A split of the user's whose training batches are doubles."""

    class Half(MemorySplit):
        def batches(self, *arguments: Any, **options: Any) -> Iterator[Batch]:
            for batch in super().batches(*arguments, **options):
                yield replace(batch, images=batch.images.double())

    data = from_datasets(Doubles(), source)
    memory = {field.name: getattr(data.train, field.name) for field in fields(data.train) if field.init}
    return replace(data, train=Half(**{name: value for name, value in memory.items() if name[0] != "_"}))
