"""CompressedNetwork: a user's module plus the structural facts that stages have added to it.

It never carries a private architecture: the factory that built the module is recorded by name, and what
stages changed (dropped blocks, layer shapes, bit widths, exits) is recorded as facts, from which
`rebuild` makes the same structure again with fresh weights, and `load` a saved network.
"""

import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ordercomp.codec import OMITTED, decode, encode
from ordercomp.errors import is_out_of_memory, one_line
from ordercomp.networks.compat import check_made_again
from ordercomp.networks.constraints import mark, marks
from ordercomp.networks.exits import (
    POLICIES,
    Architecture,
    Bits,
    MultiExit,
    attach_heads,
    blank_copy,
    channels_last,
    drop_module,
    quantize_layers,
    quantize_named_layers,
    replace_module,
    running_order,
)
from ordercomp.networks.factors import make_factors
from ordercomp.networks.gates import GatedBlock, gates
from ordercomp.networks.layers import Levels, QuantizedLayer, head_kind, make_head
from ordercomp.networks.roundings import make_roundings, signs
from ordercomp.networks.weights import CheckpointError, bounded, read_checkpoint, write_checkpoint
from ordercomp.plugins import rebuild_module, refuse_untrusted
from ordercomp.sequence import StageSequence, Step

# How modules that built-in stages replaced are made again; plug-in stages say so themselves.
_REBUILT: Mapping[str, Callable[[nn.Module, Mapping[str, Any]], nn.Module]] = {
    "L": make_factors,
    "S": GatedBlock.rebuild,
}

