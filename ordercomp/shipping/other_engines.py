"""The same ONNX files in OpenVINO, where it is installed."""

import importlib
import importlib.util
from collections.abc import Callable

import numpy as np
import onnx

from ordercomp.shipping.graph import Array

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
