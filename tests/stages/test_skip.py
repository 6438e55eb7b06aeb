"""S: gates on residual blocks, what later stages and files make of them, and what skipping saves."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_networks import apply, digits, logits, tiny_network, tiny_trainer
from torch import nn

from ordercomp.measuring.accuracy import exit_outcome, measure, sweep_thresholds
from ordercomp.measuring.cost import measure_cost
from ordercomp.networks.exits import ExitRule, run_until
from ordercomp.networks.gates import Gate, gates
from ordercomp.networks.network import CompressedNetwork, with_skip
from ordercomp.shipping.packed import load_network, save_packed
from ordercomp.stages.skip import residual_blocks
from ordercomp.stages.stage import StageError


def gated(order: str = "S") -> CompressedNetwork:
    network = tiny_network()
    for letter in order:
        knobs = {"student": "inherit"} if letter == "D" else {}
        network = apply(letter, network, tiny_trainer(), **knobs)
    return network


def test_a_gate_lets_its_share_of_a_batch_skip_and_remembers_where_the_bar_lies() -> None:
    torch.manual_seed(0)
    gate, features = Gate(5, share=0.3), torch.randn(200, 5, 3, 3)
    assert float(gate.train()(features).mean()) == pytest.approx(0.7, abs=0.01)
    with torch.no_grad():
        assert float(gate.eval()(features).mean()) == pytest.approx(0.7, abs=0.01)
        shares = []
        for gate.share in (0.0, 0.05, 0.5, 0.95):
            shares.append(float(gate(features).mean()))
    assert shares == pytest.approx([1.0, 0.95, 0.5, 0.05], abs=0.02)


def test_gradients_tell_a_gate_which_images_need_the_block() -> None:
    torch.manual_seed(0)
    gate, features = Gate(4, share=0.5), torch.randn(64, 4, 2, 2)
    wanted = (features[:, 0].mean((1, 2)) > 0).float()  # by the first channel
    optimizer = torch.optim.SGD(gate.parameters(), lr=1.0)
    for _ in range(100):
        optimizer.zero_grad()
        (gate(features) - wanted).square().mean().backward()
        optimizer.step()
    assert (gate(features) == wanted).float().mean() > 0.9


def test_what_a_gate_learns_leaves_the_features_before_it_alone() -> None:
    """Features that are nearly alike would get gradients without bound."""
    gate, features = Gate(4, share=0.5), (1 + 1e-4 * torch.randn(64, 4, 2, 2)).requires_grad_()
    gate(features).sum().backward()
    assert features.grad is None
    assert gate.weight.grad is not None
    assert gate.weight.grad.abs().sum() > 0


def test_only_residual_blocks_that_keep_their_shape_get_gates() -> None:
    assert [block.name for block in residual_blocks(tiny_network())] == [
        "stages.0.0",
        "stages.0.1",
        "stages.1.1",
        "stages.2.1",
    ]
    with pytest.raises(StageError, match=r"S found no residual block in vgg8\(width=8\)"):
        apply("S", tiny_network("vgg8(width=8)", size=32, channels=3))
    with pytest.raises(StageError, match="have gates already"):
        apply("S", apply("S", tiny_network()))


@pytest.mark.integration
@pytest.mark.parametrize("order", ["S", "SP", "SQ", "SD", "SE", "ES", "QPS", "SPQEF"])
def test_gates_live_through_every_stage_and_file(order: str, tmp_path: Path) -> None:
    network = gated(order)
    assert 0 < len(gates(network.module)) <= 4
    network.save(tmp_path / "network")
    save_packed(network, tmp_path / "packed")
    again = CompressedNetwork.load(tmp_path / "network")
    with torch.no_grad():
        shipped = load_network(tmp_path / "packed")(network.architecture.example(3))
    for one, two, three in zip(logits(network), logits(again), shipped, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three)


@pytest.mark.integration
def test_what_is_skipped_is_counted_image_by_image() -> None:
    """The expected BitOps against a walk of every image alone, where layers that are skipped do not run."""
    network = with_skip(gated("SE"), 0.5)
    split, cost = digits().validation, measure_cost(network)
    outcome = exit_outcome(network, split)
    threshold = float(np.median(outcome.confidence[0]))
    found = sweep_thresholds(outcome, [threshold])
    ran: list[str] = []
    for name, layer in network.module.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear, Gate)):
            layer.register_forward_hook(lambda *_args, name=name: ran.append(name))
    for batch in split.batches(1):
        rule = ExitRule("confidence", threshold, len(network.exits))
        with torch.inference_mode():
            run_until(network.module, batch.images, rule.leaves, rule.asks)
    spent = sum(cost.bitops_of(name) for name in ran) / len(split)
    assert found.bitops(cost, "paper")[0] == pytest.approx(spent, rel=0.01)
    assert found.bitops(cost, "paper")[0] < float(found.shares[0] @ np.array(cost.bitops_by_exit()))


@pytest.mark.integration
def test_operating_points_sweep_the_share_that_is_skipped() -> None:
    network, dense = gated(), measure_cost(tiny_network())
    found = measure(network, validation=digits().validation, test=digits().test, baseline=dense)
    assert found[0].extra["skip"] == 0.0
    assert found[0].bitops_cr == pytest.approx(
        1.0, rel=0.01
    )  # all blocks run, and gates cost next to nothing
    for point in found[1:]:
        twin = with_skip(network, point.extra["skip"])
        expected = sweep_thresholds(exit_outcome(twin, digits().test), [np.inf])
        assert point.test_accuracy == pytest.approx(float(expected.accuracy[0]))
        assert point.bitops_cr > 1 or point.extra["skip"] == 0
    both = measure(gated("SE"), validation=digits().validation, test=digits().test, baseline=dense)
    assert len(both) > len(found)
    assert {point.threshold is None for point in both} == {True, False}
