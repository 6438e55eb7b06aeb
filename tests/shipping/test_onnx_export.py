"""ONNX files: onnxruntime computes what the network computes, and what cannot be exported is told."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sibling_nets import cases
from tiny_networks import apply, tiny_network, tiny_trainer
from torch import Tensor, nn

from ordercomp.cli.main import main
from ordercomp.networks.exits import MultiExit
from ordercomp.networks.network import CompressedNetwork
from ordercomp.sequence import StageSequence
from ordercomp.shipping.plain import ship
from ordercomp.stages.catalog import apply_untrained

onnx = pytest.importorskip("onnx", reason="the extra `export` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
pytest.importorskip("onnxscript", reason="the extra `export` is not installed")

from ordercomp.shipping.bench import (  # noqa: E402
    Bench,
    Contender,
    bench,
    describe_bench,
    has_openvino,
)
from ordercomp.shipping.onnx import Purpose, export_onnx, onnx_session, run_parts  # noqa: E402

pytestmark = pytest.mark.integration


def made(order: str, *, weights: int = 8, activations: int = 8) -> CompressedNetwork:
    network = tiny_network()
    for letter in order:
        knobs = {"weights": weights, "activations": activations} if letter == "Q" else {}
        network = apply(letter, network, **knobs)
    network.module.eval()
    return network


@pytest.mark.parametrize(
    ("order", "bits", "opset"),
    [
        ("", (8, 8), 18),
        ("DPQE", (8, 8), 18),
        ("EQP", (2, 4), 25),
        ("PQ", (5, 3), 18),
        ("EQ", (4, 8), 21),
        ("Q", (1, 32), 25),
    ],
)
@pytest.mark.parametrize("purpose", ["speed", "size", "any"])
def test_onnxruntime_computes_every_exit(
    order: str, bits: tuple[int, int], opset: int, purpose: Purpose, tmp_path: Path
) -> None:
    network = made(order, weights=bits[0], activations=bits[1])
    exported = export_onnx(network, tmp_path / "n.onnx", purpose=purpose)
    graph = onnx.load(tmp_path / "n.onnx").graph
    used = {name for node in graph.node for name in node.input}
    assert {tensor.name for tensor in graph.initializer} <= used
    kinds = [node.op_type for node in graph.node]
    images = network.architecture.example(5)
    with torch.no_grad():
        ours = [logits.numpy() for logits in ship(network)(images)]
    theirs = run_parts([onnx_session((tmp_path / "n.onnx").read_bytes())], images.numpy())
    assert len(theirs) == len(network.exits) + 1
    assert all(np.abs(one - two).max() < 0.05 * one.std() for one, two in zip(ours, theirs, strict=True))
    assert exported.opset == {"speed": 18, "size": opset, "any": 13}[purpose]
    assert "Round" not in kinds
    assert kinds.count("QuantizeLinear") == exported.quantizers
    assert (exported.quantizers > 0) == ("Q" in order and bits[1] <= 8)
    stored = {tensor.data_type for tensor in graph.initializer}
    kind = onnx.TensorProto
    small = kind.UINT2 if bits[0] <= 2 else kind.UINT4 if bits[0] <= 4 else kind.UINT8
    packed = small if purpose == "size" else kind.UINT8 if bits[0] == 8 else kind.INT8
    assert "Q" not in order or packed in stored


@pytest.mark.parametrize(
    "steps", ["S", "S(skip=0.3) Q(levels=pot,activations=8) E", "Q(levels=apot,activations=8) P"]
)
def test_gates_and_levels_of_powers_of_two_are_exported(steps: str, tmp_path: Path) -> None:
    network = tiny_network()
    for step in StageSequence.parse(steps).steps:
        network = apply(step.stage, network, tiny_trainer(), **step.settings)
    images = network.architecture.example(5)
    export_onnx(network, tmp_path / "n.onnx")
    with torch.no_grad():
        ours = [logits.numpy() for logits in ship(network)(images)]
    theirs = run_parts([onnx_session((tmp_path / "n.onnx").read_bytes())], images.numpy())
    assert all(np.abs(one - two).max() < 0.05 * one.std() for one, two in zip(ours, theirs, strict=True))


def test_parts_compute_what_the_whole_computes_and_hand_on_features(tmp_path: Path) -> None:
    network = made("DPQE")
    whole = export_onnx(network, tmp_path / "n.onnx")
    parts = export_onnx(network, tmp_path / "n.onnx", segments=True)
    assert [file.name for file in parts.files] == [f"n.part{place}.onnx" for place in (1, 2, 3)]
    image = network.architecture.example(1).numpy()
    sessions = [onnx_session(file.read_bytes()) for file in parts.files]
    every = run_parts([onnx_session(whole.files[0].read_bytes())], image)
    assert all(
        np.allclose(one, two, atol=1e-5) for one, two in zip(every, run_parts(sessions, image), strict=True)
    )
    assert len(run_parts(sessions, image, last=0)) == 1


@pytest.mark.slow
def test_bench_measures_both_engines_and_every_exit() -> None:
    found = bench(made("DPQE"), repeats=3, batches=(1, 2))
    assert isinstance(found, Bench)
    assert [(one.engine, one.batch) for one in found.latencies] == [
        ("torch", 1),
        ("torch", 2),
        ("onnxruntime", 1),
        ("onnxruntime", 2),
    ]
    assert {engine: len(times) for engine, times in found.exits_ms.items()} == {"torch": 3, "onnxruntime": 3}
    names = ["baseline", "shipped", "without quantizers", "int8 without them", "int8 of the baseline"]
    assert [one.name for one in found.contenders] == names
    assert all(set(one.milliseconds) == {"1x1", "2x1"} for one in found.contenders)
    assert found.contenders[0].accuracy is None
    times = found.exits_ms["torch"]
    assert found.expected_ms("torch", (0.5, 0.5, 0.0)) == pytest.approx((times[0] + times[1]) / 2)
    assert "bit operations promise more than this hardware gives" in found.sentence
    assert found.exits is not None
    assert len(found.exits.exits_ms) == 3
    assert "Exits, in one file: an image that leaves" in found.sentence
    assert ("OpenVINO is not installed" in found.sentence) != has_openvino()


def contender(name: str, milliseconds: float, accuracy: float | None) -> Contender:
    return Contender(name=name, milliseconds={"1x1": milliseconds}, accuracy=accuracy)


@pytest.mark.parametrize(
    ("milliseconds", "accuracy", "said"),
    [(0.5, 0.9, True), (0.5, None, True), (0.5, 0.8, False), (0.99, 0.9, False)],
)
def test_plain_int8_is_called_better_where_it_is(
    milliseconds: float, accuracy: float | None, said: bool
) -> None:
    contenders = [
        contender("shipped", 1.0, 0.9),
        contender("int8 without them", milliseconds, accuracy),
        contender("int8 of the baseline", 2.0, 0.95),
    ]
    sentence = describe_bench(10.0, 6.0, contenders, place="1x1")
    assert ("`export --as int8` writes it" in sentence) == said
    assert "compression gains nothing" not in sentence


def test_plain_int8_is_written_in_place_of_our_quantizers(tmp_path: Path) -> None:
    network = made("EQ")
    with pytest.raises(ValueError, match="--as int8 needs --task"):
        export_onnx(network, tmp_path / "n.onnx", int8=True)
    exported = export_onnx(network, tmp_path / "n.onnx", int8=True, images=network.architecture.example(32))
    assert exported.integer_layers > 0
    assert exported.weights == "8-bit weights, by onnxruntime"


def refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    error = capsys.readouterr().err
    assert (caught.value.code, error.count("\n")) == (2, 1)
    assert message in error


def test_bad_input_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text("no network")
    made("Q", weights=2).save(tmp_path / "n")
    out = str(tmp_path / "o.onnx")
    refused(["export", str(tmp_path / "text"), "--onnx", out], "no safetensors file", capsys)
    refused(["bench", str(tmp_path / "text")], "no safetensors file", capsys)
    network = str(tmp_path / "n")
    refused(["export", network], "export needs --onnx FILE or --packed FILE", capsys)
    refused(["export", network, "--onnx", out, "--segments"], "and this one has none", capsys)
    refused(["export", network, "--onnx", out, "--for", "size", "--opset", "18"], "18 lacks 4-bit", capsys)
    refused(["export", network, "--onnx", out, "--for", "luck"], "speed", capsys)
    refused(["export", network, "--onnx", out, "--opset", "999"], "--opset must be at most", capsys)
    refused(["bench", network, "--shares", "0.5,0.5"], "--shares must be 1 shares that sum to 1", capsys)


class OddBatch(nn.Module):
    """A network that computes something else where a batch holds three images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv: nn.Conv2d = nn.Conv2d(1, 4, 3)
        self.last: nn.Linear = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        features = self.conv(x).mean((2, 3))
        logits: Tensor = self.last(features * 2 if len(x) == 3 else features)
        return logits


