"""The trainer that stages use: what it trains and freezes, what it caches, and that it repeats itself."""

from dataclasses import replace

import pytest
import torch
from tiny_networks import apply, digits, logits, tiny_network, tiny_trainer
from torch import Tensor, nn

from ordercomp.data.splits import Batch
from ordercomp.networks.layers import QuantizedLayer, quantized_layer
from ordercomp.networks.network import CompressedNetwork
from ordercomp.training import trainer as trainer_module
from ordercomp.training.fit import DivergedError
from ordercomp.training.trainer import DataTrainer


def tensors(network: CompressedNetwork) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.module.state_dict().items()}


def changed(before: dict[str, Tensor], network: CompressedNetwork) -> set[str]:
    after = network.module.state_dict()
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_training_changes_weights_and_statistics_and_ends_in_evaluation_mode() -> None:
    network = tiny_network()
    before = tensors(network)
    assert tiny_trainer().train(network, fresh=True) == 0.5  # one of the two steps of an epoch
    assert changed(before, network) == set(before)
    assert not any(part.training for part in network.module.modules())


def test_the_same_trainer_gives_the_same_weights_and_another_purpose_gives_others() -> None:
    trainer = tiny_trainer(epochs=1)
    networks = [tiny_network() for _ in range(3)]
    trainer.for_stage("P1").train(networks[0], fresh=False)
    trainer.for_stage("P1").train(networks[1], fresh=False)
    trainer.for_stage("P2").train(networks[2], fresh=False)
    assert changed(tensors(networks[0]), networks[1]) == set()
    assert changed(tensors(networks[0]), networks[2]) != set()


def test_training_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    tiny_trainer().train(tiny_network(), fresh=True)
    assert torch.equal(torch.rand(2), expected)


def test_a_stage_may_have_its_own_length() -> None:
    trainer = tiny_trainer(epochs=2)
    assert trainer.for_stage("P1").recipe.epochs == 2
    assert trainer.for_stage("P1", epochs=5).recipe.epochs == 5
    assert trainer.for_stage("P1", epochs=0).recipe == trainer.recipe
    assert trainer.for_stage("P1", epochs=1.5).train(tiny_network(), fresh=True) == 1.5


