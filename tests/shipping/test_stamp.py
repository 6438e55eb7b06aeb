"""Copies of network files with a threshold of their own."""

from dataclasses import replace
from pathlib import Path

import torch
from tiny_networks import apply, logits, tiny_network

from ordercomp.networks.gates import gates
from ordercomp.networks.network import CompressedNetwork, Serving, with_skip
from ordercomp.shipping.packed import copy_with_threshold


def test_a_copy_keeps_all_but_the_threshold(tmp_path: Path) -> None:
    network = replace(apply("E", tiny_network()), serving=Serving(mean=(1.0,), std=(2.0,)))
    network.save(tmp_path / "one")
    copy_with_threshold(tmp_path / "one", tmp_path / "two", 0.75)
    copy_with_threshold(tmp_path / "two", tmp_path / "two", 0.5)  # in place
    found = CompressedNetwork.load(tmp_path / "two")
    assert found.serving == Serving(mean=(1.0,), std=(2.0,), threshold=0.5)
    assert found.lineage == network.lineage
    assert all(torch.equal(one, two) for one, two in zip(logits(network), logits(found), strict=True))
    assert CompressedNetwork.load(tmp_path / "one").serving.threshold is None


def test_a_copy_may_let_another_share_skip_blocks(tmp_path: Path) -> None:
    network = apply("E", apply("S", tiny_network()))
    network.save(tmp_path / "one")
    copy_with_threshold(tmp_path / "one", tmp_path / "two", 0.75, 0.3)
    found = CompressedNetwork.load(tmp_path / "two")
    assert {gate.share for gate in gates(found.module).values()} == {0.3}
    assert {gate.share for gate in gates(CompressedNetwork.load(tmp_path / "one").module).values()} == {0.5}
    assert found.rebuilt == with_skip(network, 0.3).rebuilt
    assert found.serving.threshold == 0.75
