"""Measured latency and accuracy of a network beside its baseline and beside plain int8 of both."""

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import torch
from onnxruntime import InferenceSession
from torch import Tensor

from ordercomp.measuring.cost import measure_cost
from ordercomp.networks.exits import run_until
from ordercomp.networks.network import CompressedNetwork
from ordercomp.shipping.exit_times import ExitTimes, describe_exits, leaving_shares, measure_exits
from ordercomp.shipping.graph import Array
from ordercomp.shipping.int8 import static_int8
from ordercomp.shipping.latency import fresh_baseline, median_times
from ordercomp.shipping.onnx import (
    IMAGES,
    Exported,
    export_onnx,
    finish,
    noise,
    onnx_session,
    run_parts,
    trace,
    without_quantizers,
)
from ordercomp.shipping.plain import ShippedNetwork, ship
from ordercomp.shipping.width_times import describe_width_times
from ordercomp.shipping.widths import describe_widths, unaligned_layers

BASELINE, SHIPPED = "baseline", "shipped"
UNQUANTIZED, INT8 = "without quantizers", "int8 without them"
BASELINE_INT8 = "int8 of the baseline"
_UNMEASURED = "OpenVINO is not installed, so it was not measured."
_FASTER = 0.97  # of the time: what counts as faster
_AS_GOOD = 0.005  # of accuracy that plain int8 may lose and still be called as good


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Median milliseconds of one call, all exits computed."""

    engine: str  # torch, onnxruntime, or openvino where that is installed
    batch: int
    baseline_ms: float
    compressed_ms: float
    threads: int = 1

    @property
    def speedup(self) -> float:
        """How many times faster the compressed network is."""
        return self.baseline_ms / self.compressed_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One network in onnxruntime, in a default session unless its export names options."""

    name: str  # one of the five above
    milliseconds: dict[str, float]  # of one call, by batch and threads, such as "1x1"
    accuracy: float | None  # on the test images; None: there are none, or the network is not trained


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Latencies, and what bit operations promised."""

    latencies: tuple[Latency, ...]
    contenders: tuple[Contender, ...]
    exits: ExitTimes | None  # None: there are none, or images do not leave by confidence
    exits_ms: dict[str, tuple[float, ...]]  # by engine: one image that leaves at exit 1, 2, …, last
    bitops_cr: float
    integer_layers: int  # of the shipped network, by onnxruntime
    layers: int
    sentence: str

    def expected_ms(self, engine: str, shares: Sequence[float]) -> float:
        """Milliseconds of an image if `shares` of the images leave at each exit."""
        return sum(share * ms for share, ms in zip(shares, self.exits_ms[engine], strict=True))


def bench(
    network: CompressedNetwork,
    *,
    repeats: int = 15,
    batches: Sequence[int] = (1, 64),
    threads: int = 1,
    images: Tensor | None = None,
    test: tuple[Tensor, Tensor] | None = None,
    baseline: CompressedNetwork | None = None,
) -> Bench:
    """Measure a network beside its uncompressed baseline and plain int8 of both, in turns.

    Args:
        network: on the CPU.
        repeats: rounds, each with every network once, whose median counts.
        batches: images in a call.
        threads: of onnxruntime and torch; 0 takes all cores.
        images: training images, stored pixel values (n, c, h, w), that choose ranges; else noise does.
        test: images and labels for accuracy.
        baseline: the trained one; otherwise a fresh network, whose accuracy is not told.

    Raises ValueError if a network cannot be exported.
    """
    dense = baseline or fresh_baseline(network)
    dense.module.eval()
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        exported, sessions, floats, shipped = _sessions(network, dense, images, threads)
        contenders = _contenders(
            sessions, network, batches, repeats, threads, test, trained=baseline is not None
        )
        latencies = [
            *_torch_latencies(dense, network, batches, repeats, threads),
            *_as_latencies(contenders, batches, threads),
            *_openvino_latencies(floats, shipped, batches, repeats, threads),
        ]
        image = network.architecture.example(1)
        exits = {"torch": _torch_exits(ship(network), image, repeats, threads)}
        leaving = None
        if network.exits:
            exits["onnxruntime"] = _onnx_exits(network, images, image, repeats, threads)
            leaving = _leaving(network, shipped, sessions[SHIPPED], test, repeats, threads)
        widths = _width_words(network, repeats, threads)
    finally:
        torch.set_num_threads(before)
    bitops_cr = measure_cost(dense).bitops() / measure_cost(network).bitops()
    best, place = max(latency.speedup for latency in latencies), f"{batches[0]}x{threads}"
    sentences = [describe_bench(bitops_cr, best, contenders, place=place), widths]
    sentences += [describe_exits(leaving)] if leaving else []
    return Bench(
        latencies=tuple(latencies),
        contenders=contenders,
        exits=leaving,
        exits_ms=exits,
        bitops_cr=bitops_cr,
        integer_layers=exported.integer_layers,
        layers=exported.layers,
        sentence=" ".join(filter(None, [*sentences, _UNMEASURED * (not has_openvino())])),
    )


def describe_bench(bitops_cr: float, best: float, contenders: Sequence[Contender], *, place: str) -> str:
    """What the measured times mean, in words; `place` names the batch and the threads that decide."""
    sentence = f"{bitops_cr:.3g} times fewer bit operations are up to {best:.3g} times faster here."
    if best < bitops_cr / 2:
        sentence = (
            f"{bitops_cr:.3g} times fewer bit operations promise more than this hardware gives: at most "
            f"{best:.3g} times faster here. Fewer bits still make the file smaller."
        )
    by_name = {contender.name: contender for contender in contenders}
    ours = by_name[SHIPPED]
    for name, advice in (
        (INT8, "`export --as int8` writes it"),
        (BASELINE_INT8, "compression gains nothing"),
    ):
        plain = by_name[name]
        lost = 0.0 if plain.accuracy is None or ours.accuracy is None else ours.accuracy - plain.accuracy
        if plain.milliseconds[place] < _FASTER * ours.milliseconds[place] and lost <= _AS_GOOD:
            times = f"{plain.milliseconds[place]:.3g} ms against {ours.milliseconds[place]:.3g}"
            sentence += f" Plain {name} is better here: {times} at {place}; {advice}."
    return sentence


def _sessions(
    network: CompressedNetwork, dense: CompressedNetwork, images: Tensor | None, threads: int
) -> tuple[Exported, dict[str, InferenceSession], onnx.ModelProto, onnx.ModelProto]:
    """What was exported, a session for each contender, the float baseline and the exported network."""
    calibration = noise(network, IMAGES) if images is None else images[:IMAGES]
    floats = {
        BASELINE: trace(without_quantizers(dense), dense),
        UNQUANTIZED: trace(without_quantizers(network), network),
    }
    for model in floats.values():
        finish(model)
    models = {
        **floats,
        INT8: static_int8(floats[UNQUANTIZED], calibration),
        BASELINE_INT8: static_int8(floats[BASELINE], calibration),
    }
    with TemporaryDirectory(prefix="ordercomp-") as folder:
        exported = export_onnx(network, Path(folder) / "network.onnx", images=images)
        models[SHIPPED] = onnx.load(exported.files[0])
    order = (BASELINE, SHIPPED, UNQUANTIZED, INT8, BASELINE_INT8)
    sessions = {name: onnx_session(models[name].SerializeToString(), threads=threads) for name in order}
    return exported, sessions, models[BASELINE], models[SHIPPED]


def _contenders(
    sessions: Mapping[str, InferenceSession],
    network: CompressedNetwork,
    batches: Sequence[int],
    repeats: int,
    threads: int,
    test: tuple[Tensor, Tensor] | None,
    *,
    trained: bool,
) -> tuple[Contender, ...]:
    milliseconds: dict[str, dict[str, float]] = {name: {} for name in sessions}
    for batch in batches:
        images = network.architecture.example(batch).contiguous().numpy()
        runs = {name: partial(session.run, None, {"image": images}) for name, session in sessions.items()}
        for name, median in median_times(runs, repeats, batch, threads=threads).items():
            milliseconds[name][f"{batch}x{threads}"] = median
    contenders = []
    for name, session in sessions.items():
        is_trained = trained or name not in (BASELINE, BASELINE_INT8)
        accuracy = accuracy_of(session, *test) if test is not None and is_trained else None
        contenders.append(Contender(name=name, milliseconds=milliseconds[name], accuracy=accuracy))
    return tuple(contenders)


def accuracy_of(session: InferenceSession, images: Tensor, labels: Tensor) -> float:
    """Of the last exit."""
    right = [
        session.run(None, {"image": part.contiguous().numpy()})[-1].argmax(1) == truth.numpy()
        for part, truth in zip(torch.split(images, 64), torch.split(labels, 64), strict=True)
    ]
    return float(np.concatenate(right).mean())


def _leaving(
    network: CompressedNetwork,
    shipped: onnx.ModelProto,
    session: InferenceSession,
    test: tuple[Tensor, Tensor] | None,
    repeats: int,
    threads: int,
) -> ExitTimes | None:
    """What leaving early saves, and which test images do; None where confidence does not decide."""
    if network.serving.scale or network.module.policy != "confidence":
        return None
    shares = () if test is None else leaving_shares(session, test[0], network.serving.threshold)
    image = network.architecture.example(1).contiguous().numpy()
    return measure_exits(shipped, image, repeats=repeats, threads=threads, shares=shares)


def _width_words(network: CompressedNetwork, repeats: int, threads: int) -> str:
    odd, convolutions = unaligned_layers(network)
    if not odd:
        return ""
    return (
        f"{describe_widths(odd, convolutions)}. {describe_width_times(odd, repeats=repeats, threads=threads)}"
    )


def _as_latencies(contenders: Sequence[Contender], batches: Sequence[int], threads: int) -> list[Latency]:
    def medians(batch: int) -> dict[str, float]:
        return {contender.name: contender.milliseconds[f"{batch}x{threads}"] for contender in contenders}

    return [_latency("onnxruntime", batch, medians(batch), threads) for batch in batches]


def _latency(engine: str, batch: int, medians: Mapping[str, float], threads: int) -> Latency:
    """The two networks' times among `medians`, which are by name."""
    baseline, shipped = medians[BASELINE], medians[SHIPPED]
    return Latency(engine=engine, batch=batch, baseline_ms=baseline, compressed_ms=shipped, threads=threads)


