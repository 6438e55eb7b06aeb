"""What a network costs: multiply-accumulates, bit operations and storage, in four named conventions.

BitOps = Σ MACs · weight bits · activation bits over convolutions and linear layers; a float multiplication
counts 32 · 32. The conventions differ in the bits they assume:

- `paper`: the nominal bits everywhere, first layer, classifier and heads included; normalization and
  biases cost nothing in BitOps and the nominal weight bits in storage. This is how published ratios are made.
- `honest`: each layer's true bits; the image is 8 bits; batch normalization is one float operation per
  value; biases, folded normalization and quantizer scales are stored as floats.
- `apot`: as `paper`, but first layer and classifiers have at least 8 bits (Li et al. 2019).
- `nonzero`: as `honest`, without the multiplications by weights that U has set to zero, which kernels for
  dense weights, and so the other conventions, run all the same.

Weights without zeros, or with a table of shared values, are stored in the form that `networks.stored` counts,
whatever the convention.

What is multiplied outside of those layers (weights that a module multiplies by itself, attention by `@`) is
counted by torch's own counter of operations, against which every layer is checked. No quantizer reaches it:
in every convention it runs in float and is stored in float.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ordercomp.networks.constraints import is_shared, is_sparse, weight_layers
from ordercomp.networks.exits import Bits, MultiExit, thawed
from ordercomp.networks.layers import FLOAT_BITS, QuantizedLayer
from ordercomp.networks.network import CompressedNetwork
from ordercomp.networks.stored import Form, coded_bits, form_of
from ordercomp.records import Convention

CONVENTIONS: tuple[Convention, ...] = get_args(Convention)
_OWN_BITS = ("honest", "nonzero")  # conventions with each layer's own bits
_IMAGE_BITS = 8
_FLOAT = Bits(FLOAT_BITS, FLOAT_BITS)
_UNCOUNTED = (nn.RNNBase,)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """One layer of a network, run once per image."""

    name: str
    segment: int  # runs if the image has not left before this exit
    macs: int  # multiply-accumulates per image; values normalized, for a normalization
    weights: int = 0  # number of weights
    form: Form | None = None  # in which they are stored, where that is not one by one
    outside: bool = False  # of modules that never ran, or are no convolutions or linear layers
    density: float = 1.0  # share of the weights that is not zero
    others: int = 0  # number of biases, or of folded normalization constants
    parameters: int = 0  # all trainable numbers of the layer
    scales: int = 0  # number of quantizer scales
    bits: Bits = _FLOAT  # as really run
    edge: bool = False  # the first layer, a classifier or a head: at least 8 bits in "apot"
    normalization: bool = False
    reached: bool = True  # by quantizers; what is not stays in float, whatever the nominal bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The facts from which every convention is computed."""

    layers: tuple[LayerCost, ...]
    nominal: Bits
    coded: int | None = None  # bits of all weights of convolutions and linear layers as H stores them
    exits: int  # number of exits, the final one included

    @property
    def parameters(self) -> int:
        """Number of trainable numbers."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image that goes through everything."""
        return sum(layer.macs for layer in self.layers if not layer.normalization)

    @property
    def sparse(self) -> bool:
        """Whether some weights are zero for good."""
        return any(layer.density < 1 for layer in self.layers)

    @property
    def reached(self) -> float:
        """Share of the multiply-accumulates that quantizers reach, or would reach."""
        reached = sum(layer.macs for layer in self.layers if layer.reached and not layer.normalization)
        return reached / self.macs

    @property
    def unreached(self) -> dict[str, dict[str, int]]:
        """What no quantizer reaches, by the name of its module: `weights` stored and `macs` run in float."""
        in_float: dict[str, dict[str, int]] = {}
        for layer in self.layers:
            if not layer.reached:
                entry = in_float.setdefault(layer.name, {"weights": 0, "macs": 0})
                entry["weights"] += layer.weights
                entry["macs"] += layer.macs
        return in_float

    def bits(self, convention: Convention = "paper") -> float:
        """Storage in bits."""
        return float(
            sum(self._storage(layer, _checked(convention)) for layer in self.layers) + (self.coded or 0)
        )

    def bitops(self, convention: Convention = "paper") -> float:
        """Bit operations of one image that goes to the last exit."""
        return self.bitops_by_exit(convention)[-1]

    def bitops_by_exit(self, convention: Convention = "paper") -> list[float]:
        """Bit operations of an image that leaves at exit 1, 2, …, last; failed heads before it included."""
        _checked(convention)
        spent = [0.0] * self.exits
        for layer in self.layers:
            spent[layer.segment] += self._bitops(layer, convention)
        return [*accumulate(spent)]

    def bitops_of(self, part: str, convention: Convention = "paper") -> float:
        """Bit operations of one image in a part of the network, by the name of its module."""
        inside = (layer for layer in self.layers if f"{layer.name}.".startswith(f"{part}."))
        return sum(self._bitops(layer, convention) for layer in inside)

    def _bitops(self, layer: LayerCost, convention: Convention) -> float:
        if layer.normalization:
            return float(layer.macs * FLOAT_BITS**2) if convention in _OWN_BITS else 0.0
        bits = self._assumed(layer, convention)
        share = layer.density if convention == "nonzero" else 1.0
        return float(layer.macs * bits.weights * bits.activations) * share

    def _storage(self, layer: LayerCost, convention: Convention) -> int:
        width = self._assumed(layer, convention).weights
        coded = self.coded is not None and not layer.outside
        stored = 0 if coded else layer.form.bits(width) if layer.form else layer.weights * width
        if convention not in _OWN_BITS:
            return stored + (layer.parameters - layer.weights) * width
        scales = layer.scales - (coded and layer.bits.weights < FLOAT_BITS)  # in the stream
        return stored + (layer.others + scales) * FLOAT_BITS

    def _assumed(self, layer: LayerCost, convention: Convention) -> Bits:
        if not layer.reached:
            return _FLOAT
        if convention in _OWN_BITS:
            return layer.bits
        if convention == "apot" and layer.edge:
            return Bits(max(self.nominal.weights, 8), max(self.nominal.activations, 8))
        return self.nominal


