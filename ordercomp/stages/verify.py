"""Checks of what a stage did to a network's structure, on weights that tell every channel apart.

A network that nobody here knows may multiply by weights in ways that quantizers replace, or move channels
about in ways that no tracer follows. Each check runs on copies, unquantized, in float64 where the network
allows it, and leaves the random generators alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ordercomp.errors import is_out_of_memory, one_line
from ordercomp.networks.exits import Bits, channels_last
from ordercomp.networks.layers import FLOAT_BITS, BagOfFeaturesHead, has_plain_forward
from ordercomp.networks.network import CompressedNetwork
from ordercomp.stages.stage import StageError
from ordercomp.stages.tracing import Cut, apply_cuts, layer_width, merged

_COARSE = 1e-2
_CLOSE = {torch.float64: 1e-9, torch.float32: 1e-3}  # shares of the largest logit that rounding may change
_NEVER_ALIKE = -1e4  # to a codeword, so that its share of the histogram is zero
_NOT_ZERO_AT_ZERO = frozenset(
    {
        torch.sigmoid,
        Tensor.sigmoid,
        functional.sigmoid,
        functional.hardsigmoid,
        functional.softplus,
        functional.logsigmoid,
        torch._C._nn.hardsigmoid,
        torch._C._nn.softplus,
        torch._C._nn.log_sigmoid,
        torch.exp,
        Tensor.exp,
        torch.cos,
        Tensor.cos,
    }
)


def check_quantizing(network: CompressedNetwork) -> None:
    """Raise StageError unless 32 bits, which round nothing, leave the logits of the network as they are."""
    before = network.copy()
    before.module.eval()
    after = before.quantized(Bits(FLOAT_BITS, FLOAT_BITS))
    after.module.eval()
    if network.bits is not None:
        before = _in_float(before)
    model, images = network.architecture.model, network.example(2)
    if not _agree(before.module, before.module, images):
        raise StageError(f"{model} gives other logits each time it sees the same images, in evaluation, too")
    if not _agree(before.module, after.module, images):
        raise StageError(
            f"{model} cannot be quantized: with 32 bits, which round nothing, its logits change; "
            "a layer of it does more in its forward than Conv2d and Linear do"
        )


def sound_cuts(network: CompressedNetwork, cuts: Sequence[Cut]) -> tuple[list[Cut], dict[str, str]]:
    """The cuts that leave together what the network computes with the cut channels masked.

    Normalizations over several channels, and standardizations of weights, are taken over those that are
    left, in both. Also returned is why the others are not among them, by the name of the layer that makes the
    channels. Raises StageError if the network computes something else each time.
    """
    whole = _in_float(network.copy())
    _make_unique(whole.module)
    whole.module.eval()
    sound, lost = _keep(cuts, lambda tried: _flaw(whole, tried))
    if lost and (flaw := _flaw(whole, ())):
        raise StageError(flaw)
    sound, torn = _keep(sound, lambda tried: _flaw_of_rebuilt(whole, tried))
    return sound, lost | torn


def _keep(cuts: Sequence[Cut], flaw: Callable[[Sequence[Cut]], str]) -> tuple[list[Cut], dict[str, str]]:
    """The cuts without flaw, taken one after the other, and what is wrong with each other one.

    All at once where nothing is; each that adds a flaw is found by halving.
    """
    kept: list[Cut] = []
    rest, flaws = list(cuts), dict[str, str]()
    while rest and (fault := flaw([*kept, *rest])):
        right, wrong = 0, len(rest)
        while wrong - right > 1:
            middle = (right + wrong) // 2
            if now := flaw([*kept, *rest[:middle]]):
                wrong, fault = middle, now
            else:
                right = middle
        flaws[rest[right][0].name] = fault
        kept += rest[:right]
        rest = rest[wrong:]
    return kept + rest, flaws


def same_logits(logits: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    """Whether the logits of all exits agree up to rounding in their precision; NaN agrees with nothing."""
    return all(
        first.shape == second.shape
        and bool(
            (first - second).abs().max()
            <= _CLOSE.get(first.dtype, _COARSE) * first.abs().max().clamp_min(1e-6)
        )
        for first, second in zip(logits, others, strict=True)
    )


def _flaw(whole: CompressedNetwork, cuts: Sequence[Cut]) -> str:
    """What is wrong if these channels go from a network of unique weights; empty if nothing is."""
    masked, cut = whole.copy(), whole.copy()
    try:
        apply_cuts(cut.module, cuts)
        _standardize_rest(masked.module, cut.module, cuts)
        _mask_channels(masked.module, cut.module, merged(cuts, outputs=True))
        with _MaskedActivations():
            right = _agree(masked.module, cut.module, whole.example(2))
    except Exception as error:
        return _cannot_run(error)
    if right:
        return ""
    if not cuts:
        return f"{whole.architecture.model} gives other logits each time it sees the same images"
    return (
        f"without the channels cut from {cuts[-1][0].name.removeprefix('body.')} it computes something else "
        "than with them silenced; channels are moved about behind that layer, or are told apart by more than "
        "their weights"
    )


@torch.no_grad()
def _flaw_of_rebuilt(whole: CompressedNetwork, cuts: Sequence[Cut]) -> str:
    """What is wrong if a network is cut and made again from its shapes; empty if nothing is."""
    cut = whole.copy()
    images = whole.example(2)
    try:
        apply_cuts(cut.module, cuts)
        rebuilt = cut.rebuild(seed=0).module
        rebuilt.load_state_dict(cut.module.state_dict(), strict=True)
        rebuilt.to(whole.device).eval()
        for logits, again in zip(channels_last(cut.module)(images), rebuilt(images), strict=True):
            if logits.shape != (len(images), whole.architecture.classes):
                return f"pruning changes the shape of the logits to {tuple(logits.shape)}"
            if not torch.equal(logits, again):
                return "a network rebuilt from the pruned shapes computes something else"
    except Exception as error:
        return _cannot_run(error)
    return ""


def _cannot_run(error: Exception) -> str:
    if is_out_of_memory(error):
        raise error
    return f"what is left of it cannot be run beside it ({type(error).__name__}: {one_line(error)})"


@torch.no_grad()
def _agree(first: nn.Module, second: nn.Module, images: Tensor) -> bool:
    """Whether both give the same logits, in float64, or in float32 where a forward insists on that.

    Both change together, as a hook of the first may run a layer of the second.
    """
    try:
        exact = images.double()
        first.double(), second.double()
        return same_logits(first(exact), second(exact))
    except (RuntimeError, TypeError):
        first.float(), second.float()
        return same_logits(first(images), second(images))
    finally:
        first.float(), second.float()


def _in_float(network: CompressedNetwork) -> CompressedNetwork:
    """The same network, changed in place to quantizers that do not round."""
    for _, layer in network.quantized_layers():
        layer.set_bits(FLOAT_BITS, FLOAT_BITS)
    network.module.round_outputs({})
    return replace(network, bits=None)


@torch.no_grad()
def _make_unique(module: nn.Module) -> None:
    """Give every weight another value, of a size at which signals neither vanish nor explode."""
    generator = torch.Generator().manual_seed(0)

    def drawn(tensor: Tensor) -> Tensor:
        return torch.rand(tensor.shape, generator=generator).to(tensor)

    for layer in module.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            if parameter.dim() >= 2 and isinstance(layer, (nn.Conv2d, nn.Linear)):
                parameter.copy_((drawn(parameter) - 0.5) * (12 / parameter[0].numel()) ** 0.5)
            elif name == "bias":
                parameter.copy_((drawn(parameter) - 0.5) / 5)
            elif parameter.is_floating_point():
                parameter.copy_(drawn(parameter) + 0.5)
        for name, buffer in layer.named_buffers(recurse=False):
            if name == "running_mean":
                buffer.copy_((drawn(buffer) - 0.5) / 5)
            elif name == "running_var":
                buffer.copy_(drawn(buffer) + 0.5)


# Channel masking: a network whose cut channels are still there, but say nothing


class _MaskedActivations(TorchFunctionMode):
    """Activations that make something of zero keep channels that are zero everywhere at zero."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run `func`, then zero what was zero."""
        output = func(*args, **(kwargs or {}))
        if func not in _NOT_ZERO_AT_ZERO or not args or not isinstance(args[0], Tensor):
            return output
        last = args[0].dim() - 1
        for dim in {1, last} - {0}:
            others = [other for other in range(last + 1) if other != dim]
            output = output * (args[0] != 0).float().amax(others, keepdim=True)
        return output


