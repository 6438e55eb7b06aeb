"""Networks by name: built-in CIFAR models, torchvision's and timm's, and any function of the user's."""

from ordercomp.models.catalog import build_model, count_parameters

__all__ = ["build_model", "count_parameters"]