# What facts of a foreign or damaged file may raise.
UNFIT = (LookupError, TypeError, RuntimeError, AttributeError, ValueError, ArithmeticError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What a network needs beside its weights to be used: how images become inputs, and when they leave.

    By default images are taken as they come, and all go to the end.
    """

    mean: tuple[float, ...] = ()  # of each channel, in units of stored pixel values; empty: no normalization
    std: tuple[float, ...] = ()
    threshold: float | None = None  # an image leaves at the first exit whose largest softmax reaches it
    names: tuple[str, ...] = field(default=(), metadata=OMITTED)  # of the classes, in order; empty: not known
    scale: tuple[float, ...] = field(default=(), metadata=OMITTED)  # of real targets: what 0 is, and 1 more

    def __post_init__(self) -> None:
        if self.scale and (len(self.scale) != 2 or not math.isfinite(self.scale[0]) or not self.scale[1] > 0):
            raise ValueError(f"scale must be a finite number and a positive one, got {self.scale}")
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean and std must be equally long, got {len(self.mean)} and {len(self.std)}")
        if not all(map(math.isfinite, self.mean)) or not all(0 < value < math.inf for value in self.std):
            raise ValueError(f"mean must be finite and std positive, got {self.mean} and {self.std}")
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise ValueError(f"threshold must be a finite number or None, got {self.threshold}")


# Structure as facts: what stages made of a module, as plain data, and the module made again from them


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A module of the body that a stage replaced, and the facts to make it again from."""

    stage: str  # the letter; a plug-in's class has a static method `rebuild(module, facts)`
    module: str  # name in the body
    facts: Mapping[str, Any]  # as JSON can hold them


def describe(module: MultiExit, dropped: Sequence[str], rebuilt: Sequence[Rebuilt] = ()) -> dict[str, Any]:
    """The facts that stages added to the module of the factory, as JSON can hold them."""
    layers = dict(module.named_modules(remove_duplicate=False))
    held = marks(module)
    return {
        **({"held": held} if held else {}),
        "dropped": list(dropped),
        "rebuilt": [[part.stage, part.module, dict(part.facts)] for part in rebuilt],
        "exits": list(module.split_points),
        **({} if module.policy == "confidence" else {"policy": module.policy}),
        "shapes": {name: list(tensor.shape) for name, tensor in module.state_dict().items()},
        "groups": {
            name: layer.groups
            for name, layer in layers.items()
            if isinstance(layer, _ConvNd) and layer.groups > 1
        },
        "quantized": {
            name: [layer.weight_bits, layer.activation_bits, layer.signed, *_other_levels(layer.levels)]
            for name, layer in layers.items()
            if isinstance(layer, QuantizedLayer)
        },
        **({"rounded": signs(module)} if module.rounded else {}),
    }


def _other_levels(levels: Levels) -> list[Levels]:
    """Levels as files tell them: where they are not uniform."""
    return [] if levels == "uniform" else [levels]


def _told_bits(bits: Bits) -> list[Any]:
    """Bits as files tell them: the last ones where they are not the usual ones."""
    fields = astuple(bits)
    return [*fields] if bits.placement != "layer" else [*fields[:2], *_other_levels(bits.levels)]


def assemble(architecture: Architecture, structure: Mapping[str, Any]) -> MultiExit:
    """A module of that structure with fresh weights, drawn from torch's global generator.

    Raises KeyError, RuntimeError, ValueError or AttributeError if the facts do not fit the factory's module.
    """
    body = build_body(architecture, structure["dropped"])
    for stage, name, facts in structure.get("rebuilt", ()):
        if not any(f"{name}.".startswith(f"{gone}.") for gone in structure["dropped"]):
            rebuild = _REBUILT.get(stage, partial(rebuild_module, stage))
            replace_module(body, name, rebuild(body.get_submodule(name), facts))
    shapes: Mapping[str, Sequence[int]] = structure["shapes"]
    heads = [_head(f"heads.{place}", shapes, architecture) for place in range(len(structure["exits"]))]
    policy = structure.get("policy", "confidence")
    if policy not in POLICIES:
        raise ValueError(f"policy must be one of {', '.join(POLICIES)}, got {policy!r}")
    module = MultiExit(body, dict(zip(structure["exits"], heads, strict=True)), policy)
    _cut_tensors(module, shapes)
    for name, layer in module.named_modules():
        _update_sizes(layer, structure["groups"].get(name, 1))
    for name, (sparse, shared) in structure.get("held", {}).items():
        mark(module.get_submodule(name), sparse=sparse, shared=shared)
    quantize_named_layers(module, structure["quantized"])
    module.round_outputs(make_roundings(structure.get("rounded", {})))
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
            tied[id(tensor)] = (
                nn.Parameter(cut, requires_grad=tensor.requires_grad)
                if isinstance(tensor, nn.Parameter)
                else cut
            )
        setattr(layer, own, tied[id(tensor)])


def _update_sizes(layer: nn.Module, groups: int) -> None:
    """Let the attributes of a layer tell the shapes of its tensors."""
    if isinstance(layer, _ConvNd):
        sizes = layer.weight.shape[0], layer.weight.shape[1] * groups
        layer.groups = groups
        layer.out_channels, layer.in_channels = sizes[::-1] if layer.transposed else sizes
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, nn.BatchNorm2d | nn.InstanceNorm2d | nn.BatchNorm1d):
        sized = layer.weight if layer.affine else layer.running_mean
        if sized is not None:
            layer.num_features = len(sized)
    elif isinstance(layer, nn.GroupNorm) and layer.affine:
        alone = layer.num_groups == layer.num_channels
        layer.num_channels = len(layer.weight)
        layer.num_groups = layer.num_channels if alone else layer.num_groups
    elif isinstance(layer, nn.LayerNorm) and layer.elementwise_affine:
        layer.normalized_shape = tuple(layer.weight.shape)
    elif isinstance(layer, nn.PReLU):
        layer.num_parameters = len(layer.weight)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What one stage did: its step, epochs of training, and facts such as the ratio achieved.

    Raises ValueError for facts that JSON cannot hold, NaN included; tuples become lists.
    """

    step: Step
    epochs: float
    achieved: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.epochs < math.inf:
            raise ValueError(f"epochs of {self.step} must be finite and not negative, got {self.epochs}")
        try:
            plain = json.loads(json.dumps(dict(self.achieved), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"achieved of {self.step} must be what JSON can hold, got {self.achieved}: {error}"
            ) from None
        object.__setattr__(self, "achieved", plain)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressedNetwork:
    """The state between stages. Treated as a value: stages return a changed copy."""

    module: MultiExit
    architecture: Architecture
    dropped: tuple[str, ...] = ()  # names of body modules that were replaced by nn.Identity
    rebuilt: tuple[Rebuilt, ...] = ()  # modules that L or stages of the user's replaced
    bits: Bits | None = None  # None: float
    lineage: tuple[StepResult, ...] = ()
    serving: Serving = field(default_factory=Serving)

    @classmethod
    def create(
        cls, model: str, *, classes: int, channels: int = 3, size: tuple[int, int] = (32, 32), seed: int = 0
    ) -> "CompressedNetwork":
        """An untrained network from a model name, initialized from `seed`.

        Raises ValueError if the model is unknown, does not map such images to logits, shape (n, classes), or
        is another network of the same weights when it is made again.
        """
        architecture = Architecture(model=model, classes=classes, channels=channels, size=size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            body = architecture.build()
            if ":" in model:
                torch.manual_seed(seed + 1)
                check_made_again(body, architecture.build(), architecture.example(), model)
                body.train()
        return cls(module=channels_last(MultiExit(body)), architecture=architecture)

    @property
    def sequence(self) -> StageSequence:
        """The stages that this network went through."""
        return StageSequence(tuple(result.step for result in self.lineage))

    @property
    def coded(self) -> bool:
        """Whether its weights are entropy coded: whether H was its last stage, as any other changes them."""
        return self.sequence.order.endswith("H")

    @property
    def epochs(self) -> float:
        """Epochs of training since the baseline."""
        return sum(result.epochs for result in self.lineage)

    @property
    def exits(self) -> tuple[str, ...]:
        """Names of the body modules after which a head sits."""
        return self.module.split_points

    @property
    def device(self) -> torch.device:
        """Where its weights lie."""
        return next(self.module.parameters()).device

    def example(self, count: int = 1) -> Tensor:
        """Random images on its device, shape (count, channels, h, w), the same each time."""
        return self.architecture.example(count).to(self.device)

    def copy(self) -> "CompressedNetwork":
        """An independent copy; gradients are not copied."""
        return replace(self, module=blank_copy(self.module))

    def then(self, result: StepResult) -> "CompressedNetwork":
        """The same network with one more step in its lineage."""
        return replace(self, lineage=(*self.lineage, result))

    def quantized_layers(self) -> Iterator[tuple[str, QuantizedLayer]]:
        """Names and modules of all fake-quantized layers, each once."""
        for name, module in self.module.named_modules():
            if isinstance(module, QuantizedLayer):
                yield name, module

    def quantized(self, bits: Bits) -> "CompressedNetwork":
        """A copy with every convolution and linear layer fake-quantized, its input ranges yet to calibrate.

        The first layer that runs takes the image as it is.
        """
        twin = self.copy()
        quantize_layers(twin.module, bits, image_reader=running_order(twin.module, self.architecture)[0])
        return replace(twin, bits=bits)

    def rebuild(self, *, seed: int, original: bool = False) -> "CompressedNetwork":
        """The same structure with fresh weights drawn from `seed`; activation ranges are left to calibrate.

        `original` keeps dropped blocks and exits, but takes the widths of the factory and float layers.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if original:
                body = build_body(self.architecture, self.dropped)
                kind = head_kind(self.module.heads)
                policy = self.module.policy
                module = attach_heads(body, self.exits, self.architecture, kind=kind, policy=policy)
            else:
                module = assemble(self.architecture, describe(self.module, self.dropped, self.rebuilt))
        return replace(
            self,
            module=channels_last(module),
            bits=None if original else self.bits,
            rebuilt=() if original else self.rebuilt,
        )

    def save(self, path: Path | str) -> None:
        """Write the network as one safetensors file, replacing it atomically. Raises OSError."""
        facts = {
            "architecture": encode(self.architecture),
            "structure": describe(self.module, self.dropped, self.rebuilt),
            "bits": self.bits and _told_bits(self.bits),
            "lineage": [
                {"step": str(result.step), "epochs": result.epochs, "achieved": result.achieved}
                for result in self.lineage
            ],
            "serving": encode(self.serving),
        }
        write_checkpoint(Path(path), self.module.state_dict(), facts)

    @classmethod
    def load(
        cls, path: Path | str, *, model: str | None = None, trust: Collection[str] = ()
    ) -> "CompressedNetwork":
        """Read a network that `save` wrote, on the CPU; its logits are bit-identical to the saved one's.

        Built-in models, torchvision's and timm's are made again. A model `module:function` is code, which is
        called only if you name that `model`, with its options, or the function in `trust`.

        Raises CheckpointError (a ValueError) for a damaged or foreign file, and for a model that is not
        trusted; FileNotFoundError for a missing one.
        """
        tensors, facts = read_checkpoint(Path(path))
        if "packed" in facts:
            raise CheckpointError(
                f"{path} is packed for use and holds no weights to train on; `load_network` reads it"
            )
        try:
            architecture = architecture_in(facts, model=model, trust=trust)
            _check_shapes(facts["structure"]["shapes"], tensors)
            with bounded(architecture.model, Path(path).stat().st_size):
                with torch.random.fork_rng(devices=[]):  # the factory's weights are replaced at once
                    network = _from_facts(architecture, facts)
                network.module.load_state_dict(tensors, strict=True)
                _check_logits(channels_last(network.module).eval(), network.architecture)
        except UNFIT as error:
            if is_out_of_memory(error):
                raise
            raise CheckpointError(f"{path} does not fit the model it names: {one_line(error)}") from None
        return network


