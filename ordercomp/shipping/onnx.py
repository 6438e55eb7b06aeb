"""Networks as ONNX files for speed, size or any reader, checked by onnxruntime against our logits."""

import io
import json
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import Tensor, nn

from ordercomp.errors import one_line
from ordercomp.files import replacing
from ordercomp.networks.exits import replace_module
from ordercomp.networks.layers import EVEN, QuantizedLayer, even_steps, weight_numbers, weight_of_numbers
from ordercomp.networks.network import CompressedNetwork
from ordercomp.shipping import infer
from ordercomp.shipping.exit_graphs import branch_at_exits, cut_at_exits
from ordercomp.shipping.graph import (
    ROUNDING,
    PackedWeight,
    simplify,
    store_weights,
    write_roundings,
)
from ordercomp.shipping.int8 import static_int8
from ordercomp.shipping.integers import choose_ranges, make_integer, untrained
from ordercomp.shipping.plain import InputRounding, ShippedNetwork, ship

Array = NDArray[Any]
Purpose = Literal["speed", "size", "any"]
PURPOSES: tuple[Purpose, ...] = ("speed", "size", "any")
SESSION_OPTIONS: Mapping[str, str] = {"session.disable_quant_qdq": "1"}
TRACED_OPSET = 18  # what the exporter makes
EVERY_READER, FOUR_BIT_OPSET, TWO_BIT_OPSET = 13, 21, 25
IMAGES = 128  # that are enough to choose ranges by
_BATCH = 16
_HEAD = 60  # bytes that tell the reader that stands beside exports
_SAMPLED = 4096  # values of a tensor and a batch
_CHECKED = 8  # images of noise that are compared
_MOST_DIFFERENCE = (
    0.15  # mean difference of logits, as a share of their standard deviation: a few level steps
)
_MOST_OF_INT8 = 0.5  # the same for quantizers that the network was not trained with
_LEAST_SAME = 0.9  # share of equal labels below which ranges that were added are taken back
_INTEGER_LAYERS = ("QLinearConv", "QGemm", "ConvInteger", "MatMulIntegerToFloat", "QLinearMatMul")
_FLOAT_LAYERS = ("Conv", "FusedConv", "NhwcFusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written, and how far onnxruntime's logits are from ours."""

    files: tuple[Path, ...]
    bytes: int  # of all files
    purpose: str
    opset: int
    quantizers: int  # of activations, by QuantizeLinear
    weights: str  # how weights are stored, in words
    notes: tuple[str, ...]  # what a user should know, a line each
    integer_layers: int  # convolutions and linear layers that onnxruntime runs in integers
    layers: int
    session_options: dict[str, str]  # of onnxruntime, without which weights are unpacked at every run
    largest_difference: float  # of any logit
    same_labels: float  # share of images and exits


def export_onnx(
    network: CompressedNetwork,
    path: Path,
    *,
    purpose: Purpose = "speed",
    opset: int | None = None,
    segments: bool = False,
    branches: bool = False,
    images: Tensor | None = None,
    int8: bool = False,
) -> Exported:
    """Write a network that takes stored pixel values (n, c, h, w), float32, and gives logits of every exit.

    Args:
        network: on the CPU.
        path: the file; with segments `NAME.part1.onnx` and so on, which an image goes through in turn.
        purpose: "speed": weights of up to 7 bits as levels in INT8, which engines multiply as they are;
            "size": in 2 or 4 bits where they fit; "any": as for speed, in operators of opset 13.
        opset: version of the operators; by default the lowest that holds the network, 18 for speed.
        segments: cut the network at its exits.
        branches: one file for one image at a time: logits of the exit that it leaves at, and its number.
        images: training images, stored pixel values (n, c, h, w), which choose 8-bit ranges for what lies
            between layers, so that everything runs in integers. `Q(placement=tensor)` trained those.
        int8: leave our quantizers out and take onnxruntime's static ones of 8 bits; needs images.

    Raises:
        ValueError: int8 lacks images, the opset an operator, segments exits, or branches a threshold.
        RuntimeError: onnxruntime computes something else than the network.
    """
    _check_request(network, purpose, segments, branches, without_images=int8 and images is None)
    packed = {} if int8 else _packed_weights(network)
    version = _choose_opset(packed, purpose, opset)
    if int8 and images is not None:
        model, notes = _plain_int8(network, images, version)
    else:
        model, notes = _for_purpose(network, packed, purpose, version, images)
    onnx.checker.check_model(model)
    models = cut_at_exits(model) if segments else [model]
    difference = _compare(network, models, images).checked(_MOST_OF_INT8 if int8 else _MOST_DIFFERENCE)
    options = dict(SESSION_OPTIONS) if packed and purpose == "size" else {}
    integers, in_float = which_run_in_integers(models, options)
    if branches:
        models = [_with_branches(network, model, images)]
    files = [path.with_suffix(f".part{k}.onnx") for k in range(1, len(models) + 1)] if segments else [path]
    _write_files(files, models, _facts(network, options, images))
    notes = [*(notes or _left_in_float(in_float if packed else [], purpose)), *_write_reader(path.parent)]
    return Exported(
        files=tuple(files),
        bytes=sum(file.stat().st_size for file in files),
        purpose=purpose,
        opset=version,
        quantizers=_quantizers(model),
        weights="8-bit weights, by onnxruntime" if int8 else _weight_words(network, packed, purpose, version),
        notes=tuple(notes),
        integer_layers=integers,
        layers=integers + len(in_float),
        session_options=options,
        largest_difference=difference.largest,
        same_labels=difference.same_labels,
    )


def _check_request(
    network: CompressedNetwork, purpose: Purpose, segments: bool, branches: bool, *, without_images: bool
) -> None:
    if purpose not in PURPOSES:
        raise ValueError(f"purpose must be one of {', '.join(PURPOSES)}, got {purpose!r}")
    if segments and not network.exits:
        raise ValueError("--segments cuts a network at its exits, and this one has none")
    if branches and (segments or not network.exits or network.serving.threshold is None):
        raise ValueError(
            "--branches lets an image leave inside one file: it needs exits and a stored threshold, "
            "and does not go with --segments"
        )
    if branches and network.module.policy != "confidence":
        raise ValueError(
            f"--branches knows the policy confidence alone, the exits have {network.module.policy}"
        )
    if without_images:
        raise ValueError("--as int8 needs --task, whose training images choose the ranges")


def _plain_int8(network: CompressedNetwork, images: Tensor, opset: int) -> tuple[onnx.ModelProto, list[str]]:
    model = trace(without_quantizers(network), network)
    finish(model, opset)
    note = "8 bits throughout, by onnxruntime; our quantizers are left out"
    return static_int8(model, images[:IMAGES]), [note]


def _with_branches(
    network: CompressedNetwork, model: onnx.ModelProto, images: Tensor | None
) -> onnx.ModelProto:
    """The network as one file with branches. Raises RuntimeError if onnxruntime computes something else."""
    serving = network.serving
    assert serving.threshold is not None
    spread = serving.scale[1] if serving.scale else 0.0
    branched = branch_at_exits(copy_model(model), [serving.threshold] * len(network.exits), spread=spread)
    onnx.checker.check_model(branched)
    all_exits, leaving = onnx_session(model.SerializeToString()), onnx_session(branched.SerializeToString())
    pixels = (noise(network, _CHECKED) if images is None else images[:_CHECKED].float()).contiguous().numpy()
    for image in pixels:
        logits, place = leaving.run(None, {"image": image[None]})
        expected = all_exits.run(None, {"image": image[None]})[int(place)]
        if not np.allclose(logits, expected, atol=1e-3 * max(float(np.abs(expected).max()), 1.0)):
            raise RuntimeError("onnxruntime's branches give other logits than the whole; no file was written")
    return branched


def _facts(network: CompressedNetwork, options: Mapping[str, str], images: Tensor | None) -> dict[str, Any]:
    """What a reader needs to know, for the metadata of the file."""
    serving, architecture = network.serving, network.architecture
    return {
        "input": "stored pixel values, float32; normalization is inside",
        "layout": "NCHW",
        "shape": (architecture.channels, *architecture.size),
        "input_range": None if images is None else (float(images.min()), float(images.max())),
        "mean": serving.mean,
        "std": serving.std,
        "class_names": serving.names,
        "threshold": serving.threshold,
        "policy": network.module.policy,
        "heads": len(network.exits),
        "numbers": serving.scale,
        "disable_quant_qdq": int(bool(options)),
    }


def _write_files(files: Sequence[Path], models: Sequence[onnx.ModelProto], facts: Mapping[str, Any]) -> None:
    for file, part in zip(files, models, strict=True):
        helper.set_model_props(part, {name: json.dumps(value) for name, value in facts.items()})
        with replacing(file) as draft:
            draft.write_bytes(part.SerializeToString())


def _left_in_float(layers: Sequence[str], purpose: Purpose) -> list[str]:
    """What to say of layers that were to run in integers and do not."""
    if not layers or purpose == "size":
        return []
    return [f"{len(layers)} layers stay in float: {', '.join(layers[:3])}{' …' * (len(layers) > 3)}"]


def _write_reader(folder: Path) -> list[str]:
    """Put the program that runs exported networks beside them, unless another file has its name."""
    source, target = Path(infer.__file__).read_bytes(), folder / "infer.py"
    if target.exists() and not target.read_bytes().startswith(source[:_HEAD]):
        return [f"{target} is a file of yours and stays; ordercomp's would run the exported network"]
    with replacing(target) as draft:
        draft.write_bytes(source)
    return []


def _choose_opset(packed: Mapping[str, PackedWeight], purpose: Purpose, opset: int | None) -> int:
    """The version of the operators. Raises ValueError if the one asked for cannot hold the network."""
    least = bits = min((weight.bits for weight in packed.values()), default=32)
    if purpose == "size":
        least = FOUR_BIT_OPSET if bits <= 4 else TRACED_OPSET
        usual = TWO_BIT_OPSET if bits <= 2 else least
    else:
        least = EVERY_READER
        usual = TRACED_OPSET if purpose == "speed" else EVERY_READER
    if opset is None:
        return usual
    if opset < least:
        lacks = "4-bit weights" if least == FOUR_BIT_OPSET else "quantizers for each channel"
        raise ValueError(f"--opset must be at least {least} for this network, {opset} lacks {lacks}")
    if opset > onnx.defs.onnx_opset_version():
        raise ValueError(f"--opset must be at most {onnx.defs.onnx_opset_version()} here, got {opset}")
    return opset


def _for_purpose(
    network: CompressedNetwork,
    packed: Mapping[str, PackedWeight],
    purpose: Purpose,
    opset: int,
    images: Tensor | None,
) -> tuple[onnx.ModelProto, list[str]]:
    """The network in the form that its purpose wants, and notes."""
    traced, notes = trace(ship(network), network), list[str]()
    unknown = untrained(traced.graph, packed)
    if purpose != "size" and packed and (images is not None or not unknown):
        samples = {} if images is None else _samples(traced, unknown, images[:IMAGES])
        for clips, least, most in ((False, 0.99, 0.05), (True, _LEAST_SAME, _MOST_DIFFERENCE)):
            model, notes = _in_integers(traced, packed, samples, clips=clips)
            finish(model, opset)
            difference = _compare(network, [model], images)
            if difference.same_labels >= least and difference.share <= most:
                return model, notes
        notes = [
            f"8-bit ranges between layers change {1 - difference.same_labels:.0%} of the labels of example "
            f"images and logits by {difference.share:.0%} of their spread, so what lies between layers stays "
            "in float"
        ]
    elif purpose == "speed" and packed:
        notes = ["what lies between layers stays in float: with --task its 8-bit ranges are chosen by images"]
    model = copy_model(traced)
    wide = sum(not weight.fits_int8 for weight in packed.values())
    if wide and purpose != "size":
        notes.append(
            f"256 levels do not fit INT8 around zero: {wide} weights of 8 bits are unpacked at the start; "
            "Q(weights=8,levels=symmetric) trains with 255"
        )
    store_weights(model.graph, packed, lambda weight: _stored_bits(weight, purpose, opset))
    write_roundings(model.graph)
    finish(model, opset)
    return model, notes


def _stored_bits(weight: PackedWeight, purpose: Purpose, opset: int) -> int:
    """How many bits a weight takes in the file; 0 for levels in INT8."""
    bits = weight.bits
    if purpose != "size":
        return 0 if weight.fits_int8 else 8
    if bits <= 2 and opset >= TWO_BIT_OPSET:
        return 2
    return 4 if bits <= 4 else 8


def _in_integers(
    traced: onnx.ModelProto,
    packed: Mapping[str, PackedWeight],
    samples: Mapping[str, Array],
    *,
    clips: bool,
) -> tuple[onnx.ModelProto, list[str]]:
    """The network in integers throughout, with ranges by values that tensors take on images, and notes."""
    model = copy_model(traced)
    rounded = make_integer(model.graph, choose_ranges(model.graph, samples, packed), packed, clips=clips)
    if not rounded:
        return model, []
    return model, [f"{len(rounded)} weights of 8 bits are rounded once more, to 255 levels that fit INT8"]


def _samples(traced: onnx.ModelProto, names: Sequence[str], images: Tensor) -> dict[str, Array]:
    """Some of the values that each tensor takes on these images, its extremes among them."""
    model = copy_model(traced)
    readable = {output.name for output in model.graph.output} | {source.name for source in model.graph.input}
    for name in names:
        if name not in readable:
            model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    write_roundings(model.graph)
    finish(model, TRACED_OPSET)
    session = onnx_session(model.SerializeToString())
    outputs = [output.name for output in session.get_outputs()]
    rng = np.random.default_rng(0)
    samples: dict[str, list[Array]] = {name: [] for name in names}
    for first in range(0, len(images), _BATCH):
        batch = images[first : first + _BATCH].float().contiguous()
        values = dict(zip(outputs, session.run(None, {"image": batch.numpy()}), strict=True))
        values["image"] = batch.numpy()
        for name, chunks in samples.items():
            flat = values[name].reshape(-1)
            drawn = rng.choice(flat, min(_SAMPLED, flat.size), replace=False)
            chunks.append(np.append(drawn, [flat.min(), flat.max()]).astype(np.float32))
    return {name: np.concatenate(chunks) for name, chunks in samples.items()}


def onnx_session(
    model: bytes | str, *, threads: int = 1, options: Mapping[str, str] | None = None, optimized: str = ""
) -> onnxruntime.InferenceSession:
    """A session on the CPU.

    `options` are those that an export names; the graph as onnxruntime runs it is written to `optimized`.
    """
    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = threads
    session_options.log_severity_level = 3
    session_options.optimized_model_filepath = optimized
    for name, value in (options or {}).items():
        session_options.add_session_config_entry(name, value)
    return onnxruntime.InferenceSession(model, session_options, providers=["CPUExecutionProvider"])


def run_parts(
    sessions: Sequence[onnxruntime.InferenceSession], image: Array, *, last: int | None = None
) -> list[Array]:
    """Logits of the exits, from one session with all of them or from parts up to exit `last`."""
    tensors = {"image": image}
    logits: list[Array] = []
    for session in sessions[: None if last is None else last + 1]:
        names = [output.name for output in session.get_outputs()]
        inputs = [argument.name for argument in session.get_inputs()]
        results = session.run(None, {name: tensors[name] for name in inputs})
        tensors |= dict(zip(names, results, strict=True))
        logits += results if len(sessions) == 1 else results[:1]
    return logits


def which_run_in_integers(
    models: Sequence[onnx.ModelProto], options: Mapping[str, str] | None = None
) -> tuple[int, list[str]]:
    """How many convolutions and linear layers onnxruntime runs in integers, and the names of the others."""
    nodes: list[onnx.NodeProto] = []
    with TemporaryDirectory(prefix="ordercomp-") as folder:
        for model in models:
            file = str(Path(folder) / "optimized.onnx")
            onnx_session(model.SerializeToString(), options=options, optimized=file)
            nodes += onnx.load(file).graph.node
    names = [node.input[1] for node in nodes if node.op_type in _FLOAT_LAYERS]
    return sum(node.op_type in _INTEGER_LAYERS for node in nodes), [
        name.removeprefix("network.").partition(".weight")[0] for name in names
    ]


class _Marked(nn.Module):
    """A rounding of ours as a node of its own, which no other rounding is taken for."""

    def __init__(self, rounding: InputRounding) -> None:
        super().__init__()
        self.facts: dict[str, Any] = {"scale": rounding.scale, "low": rounding.low, "high": rounding.high}

    def forward(self, values: Tensor) -> Tensor:
        """Map any shape to the same shape."""
        marked: Tensor = torch.onnx.ops.symbolic(
            f"ordercomp::{ROUNDING}",
            (values,),
            self.facts,
            dtype=torch.float32,
            shape=values.shape,
            version=1,
        )
        return marked


def without_quantizers(network: CompressedNetwork) -> ShippedNetwork:
    """The network in float: weights as Q left them, activations as they come."""
    shipped = ship(network)
    for name, module in list(shipped.named_modules(remove_duplicate=False)):
        if isinstance(module, InputRounding):
            replace_module(shipped, name, nn.Identity())
    return shipped


def trace(shipped: ShippedNetwork, network: CompressedNetwork) -> onnx.ModelProto:
    """The graph in float, our quantizers of up to 8 bits as nodes of their own, simplified.

    Raises ValueError in one line if torch cannot trace it with a batch of any size.
    """
    shipped, example = _for_exporter(shipped), noise(network, 2).contiguous()
    places = [f"exit{place}" for place in range(1, len(network.exits) + 1)]
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                shipped,
                (example,),
                dynamo=True,
                opset_version=TRACED_OPSET,
                input_names=["image"],
                output_names=[*places, "logits"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            reason = str(error.__cause__ or error).strip().partition("\n")[0]
            raise ValueError(f"the network cannot be exported for batches of any size: {reason}") from None
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    if not model.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise ValueError(
            "the network cannot be exported for batches of any size: what it computes depends on how many "
            "images a batch holds"
        )
    simplify(model)
    for message in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        del message.metadata_props[:]  # what tells of the code that a graph was traced from
        message.ClearField("doc_string")
    return model


def _for_exporter(shipped: ShippedNetwork) -> ShippedNetwork:
    """The same network, which is changed, laid out as the exporter needs it to leave averages as they are."""
    for name, module in list(shipped.named_modules(remove_duplicate=False)):
        if isinstance(module, InputRounding) and -128 <= module.low <= module.high <= 255:
            replace_module(shipped, name, _Marked(module))
    return shipped.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload, no-any-return]


def finish(model: onnx.ModelProto, opset: int = TRACED_OPSET) -> None:
    """Bring a graph of ONNX's own operators to a version of them, in place."""
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", TRACED_OPSET))
    if opset > TRACED_OPSET:
        model.CopyFrom(onnx.version_converter.convert_version(model, opset))
    elif opset < TRACED_OPSET:
        _lower_opset(model, opset)
    model.ir_version = helper.find_min_ir_version_for(list(model.opset_import), ignore_unknown=True)
    model.producer_name, model.producer_version = "ordercomp", ""


def _lower_opset(model: onnx.ModelProto, opset: int) -> None:
    """Bring a graph to an opset from before the exporter's, in place.

    Most operators have been the same since 13; others are told. Raises ValueError for them.
    """
    model.opset_import[0].version = opset
    for node in model.graph.node:
        if node.op_type == "Reshape":  # sizes of 0, which the attribute is about, do not occur
            del node.attribute[:]
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ValueError(
            f"opset {opset} cannot hold this network, try a later one: {one_line(error)}"
        ) from None


def copy_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph, which may be changed by itself."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _quantizers(model: onnx.ModelProto) -> int:
    return sum(node.op_type == "QuantizeLinear" for node in model.graph.node)


def _packed_weights(network: CompressedNetwork) -> dict[str, PackedWeight]:
    """Weights of at most 8 bits in even steps, by all names that a graph may have for them; no others."""
    packed = {}
    for name, layer in network.module.named_modules(remove_duplicate=False):
        if not isinstance(layer, QuantizedLayer):
            continue
        bits, levels = layer.weight_bits, layer.levels
        zero = levels != "uniform" and bits > 1  # among the levels
        if bits <= 8 and (levels in EVEN or bits == 1) and (zero or not layer.sparse):
            numbers, top = weight_numbers(layer.weight, bits, levels)
            packed[f"network.{name}.weight"] = PackedWeight(
                numbers=numbers.contiguous().cpu().numpy(),
                values=weight_of_numbers(numbers, top, bits, levels).contiguous().cpu().numpy(),
                bits=bits,
                top=even_steps(bits, levels),
            )
    return packed


def _weight_words(
    network: CompressedNetwork, packed: Mapping[str, PackedWeight], purpose: Purpose, opset: int
) -> str:
    if network.bits is None or not packed:
        return "32-bit floats"
    stored = _stored_bits(max(packed.values(), key=lambda weight: weight.bits), purpose, opset)
    return f"{network.bits.weights}-bit weights in {stored or 8} bits each" + (
        "" if stored else ", levels around zero"
    )


def noise(network: CompressedNetwork, count: int) -> Tensor:
    """Noise with the mean and the spread of the images that the network was trained on."""
    images, serving = network.architecture.example(count), network.serving
    if not serving.mean:
        return images
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (serving.mean, serving.std))
    return images * std + mean


