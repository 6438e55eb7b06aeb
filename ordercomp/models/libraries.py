"""Libraries of networks by the name before the colon in `torchvision:resnet18`."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Library:
    """Functions by name, so that only what is asked for is imported: torchvision takes two seconds."""

    build: str  # (name, *, classes, channels, **options) -> nn.Module
    pretrained_file: str  # (name) -> Path


LIBRARIES: Mapping[str, Library] = {
    "torchvision": Library(
        build="ordercomp.models.torchvision_zoo:torchvision_model",
        pretrained_file="ordercomp.models.torchvision_zoo:pretrained_file",
    ),
    "timm": Library(
        build="ordercomp.models.timm_zoo:timm_model",
        pretrained_file="ordercomp.models.timm_zoo:timm_pretrained_file",
    ),
}