@torch.no_grad()
def _mask_channels(whole: nn.Module, cut: nn.Module, removed: Mapping[str, Sequence[int]]) -> None:
    """Let the outputs `removed`, by module or parameter of `whole`, be zero from now on, in place.

    Layers that normalize over channels take in those that `cut` has left. Raises ValueError if their weights
    are not those of the channels left.
    """
    modules, parameters = dict(whole.named_modules()), dict(whole.named_parameters())
    codebooks = [module.codebook for module in modules.values() if isinstance(module, BagOfFeaturesHead)]
    for name, channels in removed.items():
        if name in parameters:
            _mask_parameter(parameters[name], cut.get_parameter(name), channels)
        elif isinstance(modules[name], (nn.LayerNorm, nn.GroupNorm)):
            _normalize_rest(name, modules[name], cut.get_submodule(name), channels)
        else:
            layer = modules[name]
            _mask_outputs(layer, channels, _NEVER_ALIKE if layer in codebooks else 0.0)


def _mask_outputs(layer: nn.Module, channels: Sequence[int], value: float) -> None:
    index = torch.tensor(channels)

    def hook(_layer: nn.Module, _inputs: tuple[Tensor, ...], output: Any) -> Tensor:
        if not isinstance(output, Tensor):
            raise ValueError(
                f"a {type(layer).__name__} has more than one output, whose channels are not known"
            )
        dim = output.dim() - 1 if isinstance(layer, nn.Linear) else 1
        return output.index_fill(dim, index.to(output.device), value)

    layer.register_forward_hook(hook)


