"""What each stage does beside the common contract: students, bits, split points, knobs and their errors."""

from pathlib import Path

import pytest
import torch
from built_nets import FROZEN
from sibling_nets import cases
from tiny_networks import NoTrainer, apply, logits, snapshot, tiny_network, tiny_trainer
from torch import nn

from ordercomp.networks.exits import Bits, frozen_names
from ordercomp.networks.network import CompressedNetwork
from ordercomp.sequence import StageSequence, Step
from ordercomp.stages.catalog import STAGES, complete, make_stage
from ordercomp.stages.distill import Distill
from ordercomp.stages.prune import Prune
from ordercomp.stages.stage import Stage, StageError, step_of


def stem(network: CompressedNetwork) -> nn.Conv2d:
    convolution = network.module.body.conv
    assert isinstance(convolution, nn.Conv2d)
    return convolution


@pytest.mark.parametrize("letter", STAGES)
def test_every_stage_declares_itself(letter: str) -> None:
    stage = make_stage(Step(letter))
    assert isinstance(stage, Stage)
    assert stage.letter == letter
    assert stage.granularity in ("architecture", "neuron", "sub-neuron", "none")
    assert stage.title
    assert stage.dynamic == (letter in "ES")
    assert stage.repeatable == (letter not in "EHLS")
    assert ("epochs" in stage.knobs) == (letter != "H")
    assert all(getattr(stage, name) == knob.default for name, knob in stage.knobs.items())


def test_the_canonical_text_writes_searched_knobs_and_others_that_were_changed() -> None:
    assert str(complete(StageSequence.parse("DPQEFK"))) == (
        "D(depth=0.5) P(ratio=0.4) Q(weights=2,activations=4) E(exits=2) F K"
    )
    text = "Q(activations=8) P(scope=global,ratio=0.2,epochs=3)"
    assert str(complete(StageSequence.parse(text))) == (
        "Q(weights=2,activations=8) P(ratio=0.2,scope=global,epochs=3.0)"
    )
    assert str(step_of(Prune(ratio=0.3, importance="quantized"))) == "P(ratio=0.3,importance=quantized)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("X", "there is no stage 'X'; known stages: D \\(Distill\\), P"),
        (
            "P(share=0.3)",
            "stage P has no knob 'share'; its knobs are: ratio, scope, importance, round_to, teacher, epochs",
        ),
        ("P(ratio=0.95)", r"stage P knob ratio must lie in \[0.05, 0.9\], got 0.95"),
        ("P(scope=some)", "stage P knob scope must be one of local, global, got 'some'"),
        ("Q(weights=0)", r"stage Q knob weights must lie in \[1, 32\], got 0"),
        ("Q(weights=2.5)", "stage Q knob weights must be a whole number, got 2.5"),
        ("D(student=new)", "stage D knob student must be one of inherit, fresh, got 'new'"),
        ("E(exits=0)", r"stage E knob exits must lie in \[1, 8\], got 0"),
        ("F(epochs=-1)", r"stage F knob epochs must lie in \[0.0, 100000.0\], got -1"),
        ("EDE", "stage E .* may come only once, got 'EDE', where it comes again at place 3"),
    ],
)
def test_bad_sequences_are_answered_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        complete(StageSequence.parse(text))
    assert "\n" not in str(caught.value)


def test_an_inheriting_student_keeps_widths_bits_and_exits() -> None:
    network = apply("E", apply("Q", apply("P", tiny_network(), ratio=0.5)))
    student = apply("D", network)
    assert stem(student).weight.shape == stem(network).weight.shape == (2, 1, 3, 3)
    assert (student.bits, student.exits) == (Bits(2, 4), network.exits)
    assert student.dropped == ("stages.0.1", "stages.1.1", "stages.2.1")


def test_a_fresh_student_is_float_and_unpruned_but_keeps_exits_and_earlier_drops() -> None:
    network = apply("E", apply("Q", apply("P", apply("D", tiny_network(), depth=0.8), ratio=0.5)))
    student = apply("D", network, depth=0.8, student="fresh")
    assert stem(student).weight.shape == (4, 1, 3, 3)
    assert (student.bits, student.exits) == (None, network.exits)
    assert list(student.quantized_layers()) == []
    assert student.dropped == ("stages.0.1", "stages.1.1")