def recorded_conventions(cost: Cost) -> tuple[Convention, ...]:
    """The conventions in which a record tells a cost: `nonzero` is `honest` where no weight is zero."""
    return tuple(name for name in CONVENTIONS if name != "nonzero" or cost.sparse)


def measure_cost(network: CompressedNetwork) -> Cost:
    """Count the cost of each layer by one forward pass of an example image, on a copy of the network.

    Raises ValueError for layers that multiply by weights in a way that is not known, for one that multiplies
    less often than it says, and for a network that has neither Conv2d nor Linear.
    """
    module = _still_copy(network)
    counter = _Counter(quantized=network.bits is not None)
    counter.watch("body", module.body)
    for name in module.split_points:  # after the counting hooks: a split point may be a counted layer
        module.body.get_submodule(name).register_forward_hook(counter.next_segment)
    image = network.example()
    with torch.no_grad(), _countable(), counter.flops:
        features, _ = module.split(image)
        body = [*counter.layers]
        for place, (head, feature) in enumerate(zip(module.heads, features, strict=True)):
            counter.segment = place
            counter.watch(f"heads.{place}", head)
            head(feature)
    heads = [replace(layer, edge=True) for layer in counter.layers[len(body) :]]
    if all(layer.normalization for layer in body):
        raise ValueError(f"{network.architecture.model} has no Conv2d or Linear whose cost could be counted")
    last = max(place for place, layer in enumerate(body) if not layer.normalization)
    for place in (0, last):
        body[place] = replace(body[place], edge=True)
    nominal = network.bits or _FLOAT
    layers = (*_in_float(body, counter), *heads, *_outside(network, module, counter))
    if module.rounded:
        layers = (*layers, LayerCost(name="roundings", segment=0, macs=0, scales=len(module.rounded)))
    coded = coded_bits(module) if network.coded else None
    return Cost(layers=layers, nominal=nominal, coded=coded, exits=len(module.split_points) + 1)