def test_a_network_that_cannot_be_traced_is_told_in_one_line(
    tmp_path: Path,
) -> None:
    network = CompressedNetwork.create("resnet8(width=4)", classes=10, channels=1, size=(16, 16))
    odd = CompressedNetwork(module=MultiExit(OddBatch()), architecture=network.architecture)
    odd.module.eval()
    with pytest.raises(
        ValueError, match=r"cannot be exported for batches of any size: what it computes depends"
    ) as caught:
        export_onnx(odd, tmp_path / "n.onnx")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_layers_that_stay_in_float_are_named(tmp_path: Path) -> None:
    network = made("QS", weights=4)
    exported = export_onnx(network, tmp_path / "n.onnx", images=network.architecture.example(64))
    left = exported.layers - exported.integer_layers
    assert left > 0
    (note,) = exported.notes
    assert note.startswith(f"{left} layers stay in float: body.stages.")


@pytest.mark.parametrize(("model", "_parameters"), cases("TIED"))
def test_weights_in_several_places_are_packed_in_all(model: str, _parameters: int, tmp_path: Path) -> None:
    network = CompressedNetwork.create(model, classes=10, channels=1, size=(8, 8))
    network = apply("Q", network, tiny_trainer(), weights=4, activations=8)
    network.module.eval()
    export_onnx(network, tmp_path / "n.onnx", purpose="size")
    graph = onnx.load(tmp_path / "n.onnx").graph
    kinds = [tensor.data_type for tensor in graph.initializer if np.prod(tensor.dims[1:]) > 1]
    assert set(kinds) == {onnx.TensorProto.UINT4}
    images = network.architecture.example(5)
    with torch.no_grad():
        ours = ship(network)(images)[0].numpy()
    (theirs,) = run_parts([onnx_session((tmp_path / "n.onnx").read_bytes())], images.numpy())
    assert np.abs(ours - theirs).max() < 0.05 * ours.std()