@dataclass(frozen=True, slots=True, kw_only=True)
class _Difference:
    """How far onnxruntime's logits are from ours, in the worse of two sessions."""

    largest: float  # of any logit
    mean: float
    spread: float  # standard deviation of our logits
    same_labels: float  # share of images and exits

    @property
    def share(self) -> float:
        """The mean difference as a share of the spread."""
        return self.mean / max(self.spread, 1e-6)

    def checked(self, most: float) -> "_Difference":
        """The same, unless the mean difference is more than the share `most` of the spread: RuntimeError."""
        if not self.share <= most:
            raise RuntimeError(
                f"onnxruntime's logits differ from the network's by {self.mean:.3g} on average, "
                f"whose spread is {self.spread:.3g}; no file was written"
            )
        return self


def _compare(
    network: CompressedNetwork, models: Sequence[onnx.ModelProto], images: Tensor | None
) -> _Difference:
    """Compare in two sessions: a default one, and one that unpacks weights when it starts."""
    images = noise(network, _CHECKED) if images is None else images[-IMAGES:].float()
    with torch.inference_mode():
        ours = np.stack([logits.numpy() for logits in ship(network)(images)])
    differences, same = [], 1.0
    for options in ({}, SESSION_OPTIONS):
        sessions = [onnx_session(model.SerializeToString(), options=options) for model in models]
        theirs = np.stack(run_parts(sessions, images.contiguous().numpy()))
        differences.append(np.abs(ours - theirs))
        same = min(same, float((ours.argmax(2) == theirs.argmax(2)).mean()))
    return _Difference(
        largest=float(np.max(differences)),
        mean=float(np.max([difference.mean() for difference in differences])),
        spread=float(ours.std()),
        same_labels=same,
    )