def test_fresh_weights_train_at_the_full_rate_and_others_at_a_share(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = []
    monkeypatch.setattr(trainer_module, "fit", lambda fitting: peaks.append(fitting.schedule.peak))
    trainer = tiny_trainer(learning_rate=0.2, fine_tune_factor=0.1)
    network = apply("E", tiny_network())
    trainer.train(network, fresh=True)
    trainer.train(network, fresh=False)
    trainer.train_heads(network)
    assert peaks == pytest.approx([0.2, 0.02, 0.2])


def test_heads_alone_train_on_a_body_that_stays_bit_for_bit() -> None:
    network = apply("E", tiny_network())
    before = tensors(network)
    assert tiny_trainer(epochs=1).train_heads(network) == 1
    assert changed(before, network) == {name for name in before if name.startswith("heads.")}
    assert all(parameter.requires_grad for parameter in network.module.parameters())
    assert not any(part.training for part in network.module.modules())


def test_quantized_heads_are_calibrated_before_they_train() -> None:
    network = apply("E", apply("Q", tiny_network(), tiny_trainer()))
    before = [head.classifier.input_scale.clone() for head in network.module.heads]  # type: ignore[union-attr]
    tiny_trainer().train_heads(network)
    after = [head.classifier.input_scale for head in network.module.heads]  # type: ignore[union-attr]
    assert all(not torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_calibration_sets_every_range_but_that_of_the_image_and_no_weight() -> None:
    network = tiny_network().quantized(apply("Q", tiny_network()).bits)  # type: ignore[arg-type]
    before = tensors(network)
    tiny_trainer().calibrate(network)
    moved = {name for name in changed(before, network) if name.endswith("input_scale")}
    expected = {name for name in before if name.endswith("input_scale")} - {"body.conv.input_scale"}
    assert moved == expected
    assert not any(name.endswith(("weight", "bias")) for name in changed(before, network))
    assert not any(part._forward_pre_hooks for part in network.module.modules())


def test_calibration_of_a_float_network_does_nothing() -> None:
    network = tiny_network()
    before = tensors(network)
    tiny_trainer().calibrate(network)
    assert changed(before, network) == set()


def test_a_cached_teacher_gives_what_it_would_compute() -> None:
    teacher = apply("E", tiny_network())
    teacher.module.eval()
    trainer = tiny_trainer()
    look_up = trainer._targets(teacher)
    compute = replace(trainer, recipe=replace(trainer.recipe, augment=True))._targets(teacher)
    images, labels = digits().train.tensors()  # type: ignore[attr-defined]
    index = torch.tensor([5, 0, 17])
    batch = Batch(images[index], labels[index], index)
    for cached, computed in zip(look_up(batch), compute(batch), strict=True):
        torch.testing.assert_close(cached, computed)


def test_a_teacher_stays_as_it_is_and_another_teacher_gives_another_student() -> None:
    teacher, other = tiny_network(seed=1), tiny_network(seed=2)
    for one in (teacher, other):
        one.module.eval()
    before = tensors(teacher)
    students = [tiny_network(), tiny_network(), tiny_network()]
    for student, source in zip(students, (teacher, teacher, other), strict=True):
        tiny_trainer(epochs=1).train(student, fresh=True, teacher=source)
    assert changed(before, teacher) == set()
    assert changed(tensors(students[0]), students[1]) == set()
    assert changed(tensors(students[0]), students[2]) != set()


@pytest.mark.parametrize("order", ["", "Q"])
def test_training_in_bfloat16_keeps_float_weights_and_stays_near_float32(order: str) -> None:
    trainer = tiny_trainer(epochs=1)
    results = []
    for precision in (torch.float32, torch.bfloat16):
        network = tiny_network()
        for letter in order:
            network = apply(letter, network, trainer)
        replace(trainer, precision=precision).train(network, fresh=True)
        assert {parameter.dtype for parameter in network.module.parameters()} == {torch.float32}
        results.append(torch.cat([parameter.flatten() for parameter in network.module.parameters()]))
    assert not torch.equal(*results)
    assert (results[0] - results[1]).norm() < 0.1 * results[0].norm()


def test_augmented_training_runs_and_repeats_itself() -> None:
    networks = [tiny_network(), tiny_network()]
    for network in networks:
        tiny_trainer(epochs=1, augment=True).train(network, fresh=True, teacher=tiny_network(seed=1))
    assert changed(tensors(networks[0]), networks[1]) == set()


def test_training_that_diverges_raises_an_error() -> None:
    with pytest.raises(DivergedError, match="the training loss became"):
        tiny_trainer(epochs=40, learning_rate=1e12).train(tiny_network("user_nets:flat"), fresh=True)


def test_a_batch_larger_than_the_data_takes_them_all() -> None:
    network = tiny_network()
    trainer = tiny_trainer(epochs=2, batch_size=10_000)
    assert trainer.train(network, fresh=True) == 2
    assert trainer.train_heads(apply("E", network)) == 2
    assert all(torch.isfinite(output).all() for output in logits(network))


def test_every_exit_is_trained_jointly() -> None:
    network = apply("E", tiny_network())
    before = tensors(network)
    tiny_trainer(epochs=1).train(network, fresh=False)
    moved = changed(before, network)
    assert {"heads.0.classifier.weight", "heads.1.classifier.weight", "body.conv.weight"} <= moved


def test_a_layer_that_runs_twice_gets_one_range_for_both_runs() -> None:
    torch.manual_seed(0)
    layer = quantized_layer(nn.Linear(4, 4), 8, 8)
    small, large = torch.rand(512, 4), 50 * torch.rand(512, 4)

    class Twice(nn.Module):
        def __init__(self, first: Tensor, then: Tensor) -> None:
            super().__init__()
            self.layer, self.first, self.then = layer, first, then

        def forward(self, _images: Tensor) -> Tensor:
            self.layer(self.first)
            out: Tensor = self.layer(self.then)
            return out

    for first, then in ((small, large), (large, small)):
        trainer_module._calibrate(Twice(first, then), small)
        assert isinstance(layer, QuantizedLayer)
        assert float(layer.input_scale) * 255 == pytest.approx(50, rel=0.02)


@pytest.mark.integration
def test_pruning_fits_ranges_again_unless_the_recipe_keeps_them() -> None:
    quantized = apply("Q", tiny_network(), tiny_trainer())
    before = {name: layer.input_scale for name, layer in quantized.quantized_layers()}

    def moved(trainer: DataTrainer) -> bool:
        pruned = apply("P", quantized, trainer, ratio=0.5)
        return any(
            not torch.equal(layer.input_scale, before[name]) for name, layer in pruned.quantized_layers()
        )

    assert moved(tiny_trainer())
    assert not moved(tiny_trainer(refit_ranges=False))


@pytest.mark.integration
def test_a_quantized_student_gets_ranges_again_at_the_peak_of_the_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quantized = apply("Q", tiny_network(), tiny_trainer())
    times: list[bool] = []
    monkeypatch.setattr(trainer_module, "_calibrate", lambda *_items: times.append(True))
    for trainer, expected in ((tiny_trainer(epochs=2), 2), (tiny_trainer(epochs=2, refit_ranges=False), 1)):
        times.clear()
        apply("D", quantized, trainer)
        assert len(times) == expected
    times.clear()
    apply("F", quantized, tiny_trainer(epochs=2))
    assert times == []


def test_joint_training_of_heads_moves_the_body_too() -> None:
    network = tiny_network()
    before = tensors(network)
    alone, joint = (apply("E", network, tiny_trainer(), train=how) for how in ("heads", "joint"))
    assert changed(before, alone) == set()
    assert changed(before, joint) == set(before)
    assert str(joint.lineage[-1].step) == "E(exits=2,train=joint)"
    assert str(alone.lineage[-1].step) == "E(exits=2)"


def test_heads_of_a_quantized_network_are_calibrated_before_joint_training() -> None:
    network = apply("E", apply("Q", tiny_network(), tiny_trainer()), tiny_trainer(), train="joint")
    scales = [float(head.classifier.input_scale) for head in network.module.heads]  # type: ignore[union-attr]
    assert all(scale != pytest.approx(1 / 15) for scale in scales)