def test_the_command_writes_both_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made("PQE", weights=2).save(tmp_path / "n")
    files = ["--onnx", str(tmp_path / "o.onnx"), "--packed", str(tmp_path / "p"), "--for", "size"]
    with pytest.raises(SystemExit) as caught:
        main(["export", str(tmp_path / "n"), *files, "--json"])
    done = json.loads(capsys.readouterr().out)
    assert caught.value.code == 0
    assert done["packed"]["bytes"] == (tmp_path / "p").stat().st_size
    assert done["onnx"]["bytes"] == (tmp_path / "o.onnx").stat().st_size
    assert done["onnx"]["same_labels"] == 1.0
    assert done["onnx"]["session_options"] == {"session.disable_quant_qdq": "1"}


@pytest.mark.slow
@pytest.mark.parametrize("sequence", ["Q(weights=4,activations=8) E(exits=2)", "P(ratio=0.3) Q(weights=8)"])
@pytest.mark.parametrize("name", ["mobilenet_v2", "shufflenet_v2_x0_5", "densenet121"])
def test_networks_of_other_families_are_exported(name: str, sequence: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = CompressedNetwork.create(f"torchvision:{name}", classes=10, channels=3, size=(32, 32))
    network.module.train()  # so that logits do not vanish
    with torch.no_grad():
        for _ in range(20):
            network.module(network.architecture.example(32))
    network = apply_untrained(network, StageSequence.parse(sequence))
    network.module.eval()
    exported = export_onnx(network, tmp_path / "n.onnx")
    images = network.architecture.example(16)
    with torch.no_grad():
        ours = [logits.numpy() for logits in ship(network)(images)]
    theirs = run_parts([onnx_session((tmp_path / "n.onnx").read_bytes())], images.numpy())
    for one, two in zip(ours, theirs, strict=True):
        assert one.std() > 1e-3, "logits vanish, so nothing is compared"
        assert np.abs(one - two).mean() < 0.05 * one.std()
    assert exported.same_labels > 0.8