def _normalize_rest(name: str, layer: nn.Module, left: nn.Module, channels: Sequence[int]) -> None:
    """Normalize over the channels left, as the layer `left` does."""
    weight, width = layer.weight, int(layer.weight.shape[0])  # type: ignore[index]
    kept = _others(channels, width)
    assert isinstance(weight, Tensor)
    assert isinstance(left.weight, Tensor)
    if not torch.equal(weight[kept.to(weight.device)], left.weight):
        raise ValueError(f"{name} has weights of other channels than those that are left")

    def hook(_layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        last = isinstance(layer, nn.LayerNorm) and output.shape[-1] == width
        return _of_rest(left, inputs[0], output, kept, kept, dim=output.dim() - 1 if last else 1)

    layer.register_forward_hook(hook)


def _standardize_rest(whole: nn.Module, cut: nn.Module, cuts: Sequence[Cut]) -> None:
    """Let layers that normalize their weights do so over the inputs that `cut` has left, in place."""
    outputs = merged(cuts, outputs=True)
    for name, channels in merged(cuts, outputs=False).items():
        layer = whole.get_submodule(name)
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and not has_plain_forward(layer):
            kept_in = _others(channels, layer_width(layer, outputs=False))
            kept_out = _others(outputs.get(name, ()), layer_width(layer, outputs=True))
            hook = partial(_of_normalized, cut.get_submodule(name), (kept_in, kept_out))
            layer.register_forward_hook(hook)


def _of_normalized(
    left: nn.Module,
    kept: tuple[Tensor, Tensor],
    layer: nn.Conv2d | nn.Linear,
    inputs: tuple[Tensor, ...],
    output: Tensor,
) -> Tensor:
    """What `left` gives, if twice the weights, turned round as the inputs are, change nothing."""
    values, weight = inputs[0], layer.weight.data
    dim = 1 if isinstance(layer, nn.Conv2d) else values.dim() - 1
    grouped = torch.unflatten(values, dim, (getattr(layer, "groups", 1), -1))
    layer.weight.data = 2 * weight.flip(1)
    again = layer.forward(grouped.flip(dim + 1).flatten(dim, dim + 1))
    layer.weight.data = weight
    if (again - output).abs().max() > _COARSE * output.abs().max():
        return output
    return _of_rest(left, values, output, *kept, dim=dim)


def _of_rest(
    left: nn.Module, values: Tensor, output: Tensor, kept_in: Tensor, kept_out: Tensor, *, dim: int
) -> Tensor:
    """What `left` makes of the channels `kept_in`, in the places `kept_out` of an output of zeros."""
    rest: Tensor = left(values.index_select(dim, kept_in.to(values.device)))
    return torch.zeros_like(output).index_copy(dim, kept_out.to(output.device), rest)


def _others(channels: Sequence[int], width: int) -> Tensor:
    gone = set(channels)
    return torch.tensor([channel for channel in range(width) if channel not in gone])


def _mask_parameter(whole: nn.Parameter, cut: nn.Parameter, channels: Sequence[int]) -> None:
    """Zero the part of a parameter that is cut, along the dimension in which the two differ."""
    for dim, (before, after) in enumerate(zip(whole.shape, cut.shape, strict=True)):
        if before != after:
            whole.index_fill_(dim, torch.tensor(channels).to(whole.device), 0.0)
