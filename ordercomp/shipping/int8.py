"""What a tool that knows nothing of compression makes of a network: onnxruntime's static quantization."""

import logging
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from torch import Tensor


def static_int8(model: onnx.ModelProto, images: Tensor) -> onnx.ModelProto:
    """A float network in 8 bits by onnxruntime, a scale for each channel, ranges by these stored images."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)  # it advises to run a tool before, which changes nothing here
    try:
        with TemporaryDirectory(prefix="ordercomp-") as folder:
            source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
            source.write_bytes(model.SerializeToString())
            quantize_static(
                source,
                target,
                _Images(images),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
            return onnx.load(target)
    finally:
        logging.root.setLevel(level)


class _Images(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, images: Tensor) -> None:
        self._batches: Iterator[Tensor] = iter(torch.split(images.float().contiguous(), 16))

    def get_next(self) -> dict[str, object] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"image": batch.numpy()}
