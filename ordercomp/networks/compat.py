"""Model compatibility: what networks of users do that ours do not, and what makes them work all the same."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

_COMPUTE_WEIGHTS = ("torch.nn.utils.weight_norm", "torch.nn.utils.spectral_norm", "torch.nn.utils.prune")
_CONTIGUOUS = "_ordercomp_keeps_rows"  # attribute of a body


class Dropped(nn.Identity):
    """In the place of a block: hands on its first input, called as the block was; keeps plain attributes."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        own = vars(self)
        for name, value in vars(block).items():
            if name not in own and not name.startswith("_") and _is_plain(value):
                own[name] = value

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Return the first of what it is given."""
        return next(iter((*inputs, *named.values())))


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def check_own_modules(body: nn.Module, model: str) -> None:
    """Raise ValueError for modules whose weights are not their own: scripted or reparametrized ones."""
    for name, module in body.named_modules():
        where = f"{name} of {model}" if name else model
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(f"{where} is scripted, so that no stage can change it; return it unscripted")
        if parametrize.is_parametrized(module) or any(
            type(hook).__module__ in _COMPUTE_WEIGHTS for hook in module._forward_pre_hooks.values()
        ):
            raise ValueError(
                f"{where} computes its weight from others (weight_norm, spectral_norm, prune or the like), "
                "which no stage can cut or round; remove that before you return the network, for example by "
                "torch.nn.utils.parametrize.remove_parametrizations or torch.nn.utils.prune.remove"
            )
        if type(module).get_extra_state is not nn.Module.get_extra_state:
            raise ValueError(
                f"{where} keeps a state of its own beside its tensors (get_extra_state), which no file of a "
                "network holds; return it without"
            )


@torch.no_grad()
def needs_contiguous(body: nn.Module, images: Tensor) -> bool:
    """Whether `body`, in evaluation mode, runs, but not with weights and images laid out channels last."""
    last = torch.channels_last
    twin: nn.Module = copy.deepcopy(body, kept_results(body))
    twin.to(memory_format=last)  # type: ignore[call-overload]
    try:
        twin(images.contiguous(memory_format=last))
    except RuntimeError as error:
        return "view size is not compatible" in str(error)
    return False


def mark_contiguous(body: nn.Module) -> None:
    """Remember that `body` needs contiguous images and weights; copies know it, too."""
    setattr(body, _CONTIGUOUS, True)


def marked_contiguous(body: nn.Module) -> bool:
    """Whether `body` was found to need them so."""
    return bool(getattr(body, _CONTIGUOUS, False))


def kept_results(module: nn.Module) -> dict[int, Any]:
    """For copy.deepcopy: results of the last run that a forward kept in `self`, without their history."""
    return {
        id(tensor): tensor.detach().clone()
        for part in module.modules()
        for name, value in vars(part).items()
        if name not in ("_parameters", "_buffers", "_modules")
        for tensor in _tensors(value)
        if tensor.grad_fn is not None
    }


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _tensors(inner)
