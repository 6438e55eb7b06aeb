"""Networks as ONNX files, checked by onnxruntime against our logits."""

import io
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from ordercomp.files import replacing
from ordercomp.networks.layers import weight_numbers, weight_of_numbers
from ordercomp.networks.network import CompressedNetwork
from ordercomp.shipping.plain import ship

# ONNX graphs of networks: quantizers as QuantizeLinear and DequantizeLinear, and the cut at the exits.


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


Array = NDArray[Any]
SESSION_OPTIONS: Mapping[str, str] = {"session.disable_quant_qdq": "1"}
LEAST_OPSET, FOUR_BIT_OPSET = 18, 21
_CHECKED = 8  # images that are compared
_MOST_DIFFERENCE = 0.05  # mean difference of logits, as a share of their standard deviation


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written, and how far onnxruntime's logits are from ours."""

    files: tuple[Path, ...]
    bytes: int  # of all files
    opset: int
    quantizers: int  # activations rounded by QuantizeLinear
    weights: str  # how weights are stored, in words
    session_options: dict[
        str, str
    ]  # that a session of onnxruntime needs, so that packed weights cost no time
    largest_difference: float  # of any logit
    same_labels: float  # share of images and exits


def export_onnx(
    network: CompressedNetwork, path: Path, *, opset: int | None = None, segments: bool = False
) -> Exported:
    """Write a network that takes stored pixel values (n, c, h, w), float32, and gives logits of every exit.

    Args:
        network: on the CPU.
        path: the file; with segments `NAME.part1.onnx` and so on stand in its place, which an image goes
            through until it leaves.
        opset: version of the operators; by default the lowest that holds the network.
        segments: cut the network at its exits.

    Raises:
        ValueError: the opset lacks an operator, or there are no exits to cut at.
        RuntimeError: onnxruntime computes something else than the network.
    """
    if segments and not network.exits:
        raise ValueError("--segments cuts a network at its exits, and this one has none")
    packed = _packed_weights(network)
    four_bits = any(weight.bits <= 4 for weight in packed.values())
    least = FOUR_BIT_OPSET if four_bits else LEAST_OPSET
    opset = least if opset is None else opset
    if opset < least:
        lacks = "4-bit weights" if four_bits else "what the exporter makes"
        raise ValueError(f"--opset must be at least {least} for this network, {opset} lacks {lacks}")
    if opset > onnx.defs.onnx_opset_version():
        raise ValueError(f"--opset must be at most {onnx.defs.onnx_opset_version()} here, got {opset}")
    model = _trace(network, opset)
    quantizers = round_by_quantizers(model.graph)
    stored = {tensor.name for tensor in model.graph.initializer}
    for name, weight in packed.items():
        if name in stored:
            pack_weight(model.graph, name, weight)
    onnx.checker.check_model(model)
    models = cut_at_exits(model) if segments else [model]
    files = [path.with_suffix(f".part{place}.onnx") for place in range(1, len(models) + 1)]
    files = files if segments else [path]
    for part in models:
        _forget_origins(part)
    difference, same = _compare(network, models)
    for file, part in zip(files, models, strict=True):
        with replacing(file) as draft:
            draft.write_bytes(part.SerializeToString())
    return Exported(
        files=tuple(files),
        bytes=sum(file.stat().st_size for file in files),
        opset=opset,
        quantizers=quantizers,
        weights=_words(network, packed),
        session_options=dict(SESSION_OPTIONS) if packed else {},
        largest_difference=difference,
        same_labels=same,
    )


def onnx_session(model: bytes | str, *, threads: int = 1) -> onnxruntime.InferenceSession:
    """A session on the CPU that unpacks weights when it starts, not at every run."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    for name, value in SESSION_OPTIONS.items():
        options.add_session_config_entry(name, value)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_parts(
    sessions: Sequence[onnxruntime.InferenceSession], image: Array, *, last: int | None = None
) -> list[Array]:
    """Logits of the exits, from one session with all of them or from parts up to exit `last`."""
    known = {"image": image}
    logits: list[Array] = []
    for session in sessions[: None if last is None else last + 1]:
        names = [output.name for output in session.get_outputs()]
        found = session.run(None, {one.name: known[one.name] for one in session.get_inputs()})
        known |= dict(zip(names, found, strict=True))
        logits += found if len(sessions) == 1 else found[:1]
    return logits


def _trace(network: CompressedNetwork, opset: int) -> onnx.ModelProto:
    shipped, example = ship(network), _images(network, 2)
    places = [f"exit{place}" for place in range(1, len(network.exits) + 1)]
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            shipped,
            (example,),
            dynamo=True,
            opset_version=opset,
            input_names=["image"],
            output_names=[*places, "logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    found = next(one.version for one in model.opset_import if one.domain == "")
    return model if found == opset else onnx.version_converter.convert_version(model, opset)


def _forget_origins(model: onnx.ModelProto) -> None:
    """Remove what tells of the code that a graph was traced from."""
    del model.graph.value_info[:]
    for one in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        del one.metadata_props[:]
        one.ClearField("doc_string")


def _packed_weights(network: CompressedNetwork) -> dict[str, PackedWeight]:
    """Weights of at most 8 bits, by their name in the graph."""
    packed = {}
    for name, layer in network.quantized_layers():
        if layer.weight_bits <= 8:
            numbers, top = weight_numbers(layer.weight, layer.weight_bits)
            packed[f"network.{name}.weight"] = PackedWeight(
                numbers=numbers.contiguous().cpu().numpy(),
                values=weight_of_numbers(numbers, top, layer.weight_bits).contiguous().cpu().numpy(),
                bits=layer.weight_bits,
            )
    return packed


def _words(network: CompressedNetwork, packed: dict[str, PackedWeight]) -> str:
    if network.bits is None or not packed:
        return "32-bit floats"
    bits = network.bits.weights
    if bits <= 4:
        return f"{bits}-bit weights in 4 bits each, the fewest that onnxruntime reads"
    return f"{bits}-bit weights in 8 bits each" + ("" if bits == 8 else ", as ONNX has none between 4 and 8")


def _images(network: CompressedNetwork, count: int) -> Tensor:
    """Noise with the mean and the spread of the images that the network was trained on."""
    images, serving = network.architecture.example(count), network.serving
    if not serving.mean:
        return images
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (serving.mean, serving.std))
    return images * std + mean


def _compare(network: CompressedNetwork, models: Sequence[onnx.ModelProto]) -> tuple[float, float]:
    """Largest difference of a logit, and share of equal labels. Raises RuntimeError if they are far apart."""
    images = _images(network, _CHECKED)
    with torch.inference_mode():
        ours = np.stack([logits.numpy() for logits in ship(network)(images)])
    sessions = [onnx_session(model.SerializeToString()) for model in models]
    theirs = np.stack(run_parts(sessions, images.contiguous().numpy()))
    difference = np.abs(ours - theirs)
    if not difference.mean() <= _MOST_DIFFERENCE * max(float(ours.std()), 1e-6):
        raise RuntimeError(
            f"onnxruntime's logits differ from the network's by {difference.mean():.3g} on average, "
            f"whose spread is {ours.std():.3g}; no file was written"
        )
    return float(difference.max()), float((ours.argmax(2) == theirs.argmax(2)).mean())
