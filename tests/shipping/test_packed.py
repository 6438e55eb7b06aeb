"""Files for use: how small they are, that nothing computes differently, and what they do not tell."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tiny_networks import apply, digits, logits, tiny_network, tiny_trainer
from torch import Tensor

from ordercomp.networks.network import CompressedNetwork, Serving
from ordercomp.networks.weights import CheckpointError, read_checkpoint, write_checkpoint
from ordercomp.shipping.packed import load_network, save_packed
from ordercomp.shipping.plain import ship

pytestmark = pytest.mark.integration


def trained(order: str, *, weights: int = 2, activations: int = 4) -> CompressedNetwork:
    network = tiny_network()
    for letter in order:
        knobs = {"weights": weights, "activations": activations} if letter == "Q" else {}
        network = apply(letter, network, tiny_trainer(), **knobs)
    network.module.eval()
    return network


@pytest.mark.parametrize("order", ["", "Q", "DPQE", "EQPD", "PE"])
def test_a_packed_network_gives_the_same_logits_bit_for_bit(order: str, tmp_path: Path) -> None:
    network = trained(order)
    save_packed(network, tmp_path / "small")
    with torch.no_grad():
        found = load_network(tmp_path / "small")(network.architecture.example(3))
    assert len(found) == len(network.exits) + 1
    assert all(torch.equal(one, two) for one, two in zip(logits(network), found, strict=True))


@pytest.mark.parametrize("bits", [1, 2, 3, 8, 16, 32])
def test_a_weight_takes_its_bits_and_a_layer_one_range(bits: int, tmp_path: Path) -> None:
    network = trained("Q", weights=bits)
    save_packed(network, tmp_path / "small")
    with safe_open(tmp_path / "small", framework="pt") as file:
        sizes = {name: file.get_tensor(name).nbytes for name in file.keys()}  # noqa: SIM118
    for name, layer in network.quantized_layers():
        assert sizes[f"{name}.weight"] == -(-layer.weight.numel() * bits // 8)
        assert sizes.get(f"{name}.weight.range", 0) == (4 if bits <= 16 else 0)


def test_the_file_names_the_model_and_nothing_of_how_it_came_about(tmp_path: Path) -> None:
    save_packed(trained("DPQE"), tmp_path / "small")
    with safe_open(tmp_path / "small", framework="pt") as file:
        facts = json.loads(file.metadata()["ordercomp"])
        names = list(file.keys())
    assert set(facts) == {"format", "architecture", "structure", "packed", "same", "serving", "sha256"}
    assert facts["architecture"]["model"] == "resnet14(width=4)"
    assert not [name for name in names if "num_batches" in name]


def test_a_network_that_training_can_go_on_from_is_read_for_use_too(tmp_path: Path) -> None:
    network = trained("DPQE")
    network.save(tmp_path / "full")
    with torch.no_grad():
        found = load_network(tmp_path / "full")(network.architecture.example(3))
    assert all(torch.equal(one, two) for one, two in zip(logits(network), found, strict=True))


def test_training_cannot_go_on_from_a_packed_file(tmp_path: Path) -> None:
    save_packed(trained("Q"), tmp_path / "small")
    with pytest.raises(CheckpointError, match="is packed for use and holds no weights to train on"):
        CompressedNetwork.load(tmp_path / "small")


def test_a_file_whose_bytes_do_not_fit_what_it_declares_is_refused(tmp_path: Path) -> None:
    network = trained("Q")
    save_packed(network, tmp_path / "small")
    tensors, facts = read_checkpoint(tmp_path / "small")
    facts["structure"]["shapes"]["body.conv.weight"] = [9, 9, 9, 9]
    write_checkpoint(tmp_path / "small", tensors, facts)
    with pytest.raises(CheckpointError, match="6561 numbers of 2 bits must be packed into 1641 bytes"):
        load_network(tmp_path / "small")


def served(network: CompressedNetwork, threshold: float | None) -> CompressedNetwork:
    mean, std = digits().normalization
    return replace(network, serving=Serving(mean=mean, std=std, threshold=threshold))


def pixels(count: int) -> tuple[Tensor, Tensor]:
    """Stored images (n, c, h, w) of the digits, and the same ones as training sees them."""
    split = digits().test
    batch = next(split.batches(count, rng=None))
    return split.images[:count].permute(0, 3, 1, 2), batch.images  # type: ignore[attr-defined]


def test_raw_images_are_normalized_as_in_training(tmp_path: Path) -> None:
    network = served(trained("PQE"), None)
    save_packed(network, tmp_path / "small")
    stored, normalized = pixels(8)
    with torch.no_grad():
        expected = network.module(normalized)
        found = load_network(tmp_path / "small")(stored)
    assert all(torch.equal(one, two) for one, two in zip(expected, found, strict=True))


@pytest.mark.parametrize("threshold", [0.0, 0.12, 2.0])
def test_an_image_leaves_at_the_first_exit_that_is_sure_enough(threshold: float, tmp_path: Path) -> None:
    network = served(trained("PQE"), threshold)
    save_packed(network, tmp_path / "small")
    shipped = load_network(tmp_path / "small")
    assert shipped.serving == network.serving
    stored, _ = pixels(8)
    for image in stored:
        with torch.no_grad():
            sure = [float(one.softmax(dim=1).max()) for one in shipped(image.unsqueeze(0))]
        expected = next((place for place, value in enumerate(sure[:-1]) if value >= threshold), len(sure) - 1)
        found = shipped.predict(image)
        assert found.exit == expected
        assert found.confidence == pytest.approx(sure[expected])
        assert shipped.predict(image.permute(1, 2, 0).numpy()) == found
        assert shipped.predict(image[0]) == shipped.predict(image.unsqueeze(0)) == found
        assert shipped.predict(image, threshold=2.0).exit == 2


def test_an_image_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"image must be one of shape \(1, 8, 8\) \(channels, height"):
        ship(tiny_network()).predict(torch.zeros(1, 9, 9))
