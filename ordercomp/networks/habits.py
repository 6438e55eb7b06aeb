"""What networks of users do that ours do not, and what is done so that they work all the same."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

_ROWS = "_ordercomp_keeps_rows"


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
        old = [one for one in module._forward_pre_hooks.values() if _is_reparametrization(one)]
        if parametrize.is_parametrized(module) or old:
            raise ValueError(
                f"{where} computes its weight from others (weight_norm, spectral_norm or the like), which no "
                "stage can cut or round; remove that before you return the network, "
                "for example by torch.nn.utils.parametrize.remove_parametrizations"
            )


def _is_reparametrization(hook: object) -> bool:
    return type(hook).__module__ in ("torch.nn.utils.weight_norm", "torch.nn.utils.spectral_norm")


@torch.no_grad()
def needs_rows(body: nn.Module, images: Tensor) -> bool:
    """Whether `body` in evaluation mode runs, but not with its weights and images laid out channels last."""
    last = torch.channels_last
    twin: nn.Module = copy.deepcopy(body, kept_results(body))
    twin.to(memory_format=last)  # type: ignore[call-overload]
    try:
        twin(images.contiguous(memory_format=last))
    except RuntimeError as error:
        return "view size is not compatible" in str(error)
    return False


def keep_rows(body: nn.Module) -> None:
    """Remember that `body` needs them; copies know it, too."""
    setattr(body, _ROWS, True)


def keeps_rows(body: nn.Module) -> bool:
    """Whether `body` was found to need its images and weights in rows."""
    return bool(getattr(body, _ROWS, False))


def kept_results(module: nn.Module) -> dict[int, Any]:
    """For copy.deepcopy: results of the last run that a forward kept in `self`, without their history."""
    return {
        id(one): one.detach().clone()
        for part in module.modules()
        for name, value in vars(part).items()
        if name not in ("_parameters", "_buffers", "_modules")
        for one in _tensors(value)
        if one.grad_fn is not None
    }


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _tensors(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)
