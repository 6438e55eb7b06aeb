"""Tests of exports share what torch traces, which takes seconds: equal networks are traced once."""

import hashlib
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest
from torch import nn

from ordercomp.networks.network import CompressedNetwork

TRACED: dict[str, bytes] = {}


@pytest.fixture(autouse=True, scope="module")
def traced_once() -> Iterator[None]:
    if not all(map(find_spec, ("onnx", "onnxruntime", "onnxscript"))):
        yield
        return
    from ordercomp.shipping import bench, latency
    from ordercomp.shipping import onnx as exports

    trace = exports.trace

    def trace_once(shipped: nn.Module, network: CompressedNetwork) -> Any:
        key = _digest(shipped, network)
        if key not in TRACED:
            TRACED[key] = trace(shipped, network).SerializeToString()
        return exports.onnx.ModelProto.FromString(TRACED[key])

    with pytest.MonkeyPatch.context() as patch:
        for module in (bench, latency, exports):
            patch.setattr(module, "trace", trace_once)
        yield


def _digest(shipped: nn.Module, network: CompressedNetwork) -> str:
    """Of all that a trace depends on: structure, plain attributes and weights."""
    plain = [
        {name: value for name, value in vars(layer).items() if isinstance(value, int | float | str | tuple)}
        for layer in shipped.modules()
    ]
    digest = hashlib.sha256(repr((shipped, plain, network.architecture, network.serving)).encode())
    for name, tensor in shipped.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()
