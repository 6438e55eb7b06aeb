"""Structure as facts: what stages made of a module, as plain data, and the module made again from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ordercomp.networks.exits import Architecture, MultiExit, drop_module, replace_module
from ordercomp.networks.heads import make_head
from ordercomp.networks.layers import QuantizedLayer, quantized_layer
from ordercomp.plugins import rebuild_module


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A module of the body that a stage of the user's replaced, and the facts to make it again from."""

    stage: str  # the letter; its class has a static method `rebuild(module, facts)`
    module: str  # name in the body
    facts: Mapping[str, Any]  # as JSON can hold them


def describe(module: MultiExit, dropped: Sequence[str], rebuilt: Sequence[Rebuilt] = ()) -> dict[str, Any]:
    """The facts that stages added to the module of the factory, as JSON can hold them."""
    layers = dict(module.named_modules(remove_duplicate=False))
    return {
        "dropped": list(dropped),
        "rebuilt": [[one.stage, one.module, dict(one.facts)] for one in rebuilt],
        "exits": list(module.split_points),
        "shapes": {name: list(tensor.shape) for name, tensor in module.state_dict().items()},
        "groups": {
            name: layer.groups
            for name, layer in layers.items()
            if isinstance(layer, nn.Conv2d) and layer.groups > 1
        },
        "quantized": {
            name: [layer.weight_bits, layer.activation_bits, layer.signed]
            for name, layer in layers.items()
            if isinstance(layer, QuantizedLayer)
        },
    }


def assemble(architecture: Architecture, structure: Mapping[str, Any]) -> MultiExit:
    """A module of that structure with fresh weights, drawn from torch's global generator.

    Raises KeyError, RuntimeError, ValueError or AttributeError if the facts do not fit the factory's module.
    """
    body = build_body(architecture, structure["dropped"])
    for stage, name, facts in structure.get("rebuilt", ()):
        if not any(f"{name}.".startswith(f"{gone}.") for gone in structure["dropped"]):
            replace_module(body, name, rebuild_module(stage, body.get_submodule(name), facts))
    shapes: Mapping[str, Sequence[int]] = structure["shapes"]
    heads = [_head(f"heads.{place}", shapes, architecture) for place in range(len(structure["exits"]))]
    module = MultiExit(body, dict(zip(structure["exits"], heads, strict=True)))
    _cut_tensors(module, shapes)
    for name, layer in module.named_modules():
        _update_sizes(layer, structure["groups"].get(name, 1))
    twins: dict[nn.Module, nn.Module] = {}  # a layer that stands in several places stays one layer
    for name, (weights, activations, signed) in structure["quantized"].items():
        layer = module.get_submodule(name)
        if layer not in twins:
            twins[layer] = quantized_layer(layer, weights, activations, signed=signed)
        replace_module(module, name, twins[layer])
    return module


def _head(name: str, shapes: Mapping[str, Sequence[int]], architecture: Architecture) -> nn.Module:
    """A head of the kind and the widths that its shapes tell."""
    width = shapes[f"{name}.classifier.weight"][1]
    codebook = shapes.get(f"{name}.codebook.weight")
    if codebook is None:
        return make_head("pool", width, architecture.classes)
    return make_head("bof", codebook[1], architecture.classes, codewords=codebook[0])


def build_body(architecture: Architecture, dropped: Sequence[str]) -> nn.Module:
    """The factory's module with the dropped ones handing on what they are given."""
    body = architecture.build()
    for name in dropped:
        drop_module(body, name)
    return body


def _cut_tensors(module: nn.Module, shapes: Mapping[str, Sequence[int]]) -> None:
    """Cut parameters and buffers to `shapes`, keeping the first channels; tied ones stay tied."""
    tied: dict[int, Tensor] = {}  # by identity
    for name in module.state_dict():
        path, _, own = name.rpartition(".")
        layer = module.get_submodule(path)
        tensor: Tensor = getattr(layer, own)
        if list(tensor.shape) == list(shapes[name]):
            continue
        if id(tensor) not in tied:
            cut = tensor.detach()[tuple(slice(size) for size in shapes[name])].clone()
            if list(cut.shape) != list(shapes[name]):
                raise RuntimeError(f"{name} should have shape {shapes[name]}, it has {list(tensor.shape)}")
            tied[id(tensor)] = nn.Parameter(cut) if isinstance(tensor, nn.Parameter) else cut
        setattr(layer, own, tied[id(tensor)])


def _update_sizes(layer: nn.Module, groups: int) -> None:
    """Let the attributes of a layer tell the shapes of its tensors."""
    if isinstance(layer, nn.Conv2d):
        layer.groups = groups
        layer.out_channels, layer.in_channels = layer.weight.shape[0], layer.weight.shape[1] * groups
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, nn.BatchNorm2d | nn.InstanceNorm2d | nn.BatchNorm1d):
        sized = layer.weight if layer.affine else layer.running_mean
        if sized is not None:
            layer.num_features = len(sized)
    elif isinstance(layer, nn.GroupNorm) and layer.affine:
        layer.num_channels = len(layer.weight)
    elif isinstance(layer, nn.LayerNorm) and layer.elementwise_affine:
        layer.normalized_shape = tuple(layer.weight.shape)
    elif isinstance(layer, nn.PReLU):
        layer.num_parameters = len(layer.weight)
