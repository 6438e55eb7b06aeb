"""ONNX graphs of networks: exact simplifications, weights as whole numbers, and roundings as QDQ pairs.

Our own quantizers arrive as nodes `ordercomp::Rounding`, so that nothing that a user rounds is taken for one.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
ROUNDING = "Rounding"  # in the domain of ours: attributes scale, low and high
CARRIES = (
    "Flatten",
    "Reshape",
    "Squeeze",
    "Identity",
    "MaxPool",
)  # what acts on levels as on what they stand for
_FLATTENED = 3  # dimensions of features whose places were flattened
_MOST_LEVEL, _SAFE_LEVEL = 127, 63
_TINY = 1e-6  # of the largest scale of a layer: channels below it compute nothing but their bias


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedWeight:
    """Whole numbers, shape of the weight, of `bits` bits, and the quantized weights that they stand for."""

    numbers: Array
    values: Array
    bits: int  # 1 to 8
    top: int  # the largest of the numbers

    @property
    def fits_int8(self) -> bool:
        """Whether INT8 holds the levels around zero: odd ones up to 7 bits, or whole ones up to 8."""
        return self.top <= _MOST_LEVEL or (self.top % 2 == 0 and self.top <= 2 * _MOST_LEVEL)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaledNumbers:
    """A weight as (2 · numbers - top) · scale, one positive scale for each output channel."""

    numbers: Array  # 0 … top
    scales: Array  # shape (channels,), float32
    silent: Array  # shape (channels,), bool: channels of zeros
    top: int

    @property
    def levels(self) -> Array:
        """Whole numbers that the scales multiply: odd ones, and zeros where a channel is silent."""
        return np.where(_beside(self.silent, self.numbers), 0, 2 * self.numbers - self.top)

    def in_int8(self) -> tuple[Array, Array]:
        """Levels that fit INT8, shape of the weight, and the scales of channels; exact where `fits_int8`.

        Readers round biases to a multiple of the scale, so it is as fine as it may be: by a power of two, up
        to levels of 63, of which two products with bytes still fit 16 bits, as processors without VNNI want.
        """
        if self.top == 2 * _MOST_LEVEL:
            return self.levels // 2, self.scales * 2
        if self.top > _MOST_LEVEL:
            return np.rint(self.levels * (_MOST_LEVEL / self.top)), self.scales * (self.top / _MOST_LEVEL)
        finer = 2.0 ** max(0, math.floor(math.log2(_SAFE_LEVEL / self.top)))
        return self.levels * finer, self.scales / finer


class Edges:
    """Who makes and who reads each tensor of a graph, as it was when this was built."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.made_by: dict[str, onnx.NodeProto] = {name: node for node in graph.node for name in node.output}
        self.read_by: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                self.read_by[name].append(node)
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.outputs = {output.name for output in graph.output}

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """The node that reads a tensor, if it is the only one and the tensor is no output."""
        readers = self.read_by[name]
        return readers[0] if len(readers) == 1 and name not in self.outputs else None


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """The value of an attribute of a node."""
    values = (helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name)
    return next(values, default)


def constant(graph: onnx.GraphProto, name: str, value: Array | np.generic) -> str:
    """Add a constant under this name and return the name."""
    graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name


def clean(graph: onnx.GraphProto) -> None:
    """Remove, in place, nodes and constants that no output needs, and sort the others as they run."""
    made_by = {name: place for place, node in enumerate(graph.node) for name in node.output}
    needs: dict[int, list[int]] = {}
    waiting = [made_by[output.name] for output in graph.output if output.name in made_by]
    while waiting:
        place = waiting.pop()
        if place not in needs:
            needs[place] = [made_by[name] for name in graph.node[place].input if name in made_by]
            waiting += needs[place]
    nodes = [graph.node[place] for place in TopologicalSorter(dict(sorted(needs.items()))).static_order()]
    used = {name for node in nodes for name in node.input} | {output.name for output in graph.output}
    constants = [tensor for tensor in graph.initializer if tensor.name in used]
    for field, needed in ((graph.node, nodes), (graph.initializer, constants)):
        copies = [type(message).FromString(message.SerializeToString()) for message in needed]
        del field[:]
        field.extend(copies)
    del graph.value_info[:]


