"""Exports that run in integers: every layer, the same numbers, and nothing of the user's changed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_networks import apply, digits, tiny_network, tiny_trainer
from torch import Tensor, nn

from ordercomp.networks.exits import Bits, MultiExit
from ordercomp.networks.network import CompressedNetwork
from ordercomp.shipping.plain import ship

onnx = pytest.importorskip("onnx", reason="the extra `export` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
pytest.importorskip("onnxscript", reason="the extra `export` is not installed")

from ordercomp.shipping.graph import PackedWeight, scaled_numbers  # noqa: E402
from ordercomp.shipping.integers import Range, choose_ranges  # noqa: E402
from ordercomp.shipping.onnx import Purpose, export_onnx, onnx_session  # noqa: E402


def quantized(name: str, bits: Bits, *, size: tuple[int, int] = (16, 16)) -> CompressedNetwork:
    """An untrained network whose ranges fit its images."""
    network = CompressedNetwork.create(name, classes=10, channels=1, size=size)
    with torch.no_grad():
        network.module.train()(network.architecture.example(64))
    twin = network.quantized(bits)
    twin.module.eval()
    hooks = [
        layer.register_forward_pre_hook(lambda layer, inputs: layer.calibrate(inputs[0]))
        for _, layer in twin.quantized_layers()
    ]
    with torch.no_grad():
        twin.module(network.architecture.example(64))
    for hook in hooks:
        hook.remove()
    return twin


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("resnet8(width=8)", Bits(4, 8)),
        ("resnet8(width=8)", Bits(8, 8)),
        ("resnet8(width=8)", Bits(2, 4)),
        ("vgg8(width=8)", Bits(4, 8)),
        ("common_nets:inverted", Bits(7, 8)),
    ],
)
def test_every_layer_runs_in_integers_and_labels_stay(name: str, bits: Bits, tmp_path: Path) -> None:
    network = quantized(name, bits, size=(32, 32))
    images = network.architecture.example(64)
    exported = export_onnx(network, tmp_path / "n.onnx", images=images)
    assert exported.integer_layers == exported.layers > 0
    assert exported.session_options == {}
    assert any("255 levels" in note for note in exported.notes) == (bits.weights == 8)
    with torch.no_grad():
        (ours,) = ship(network)(images)
    (theirs,) = onnx_session(str(tmp_path / "n.onnx")).run(None, {"image": images.numpy()})
    assert (ours.numpy().argmax(1) == theirs.argmax(1)).mean() >= 0.9
    kinds = {node.op_type for node in onnx.load(tmp_path / "n.onnx").graph.node}
    assert not kinds & {"Relu", "ReduceMean", "AveragePool", "Gather", "Round"}


@pytest.mark.integration
@pytest.mark.parametrize("narrow", [False, True])
def test_a_trained_range_is_kept_where_labels_need_it(narrow: bool, tmp_path: Path) -> None:
    network = quantized("resnet8(width=8)", Bits(4, 8), size=(32, 32))
    if narrow:  # layers clip most of what a skip connection or another layer reads, too
        for name, layer in network.quantized_layers():
            layer.input_scale.mul_(0.05 if name.endswith("conv1") else 1.0)
    images = network.architecture.example(128)
    exported = export_onnx(network, tmp_path / "n.onnx", images=images)
    kinds = [node.op_type for node in onnx.load(tmp_path / "n.onnx").graph.node]
    assert exported.integer_layers == exported.layers
    assert ("Min" in kinds) == narrow
    assert exported.same_labels >= (0.9 if narrow else 0.99)


@pytest.mark.integration
@pytest.mark.parametrize("weights", [1, 2])
def test_two_bits_hold_what_four_bits_hold(weights: int, tmp_path: Path) -> None:
    network = quantized("resnet8(width=8)", Bits(weights, 8))
    image = network.architecture.example(3).numpy()
    found = []
    for opset in (21, 25):
        exported = export_onnx(network, tmp_path / f"{opset}", purpose="size", opset=opset)
        session = onnx_session(str(tmp_path / f"{opset}"), options=exported.session_options)
        found.append((exported.bytes, session.run(None, {"image": image})[0]))
    (four, ours), (two, theirs) = found
    assert (ours == theirs).all()
    assert two < four


class Rounds(nn.Module):
    """A network of a user's that rounds its image and features by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv: nn.Conv2d = nn.Conv2d(1, 4, 3)
        self.last: nn.Linear = nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = torch.round(torch.clamp(255 * x, 0, 255)) * 0.004
        features = torch.round(torch.clamp(4 * self.conv(x), 0, 15))
        logits: Tensor = self.last((features * 0.5 + features * 0.25).mean((2, 3)))
        return logits


