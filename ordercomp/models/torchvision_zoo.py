"""torchvision's classification networks with fresh weights."""

import difflib

from torch import nn

from ordercomp.data.vision import models
from ordercomp.sequence import KnobValue

__all__ = ["torchvision_model"]


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