def _torch_latencies(
    dense: CompressedNetwork, network: CompressedNetwork, batches: Sequence[int], repeats: int, threads: int
) -> list[Latency]:
    modules = {BASELINE: ship(dense), SHIPPED: ship(network)}
    latencies = []
    for batch in batches:
        images = network.architecture.example(batch).contiguous(memory_format=torch.channels_last)
        runs = {name: partial(module, images) for name, module in modules.items()}
        latencies.append(
            _latency("torch", batch, median_times(runs, repeats, batch, threads=threads), threads)
        )
    return latencies


def _openvino_latencies(
    baseline: onnx.ModelProto, shipped: onnx.ModelProto, batches: Sequence[int], repeats: int, threads: int
) -> list[Latency]:
    """Of the same two files; none where OpenVINO is not installed."""
    latencies = []
    shape = [dim.dim_value for dim in baseline.graph.input[0].type.tensor_type.shape.dim[1:]]
    for batch in batches if has_openvino() else ():
        images = np.zeros((batch, *shape), np.float32)
        runs = {
            name: openvino_run(model, images, threads=threads)
            for name, model in ((BASELINE, baseline), (SHIPPED, shipped))
        }
        latencies.append(
            _latency("openvino", batch, median_times(runs, repeats, batch, threads=threads), threads)
        )
    return latencies


