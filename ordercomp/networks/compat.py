"""Model compatibility: what networks of users do that ours do not, and what makes them work all the same."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ordercomp.errors import one_line

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
    tensors = (*body.named_parameters(remove_duplicate=False), *body.named_buffers(remove_duplicate=False))
    for key in body.state_dict().keys() - dict(tensors).keys():
        raise ValueError(
            f"{key.rpartition('.')[0] or 'the network'} of {model} keeps a state of its own beside its "
            "tensors (get_extra_state or the like), which no file of a network holds; return it without"
        )


@torch.no_grad()
def check_made_again(body: nn.Module, again: nn.Module, images: Tensor, model: str) -> None:
    """Raise ValueError unless `again`, of other weights, gives the logits of `body` once it has its tensors.

    Files hold tensors alone: what a function draws beside them is lost, and another when it is called again.
    A network that disagrees with itself is left to the stages. Both end in evaluation mode.
    """
    try:
        again.load_state_dict(body.state_dict(), strict=True)
    except RuntimeError as error:
        raise ValueError(f"{model} makes other layers each time it is called: {one_line(error)}") from None
    logits = body.eval()(images)
    if _alike(logits, body(images)) and not _alike(logits, again.eval()(images)):
        culprit = next(_drawn_anew(body, again), "something")
        raise ValueError(
            f"{model} makes another network each time it is called: {culprit} is in no file of it and comes "
            "out differently; make it a persistent buffer, or draw it from a seed of its own"
        )


def _alike(logits: Tensor, others: Tensor) -> bool:
    return torch.allclose(logits, others, rtol=0, atol=1e-3 * float(logits.abs().max()), equal_nan=True)


def _drawn_anew(body: nn.Module, again: nn.Module) -> Iterator[str]:
    """Attributes and buffers, with the names of their modules, that differ though all saved tensors agree."""
    for (name, module), module_again in zip(body.named_modules(), again.modules(), strict=False):
        others = {**vars(module_again), **module_again._buffers}
        for key, value in {**vars(module), **module._buffers}.items():
            other = others.get(key)
            differs = (
                isinstance(other, Tensor) and not torch.equal(value, other)
                if isinstance(value, Tensor)
                else _is_plain(value) and value != other
            )
            if differs:
                yield f"{key} of {name or 'the network'}"


@torch.no_grad()
def needs_contiguous(body: nn.Module, images: Tensor) -> bool:
    """Whether `body`, in evaluation mode, runs, but not with weights and images laid out channels last."""
    last = torch.channels_last
    twin: nn.Module = copy.deepcopy(body, kept_results(body))
    lay_out(twin, last)
    try:
        twin(images.contiguous(memory_format=last))
    except RuntimeError as error:
        return "view size is not compatible" in str(error)
    return False


def lay_out(module: nn.Module, layout: torch.memory_format) -> None:
    """Lay out, in place, all tensors of four dimensions; torch's own `to` fails where one has five."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.to(memory_format=layout)


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