def with_skip(network: CompressedNetwork, share: float | None) -> CompressedNetwork:
    """The network, or a copy whose gates let that share of the images skip their block."""
    if share is None:
        return network
    twin = network.copy()
    for gate in gates(twin.module).values():
        gate.share = share
    rebuilt = (
        replace(part, facts={**part.facts, "skip": share}) if part.stage == "S" else part
        for part in twin.rebuilt
    )
    return replace(twin, rebuilt=tuple(rebuilt))


def architecture_in(
    facts: Mapping[str, Any], *, model: str | None = None, trust: Collection[str] = ()
) -> Architecture:
    """The architecture that a file names, if its model may be called: see `CompressedNetwork.load`.

    Raises ValueError or KeyError.
    """
    architecture = decode(facts["architecture"], Architecture, "architecture", strict=False)
    if model is None:
        refuse_untrusted(architecture.model, trust, source="it")
    elif architecture.model != model:
        raise ValueError(f"it names {architecture.model!r}, not {model!r}")
    return architecture


def _check_shapes(declared: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Raise RuntimeError unless the file holds what it declares, before anything of that size is built."""
    for name in {**declared, **tensors}:
        shape = list(tensors[name].shape) if name in tensors else None
        if declared.get(name) != shape:
            raise RuntimeError(f"{name} is declared with shape {declared.get(name)}, the file holds {shape}")


def _check_logits(module: MultiExit, architecture: Architecture) -> None:
    with torch.no_grad():
        shapes = [tuple(logits.shape) for logits in module(architecture.example(1))]
    if any(shape != (1, architecture.classes) for shape in shapes):
        raise RuntimeError(f"its exits give logits of shapes {shapes} for {architecture.classes} classes")


def _from_facts(architecture: Architecture, facts: Mapping[str, Any]) -> CompressedNetwork:
    lineage = tuple(
        StepResult(
            step=StageSequence.parse(entry["step"]).steps[0],
            epochs=float(entry["epochs"]),
            achieved=entry["achieved"],
        )
        for entry in facts["lineage"]
    )
    return CompressedNetwork(
        module=assemble(architecture, facts["structure"]),
        architecture=architecture,
        dropped=tuple(facts["structure"]["dropped"]),
        rebuilt=tuple(Rebuilt(*part) for part in facts["structure"].get("rebuilt", ())),
        bits=None if facts["bits"] is None else Bits(*facts["bits"]),
        lineage=lineage,
        serving=decode(facts.get("serving", {}), Serving, "serving", strict=False),
    )
