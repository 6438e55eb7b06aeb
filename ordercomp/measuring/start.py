"""What trained weights get right before anything trains: told, compared between parts, and judged."""

import torch
from torch import Tensor

from ordercomp.data.parts import PURPOSES
from ordercomp.data.splits import ImageData, Split
from ordercomp.networks.network import CompressedNetwork

_MOST_IMAGES = 1000  # of each part
_BATCH = 250
_NEAR_CHANCE = 0.1  # share of the way from guessing to all right, up to which weights do not fit the images
_ERRORS = 3.0  # standard errors, and
_GAP = 0.01  # points, by which validation must be ahead of test to be told


def check_weights(network: CompressedNetwork, data: ImageData) -> tuple[str, ...]:
    """Tell, a line each, what a network gets right in each part, and if it seems to know validation images.

    Up to 1000 images of each part are read; the share is the mean over classes, or R² of real targets.
    Raises ValueError if validation images are hardly more often right than by guessing, as when they are not
    normalized as the weights were trained with.
    """
    parts = (data.train, data.validation, data.test)
    shares, variances = zip(*(_share(*_outputs(network, split), data) for split in parts), strict=True)
    shown = ", ".join(f"{100 * share:.1f} % of {name}" for share, name in zip(shares, PURPOSES, strict=True))
    notice = f"the weights get {shown} images right before any training"
    if is_near_chance(shares[1], data):
        raise ValueError(
            f"{notice}, where guessing gets {100 * chance(data):.1f} %: are mean and std (or normalize) and "
            "the order of the classes those that they were trained with? baseline_epochs trains them on"
        )
    gap = shares[1] - shares[2]
    if gap <= max(_GAP, _ERRORS * (variances[1] + variances[2]) ** 0.5):
        return (notice,)
    return notice, (
        f"validation images are {100 * gap:.1f} points more often right than test images: the weights seem "
        "to know them, so that losses are overstated; trained_on says what the weights were trained on"
    )


def check_baseline(network: CompressedNetwork, data: ImageData) -> None:
    """Raise ValueError if a trained network gets hardly more validation images right than by guessing."""
    share, variance = _share(*_outputs(network, data.validation), data)
    if is_near_chance(share, data, _ERRORS * variance**0.5 if data.classes > 1 else 0.0):
        raise ValueError(
            f"the uncompressed network gets {100 * share:.1f} % of the validation images right after its "
            f"training, where guessing gets {100 * chance(data):.1f} %, so that nothing can be compared: "
            "are the labels right, and epochs and learning_rate enough?"
        )


def chance(data: ImageData) -> float:
    """The share that guessing gets right."""
    return 0.0 if data.real else 1 / data.classes


def is_near_chance(share: float, data: ImageData, near: float = _NEAR_CHANCE) -> bool:
    """Whether a share is no more than `near` of the way from guessing to all right."""
    return not share > chance(data) + near * (1 - chance(data))


@torch.no_grad()
def _outputs(network: CompressedNetwork, split: Split) -> tuple[Tensor, Tensor]:
    """Outputs of the last exit for some images, and their targets."""
    network.module.eval()
    outputs: list[Tensor] = []
    targets: list[Tensor] = []
    rng = torch.Generator().manual_seed(0)
    for batch in split.batches(_BATCH, rng=rng, device=network.device):
        outputs.append(network.module(batch.images)[-1])
        targets.append(batch.labels)
        if sum(map(len, targets)) >= _MOST_IMAGES:
            break
    return torch.cat(outputs).double(), torch.cat(targets)


def _share(outputs: Tensor, targets: Tensor, data: ImageData) -> tuple[float, float]:
    """The share that is right, and the variance of that estimate."""
    if data.real:
        guesses = outputs[:, 0] * data.spread + data.center
        spread = float(targets.double().var(correction=0)) or 1.0
        return max(0.0, 1 - float((guesses - targets).square().mean()) / spread), 1 / len(targets)
    counts = torch.bincount(targets, minlength=data.classes).double()
    right = torch.bincount(targets[outputs.argmax(dim=1) == targets], minlength=data.classes)
    right, counts = right[counts > 0], counts[counts > 0]
    unsure = (right + 1) / (counts + 2)  # no class is surely all right or all wrong
    return float((right / counts).mean()), float((unsure * (1 - unsure) / counts).sum()) / len(counts) ** 2