def _in_float(layers: Sequence[LayerCost], counter: "_Counter") -> list[LayerCost]:
    """The layers, those that multiply weights by themselves being no normalizations; adds what they multiply.

    Raises ValueError for a layer that multiplies less often than was counted.
    """
    uncounted = counter.uncounted()
    for (name, _), macs in uncounted.items():
        if macs < 0:
            raise ValueError(
                f"the cost of {name} is not known: it runs {-macs} multiply-accumulates fewer than its "
                "weights and its output tell"
            )
    own = {name for name, _ in uncounted}
    counted = [
        replace(
            layer,
            macs=0,
            normalization=False,
            reached=False,
            outside=True,
            weights=layer.parameters,
            others=0,
        )
        if layer.normalization and layer.name in own
        else layer
        for layer in layers
    ]
    extra = (
        LayerCost(name=name, segment=segment, macs=macs, reached=False)
        for (name, segment), macs in uncounted.items()
    )
    return [*counted, *extra]


def _outside(network: CompressedNetwork, ran: nn.Module, counter: "_Counter") -> list[LayerCost]:
    """Weights that make a difference, but belong to modules that never ran: others read them."""
    unseen = {name for name, parameter in ran.named_parameters() if id(parameter) not in counter.stored}
    if not unseen:
        return []
    module = network.copy().module.eval()
    parameters = {name: parameter for name, parameter in module.named_parameters() if name in unseen}
    with torch.enable_grad(), thawed(module):
        total = sum(logits.sum() for logits in module(network.example()))
        gradients = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    sizes = {name: parameter.numel() for name, parameter in parameters.items()}
    inside = {f"{name}.weight" for name, _ in weight_layers(module)}
    return [
        LayerCost(
            name=name.rpartition(".")[0],
            segment=0,
            macs=0,
            weights=size,
            parameters=size,
            reached=False,
            outside=name not in inside,
        )
        for (name, size), gradient in zip(sizes.items(), gradients, strict=True)
        if gradient is not None
    ]


