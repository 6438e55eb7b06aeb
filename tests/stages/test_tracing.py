"""The limit on how long the tracer follows a network, and the order of what it keeps."""

import pytest
import torch
from tiny_networks import apply, tiny_network
from torch import nn
from torch_pruning import prune_layernorm_out_channels

from ordercomp.stages import tracing
from ordercomp.stages.stage import StageError


def test_a_network_that_goes_beyond_the_limit_is_refused_and_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = tiny_network("user_nets:flat")
    apply("P", network)
    monkeypatch.setattr(tracing, "_MOST_CHANNELS", 100)
    with pytest.raises(
        StageError, match=r"flat cannot be pruned: .*TracingLimitError: its channels multiply"
    ):
        apply("P", network)


def test_channels_left_of_a_layer_normalization_stay_in_order() -> None:
    layer = nn.LayerNorm(12)
    layer.weight.data = torch.arange(12.0)
    gone = [channel for channel in range(12) if channel not in (0, 1, 4, 11)]
    assert prune_layernorm_out_channels(layer, gone).weight.tolist() == [0, 1, 4, 11]