def simplify(model: onnx.ModelProto) -> None:
    """Write averages as pools and 1x1 pools as strides, in place; what is computed stays as it was."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        info.name: [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        for info in (*inferred.value_info, *inferred.input, *model.graph.value_info)
    }
    for node in list(model.graph.node):
        edges = Edges(model.graph)
        if node.op_type == "ReduceMean":
            _average_as_pool(model.graph, edges, shapes, node)
        elif node.op_type == "AveragePool":
            _pool_as_stride(edges, node)
    _squeeze_averages(model.graph, shapes)
    _round_once(model.graph)
    clean(model.graph)


def _round_once(graph: onnx.GraphProto) -> None:
    """Leave out, in place, what rounds to levels that its input has already."""
    edges = Edges(graph)
    for node in graph.node:
        if node.op_type != ROUNDING:
            continue
        before = edges.made_by.get(origin_of(node.input[0], edges)[0])
        if before is not None and before.op_type == ROUNDING and before.attribute == node.attribute:
            for reader in edges.read_by[node.output[0]]:
                for place, name in enumerate(reader.input):
                    if name == node.output[0]:
                        reader.input[place] = node.input[0]


def origin_of(name: str, edges: Edges) -> tuple[str, list[onnx.NodeProto]]:
    """The tensor whose levels a tensor holds, and what carries them there."""
    path: list[onnx.NodeProto] = []
    node = edges.made_by.get(name)
    while node is not None and node.op_type in CARRIES and len(node.output) == 1:
        path.append(node)
        name = node.input[0]
        node = edges.made_by.get(name)
    return name, path[::-1]


def _average_as_pool(
    graph: onnx.GraphProto, edges: Edges, shapes: Mapping[str, Sequence[int]], node: onnx.NodeProto
) -> None:
    axes_name = node.input[1] if len(node.input) > 1 else ""
    if axes_name not in edges.constants:
        return
    source = node.input[0]
    rank = len(shapes.get(source, ()))
    axes = {int(axis) % max(rank, 1) for axis in numpy_helper.to_array(edges.constants[axes_name]).flat}
    if rank == _FLATTENED and axes == {2} and edges.made_by[source].op_type == "Reshape":
        before = edges.made_by[source].input[0]
        if len(shapes.get(before, ())) != _FLATTENED + 1 or shapes[before][1] != shapes[source][1]:
            return
        source = before
    elif rank != _FLATTENED + 1 or axes != {2, 3}:
        return
    (output,) = node.output
    keeps = rank == _FLATTENED + 1 and attribute(node, "keepdims", 1) == 1
    if rank == _FLATTENED and attribute(node, "keepdims", 1) == 1:
        return
    pooled = output if keeps else f"{output}_pooled"
    pooling = [helper.make_node("GlobalAveragePool", [source], [pooled])]
    if not keeps:
        pooling.append(helper.make_node("Flatten", [pooled], [output], axis=1))
    place = list(graph.node).index(node)
    graph.node.remove(node)
    for step, new in enumerate(pooling):
        graph.node.insert(place + step, new)


def _squeeze_averages(graph: onnx.GraphProto, shapes: Mapping[str, Sequence[int]]) -> None:
    """Flatten averages, in place, by an operator before which engines need not turn channels to the front."""
    edges = Edges(graph)
    for node in graph.node:
        if node.op_type not in ("Flatten", "Reshape") or len(shapes.get(node.output[0], ())) != 2:
            continue
        before = edges.made_by.get(node.input[0])
        if before is not None and before.op_type == ROUNDING:
            before = edges.made_by.get(before.input[0])
        if before is not None and before.op_type == "GlobalAveragePool":
            axes = constant(graph, f"{node.output[0]}_axes", np.array([2, 3]))
            new = helper.make_node("Squeeze", [node.input[0], axes], node.output, name=node.name)
            node.CopyFrom(new)


def _pool_as_stride(edges: Edges, pool: onnx.NodeProto) -> None:
    plain = attribute(pool, "kernel_shape") == [1, 1] and not attribute(pool, "ceil_mode", 0)
    after = edges.only_reader(pool.output[0])
    rounding = after if after is not None and after.op_type == ROUNDING else None
    conv = after if rounding is None else edges.only_reader(rounding.output[0])
    if not plain or any(attribute(pool, "pads", [0])) or conv is None or conv.op_type != "Conv":
        return
    if attribute(conv, "kernel_shape") != [1, 1] or any(attribute(conv, "pads", [0])):
        return
    strides = attribute(pool, "strides", [1, 1])
    for entry in conv.attribute:
        if entry.name == "strides":
            entry.ints[:] = [a * b for a, b in zip(entry.ints, strides, strict=True)]
    (rounding if rounding is not None else conv).input[0] = pool.input[0]


def write_roundings(graph: onnx.GraphProto) -> None:
    """Replace every Rounding, in place, by a QuantizeLinear and a DequantizeLinear.

    A clip before the quantizer keeps ranges that are narrower than those of a byte.
    """
    roundings = [node for node in graph.node if node.op_type == ROUNDING]
    for node in roundings:
        scale, low, high = (attribute(node, name) for name in ("scale", "low", "high"))
        (source,), (output,) = node.input, node.output
        kind = np.int8 if low < 0 else np.uint8
        nodes = []
        if (low, high) not in ((0, 255), (-128, 127)):
            bounds = [
                constant(graph, f"{output}_{name}", np.float32(level * scale))
                for name, level in (("low", low), ("high", high))
            ]
            nodes.append(helper.make_node("Clip", [source, *bounds], [f"{output}_clipped"]))
            source = f"{output}_clipped"
        facts = [
            constant(graph, f"{output}_scale", np.float32(scale)),
            constant(graph, f"{output}_zero", kind(0)),
        ]
        nodes.append(helper.make_node("QuantizeLinear", [source, *facts], [f"{output}_q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{output}_q", *facts], [output]))
        graph.node.remove(node)
        graph.node.extend(nodes)
    clean(graph)


def scaled_numbers(folded: Array, packed: PackedWeight, name: str) -> ScaledNumbers:
    """A stored weight as whole numbers and positive scales, where a normalization may be folded into it.

    A channel whose scale is zero or tiny becomes one of zeros with the largest scale of its layer, since
    readers lose the bias of a channel without a scale. Raises ValueError if the stored weight is no multiple,
    channel by channel, of what was quantized.
    """
    rows = packed.values.reshape(len(packed.values), -1)
    peaks, picked = np.abs(rows).argmax(axis=1), np.arange(len(rows))
    factors = folded.reshape(rows.shape)[picked, peaks] / rows[picked, peaks]
    top = packed.top
    numbers = np.where(_beside(factors < 0, packed.numbers), top - packed.numbers, packed.numbers)
    scales = (np.abs(packed.values).max() / top * np.abs(factors)).astype(np.float32)
    largest = scales.max() if scales.max() > 0 else np.float32(1)
    silent = scales <= _TINY * largest
    scaled = ScaledNumbers(
        numbers=numbers.astype(np.int64), scales=np.where(silent, largest, scales), silent=silent, top=top
    )
    restored = scaled.levels * _beside(scaled.scales, folded)
    if not np.allclose(restored, folded, rtol=1e-4, atol=1e-5 * float(np.abs(folded).max()) + 1e-12):
        raise ValueError(f"the weight {name} is no multiple of what was quantized")
    return scaled


def store_levels(graph: onnx.GraphProto, name: str, levels: Array, scales: Array) -> str:
    """Store a weight as INT8 levels with zero point 0 and a scale for each channel; return its scales."""
    stored = constant(graph, f"{name}_q", levels.astype(np.int8))
    scale = constant(graph, f"{name}_scale", scales.astype(np.float32))
    zeros = constant(graph, f"{name}_zero", np.zeros(len(scales), np.int8))
    replace_constant(
        graph, name, helper.make_node("DequantizeLinear", [stored, scale, zeros], [name], axis=0)
    )
    return scale


def store_packed(graph: onnx.GraphProto, name: str, scaled: ScaledNumbers, bits: int) -> None:
    """Store a weight as whole numbers of 2, 4 or 8 bits, unpacked by a scale and an offset a channel."""
    kinds = {2: TensorProto.UINT2, 4: TensorProto.UINT4, 8: TensorProto.UINT8}
    numbers = np.where(_beside(scaled.silent, scaled.numbers), 0, scaled.numbers)
    each = 8 // bits
    flat = numbers.astype(np.uint8).reshape(-1)
    rows = np.append(flat, np.zeros(-len(flat) % each, np.uint8)).reshape(-1, each)
    packed = (rows << (bits * np.arange(each, dtype=np.uint8))).sum(axis=1, dtype=np.uint8)
    graph.initializer.append(
        helper.make_tensor(f"{name}_q", kinds[bits], numbers.shape, packed.tobytes(), raw=True)
    )
    scales = (2 * scaled.scales).astype(np.float32)
    offsets = np.where(scaled.silent, 0, -scaled.top * scaled.scales).astype(np.float32)
    scale = constant(graph, f"{name}_scale", scales)
    offset = constant(graph, f"{name}_offset", _beside(offsets, numbers))
    graph.node.append(
        helper.make_node("DequantizeLinear", [f"{name}_q", scale], [f"{name}_unpacked"], axis=0)
    )
    replace_constant(graph, name, helper.make_node("Add", [f"{name}_unpacked", offset], [name]))


def replace_constant(graph: onnx.GraphProto, name: str, node: onnx.NodeProto) -> None:
    """Let a node make what a constant was."""
    (old,) = [tensor for tensor in graph.initializer if tensor.name == name]
    graph.initializer.remove(old)
    graph.node.append(node)


def store_weights(
    graph: onnx.GraphProto, weights: Mapping[str, PackedWeight], bits_of: Callable[[PackedWeight], int]
) -> None:
    """Store all weights as whole numbers, in place.

    `bits_of` tells how many bits a weight takes in the file: 0 for levels in INT8.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for name, packed in weights.items():
        if name not in constants:
            continue
        scaled = scaled_numbers(constants[name], packed, name)
        if bits_of(packed):
            store_packed(graph, name, scaled, bits_of(packed))
        else:
            store_levels(graph, name, *scaled.in_int8())
    clean(graph)


def _beside(channels: Array, weight: Array) -> Array:
    """Values of output channels, shaped to meet a weight."""
    return channels.reshape(-1, *[1] * (weight.ndim - 1))
