"""What an unaligned width costs here: one of a network's convolutions in int8, as it is and widened."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from ordercomp.shipping.latency import median_times
from ordercomp.shipping.onnx import EVERY_READER, onnx_session
from ordercomp.shipping.widths import UnalignedLayer


def describe_width_times(layers: Sequence[UnalignedLayer], *, repeats: int, threads: int = 1) -> str:
    """Time the convolution of most work beside a wider one of whole vectors; empty if there is none."""
    if not layers:
        return ""
    layer = max(layers, key=lambda candidate: candidate.work * candidate.size[0] * candidate.size[1])
    wider = layer.aligned
    sessions = {
        "as it is": _convolution(layer, layer.inputs, layer.outputs, layer.groups, threads),
        "wider": _convolution(layer, *wider, threads),
    }
    shapes = {name: session.get_inputs()[0].shape[1:] for name, session in sessions.items()}
    runs = {
        name: partial(session.run, None, {"x": np.full((1, *shapes[name]), 100, np.uint8)})
        for name, session in sessions.items()
    }
    own, aligned = (1000 * ms for ms in median_times(runs, repeats, 1, threads=threads).values())
    return (
        f"In int8 {layer.name} ({layer.inputs} to {layer.outputs} channels) takes {own:.0f} µs here, "
        f"{wider[0]} to {wider[1]} channels {aligned:.0f} µs."
    )


def _convolution(
    layer: UnalignedLayer, inputs: int, outputs: int, groups: int, threads: int
) -> InferenceSession:
    """One convolution of bytes, of the layer's kernel, stride and image."""
    weight = np.random.default_rng(0).integers(-63, 64, (outputs, inputs // groups, *layer.kernel), np.int8)
    constants = {
        "x_scale": np.float32(0.02),
        "x_zero": np.uint8(0),
        "w": weight,
        "w_scale": np.float32(0.01),
        "w_zero": np.int8(0),
        "y_scale": np.float32(0.1),
        "y_zero": np.uint8(0),
    }
    node = helper.make_node(
        "QLinearConv",
        ["x", *constants],
        ["y"],
        group=groups,
        kernel_shape=layer.kernel,
        strides=layer.stride,
        pads=[size // 2 for size in layer.kernel] * 2,
    )
    graph = helper.make_graph(
        [node],
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, inputs, *layer.size])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opset = helper.make_opsetid("", EVERY_READER)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=7)
    return onnx_session(model.SerializeToString(), threads=threads)
