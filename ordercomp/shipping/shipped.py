"""A network in use: a plain module that knows its normalization and lets images leave early."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ordercomp.networks.exits import MultiExit, agreement, run_until
from ordercomp.networks.network import CompressedNetwork, Serving
from ordercomp.shipping.plain import plain_module


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a network says about one image."""

    label: int  # number of the class
    confidence: float  # the largest softmax
    exit: int  # where the image left, from 0; the last exit has the largest number
    logits: tuple[float, ...]
    name: str = ""  # of the class; empty where the network was not told them


@dataclass(frozen=True, slots=True)
class Estimate:
    """The number that a network tells of one image."""

    value: float  # in units of the targets
    agreement: float  # of the exit with the one before, from 0 to 1; 0 at the first
    exit: int  # where the image left, from 0


class ShippedNetwork(nn.Module):
    """Normalization, a plain body and plain heads; made by `load_network` or `ship`."""

    def __init__(self, network: MultiExit, *, serving: Serving, shape: tuple[int, int, int]) -> None:
        """Take a module without quantizers, see `plain_module`, for images of shape (c, h, w)."""
        super().__init__()
        self.network = network
        self.serving = serving
        self.shape = shape
        for name, values in _constants(serving).items():
            self.register_buffer(name, values, persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Logits (n, classes) of every exit, the last one last, for stored pixel values (n, c, h, w).

        Where targets are real, numbers (n, 1) in their units.
        """
        outputs: tuple[Tensor, ...] = self.network(self.normalize(images))
        if not self.serving.scale:
            return outputs
        center, spread = self.serving.scale
        return tuple(one * spread + center for one in outputs)

    def normalize(self, images: Tensor) -> Tensor:
        """Inputs of the body: float32, normalized."""
        if not self.serving.mean:
            return images.float()
        return torch.addcmul(self.get_buffer("shift"), images.float(), self.get_buffer("factor"))

    @torch.inference_mode()
    def predict(self, image: Any, *, threshold: float | None = None) -> Prediction | Estimate:
        """Classify one image, which leaves at the first exit that is sure enough; the rest does not run.

        Where targets are real, tell its number; it leaves at the first exit that agrees enough with the one
        before.

        Args:
            image: stored pixel values, as a rule 0 to 255: a tensor (c, h, w), (1, c, h, w) or, for one
                channel, (h, w); or an array or a picture (h, w, c), which a PIL image becomes.
            threshold: in place of the stored one; without any the image goes to the last exit.

        Raises ValueError if the image does not have the shape that the network was made for.
        """
        bar = self.serving.threshold if threshold is None else threshold
        pixels = self._one(image)
        if self.serving.scale:
            return self._estimate(pixels, bar)

        def sure(_place: int, logits: Tensor) -> bool:
            return bar is not None and float(logits.float().softmax(dim=1).max()) >= bar

        place, logits = run_until(self.network, self.normalize(pixels), sure)
        chances = logits[0].float().softmax(dim=0)
        label = int(chances.argmax())
        name = self.serving.names[label] if self.serving.names else ""
        return Prediction(label, float(chances[label]), place, tuple(logits[0].tolist()), name)

    def _estimate(self, pixels: Tensor, bar: float | None) -> Estimate:
        told: list[Tensor] = []

        def agreed(output: Tensor) -> float:
            """How much an output agrees with the last one, which it then is."""
            found = float(agreement(told[-1], output)) if told else 0.0
            told.append(output)
            return found

        agreements: list[float] = []

        def sure(_place: int, output: Tensor) -> bool:
            agreements.append(agreed(output[0, 0].float()))
            return bar is not None and agreements[-1] >= bar

        place, output = run_until(self.network, self.normalize(pixels), sure)
        if place == len(agreements):  # the last exit, which nobody asks
            agreements.append(agreed(output[0, 0].float()))
        center, spread = self.serving.scale
        return Estimate(float(output[0, 0]) * spread + center, agreements[-1], place)

    def _one(self, image: Any) -> Tensor:
        """The image as a batch of one."""
        if isinstance(image, Tensor):
            pixels = image.reshape(1, *image.shape) if image.dim() == 2 else image
        else:
            array = np.ascontiguousarray(image)
            pixels = torch.from_numpy(array[:, :, None] if array.ndim == 2 else array)
            pixels = pixels.permute(2, 0, 1) if pixels.dim() == 3 else pixels
        if pixels.dim() == 4 and len(pixels) == 1:
            pixels = pixels[0]
        if tuple(pixels.shape) != self.shape:
            raise ValueError(
                f"image must be one of shape {self.shape} (channels, height, width), "
                f"got {tuple(pixels.shape)}"
            )
        device = next(self.network.parameters()).device
        return pixels.unsqueeze(0).to(device).contiguous(memory_format=torch.channels_last)


def ship(network: CompressedNetwork) -> ShippedNetwork:
    """The network as a plain module for use."""
    architecture = network.architecture
    return ShippedNetwork(
        plain_module(network.module),
        serving=network.serving,
        shape=(architecture.channels, *architecture.size),
    )


def _constants(serving: Serving) -> dict[str, Tensor]:
    """Factors and summands that normalize, made as a data set makes them."""
    if not serving.mean:
        return {}
    factors = [1 / std for std in serving.std]
    shifts = [-mean / std for mean, std in zip(serving.mean, serving.std, strict=True)]
    return {
        "factor": torch.tensor(factors).view(-1, 1, 1),
        "shift": torch.tensor(shifts).view(-1, 1, 1),
    }
