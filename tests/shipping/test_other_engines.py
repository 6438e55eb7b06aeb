"""OpenVINO where it is installed: what it is asked for, and how a refusal is told."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the extra `export` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")

from ordercomp.shipping.bench import has_openvino, openvino_run  # noqa: E402


def network() -> Any:
    kinds = [onnx.helper.make_tensor_value_info(name, 1, ["n", 2]) for name in ("image", "logits")]
    node = onnx.helper.make_node("Relu", ["image"], ["logits"])
    return onnx.helper.make_model(onnx.helper.make_graph([node], "g", kinds[:1], kinds[1:]))


class Core:
    asked: ClassVar[dict[str, Any]] = {}

    def read_model(self, content: bytes) -> "Core":
        self.asked["network"] = onnx.load_from_string(content).graph.node[0].op_type
        return self

    def reshape(self, shapes: dict[str, list[int]]) -> None:
        self.asked["shapes"] = shapes

    def compile_model(self, _read: object, device: str, options: dict[str, Any]) -> Any:
        self.asked |= {"device": device, "options": options}
        return self

    def create_infer_request(self) -> "Core":
        return self

    def set_input_tensor(self, images: np.ndarray) -> None:
        self.images = images

    def infer(self) -> None:
        self.data = np.maximum(self.images, 0)

    def get_output_tensor(self, _place: int) -> "Core":
        return self


class Refusing(Core):
    def read_model(self, content: bytes) -> Core:
        raise RuntimeError("no\nsuch operator")


def install(monkeypatch: pytest.MonkeyPatch, core: type[Core]) -> None:
    module: Any = ModuleType("openvino")
    module.__spec__, module.Core = ModuleSpec("openvino", None), core
    module.Tensor = lambda images, *, shared_memory: images if shared_memory else None
    monkeypatch.setitem(sys.modules, "openvino", module)


def test_openvino_computes_in_float32_with_the_threads_that_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, Core)
    assert has_openvino()
    run = openvino_run(network(), np.array([[-1, 2]], np.float32), threads=2)
    assert run().tolist() == [[0, 2]]  # type: ignore[attr-defined]
    assert Core.asked == {
        "network": "Relu",
        "shapes": {"image": [1, 2]},
        "device": "CPU",
        "options": {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 2},
    }
    openvino_run(network(), np.zeros((1, 2), np.float32), threads=0)
    assert "INFERENCE_NUM_THREADS" not in Core.asked["options"]


def test_what_openvino_refuses_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Refusing)
    with pytest.raises(ValueError, match="OpenVINO refuses the network: no such operator"):
        openvino_run(network(), np.zeros((1, 2), np.float32))


def test_without_openvino_there_is_nothing_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    monkeypatch.setattr(sys, "path", [])
    assert not has_openvino()
