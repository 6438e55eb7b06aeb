"""Fresh weights: the initialization that all built-in models share."""

from torch import nn


def initialize(module: nn.Module) -> None:
    """Draw the convolution weights in place from He's normal distribution, fan out (He et al. 2015).

    Linear layers and normalizations keep what torch gives them; biases of convolutions become zero.
    Draws from torch's global generator, as module constructors do: seed it before building. On the device
    "meta" there is nothing to draw, and torch would take seconds to load what pretends to.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and not layer.weight.is_meta:
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