def test_students_start_from_fresh_weights_of_the_trainers_seed() -> None:
    network = tiny_network()
    one, same, other = (
        make_stage(Step("D")).apply(network, trainer=NoTrainer(seed=seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(stem(one).weight, stem(same).weight)
    assert not torch.equal(stem(one).weight, stem(other).weight)
    assert not torch.equal(stem(one).weight, stem(network).weight)


def test_a_student_may_be_narrower_instead_of_shallower() -> None:
    student = apply("D", tiny_network(), depth=1.0, width=0.5)
    assert student.dropped == ()
    assert stem(student).weight.shape[0] == 2
    assert student.lineage[-1].achieved == {"dropped": [], "blocks": 6}
    assert str(student.sequence) == "D(depth=1.0,width=0.5)"


def test_a_student_learns_from_the_network_it_came_from() -> None:
    seen = []

    class Watching(NoTrainer):
        def train(self, network: CompressedNetwork, **settings: object) -> float:
            seen.append((settings["fresh"], settings["teacher"]))
            return 1.0

    network = tiny_network()
    Distill().apply(network, trainer=Watching())
    assert seen == [(True, network)]


def test_fine_tuning_keeps_everything_but_the_weights() -> None:
    network = apply("E", apply("Q", tiny_network(), tiny_trainer()), tiny_trainer())
    for letter in "FK":
        tuned = apply(letter, network, tiny_trainer())
        assert repr(tuned.module) == repr(network.module)
        assert not torch.equal(stem(tuned).weight, stem(network).weight)


def test_recovery_needs_the_baseline() -> None:
    with pytest.raises(StageError, match="K needs the baseline network as its teacher"):
        make_stage(Step("K")).apply(tiny_network(), trainer=NoTrainer())


def test_the_first_layer_reads_the_image_and_all_others_are_quantized() -> None:
    network = apply("Q", apply("E", tiny_network()), weights=3, activations=5)
    found = {name: (layer.weight_bits, layer.activation_bits) for name, layer in network.quantized_layers()}
    assert found.pop("body.conv") == (3, 32)
    assert set(found.values()) == {(3, 5)}
    assert {"heads.0.classifier", "heads.1.classifier", "body.classifier"} <= set(found)
    assert network.lineage[-1].achieved == {"layers": len(found) + 1}


def test_quantizing_again_sets_the_new_bits_and_keeps_the_latent_weights() -> None:
    once = apply("Q", tiny_network(), weights=8, activations=8)
    twice = apply("Q", once, weights=1, activations=4)
    assert (once.bits, twice.bits) == (Bits(8, 8), Bits(1, 4))
    assert {layer.weight_bits for _, layer in twice.quantized_layers()} == {1}
    assert {layer.weight_bits for _, layer in once.quantized_layers()} == {8}
    assert torch.equal(stem(once).weight, stem(twice).weight)


def test_quantizing_to_32_bits_changes_no_logit() -> None:
    network = tiny_network()
    network.module.eval()
    quantized = apply("Q", network, weights=32, activations=32)
    assert torch.equal(logits(network)[0], logits(quantized)[0])


def test_heads_on_a_quantized_network_are_quantized_from_the_start() -> None:
    network = apply("E", apply("Q", tiny_network(), weights=2, activations=4))
    heads = {name for name, _ in network.quantized_layers() if name.startswith("heads.")}
    assert heads == {"heads.0.classifier", "heads.1.classifier"}


def test_early_exit_leaves_body_and_final_logits_bit_for_bit() -> None:
    network = apply("Q", apply("P", tiny_network(), tiny_trainer()), tiny_trainer())
    grown = apply("E", network, tiny_trainer(), exits=3)
    assert torch.equal(logits(network)[-1], logits(grown)[-1])
    before = snapshot(network)["tensors"]
    after = grown.module.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert len(grown.exits) == 3


def test_epochs_of_all_stages_add_up() -> None:
    network = tiny_network()
    for letter in "DPQEF":
        network = apply(letter, network, tiny_trainer())
    assert [step.epochs for step in network.lineage] == [0.5] * 5
    assert network.epochs == 2.5


@pytest.mark.integration
@pytest.mark.parametrize("letter", ["D", "P", "Q", "E", "F", "K", "DPQE"])
def test_frozen_parameters_stay_frozen_through_every_stage_and_file(letter: str, tmp_path: Path) -> None:
    network = tiny_network("user_nets:frozen_filters")
    before = dict(network.module.named_parameters())
    frozen = {"body.blur.weight", "body.blocks.0.conv.weight", "body.blocks.0.conv.bias"}
    assert frozen == {*frozen_names(network.module)}
    for one in letter:
        knobs = {"D": {"depth": 0.6}, "E": {"train": "joint"}}.get(one, {})
        network = apply(one, network, tiny_trainer(epochs=1), **knobs)
    network.save(tmp_path / "network")
    for kept in (network, CompressedNetwork.load(tmp_path / "network", trust=["user_nets:frozen_filters"])):
        assert frozen == {*frozen_names(kept.module)}
        parameters = dict(kept.module.named_parameters())
        assert torch.all(parameters["body.blur.weight"] == before["body.blur.weight"][0, 0, 0, 0])
        if "P" not in letter:
            assert all(torch.equal(parameters[name], before[name]) for name in frozen)
        assert not torch.equal(parameters["body.classifier.bias"], before["body.classifier.bias"])


@pytest.mark.integration
@pytest.mark.parametrize("letters", ["DQE", "L", "S", "U", "FK"])
@pytest.mark.parametrize("kind", FROZEN)
def test_what_is_frozen_is_never_trained(kind: str, letters: str, tmp_path: Path) -> None:
    network = tiny_network(f"built_nets:frozen(kind={kind})")
    before = {name: one.clone() for name, one in network.module.named_parameters()}
    fixed = [before[name] for name in frozen_names(network.module)]
    assert fixed
    if letters == "L" and kind in ("backbone", "biases"):
        with pytest.raises(StageError, match="finds no layer"):
            apply(letters, network)
        return
    knobs = {"D": {"depth": 0.6}, "E": {"train": "joint"}, "U": {"sparsity": 0.3, "scope": "local"}}
    for letter in letters:
        network = apply(letter, network, tiny_trainer(epochs=1), **knobs.get(letter, {}))
    network.save(tmp_path / "network")
    for kept in (network, CompressedNetwork.load(tmp_path / "network", trust=["built_nets:frozen"])):
        now = dict(kept.module.named_parameters())
        frozen = [now[name] for name in frozen_names(kept.module)]
        dropped = "D" in letters and kind in ("backbone", "norms", "biases")
        assert len(frozen) == len(fixed) if not dropped else 0 < len(frozen) < len(fixed)
        assert all(any(_is_of(one, old) for old in fixed) for one in frozen)
        assert any(not torch.equal(one, before[name]) for name, one in now.items() if name in before)


def _is_of(now: torch.Tensor, before: torch.Tensor) -> bool:
    """Whether a parameter is another one, or that with zeros of U."""
    return now.shape == before.shape and bool(((now == before) | (now == 0)).all())


def test_a_fresh_student_cannot_have_a_frozen_parameter_of_another_width() -> None:
    pruned = apply("P", tiny_network("user_nets:frozen_filters"), ratio=0.5)
    with pytest.raises(StageError, match=r"frozen parameter blur\.weight, as it is of another width"):
        apply("D", pruned, depth=0.6, student="fresh")


def shared(network: CompressedNetwork) -> set[tuple[str, ...]]:
    """Names of parameters and statistics that are one and the same; scales of quantizers aside."""
    names: dict[int, list[str]] = {}
    for name, tensor in network.module.state_dict(keep_vars=True).items():
        if not name.endswith("_scale"):
            names.setdefault(id(tensor), []).append(name)
    return {tuple(same) for same in names.values() if len(same) > 1}


@pytest.mark.parametrize("letter", ["D", "P", "Q", "U"])
@pytest.mark.parametrize(("model", "_parameters"), cases("TIED"))
def test_what_layers_share_stays_shared(letter: str, model: str, _parameters: int, tmp_path: Path) -> None:
    network = tiny_network(model)
    knobs = {"D": {"depth": 1.0, "width": 0.5}, "P": {"ratio": 0.5}}.get(letter, {})
    changed = apply(letter, network, tiny_trainer(), **knobs)
    changed.module.eval()
    changed.save(tmp_path / "network")
    loaded = CompressedNetwork.load(tmp_path / "network", trust=["sibling_nets:make"])
    assert shared(changed) == shared(loaded) == shared(network) != set()
    assert all(torch.equal(one, two) for one, two in zip(logits(changed), logits(loaded), strict=True))


def test_layers_that_share_weights_are_not_factored_one_by_one() -> None:
    with pytest.raises(StageError, match="finds no layer"):
        apply("L", tiny_network("common_nets:tied_branches"))
