"""CompressedNetwork: a user's module plus the structural facts that stages have added to it.

It never carries a private architecture: the factory that built the module is recorded by name, and what
stages changed (dropped blocks, layer shapes, bit widths, exits) is recorded as facts, from which
`rebuild` makes the same structure again with fresh weights, and `load` a saved network.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ordercomp.errors import is_out_of_memory
from ordercomp.models.catalog import count_parameters
from ordercomp.networks.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from ordercomp.networks.exits import (
    Architecture,
    Bits,
    MultiExit,
    attach_heads,
    blank_copy,
    channels_last,
    quantize_layers,
    running_order,
)
from ordercomp.networks.heads import head_kind
from ordercomp.networks.layers import QuantizedLayer
from ordercomp.networks.serving import Serving
from ordercomp.networks.structure import Rebuilt, assemble, build_body, describe
from ordercomp.sequence import StageSequence, Step

_SMALL = 64 * 2**20  # bytes that the uncompressed network of any file may take
_MOST_TIMES = 200  # how many times larger than its file it may be: stages cut widths and blocks


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
    rebuilt: tuple[Rebuilt, ...] = ()  # modules that stages of the user's replaced
    bits: Bits | None = None  # None: float
    lineage: tuple[StepResult, ...] = ()
    serving: Serving = field(
        default_factory=Serving
    )  # normalization and threshold, for those who use the network

    @classmethod
    def create(
        cls, model: str, *, classes: int, channels: int = 3, size: tuple[int, int] = (32, 32), seed: int = 0
    ) -> "CompressedNetwork":
        """An untrained network from a model name, initialized from `seed`.

        Raises ValueError if the model is unknown or does not map such images to logits, shape (n, classes).
        """
        architecture = Architecture(model=model, classes=classes, channels=channels, size=size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            body = architecture.build()
        return cls(module=channels_last(MultiExit(body)), architecture=architecture)

    @property
    def sequence(self) -> StageSequence:
        """The stages that this network went through."""
        return StageSequence(tuple(result.step for result in self.lineage))

    @property
    def epochs(self) -> float:
        """Epochs of training since the baseline."""
        return sum(result.epochs for result in self.lineage)

    @property
    def exits(self) -> tuple[str, ...]:
        """Names of the body modules after which a head sits."""
        return self.module.split_points

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
                module = attach_heads(body, self.exits, self.architecture, kind=kind)
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
            "architecture": self.architecture.to_facts(),
            "structure": describe(self.module, self.dropped, self.rebuilt),
            "bits": None if self.bits is None else [self.bits.weights, self.bits.activations],
            "lineage": [
                {"step": str(result.step), "epochs": result.epochs, "achieved": result.achieved}
                for result in self.lineage
            ],
            "serving": self.serving.to_facts(),
        }
        write_checkpoint(Path(path), self.module.state_dict(), facts)

    @classmethod
    def load(cls, path: Path | str, *, model: str | None = None) -> "CompressedNetwork":
        """Read a network that `save` wrote, on the CPU; its logits are bit-identical to the saved one's.

        Loading calls the factory that the file names. A name of the form `module:function` imports that
        module: load such files only from people whose code you would run, or say which `model` it must name.
        Raises CheckpointError for a damaged or foreign file, FileNotFoundError for a missing one.
        """
        tensors, facts = read_checkpoint(Path(path))
        if "packed" in facts:
            raise CheckpointError(
                f"{path} is packed for use and holds no weights to train on; `load_network` reads it"
            )
        try:
            if model is not None and facts["architecture"]["model"] != model:
                raise ValueError(f"it names {facts['architecture']['model']!r}, not {model!r}")
            _check_shapes(facts["structure"]["shapes"], tensors)
            _check_size(Architecture.from_facts(facts["architecture"]), Path(path).stat().st_size)
            with torch.random.fork_rng(devices=[]):  # the factory's weights are replaced at once
                network = _from_facts(facts)
            network.module.load_state_dict(tensors, strict=True)
            _check_logits(channels_last(network.module).eval(), network.architecture)
        except (
            KeyError,
            TypeError,
            IndexError,
            RuntimeError,
            AttributeError,
            ValueError,
            ArithmeticError,
        ) as error:
            if is_out_of_memory(error):
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            raise CheckpointError(f"{path} does not fit the model it names: {reason}") from None
        return network


def _check_shapes(declared: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Raise RuntimeError unless the file holds what it declares, before anything of that size is built."""
    for name in {**declared, **tensors}:
        found = list(tensors[name].shape) if name in tensors else None
        if declared.get(name) != found:
            raise RuntimeError(f"{name} is declared with shape {declared.get(name)}, the file holds {found}")


def _check_size(architecture: Architecture, file_bytes: int) -> None:
    """Raise RuntimeError if the network before its stages is too large for what a file of this size holds."""
    count = count_parameters(architecture.model, classes=architecture.classes, channels=architecture.channels)
    most = (_SMALL + _MOST_TIMES * file_bytes) // 4
    if count is not None and count > most:
        raise RuntimeError(
            f"it names a network of {count:,} parameters, {count / most:.1f} times more than its size allows"
        )


def _check_logits(module: MultiExit, architecture: Architecture) -> None:
    with torch.no_grad():
        found = [tuple(logits.shape) for logits in module(architecture.example(1))]
    if any(shape != (1, architecture.classes) for shape in found):
        raise RuntimeError(f"its exits give logits of shapes {found} for {architecture.classes} classes")


def _from_facts(facts: Mapping[str, Any]) -> CompressedNetwork:
    architecture = Architecture.from_facts(facts["architecture"])
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
        rebuilt=tuple(Rebuilt(*one) for one in facts["structure"].get("rebuilt", ())),
        bits=None if facts["bits"] is None else Bits(*facts["bits"]),
        lineage=lineage,
        serving=Serving.from_facts(facts["serving"]) if "serving" in facts else Serving(),
    )