@pytest.mark.integration
@pytest.mark.parametrize("purpose", ["speed", "size", "any"])
@pytest.mark.parametrize("bits", [None, Bits(4, 8)])
def test_what_a_user_rounds_stays_as_it_is(bits: Bits | None, purpose: Purpose, tmp_path: Path) -> None:
    network = CompressedNetwork.create("resnet8(width=4)", classes=10, channels=1, size=(16, 16))
    network = CompressedNetwork(module=MultiExit(Rounds()), architecture=network.architecture)
    network = network if bits is None else network.quantized(bits)
    network.module.eval()
    exported = export_onnx(network, tmp_path / "n.onnx", purpose=purpose)
    kinds = [node.op_type for node in onnx.load(tmp_path / "n.onnx").graph.node]
    assert kinds.count("Round") == 2
    assert exported.quantizers == kinds.count("QuantizeLinear") == (0 if bits is None else 1)
    images = network.architecture.example(4).abs()
    with torch.no_grad():
        (ours,) = ship(network)(images)
    (theirs,) = onnx_session(str(tmp_path / "n.onnx")).run(None, {"image": images.numpy()})
    assert np.abs(ours.numpy() - theirs).max() < (1e-4 if bits is None else 0.02)


def test_levels_stand_for_the_weight_whatever_the_sign_and_size_of_a_channel() -> None:
    numbers = np.array([[0, 15], [3, 8], [15, 0], [1, 2]], np.float32)
    values = (2 * numbers - 15) / 15
    factors = np.array([[2.0], [-0.5], [0.0], [1e-12]], np.float32)
    found = scaled_numbers(
        values * factors, PackedWeight(numbers=numbers, values=values, bits=4, top=15), "w"
    )
    assert (found.scales > 0).all()
    assert found.scales[2] == found.scales[3] == found.scales.max()
    assert (found.levels[2:] == 0).all()
    assert np.allclose(found.levels * found.scales[:, None], values * factors, atol=1e-6)
    levels, scales = found.in_int8()
    assert np.abs(levels).max() == 60  # four times finer
    assert (levels * scales[:, None] == found.levels * found.scales[:, None]).all()
    with pytest.raises(ValueError, match="no multiple"):
        scaled_numbers(values + 0.1, PackedWeight(numbers=numbers, values=values, bits=4, top=15), "w")


def test_255_levels_fit_int8_exactly() -> None:
    numbers = np.array([[0, 254], [127, 128], [1, 253]], np.float32)
    values = (numbers - 127) / 127
    packed = PackedWeight(numbers=numbers, values=values, bits=8, top=254)
    levels, scales = scaled_numbers(values, packed, "w").in_int8()
    assert packed.fits_int8
    assert not PackedWeight(numbers=numbers, values=values, bits=8, top=255).fits_int8
    assert levels.tolist() == [[-127, 127], [0, 1], [-126, 126]]
    assert np.allclose(levels * scales[:, None], values, atol=1e-6)


@pytest.mark.integration
def test_symmetric_weights_of_8_bits_are_written_as_they_are(tmp_path: Path) -> None:
    network = quantized("resnet8(width=8)", Bits(8, 8, "symmetric"))
    images = network.architecture.example(16)
    for chosen in (None, images):
        exported = export_onnx(network, tmp_path / "n.onnx", images=chosen)
        assert not any("255" in note for note in exported.notes)
        kinds = {tensor.data_type for tensor in onnx.load(tmp_path / "n.onnx").graph.initializer}
        assert onnx.TensorProto.INT8 in kinds
        assert exported.integer_layers > 0


