"""Leaving a network early: the part of the body behind the exit that an image takes does not run."""

from collections.abc import Callable

from torch import Tensor, nn

from ordercomp.networks.exits import MultiExit


def agreement(before: Tensor, now: Tensor) -> Tensor:
    """How much two consecutive exits agree on numbers: 1 / (1 + difference), which is 1 for the same number.

    Outputs come as the network gives them, where 1 is a standard deviation of the targets.
    """
    return 1 / (1 + (now - before).abs())


class _LeftError(Exception):
    """Raised inside the body when an image leaves, so that the rest of it does not run."""


def run_until(module: MultiExit, images: Tensor, done: Callable[[int, Tensor], bool]) -> tuple[int, Tensor]:
    """Run `images` up to the first early exit for which `done(place, logits)`, and return place and logits.

    Places count from 0; the last exit takes whoever did not leave before. Images of one call leave together.
    """
    left: list[tuple[int, Tensor]] = []

    def leave(place: int, head: nn.Module) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_block: nn.Module, _inputs: tuple[Tensor, ...], features: Tensor) -> None:
            logits = head(features)
            if done(place, logits):
                left.append((place, logits))
                raise _LeftError

        return hook

    hooks = [
        module.body.get_submodule(name).register_forward_hook(leave(place, head))
        for place, (name, head) in enumerate(zip(module.split_points, module.heads, strict=True))
    ]
    try:
        final: Tensor = module.body(images)
    except _LeftError:
        return left[0]
    finally:
        for hook in hooks:
            hook.remove()
    return len(module.split_points), final