class _Counter:
    """Forward hooks that note the cost of every layer with parameters as it runs.

    They also tell what each module multiplied itself, outside of its parts, by torch's own counter.
    """

    def __init__(self, *, quantized: bool) -> None:
        self.layers: list[LayerCost] = []
        self.segment = 0
        self.stored: set[int] = set()  # identities of parameters
        self.flops = operation_counter()
        self._quantized = quantized
        self._running: list[str] = []
        self._seen = 0  # operations that are told apart already
        self._own: Counter[tuple[str, int]] = Counter()  # by module and segment

    def watch(self, prefix: str, module: nn.Module) -> None:
        for name, layer in module.named_modules():
            path = f"{prefix}.{name}" if name else prefix
            layer.register_forward_pre_hook(partial(self._start, path))
            layer.register_forward_hook(partial(self._end, path))

    def next_segment(self, _module: nn.Module, _inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        self._tell_apart()
        self.segment += 1

    def uncounted(self) -> dict[tuple[str, int], int]:
        """Multiply-accumulates by module and segment beside those of layers; negative ones never ran."""
        return {key: operations // 2 for key, operations in self._own.items() if operations}

    def _start(self, name: str, _module: nn.Module, _inputs: Any) -> None:
        self._tell_apart()
        self._running.append(name)

    def _end(self, name: str, module: nn.Module, _inputs: Any, output: Any) -> None:
        self._tell_apart()
        if any(True for _ in module.parameters(recurse=False)):
            self._count(name, module, output)
        self._running.pop()

    def _tell_apart(self) -> None:
        total = self.flops.get_total_flops()
        if self._running:
            self._own[self._running[-1], self.segment] += total - self._seen
        self._seen = total

    def _count(self, name: str, layer: nn.Module, output: Any) -> None:
        # What several layers share, or one that runs again, is shipped once.
        new = [own for own in layer.parameters(recurse=False) if id(own) not in self.stored]
        self.stored.update(map(id, new))
        first = not self.layers
        cost = _layer_cost(name, layer, output, self.segment, reads_image=first, new=new)
        if not cost.normalization:
            self._own[name, self.segment] -= 2 * cost.macs
            cost = replace(cost, reached=not self._quantized or isinstance(layer, QuantizedLayer))
        self.layers.append(cost)


def _layer_cost(
    name: str, layer: nn.Module, output: Any, segment: int, *, reads_image: bool, new: Sequence[nn.Parameter]
) -> LayerCost:
    plain = isinstance(layer, (nn.Conv2d, nn.Linear))
    if isinstance(layer, _UNCOUNTED):
        kind = type(layer).__name__
        raise ValueError(f"the cost of {name}, a {kind}, is not known: torch counts it on some devices only")
    parameters = sum(parameter.numel() for parameter in new)
    weights = sum(parameter.numel() for parameter in new if plain and parameter is layer.weight)
    bits, scales = _FLOAT, 0
    if isinstance(layer, QuantizedLayer):
        bits = Bits(layer.weight_bits, _IMAGE_BITS if reads_image else layer.activation_bits)
        scales = (layer.weight_bits < FLOAT_BITS) + (layer.activation_bits < FLOAT_BITS)
    form, density = None, 1.0
    if isinstance(layer, nn.Conv2d | nn.Linear) and is_sparse(layer):
        density = float(layer.weight.count_nonzero()) / layer.weight.numel()
    if weights and isinstance(layer.weight, Tensor) and (is_sparse(layer) or is_shared(layer)):
        form = form_of(layer.weight, sparse=is_sparse(layer), shared=is_shared(layer))
    return LayerCost(
        name=name,
        segment=segment,
        macs=_macs(layer, output),
        weights=weights,
        form=form,
        density=density,
        others=parameters - weights,
        parameters=parameters,
        scales=scales if new else 0,
        bits=bits,
        normalization=not plain,
    )


def _macs(layer: nn.Module, output: Any) -> int:
    """Per image; `output` has a batch of one. What modules of several outputs multiply is left to torch."""
    if not isinstance(output, Tensor):
        return 0
    if isinstance(layer, nn.Conv2d | nn.Linear):
        return output.numel() * layer.weight[0].numel()
    return output.numel()


def _checked(convention: Convention) -> Convention:
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be one of {', '.join(CONVENTIONS)}, got {convention!r}")
    return convention


def operation_counter() -> FlopCounterMode:
    """Torch's own counter of operations, to which no product of matrices, vectors or distances is free."""
    ops = torch.ops.aten
    return FlopCounterMode(
        display=False,
        custom_mapping={
            **dict.fromkeys((ops.dot, ops.vdot, ops.mv), lambda first, *_, **_k: 2 * math.prod(first)),
            **dict.fromkeys(
                (ops.addbmm, ops._sparse_addmm),
                lambda _sum, first, second, **_k: 2 * math.prod(first) * second[-1],
            ),
            **dict.fromkeys(
                (ops._cdist_forward, ops._euclidean_dist),
                lambda first, second, *_, **_k: 2 * math.prod(first) * second[-2],
            ),
            ops.addmv: lambda _sum, matrix, *_, **_k: 2 * math.prod(matrix),
            ops._trilinear: lambda first, weight, *_, **_k: 2 * first[0] * math.prod(weight),
        },
    )


def counted_macs(network: CompressedNetwork) -> int:
    """Multiply-accumulates of one image through all of the network, as torch's FlopCounterMode has them."""
    module = _still_copy(network)
    image = network.example()
    with torch.no_grad(), _countable(), operation_counter() as counter:
        module(image)
    return int(counter.get_total_flops()) // 2


def _still_copy(network: CompressedNetwork) -> MultiExit:
    """A copy in evaluation that needs no gradients: torch's counter stops at views of parameters that do."""
    return network.copy().module.eval().requires_grad_(False)


@contextmanager
def _countable() -> Iterator[None]:
    """Let attention run in the form whose operations torch can count: in pieces, not fused."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
