"""Networks that run in integers throughout: one 8-bit quantizer for each tensor, weights as INT8 levels.

Q trains a quantizer for each layer. What lies between layers (sums, averages, the image) gets one here, after
the fact, whose range rounds and clips what the network makes of images with the smallest squared error.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ordercomp.shipping.graph import (
    CARRIES,
    ROUNDING,
    Array,
    Edges,
    PackedWeight,
    attribute,
    clean,
    constant,
    origin_of,
    scaled_numbers,
    store_levels,
)

_COUNTED = ("Conv", "Gemm", "Add", "GlobalAveragePool")  # what readers compute in integers
_BYTE = 255
_FINE = 200  # levels from which a trained range can be cut out of a wider one of 256 levels
_STEPS = np.linspace(0.2, 1.0, 33)  # of the whole range, tried as the range of a quantizer
_MOST_BIAS = 2**30  # as a whole number of 32 bits
_SIGNED_TOP = 127


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A quantizer of a tensor: real value = scale · (byte - zero)."""

    scale: float
    zero: int


def points(graph: onnx.GraphProto, weights: Mapping[str, PackedWeight]) -> list[str]:
    """Names of the tensors that get a quantizer each, in the order in which they are made."""
    edges = Edges(graph)
    tensors: dict[str, None] = {}
    for node in graph.node:
        for place in _inputs_of(node, edges, weights):
            origin = origin_of(node.input[place], edges)[0]
            if origin not in edges.made_by or edges.made_by[origin].op_type != ROUNDING:
                tensors.setdefault(origin)
        if node.op_type in _COUNTED and _inputs_of(node, edges, weights):
            tensors.setdefault(_behind_relu(node.output[0], edges))
    return [name for name in tensors if name not in edges.outputs]


def choose_ranges(
    graph: onnx.GraphProto, samples: Mapping[str, Array], weights: Mapping[str, PackedWeight]
) -> dict[str, Range]:
    """A range for each of the `points`, given some of the values that the `untrained` ones take on images.

    Where roundings alone read a tensor, it is the one that was trained, the widest if there are several.
    Elsewhere it has the smallest squared error of those that are no finer than what layers read.
    """
    edges = Edges(graph)
    ranges = {}
    for name in points(graph, weights):
        chosen_range = _trained_range(name, edges)
        if chosen_range is None:
            fine = [node for node in _roundings_of(name, edges) if _levels(node) >= _FINE]
            least = max((float(attribute(node, "scale")) for node in fine), default=0.0)
            chosen_range = _best_range(samples[name], least, signed=bool(samples[name].min() < 0))
        ranges[name] = chosen_range
    return ranges


def untrained(graph: onnx.GraphProto, weights: Mapping[str, PackedWeight]) -> list[str]:
    """Those of the `points` whose range was not trained; none where Q placed its quantizers by tensor."""
    edges = Edges(graph)
    return [name for name in points(graph, weights) if _trained_range(name, edges) is None]


def _trained_range(name: str, edges: Edges) -> Range | None:
    readers = _roundings_of(name, edges)
    if not readers or not _is_read_by(name, edges, readers):
        return None
    scales = [float(attribute(node, "scale")) for node in readers]
    if max(scales) > min(scales) * (1 + 1e-6) and min(map(_levels, readers)) < _FINE:
        return None
    low = min(int(attribute(node, "low")) for node in readers)
    return Range(scale=max(scales), zero=_SIGNED_TOP + 1 if low < 0 else 0)


def _best_range(values: Array, least: float, *, signed: bool) -> Range:
    """The range of smallest squared error, of a scale of at least `least`."""
    low, high = (min(float(values.min()), 0.0) if signed else 0.0), max(float(values.max()), 0.0)
    widest = max((high - low) / _BYTE, least, 1e-9)
    scales = sorted({max(step * widest, least) for step in _STEPS})
    zero = round(_BYTE * -low / (high - low)) if signed else 0
    errors = []
    for scale in scales:
        levels = np.clip(np.rint(values / np.float32(scale)) + zero, 0, _BYTE) - zero
        errors.append(float(np.square(levels * np.float32(scale) - values).mean()))
    return Range(scale=scales[int(np.argmin(errors))], zero=zero)


