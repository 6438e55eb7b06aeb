"""The knob `teacher` of P and Q: who the fine-tune learns from."""

from dataclasses import dataclass, field

import pytest

from ordercomp.networks.network import CompressedNetwork
from ordercomp.sequence import StageSequence
from ordercomp.stages.catalog import complete, make_stage
from ordercomp.stages.stage import StageError

BASELINE = CompressedNetwork.create("resnet8(width=4)", classes=3, size=(8, 8))


@dataclass
class Listening:
    """A trainer that trains nothing and notes the teachers."""

    baseline: CompressedNetwork | None = None
    seed: int = 0
    teachers: list[CompressedNetwork | None] = field(default_factory=list)

    def train(
        self, network: CompressedNetwork, *, fresh: bool, teacher: CompressedNetwork | None = None
    ) -> float:
        self.teachers.append(teacher)
        return 1.0

    def train_heads(self, network: CompressedNetwork, *, joint: bool = False) -> float:
        return 1.0

    def calibrate(self, network: CompressedNetwork, *, again: bool = False) -> None:
        return None


def teachers(text: str, baseline: CompressedNetwork | None) -> list[CompressedNetwork | None]:
    trainer = Listening(baseline)
    for step in StageSequence.parse(text).steps:
        make_stage(step).apply(BASELINE, trainer=trainer)
    return trainer.teachers


def test_fine_tunes_learn_from_the_labels_unless_told_otherwise() -> None:
    assert teachers("P(ratio=0.5) Q", BASELINE) == [None, None]


def test_a_teacher_makes_them_a_distillation_from_the_baseline() -> None:
    found = teachers("P(ratio=0.5,teacher=baseline) Q(teacher=baseline)", BASELINE)
    assert all(teacher is BASELINE for teacher in found)


def test_without_a_baseline_that_is_an_error() -> None:
    with pytest.raises(StageError, match="teacher=baseline needs the baseline network"):
        teachers("Q(teacher=baseline)", None)


def test_the_knob_is_written_only_where_it_is_set() -> None:
    assert "teacher" not in str(complete(StageSequence.parse("PQ")))
    text = str(complete(StageSequence.parse("Q(teacher=baseline)")))
    assert text == "Q(weights=2,activations=4,teacher=baseline)"
    with pytest.raises(ValueError, match="teacher must be one of none, baseline, got 'friend'"):
        complete(StageSequence.parse("Q(teacher=friend)"))
