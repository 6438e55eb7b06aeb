"""Networks for use compute, bit for bit, what the networks of training compute."""

import pytest
import torch
from tiny_networks import apply, logits, tiny_network, tiny_trainer

from ordercomp.networks.exits import run_until
from ordercomp.networks.layers import Levels, QuantizedLayer, dorefa_weight, weight_numbers, weight_of_numbers
from ordercomp.shipping.plain import plain_module

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("order", ["", "Q", "DPQE", "EQPD", "PEQ"])
@pytest.mark.parametrize("bits", [(1, 8), (2, 4), (8, 8), (32, 4), (4, 32)])
def test_a_plain_module_gives_the_same_logits_bit_for_bit(order: str, bits: tuple[int, int]) -> None:
    network = tiny_network()
    for letter in order:
        knobs = {"weights": bits[0], "activations": bits[1]} if letter == "Q" else {}
        network = apply(letter, network, tiny_trainer(), **knobs)
    network.module.eval()
    plain = plain_module(network.module)
    assert not any(isinstance(layer, QuantizedLayer) for layer in plain.modules())
    with torch.no_grad():
        found = plain(network.architecture.example(3))
    for one, two in zip(logits(network), found, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("bits", "kind"),
    [*((bits, "uniform") for bits in (1, 2, 3, 8, 16)), (8, "symmetric"), (4, "pot"), (5, "apot")],
)
def test_quantized_weights_come_back_from_their_whole_numbers_bit_for_bit(bits: int, kind: Levels) -> None:
    weight = torch.randn(7, 5, 3, 3, generator=torch.Generator().manual_seed(bits))
    numbers, top = weight_numbers(weight, bits, kind)
    assert set(numbers.flatten().tolist()) <= set(range(2**bits))
    assert torch.equal(weight_of_numbers(numbers, top, bits, kind), dorefa_weight(weight, bits, kind))


def test_an_image_that_leaves_early_does_not_run_the_rest() -> None:
    network = apply("E", tiny_network())
    image = network.architecture.example(1)
    ran: list[str] = []
    network.module.body.get_submodule("classifier").register_forward_hook(lambda *_: ran.append("end"))
    with torch.no_grad():
        every = network.module.eval()(image)
        ran.clear()
        for place in range(3):
            found, output = run_until(network.module, image, lambda now, _logits, last=place: now == last)
            assert (found, torch.equal(output, every[place])) == (place, True)
            assert ran == (["end"] if place == 2 else [])
    assert not any(
        part._forward_hooks
        for part in network.module.body.modules()
        if part is not network.module.body.get_submodule("classifier")
    )
