"""Networks by name: built-in CIFAR models, torchvision's and timm's, and any function of the user's."""
