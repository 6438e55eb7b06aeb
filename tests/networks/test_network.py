"""CompressedNetwork: built, copied, rebuilt, saved and loaded; its exits; what a user's module may do."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import user_nets
from tiny_networks import apply, logits, snapshot, tiny_network
from torch import nn

import ordercomp
from ordercomp.networks.exits import Architecture, Bits, MultiExit, attach_heads, running_order
from ordercomp.networks.network import CompressedNetwork, StepResult
from ordercomp.sequence import Step


def evaluated(model: str) -> CompressedNetwork:
    network = tiny_network(model)
    network.module.eval()
    return network


def same(one: CompressedNetwork, other: CompressedNetwork) -> bool:
    return all(torch.equal(first, second) for first, second in zip(logits(one), logits(other), strict=True))


def test_the_seed_alone_decides_the_weights_and_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, two, other = tiny_network(seed=1), tiny_network(seed=1), tiny_network(seed=2)
    assert torch.equal(torch.rand(3), expected)
    weights = [network.module.body.conv.weight for network in (one, two, other)]  # type: ignore[union-attr]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_copy_shares_nothing_and_has_no_gradients() -> None:
    network = tiny_network()
    network.module(network.architecture.example())[-1].sum().backward()
    before = snapshot(network)
    twin = network.copy()
    assert all(parameter.grad is None for parameter in twin.module.parameters())
    with torch.no_grad():
        for parameter in twin.module.parameters():
            parameter.fill_(7.0)
    after = network.module.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before["tensors"].items())


def test_a_rebuilt_network_has_the_structure_and_other_weights() -> None:
    network = apply("Q", apply("E", apply("P", apply("D", tiny_network()))))
    twin = network.rebuild(seed=3)
    assert repr(twin.module) == repr(network.module)
    assert (twin.exits, twin.dropped, twin.bits) == (network.exits, network.dropped, network.bits)
    assert not torch.equal(
        twin.module.body.classifier.weight,  # type: ignore[union-attr]
        network.module.body.classifier.weight,  # type: ignore[union-attr]
    )
    again = network.rebuild(seed=3).module.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in twin.module.state_dict().items())


def test_the_original_has_the_widths_of_the_factory_in_float_and_keeps_drops_and_exits() -> None:
    network = apply("Q", apply("E", apply("P", apply("D", tiny_network()))))
    original = network.rebuild(seed=3, original=True)
    assert (original.exits, original.dropped, original.bits) == (network.exits, network.dropped, None)
    assert original.module.body.conv.weight.shape[0] == 4  # type: ignore[union-attr]
    assert list(original.quantized_layers()) == []


def test_a_quantized_copy_reads_the_image_as_it_is() -> None:
    network = evaluated("user_nets:classifier_first")
    layers = {name: layer.activation_bits for name, layer in network.quantized(Bits(2, 4)).quantized_layers()}
    assert layers == {"body.classifier": 4, "body.conv": 32}
    assert list(network.quantized_layers()) == []


def test_layers_are_listed_in_the_order_in_which_they_run() -> None:
    network = evaluated("user_nets:classifier_first")
    assert running_order(network.module, network.architecture) == ["body.conv", "body.classifier"]


def test_a_layer_in_two_places_stays_one_layer() -> None:
    network = apply("P", apply("Q", evaluated("user_nets:shared_block")), ratio=0.5)
    body = network.module.body
    assert isinstance(body, nn.Sequential)
    assert body[1] is body[3]
    assert len(list(network.quantized_layers())) == 3


def test_heads_read_features_before_later_layers_change_them_in_place() -> None:
    network = apply("E", evaluated("user_nets:in_place_blocks"))
    body = network.module.body
    assert isinstance(body, nn.Sequential)
    image = network.architecture.example(3)
    with torch.no_grad():
        first = body[1][0](body[0](image))  # type: ignore[index]
        expected = network.module.heads[0](first.clone())
        assert torch.equal(network.module(image)[0], expected)
        assert torch.equal(network.module.head_inputs(image)[0], first.mean((2, 3)))
        assert torch.equal(network.module.split(image)[0][0], first)


def test_forward_leaves_no_hooks_behind_even_if_the_body_fails() -> None:
    network = apply("E", tiny_network())
    with pytest.raises(RuntimeError):
        network.module(torch.zeros(2, 7, 8, 8))
    assert not any(part._forward_hooks for part in network.module.modules())


def test_heads_are_as_wide_as_the_features_and_keep_the_mode_of_the_body() -> None:
    network = tiny_network()
    module = attach_heads(network.module.body.train(), ["stages.0.1"], network.architecture)
    assert isinstance(module, MultiExit)
    assert module.heads[0].classifier.weight.shape == (10, 4)  # type: ignore[union-attr]
    assert module.body.training


MODELS = [f"user_nets:{name}" for name in user_nets.__all__]


@pytest.mark.parametrize("model", ["mobilenet_v2(width=0.1)", "vgg8(width=4)", *MODELS])
@pytest.mark.parametrize("order", ["", "Q"])
def test_any_model_loads_to_the_same_logits(model: str, order: str, tmp_path: Path) -> None:
    network = evaluated(model)
    for letter in order:
        network = apply(letter, network)
    network.save(tmp_path / "network")
    assert same(network, CompressedNetwork.load(tmp_path / "network", model=network.architecture.model))


@pytest.mark.integration
def test_a_users_network_loads_in_a_fresh_process(tmp_path: Path) -> None:
    network = apply("Q", apply("P", evaluated("user_nets:normalized")))
    network.save(tmp_path / "network")
    program = (
        "import sys, torch, ordercomp; torch.set_num_threads(1)\n"
        "network = ordercomp.CompressedNetwork.load(sys.argv[1], trust=['user_nets:normalized'])\n"
        "with torch.no_grad(): print(network.module(network.architecture.example(3))[-1].sum().item().hex())"
    )
    before, _ = torch.get_num_threads(), torch.set_num_threads(1)
    expected = logits(network)[-1].sum().item().hex()
    torch.set_num_threads(before)
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "network")],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stderr, done.stdout.strip()) == ("", expected)


def test_tied_weights_are_saved_and_tied_again(tmp_path: Path) -> None:
    evaluated("user_nets:tied_weights").save(tmp_path / "network")
    body = CompressedNetwork.load(tmp_path / "network", trust=["user_nets:tied_weights"]).module.body
    assert body.one.weight is body.two.weight  # type: ignore[union-attr]


def test_what_stages_achieved_survives_saving(tmp_path: Path) -> None:
    network = tiny_network()
    result = StepResult(
        step=Step("P"),
        epochs=1.5,
        achieved={"ratio": 0.1 + 0.2, "names": ("a", "ü"), "deep": {"n": [1, None]}},
    )
    network.then(result).save(tmp_path / "network")
    (loaded,) = CompressedNetwork.load(tmp_path / "network").lineage
    assert loaded == result
    assert loaded.achieved == {"ratio": 0.1 + 0.2, "names": ["a", "ü"], "deep": {"n": [1, None]}}


@pytest.mark.parametrize("value", [float("nan"), torch.ones(1), object()])
def test_a_stage_may_only_record_what_json_holds(value: object) -> None:
    with pytest.raises(ValueError, match="achieved of P must be what JSON can hold, got"):
        StepResult(step=Step("P"), epochs=1.0, achieved={"ratio": value})


def test_a_loaded_network_is_on_the_cpu_in_evaluation_mode_and_trainable(tmp_path: Path) -> None:
    network = tiny_network()
    network.module.train().requires_grad_(False)
    network.save(str(tmp_path / "network"))
    loaded = ordercomp.CompressedNetwork.load(str(tmp_path / "network"))
    assert not loaded.module.training
    assert all(
        parameter.requires_grad and parameter.device.type == "cpu" for parameter in loaded.module.parameters()
    )


def test_loading_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    tiny_network().save(tmp_path / "network")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    CompressedNetwork.load(tmp_path / "network")
    assert torch.equal(torch.rand(3), expected)


def test_example_images_are_the_same_every_time() -> None:
    architecture = Architecture(model="resnet8", classes=10, channels=3, size=(4, 6))
    assert architecture.example(5).shape == (5, 3, 4, 6)
    assert torch.equal(architecture.example(5), architecture.example(5))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            "user_nets:pair",
            r"must map an image of shape \(1, 1, 8, 8\) to logits of shape \(1, 10\), got tuple",
        ),
        ("user_nets:map_of_logits", r"to logits of shape \(1, 10\), got \(1, 10, 8, 8\)"),
        ("user_nets:large_images_only", r"fails on an image of shape \(1, 1, 8, 8\): RuntimeError: .*8 x 8"),
    ],
)
def test_models_that_give_no_logits_are_refused_in_one_line(model: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"model {model} .*{message}") as caught:
        tiny_network(model)
    assert "\n" not in str(caught.value)


def test_a_model_that_gives_more_than_logits_in_training_is_named() -> None:
    network = tiny_network("user_nets:pair_in_training")
    with pytest.raises(ValueError, match="a tensor of logits in training, too, got tuple"):
        network.module.train()(network.architecture.example())


def test_lazy_layers_are_built(tmp_path: Path) -> None:
    network = evaluated("user_nets:lazy")
    network.save(tmp_path / "network")
    assert same(network, CompressedNetwork.load(tmp_path / "network", model=network.architecture.model))


def test_networks_are_values() -> None:
    network = tiny_network()
    result = StepResult(step=Step("F"), epochs=2.0)
    longer = network.then(result).then(result)
    assert network.lineage == ()
    assert longer.epochs == 4.0
    assert longer.sequence.order == "FF"
    with pytest.raises(AttributeError):
        network.bits = Bits(1, 1)  # type: ignore[misc]
    assert replace(network, bits=Bits(1, 1)).module is network.module