def make_integer(
    graph: onnx.GraphProto,
    ranges: Mapping[str, Range],
    weights: Mapping[str, PackedWeight],
    *,
    clips: bool = True,
) -> list[str]:
    """Let every sum, average and layer of quantized weights read and make bytes, in place.

    Without `clips` a layer of 8 bits whose tensor has a wider range than Q trained it with reads that.

    Returns the names of weights of 8 bits, whose 256 levels were rounded once more, to 255.
    """
    writer = _Writer(graph, ranges, clips=clips)
    edges = writer.edges
    work = [(node, _inputs_of(node, edges, weights)) for node in graph.node]
    rounded = []
    for node, places in work:
        if node.op_type == ROUNDING:
            writer.replace_rounding(node)
            continue
        for place in places:
            node.input[place] = writer.read(node.input[place])
        if node.op_type in ("Conv", "Gemm") and places and node.input[1] in weights:
            exact = _store_layer(writer, node, weights[node.input[1]])
            rounded += [] if exact else [node.input[1]]
    writer.redirect([node for node, _ in work if node.op_type != ROUNDING])
    clean(graph)
    return rounded


class _Writer:
    """Adds quantizers to a graph, one for each tensor, and what reads their bytes."""

    def __init__(self, graph: onnx.GraphProto, ranges: Mapping[str, Range], *, clips: bool) -> None:
        self.graph, self.ranges, self.edges, self.clips = graph, ranges, Edges(graph), clips
        self.range_of: dict[str, Range] = {}  # of what DequantizeLinear gives
        self._written: set[str] = set()

    def read(self, name: str) -> str:
        """What stands for a tensor, by the quantizer of what it comes from."""
        origin, path = origin_of(name, self.edges)
        if origin not in self.ranges:
            return name
        return self._once(
            f"{name}_read", lambda output: self._dequantize(self._bytes(origin, path), origin, output)
        )

    def replace_rounding(self, node: onnx.NodeProto) -> None:
        """Let what a layer reads come from the quantizer of the tensor, cut to the range that was trained."""
        origin, path = origin_of(node.input[0], self.edges)
        (output,), qrange = node.output, self.ranges.get(origin)
        scale, low, high = (attribute(node, name) for name in ("scale", "low", "high"))
        if qrange is None or qrange.scale < scale * (1 - 1e-6):  # rounded already, or finer: round once more
            again = Range(scale=scale, zero=_SIGNED_TOP + 1 if low < 0 else 0)
            self._quantize(self.read(node.input[0]), again, f"{output}_again")
            self._dequantize(self._cut(f"{output}_again", again, low, high, output), again, output)
        else:
            share = scale / qrange.scale
            levels = round(low * share), round(high * share)
            name = self._bytes(origin, path)
            if self.clips or _levels(node) < _FINE:
                name = self._cut(name, qrange, *levels, output)
            self._dequantize(name, origin, output)
        self.graph.node.remove(node)

    def redirect(self, nodes: Sequence[onnx.NodeProto]) -> None:
        """Let what is left of float operators read the quantized tensors, too."""
        for node in nodes:
            for place, name in enumerate(node.input):
                if name in self.ranges:
                    node.input[place] = self.read(name)

    def _bytes(self, origin: str, path: Sequence[onnx.NodeProto]) -> str:
        qrange = self.ranges[origin]
        name = self._once(
            f"{origin}_bytes", lambda output: self._quantize(self._before_clip(origin), qrange, output)
        )
        for node in path:
            name = self._once(f"{node.output[0]}_bytes", partial(self._carry, node, name))
        return name

    def _carry(self, node: onnx.NodeProto, name: str, output: str) -> None:
        copy = onnx.NodeProto.FromString(node.SerializeToString())
        copy.input[0], copy.output[0], copy.name = name, output, ""
        self.graph.node.append(copy)

    def _before_clip(self, name: str) -> str:
        """The tensor before a ReLU whose clipping the quantizer does as well."""
        node, qrange = self.edges.made_by.get(name), self.ranges[name]
        if node is None or qrange.zero != 0 or self.edges.only_reader(node.input[0]) is None:
            return name
        if node.op_type == "Relu":
            return str(node.input[0])
        if node.op_type == "Clip" and _clips_from_zero(node, self.edges):
            top = float(numpy_helper.to_array(self.edges.constants[node.input[2]]).item())
            if _BYTE * qrange.scale <= top + qrange.scale / 2:
                return str(node.input[0])
        return name

    def _cut(self, name: str, qrange: Range, low: int, high: int, prefix: str) -> str:
        """Bytes clipped to the levels from `low` to `high`, where they hold more."""
        bottom, top = max(low + qrange.zero, 0), min(high + qrange.zero, _BYTE)
        if bottom <= 1 and top >= _BYTE:
            return name
        bounds = (
            constant(self.graph, f"{prefix}_least", np.uint8(bottom)),
            constant(self.graph, f"{prefix}_most", np.uint8(top)),
        )
        kind, inputs = ("Min", [name, bounds[1]]) if bottom <= 1 else ("Clip", [name, *bounds])
        self.graph.node.append(helper.make_node(kind, inputs, [f"{prefix}_cut"]))
        return f"{prefix}_cut"

    def _quantize(self, name: str, qrange: Range, output: str) -> None:
        inputs = [name, *self._facts(qrange, output)]
        self.graph.node.append(helper.make_node("QuantizeLinear", inputs, [output]))

    def _dequantize(self, name: str, of: Range | str, output: str) -> str:
        qrange = self.ranges[of] if isinstance(of, str) else of
        inputs = [name, *self._facts(qrange, output)]
        self.graph.node.append(helper.make_node("DequantizeLinear", inputs, [output]))
        self.range_of[output] = qrange
        return output

    def _facts(self, qrange: Range, output: str) -> list[str]:
        return [
            constant(self.graph, f"{output}_scale", np.float32(qrange.scale)),
            constant(self.graph, f"{output}_zero", np.uint8(qrange.zero)),
        ]

    def _once(self, name: str, make: Callable[[str], object]) -> str:
        if name not in self._written:
            self._written.add(name)
            make(name)
        return name


