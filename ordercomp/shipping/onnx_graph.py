"""ONNX graphs of networks: quantizers as QuantizeLinear and DequantizeLinear, and the cut at the exits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

_FLOATS = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedWeight:
    """Whole numbers, shape of the weight, of `bits` bits, and the quantized weights that they stand for."""

    numbers: _FLOATS
    values: _FLOATS
    bits: int  # 1 to 8


def round_by_quantizers(graph: onnx.GraphProto) -> int:
    """Replace, in place, every rounding of activations to at most 8 bits; return how many there were.

    A clip before the quantizer keeps ranges that are narrower than those of a byte.
    """
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    used_by = {name: node for node in graph.node for name in node.input}
    count = 0
    for rounding in [node for node in graph.node if node.op_type == "Round"]:
        clip, scaled = made_by.get(rounding.input[0]), used_by.get(rounding.output[0])
        before = None if clip is None or clip.op_type != "Clip" else made_by.get(clip.input[0])
        if (
            clip is None
            or before is None
            or scaled is None
            or (before.op_type, scaled.op_type) != ("Mul",) * 2
        ):
            continue
        scale = constants.get(scaled.input[1])
        low, high = (float(constants[name]) for name in clip.input[1:3])
        if scale is None or scale.size != 1 or not -128 <= low <= high <= 255:
            continue
        prefix = rounding.output[0]
        kind = np.int8 if low < 0 else np.uint8
        narrow = (low, high) not in ((0, 255), (-128, 127))
        for name, value in (
            ("scale", np.float32(scale.item())),
            ("zero", kind(0)),
            ("low", np.float32(low * scale.item())),
            ("high", np.float32(high * scale.item())),
        ):
            graph.initializer.append(numpy_helper.from_array(np.array(value), f"{prefix}_{name}"))
        source = before.input[0]
        nodes = []
        if narrow:
            nodes.append(
                helper.make_node("Clip", [source, f"{prefix}_low", f"{prefix}_high"], [f"{prefix}_c"])
            )
            source = f"{prefix}_c"
        constants_of = [f"{prefix}_scale", f"{prefix}_zero"]
        nodes.append(helper.make_node("QuantizeLinear", [source, *constants_of], [f"{prefix}_q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{prefix}_q", *constants_of], [scaled.output[0]]))
        place = list(graph.node).index(scaled)
        for node in (before, clip, rounding, scaled):
            graph.node.remove(node)
        for step, node in enumerate(nodes):
            graph.node.insert(place - 3 + step, node)
        count += 1
    return count


def pack_weight(graph: onnx.GraphProto, name: str, packed: PackedWeight) -> None:
    """Store, in place, the weight called `name` as whole numbers of 4 or 8 bits with one scale a channel.

    A normalization may have been folded into it: each channel of the stored weight is a multiple of
    `packed.values`. Raises ValueError if it is not.
    """
    (old,) = [tensor for tensor in graph.initializer if tensor.name == name]
    folded = numpy_helper.to_array(old)
    rows = packed.values.reshape(len(packed.values), -1)
    peaks = np.abs(rows).argmax(axis=1)
    picked = np.arange(len(rows))
    factors = folded.reshape(rows.shape)[picked, peaks] / rows[picked, peaks]
    top = np.abs(packed.values).max()
    scales = (2 * top / (2**packed.bits - 1) * factors).astype(np.float32)
    offsets = (-top * factors).astype(np.float32).reshape(-1, *[1] * (folded.ndim - 1))
    made = packed.numbers * scales.reshape(offsets.shape) + offsets
    if not np.allclose(made, folded, rtol=1e-4, atol=1e-5 * float(np.abs(folded).max())):
        raise ValueError(f"the weight {name} is no multiple of what was quantized")
    kind = TensorProto.UINT4 if packed.bits <= 4 else TensorProto.UINT8
    numbers = packed.numbers.astype(np.uint8)
    flat: NDArray[np.uint8] = numbers.reshape(-1)
    if kind == TensorProto.UINT4:
        pairs = np.append(flat, np.zeros(len(flat) % 2, np.uint8)).reshape(-1, 2)
        flat = np.bitwise_or(pairs[:, 0], pairs[:, 1] * 16)
    graph.initializer.remove(old)
    graph.initializer.append(helper.make_tensor(f"{name}_q", kind, numbers.shape, flat.tobytes(), raw=True))
    graph.initializer.append(numpy_helper.from_array(scales, f"{name}_scale"))
    graph.initializer.append(numpy_helper.from_array(offsets, f"{name}_offset"))
    scaled = helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_scale"], [f"{name}_dq"], axis=0)
    graph.node.insert(0, helper.make_node("Add", [f"{name}_dq", f"{name}_offset"], [name]))
    graph.node.insert(0, scaled)


def cut_at_exits(model: onnx.ModelProto) -> list[onnx.ModelProto]:
    """One model for each output: what is still to be computed for it, given what those before it hand on.

    Each takes, by name, the image or outputs of earlier parts, and gives its logits first.
    """
    graph = model.graph
    fixed = {tensor.name for tensor in graph.initializer}
    parts: list[list[onnx.NodeProto]] = []
    done: set[str] = set()
    for output in graph.output:
        wanted, part = {output.name}, []
        for node in reversed(graph.node):
            if wanted & set(node.output) and not done & set(node.output):
                part.append(node)
                wanted |= set(node.input)
        done |= {name for node in part for name in node.output}
        parts.append(part[::-1])
    kinds = _kinds(model)
    models = []
    for place, part in enumerate(parts):
        inputs = _inputs(part, fixed)
        made = {name for node in part for name in node.output}
        later = {name for rest in parts[place + 1 :] for name in _inputs(rest, fixed)}
        logits = graph.output[place].name
        outputs = [logits, *sorted((made & later) - {logits})]
        needed = {name for node in part for name in node.input}
        cut = helper.make_graph(
            part,
            f"part{place + 1}",
            [kinds[name] for name in inputs],
            [kinds[name] for name in outputs],
            [tensor for tensor in graph.initializer if tensor.name in needed],
        )
        models.append(
            helper.make_model(cut, opset_imports=list(model.opset_import), ir_version=model.ir_version)
        )
    return models


def _inputs(part: Sequence[onnx.NodeProto], fixed: set[str]) -> list[str]:
    made = {name for node in part for name in node.output}
    names = dict.fromkeys(name for node in part for name in node.input if name)
    return [name for name in names if name not in made and name not in fixed]


def _kinds(model: onnx.ModelProto) -> Mapping[str, onnx.ValueInfoProto]:
    """Type and shape of every tensor by name, inferred where the graph does not tell."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    return {info.name: info for info in (*inferred.value_info, *inferred.input, *inferred.output)}
