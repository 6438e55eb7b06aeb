"""The Bag-of-Features head: its histogram, and that every stage can follow it."""

from pathlib import Path

import pytest
import torch

from ordercomp.measuring.cost import measure_cost
from ordercomp.networks.layers import BagOfFeaturesHead, ExitHead, QuantizedLayer, head_kind, make_head
from ordercomp.networks.network import CompressedNetwork
from ordercomp.sequence import StageSequence
from ordercomp.stages.catalog import apply_untrained

PLAIN = CompressedNetwork.create("resnet14(width=8)", classes=3, size=(16, 16))


def grown(text: str) -> CompressedNetwork:
    return apply_untrained(PLAIN, StageSequence.parse(text))


def test_the_histogram_shares_each_place_out_among_the_codewords() -> None:
    head = BagOfFeaturesHead(2, 3, codewords=4)
    with torch.no_grad():
        head.codebook.weight.copy_(torch.tensor([[9.0, 0], [-9, 0], [0, 0], [0, -9]])[:, :, None, None])
        head.codebook.bias.zero_()  # type: ignore[union-attr]
        head.classifier.weight.copy_(torch.tensor([[1.0, 1, 1, 1], [1, 0, 0, 0], [0, 0, 1, 0]]))
        head.classifier.bias.zero_()
        logits = head(torch.tensor([[[[1.0, 1.0]], [[1.0, 1.0]]]]))
    # Similarities 1, 0, 1/2, 0 make shares 2/3, 0, 1/3, 0.
    torch.testing.assert_close(logits, torch.tensor([[1.0, 2 / 3, 1 / 3]]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", [(2, 5, 9, 7), (2, 5, 3, 3), (2, 5)])
def test_what_is_cached_gives_the_same_logits(shape: tuple[int, ...]) -> None:
    head = make_head("bof", 5, 3)
    assert isinstance(head, BagOfFeaturesHead)
    features = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    summary = head.summarize(features)
    assert summary.dim() == 4
    assert max(summary.shape[2:]) <= 4
    torch.testing.assert_close(head(summary), head(features))


def test_heads_pool_unless_told_otherwise() -> None:
    assert all(isinstance(head, ExitHead) for head in grown("E(exits=2)").module.heads)
    assert head_kind(PLAIN.module.heads) == "pool"
    assert head_kind(grown("E(head=bof)").module.heads) == "bof"


@pytest.mark.integration
@pytest.mark.parametrize(
    "text",
    [
        "E(head=bof)",
        "E(head=bof) P(ratio=0.5)",
        "E(head=bof) P(ratio=0.5,scope=global)",
        "E(head=bof) Q(weights=2,activations=4) P(ratio=0.3)",
        "Q(weights=2,activations=4) E(head=bof) D(depth=0.5)",
        "P(ratio=0.5) E(head=bof) D(depth=0.5,student=fresh)",
    ],
)
def test_a_network_with_such_heads_goes_through_every_stage_and_a_file(text: str, tmp_path: Path) -> None:
    network = grown(text)
    images = network.architecture.example(2)
    network.module.eval()
    network.save(tmp_path / "net.safetensors")
    loaded = CompressedNetwork.load(tmp_path / "net.safetensors")
    loaded.module.eval()
    assert head_kind(loaded.module.heads) == "bof"
    with torch.no_grad():
        for one, other in zip(network.module(images), loaded.module(images), strict=True):
            assert torch.equal(one, other)


def test_its_cost_is_counted_and_its_layers_quantized() -> None:
    plain, codes = measure_cost(grown("E(exits=2)")), measure_cost(grown("E(exits=2,head=bof)"))
    assert codes.bits("paper") > plain.bits("paper")
    assert codes.bitops_by_exit("paper")[0] > plain.bitops_by_exit("paper")[0]
    heads = grown("Q(weights=2,activations=4) E(head=bof)").module.heads
    assert all(isinstance(head.codebook, QuantizedLayer) for head in heads)
