"""The network: any function that returns a torch module, given the numbers of classes and of channels."""

from torch import Tensor, nn


class Block(nn.Module):
    """Output and input have one shape, so that D may drop the block; E may put an exit after it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Shape (n, width, h, w), in and out."""
        return nn.functional.relu(features + self.inner(features))


def my_model(classes: int, channels: int) -> nn.Module:
    """A small residual network that gives logits, shape (n, classes), for images (n, channels, h, w)."""
    width = 16
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.ReLU(),
        nn.Sequential(*(Block(width) for _ in range(4))),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, classes),
    )
