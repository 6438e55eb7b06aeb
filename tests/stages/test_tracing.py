"""The limit on how long the tracer follows a network, and the order of what it keeps."""

import pytest
import torch
import torch_pruning as tp
from tiny_networks import apply, tiny_network
from torch import nn
from torch_pruning import prune_layernorm_out_channels

from ordercomp.stages import torch_pruning_compat


def test_what_goes_beyond_the_limit_stays_and_the_others_go(monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny_network("user_nets:flat")
    apply("P", network)
    monkeypatch.setattr(torch_pruning_compat, "_MOST_CHANNELS", 20)
    pruned = apply("P", network, ratio=0.5)  # 16 channels of 2x2 places are 64 inputs
    assert [len(pruned.module.get_parameter(f"body.{place}.weight")) for place in (0, 2, 6)] == [4, 16, 6]


def test_channels_left_of_a_layer_normalization_stay_in_order() -> None:
    layer = nn.LayerNorm(12)
    layer.weight.data = torch.arange(12.0)
    gone = [channel for channel in range(12) if channel not in (0, 1, 4, 11)]
    assert prune_layernorm_out_channels(layer, gone).weight.tolist() == [0, 1, 4, 11]


@pytest.mark.parametrize("model", ["resnet8(width=4)", "user_nets:flat", "user_nets:grouped"])
def test_what_a_group_has_met_is_what_the_tracer_finds(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def compare(group: tp.Group, dep: tp.Dependency, idxs: list[object]) -> bool:
        there = [ids for one, ids in group.items if (one.target, one.handler) == (dep.target, dep.handler)]
        found = idxs in there
        assert torch_pruning_compat._has_met(group, dep, idxs) == found
        asked.append(found)
        return found

    monkeypatch.setattr(tp.Group, "has_pruning_op", compare)
    apply("P", tiny_network(model), ratio=0.5)
    assert any(asked)
