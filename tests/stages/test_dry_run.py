"""A dry run without training: networks as users write them work, or are refused in one line."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from sibling_nets import cases
from tiny_networks import apply, logits, tiny_network, tiny_trainer

from ordercomp.cli.main import main
from ordercomp.jobs.check import check_task
from ordercomp.measuring.cost import measure_cost
from ordercomp.networks.network import CompressedNetwork
from ordercomp.running.task import Task
from ordercomp.sequence import StageSequence
from ordercomp.stages.catalog import apply_untrained, dry_run
from ordercomp.stages.stage import StageError
from ordercomp.training.recipe import Recipe


@pytest.mark.integration
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["views", "keyworded"])
def test_what_users_write_goes_through_all_stages_and_a_file(name: str, channels: int, tmp_path) -> None:
    network = tiny_network(f"odd_nets:{name}", channels=channels)
    letters = "DPQE" if name == "keyworded" else "PQ"
    for letter in letters:
        network = apply(letter, network)
        dry_run(network)
    network.save(tmp_path / "network")
    loaded = CompressedNetwork.load(tmp_path / "network", trust=[network.architecture.model])
    assert all(torch.equal(one, two) for one, two in zip(logits(network), logits(loaded), strict=True))
    assert network.sequence.order == letters


@pytest.mark.parametrize("name", ["views", "keyworded"])
def test_what_users_write_trains_and_is_copied(name: str) -> None:
    network = tiny_network(f"odd_nets:{name}")
    tiny_trainer().train(network, fresh=True)
    network.module(network.architecture.example(2))
    assert all(
        torch.equal(one, two)
        for one, two in zip(
            network.copy().module.state_dict().values(), network.module.state_dict().values(), strict=True
        )
    )
    tiny_trainer().train(network.copy(), fresh=False)


def test_a_dropped_block_keeps_its_attributes_and_takes_keywords() -> None:
    network = tiny_network("odd_nets:keyworded")
    student = apply("D", network, depth=0.5)
    assert len(student.dropped) == 2
    assert measure_cost(student).macs < measure_cost(network).macs


@pytest.mark.parametrize("name", ["weight_norm", "spectral_norm", "masked"])
def test_weights_that_are_computed_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"0 of odd_nets:{name} computes its weight from others"):
        tiny_network(f"odd_nets:{name}")


@pytest.mark.parametrize("model", cases("COMPUTED"))
def test_masks_and_parametrizations_of_any_kind_are_refused(model: str) -> None:
    with pytest.raises(ValueError, match=f"2 of {re.escape(model)} computes its weight from others"):
        tiny_network(model)


@pytest.mark.parametrize("model", cases("UNSAVED"))
def test_what_no_file_would_hold_is_refused_by_name(model: str) -> None:
    told = r"^1 of \S+ keeps a state|makes another network each time it is called: drawn of 1 is in no file"
    with pytest.raises(ValueError, match=told):
        tiny_network(model)


@pytest.mark.parametrize(("model", "came"), cases("AUXILIARY"))
def test_outputs_beside_logits_in_training_are_refused_before_anything_trains(model: str, came: str) -> None:
    with pytest.raises(ValueError, match=rf"must give .*logits.* in training, too, got .*{re.escape(came)}$"):
        dry_run(tiny_network(model))


def test_a_module_with_a_state_beside_its_tensors_is_refused() -> None:
    with pytest.raises(ValueError, match=r"0 of odd_nets:extra_state keeps a state of its own"):
        tiny_network("odd_nets:extra_state")


def test_scripted_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="0 of odd_nets:scripted is scripted"):
        tiny_network("odd_nets:scripted")


def test_a_failure_in_training_is_told_in_one_line_before_anything_trains() -> None:
    with pytest.raises(StageError) as caught:
        dry_run(tiny_network("odd_nets:fails_in_training"))
    assert str(caught.value) == "odd_nets:fails_in_training cannot be trained: KeyError: 'epoch'"


def test_whatever_a_network_raises_in_a_stage_is_one_line() -> None:
    network = tiny_network("odd_nets:keyworded")
    network.module.body.blocks[0].stride = 2  # type: ignore[union-attr, index]
    with pytest.raises(StageError, match=r"^Q\(.*\) cannot be applied to odd_nets:keyworded: AssertionError"):
        apply_untrained(network, StageSequence.parse("Q"))


def test_a_model_that_prints_does_not_spoil_json(capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["cost", "odd_nets:keyworded", "D", "--input", "1x8x8", "--json"])
    assert stopped.value.code == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["macs"] > 0
    assert "embedding of" in err


@pytest.mark.slow
def test_models_of_users_may_import_torchvision(tmp_path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torchvision\n\ndef net(classes):\n"
        "    return torchvision.models.resnet18(weights=None, num_classes=classes)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "ordercomp.cli.main", "cost", "mine:net", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["params"] == 11_181_642


@pytest.mark.integration
def test_a_check_takes_a_step_on_real_images_with_every_stage() -> None:
    task = Task(name="t", model="resnet8(width=4)", data="odd_data:doubles", recipe=Recipe(epochs=0.1))
    check_task(task)
    with pytest.raises(ValueError, match=r"resnet8.* cannot be trained on odd_data:own_split: .* type"):
        check_task(replace(task, data="odd_data:own_split"))