def _store_layer(writer: _Writer, node: onnx.NodeProto, packed: PackedWeight) -> bool:
    """Weights as levels and the bias as whole numbers of 32 bits; whether the weights stay exact."""
    graph, name, edges = writer.graph, node.input[1], writer.edges
    folded = numpy_helper.to_array(edges.constants[name])
    scaled = scaled_numbers(folded, packed, name)
    levels, scales = scaled.in_int8()
    if len(node.input) > 2 and node.input[0] in writer.range_of:
        bias = numpy_helper.to_array(edges.constants[node.input[2]]).astype(np.float64)
        unit = scales.astype(np.float64) * np.float64(np.float32(writer.range_of[node.input[0]].scale))
        far = np.abs(bias) > _MOST_BIAS * unit  # the weights of such a channel are next to nothing
        levels = np.where(far.reshape(-1, *[1] * (levels.ndim - 1)), 0, levels)
        scales = np.where(far, np.abs(bias) / _MOST_BIAS / unit * scales * 2, scales).astype(np.float32)
        unit = scales.astype(np.float64) * np.float64(np.float32(writer.range_of[node.input[0]].scale))
        bias_name = f"{node.output[0]}_bias"
        stored = constant(graph, f"{bias_name}_q", np.rint(bias / unit).astype(np.int32))
        scale = constant(graph, f"{bias_name}_scale", unit.astype(np.float32))
        zeros = constant(graph, f"{bias_name}_zero", np.zeros(len(unit), np.int32))
        graph.node.append(helper.make_node("DequantizeLinear", [stored, scale, zeros], [bias_name], axis=0))
        node.input[2] = bias_name
    if any(tensor.name == name for tensor in graph.initializer):
        store_levels(graph, name, levels, scales)
    return packed.fits_int8


def _inputs_of(node: onnx.NodeProto, edges: Edges, weights: Mapping[str, PackedWeight]) -> list[int]:
    """Places of the inputs that must be bytes for the node to run in integers; none if it cannot."""
    if node.op_type == ROUNDING or node.op_type == "GlobalAveragePool":
        return [0]
    if node.op_type in ("Conv", "Gemm"):
        plain = attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1.0
        fixed = len(node.input) < 3 or node.input[2] in edges.constants
        return [0] if node.input[1] in weights and plain and fixed else []
    if node.op_type == "Add" and not any(name in edges.constants for name in node.input):
        return [0, 1]
    return []


def _behind_relu(name: str, edges: Edges) -> str:
    after = edges.only_reader(name)
    if after is not None and (after.op_type == "Relu" or _clips_from_zero(after, edges)):
        return str(after.output[0])
    return name


def _clips_from_zero(node: onnx.NodeProto, edges: Edges) -> bool:
    if node.op_type != "Clip" or len(node.input) != 3 or not set(node.input[1:]) <= set(edges.constants):
        return False
    return bool(numpy_helper.to_array(edges.constants[node.input[1]]).item() == 0)


def _roundings_of(name: str, edges: Edges) -> list[onnx.NodeProto]:
    """Trained quantizers that read a tensor, also through what carries its levels."""
    readers: list[onnx.NodeProto] = []
    for node in edges.read_by[name]:
        if node.op_type == ROUNDING:
            readers.append(node)
        elif node.op_type in CARRIES:
            readers += _roundings_of(node.output[0], edges)
    return readers


def _is_read_by(name: str, edges: Edges, readers: Sequence[onnx.NodeProto]) -> bool:
    """Whether nobody else reads a tensor."""
    return all(
        node in readers or (node.op_type in CARRIES and _is_read_by(node.output[0], edges, readers))
        for node in edges.read_by[name]
    )


def _levels(node: onnx.NodeProto) -> int:
    return int(attribute(node, "high")) - int(attribute(node, "low"))
