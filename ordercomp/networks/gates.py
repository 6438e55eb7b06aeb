"""Gates on residual blocks: for each image they say whether a block runs or hands on what it is given.

A gate compares a score of the image with a quantile of the scores that it saw in training, so that a given
share of the images skips its block: in training those of the batch with the lowest scores, as in routing by
experts' choice (Raposo et al. 2024). Quantiles are followed as batch normalization follows its statistics.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

_STEPS = 20  # quantiles kept: 0, 1/20, … 1
_MOMENTUM = 0.1


class Gate(nn.Module):
    """One score for each image from the averages of its channels; stays in float."""

    quantiles: Tensor  # shape (_STEPS + 1,)

    def __init__(self, channels: int, share: float) -> None:
        super().__init__()
        self.share = share  # of the images that skip the block
        self.weight = nn.Parameter(torch.randn(channels) / channels**0.5)
        self.register_buffer("quantiles", torch.zeros(_STEPS + 1))

    def forward(self, features: Tensor) -> Tensor:
        """Map features (n, channels, h, w) to ones for images that need the block, and zeros, shape (n,)."""
        # A gate learns which images need its block; features that learned from it, too, would diverge.
        score = features.detach().float().mean((2, 3)) @ self.weight
        quantiles = self._follow(score.detach()) if self.training else self.quantiles
        place = self.share * _STEPS
        low = min(int(place), _STEPS - 1)
        bar = torch.lerp(quantiles[low], quantiles[low + 1], place - low)
        if self.share <= 0:
            bar = quantiles[0] - torch.inf
        if not (torch.is_grad_enabled() and self.weight.requires_grad):
            return (score >= bar).float()
        spread = (quantiles[-1] - quantiles[0]).clamp_min(1e-6) / 4
        needed: Tensor = _Step.apply((score - bar) / spread)  # type: ignore[no-untyped-call]
        return needed

    @torch.no_grad()
    def _follow(self, score: Tensor) -> Tensor:
        """Quantiles of this batch, noted; the first batch that is seen counts in full."""
        levels = torch.linspace(0, 1, _STEPS + 1, device=score.device)
        now = torch.quantile(score, levels)
        fresh = self.quantiles[-1] == self.quantiles[0]
        self.quantiles.copy_(torch.where(fresh, now, torch.lerp(self.quantiles, now, _MOMENTUM)))
        return now


class _Step(torch.autograd.Function):
    """Zero below zero, else one; backward the slope of the logistic function."""

    @staticmethod
    def forward(ctx: Any, score: Tensor) -> Tensor:
        ctx.save_for_backward(score)
        return (score >= 0).float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        chance = torch.sigmoid(ctx.saved_tensors[0])
        return gradients[0] * chance * (1 - chance)


class GatedBlock(nn.Module):
    """A residual block behind a gate."""

    def __init__(self, block: nn.Module, channels: int, share: float) -> None:
        super().__init__()
        self.gate = Gate(channels, share)
        self.block = block

    def forward(self, features: Tensor) -> Tensor:
        """Map shape (n, channels, h, w) to the same.

        In inference mode a block that one image skips does not run. Elsewhere blocks run, so that whoever
        follows a network sees all of it.
        """
        needed = self.gate(features)
        if torch.is_inference_mode_enabled() and len(features) == 1 and not bool(needed):
            return features
        needed = needed[:, None, None, None]
        gated: Tensor = needed * self.block(features) + (1 - needed) * features
        return gated

    @staticmethod
    def rebuild(block: nn.Module, facts: Mapping[str, Any]) -> "GatedBlock":
        """A gated block with a fresh gate from what the network's file tells of it."""
        return GatedBlock(block, int(facts["channels"]), float(facts["skip"]))


def gates(module: nn.Module) -> dict[str, Gate]:
    """Gates by the name of the part that they let images skip."""
    return {
        f"{name}.block": layer.gate for name, layer in module.named_modules() if isinstance(layer, GatedBlock)
    }