@pytest.mark.integration
@pytest.mark.parametrize("with_images", [True, False])
def test_channels_that_compute_nothing_keep_their_bias(with_images: bool, tmp_path: Path) -> None:
    network = quantized("resnet8(width=8)", Bits(4, 8))
    for layer in network.module.body.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.constant_(layer.bias, 0.5)
            with torch.no_grad():
                layer.weight[:4] = torch.tensor([0.0, 1e-9, -1.0, -1e-9])
    images = network.architecture.example(64)
    export_onnx(network, tmp_path / "n.onnx", images=images if with_images else None)
    with torch.no_grad():
        (ours,) = ship(network)(images)
    (theirs,) = onnx_session(str(tmp_path / "n.onnx")).run(None, {"image": images.numpy()})
    assert np.abs(ours.numpy() - theirs).mean() < 0.1 * float(ours.std())


def test_a_range_is_no_finer_than_what_layers_read() -> None:
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Relu", ["x"], ["r"]),
            onnx.helper.make_node("Rounding", ["r"], ["q"], domain="ordercomp", scale=0.02, low=0, high=255),
            onnx.helper.make_node("Add", ["q", "r"], ["y"]),
        ],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, None)],
        [onnx.helper.make_tensor_value_info("y", 1, None)],
    )
    rng = np.random.default_rng(0)
    narrow, wide = rng.uniform(0, 1, 1000), rng.uniform(0, 10, 1000)
    assert choose_ranges(graph, {"r": narrow}, {}) == {"r": Range(scale=pytest.approx(0.02), zero=0)}
    assert choose_ranges(graph, {"r": wide}, {})["r"].scale > 0.035


@pytest.mark.integration
@pytest.mark.parametrize("bits", [(4, 8), (8, 8), (2, 4)])
@pytest.mark.parametrize("order", ["PQ", "QPE"])
def test_what_was_trained_for_each_tensor_needs_no_images_and_no_cut(
    order: str, bits: tuple[int, int], tmp_path: Path
) -> None:
    trainer, network = tiny_trainer(epochs=8.0), tiny_network("resnet8(width=8)")
    trainer.train(network, fresh=True)
    knobs = dict(zip(("weights", "activations"), bits, strict=True)) | {"placement": "tensor"}
    for letter in order:
        network = apply(letter, network, trainer, **(knobs if letter == "Q" else {}))
    network.module.eval()
    exported = export_onnx(network, tmp_path / "n.onnx")
    assert exported.integer_layers == exported.layers > 0
    assert exported.notes == ()
    kinds = {node.op_type for node in onnx.load(tmp_path / "n.onnx").graph.node}
    assert "Relu" not in kinds
    assert bool(kinds & {"Min", "Clip"}) == (bits[1] == 4)  # levels of 4 bits, cut out of 8
    images = next(iter(digits().test.batches(360))).images.contiguous()
    with torch.no_grad():
        ours = torch.stack(ship(network)(images)).argmax(2).numpy()
    theirs = np.stack(onnx_session(str(tmp_path / "n.onnx")).run(None, {"image": images.numpy()})).argmax(2)
    assert (ours == theirs).mean() >= (0.99 if bits[1] == 8 else 0.9)


@pytest.mark.integration
def test_the_order_of_stages_does_not_matter(tmp_path: Path) -> None:
    network = tiny_network()
    for letter in "EQP":
        network = apply(letter, network, **({"weights": 4, "activations": 8} if letter == "Q" else {}))
    network.module.eval()
    exported = export_onnx(network, tmp_path / "n.onnx", images=network.architecture.example(32))
    assert exported.layers > 0
    whole = onnx_session(str(tmp_path / "n.onnx")).run(
        None, {"image": network.architecture.example(1).numpy()}
    )
    assert len(whole) == len(network.exits) + 1
