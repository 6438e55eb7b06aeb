"""torchvision's classification networks, and where their trained weights lie."""

import difflib
from pathlib import Path

import torch
from torch import nn

from ordercomp.sequence import KnobValue
from ordercomp.torchvision_compat import models


def torchvision_model(name: str, *, classes: int, channels: int, **options: KnobValue) -> nn.Module:
    """Build torchvision's classification network `name` with fresh weights; `options` go to its function.

    Raises ValueError if there is no such network, if the images have other than 3 channels, or if the
    options do not suit.
    """
    known = models.list_models(module=models)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise ValueError(f"torchvision has no classification network {name!r}{hint}")
    if channels != 3:
        raise ValueError(f"torchvision:{name} takes images of 3 channels, the data has {channels}")
    try:
        network: nn.Module = models.get_model(name, weights=None, num_classes=classes, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"torchvision:{name} failed with {options}: {' '.join(str(error).split())}"
        ) from error
    return network


def pretrained_file(name: str) -> Path:
    """Return the file of torchvision's best weights for `name`, from the folder of torch's downloads.

    Raises ValueError if torchvision has none, or the file is not there: it says from where to get it.
    """
    try:
        entry = models.get_model_weights(name)["DEFAULT"]
    except (KeyError, ValueError):
        raise ValueError(f"torchvision has no trained weights for {name!r}") from None
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path: Path = folder / str(entry.url).rpartition("/")[2]
    if not path.is_file():
        raise ValueError(f"weights of torchvision:{name} are not on disk: put {entry.url} into {folder}")
    return path