def _torch_exits(shipped: ShippedNetwork, image: Tensor, repeats: int, threads: int) -> tuple[float, ...]:
    def until(last: int) -> Callable[[], object]:
        return lambda: run_until(
            shipped.network, shipped.normalize(image), lambda place, _logits: place == last
        )

    runs = {str(place): until(place) for place in range(len(shipped.network.split_points) + 1)}
    return tuple(median_times(runs, repeats, 1, threads=threads).values())


def _onnx_exits(
    network: CompressedNetwork, images: Tensor | None, image: Tensor, repeats: int, threads: int
) -> tuple[float, ...]:
    with TemporaryDirectory(prefix="ordercomp-") as folder:
        exported = export_onnx(network, Path(folder) / "network.onnx", segments=True, images=images)
        parts = [onnx_session(file.read_bytes(), threads=threads) for file in exported.files]
    pixels = image.contiguous().numpy()
    runs = {str(last): partial(run_parts, parts, pixels, last=last) for last in range(len(parts))}
    return tuple(median_times(runs, repeats, 1, threads=threads).values())


# OpenVINO, an engine that is not required

# Where a processor has AMX, OpenVINO computes floats in bf16 unless it is told not to.
FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32"}


def has_openvino() -> bool:
    """Whether OpenVINO can be loaded."""
    return importlib.util.find_spec("openvino") is not None


def openvino_run(model: onnx.ModelProto, images: Array, *, threads: int = 1) -> Callable[[], object]:
    """A call of a network in OpenVINO on images (n, c, h, w), float32; 0 threads are all.

    Raises ValueError, in one line, if OpenVINO refuses the network.
    """
    engine = importlib.import_module("openvino")
    options = {**FLOAT32, **({"INFERENCE_NUM_THREADS": threads} if threads else {})}
    try:
        read = engine.Core().read_model(model.SerializeToString())
        read.reshape({"image": list(images.shape)})
        request = engine.Core().compile_model(read, "CPU", options).create_infer_request()
    except Exception as error:  # whatever it raises
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"OpenVINO refuses the network: {reason}") from None
    pixels = np.ascontiguousarray(images)
    request.set_input_tensor(engine.Tensor(pixels, shared_memory=True))

    def run(_pixels: Array = pixels) -> object:  # the request reads where the images lie, without a copy
        request.infer()
        return request.get_output_tensor(0).data

    return run
