"""A sampler that turns a knob of what leads, as a person would."""

import pytest

from benchmarks.search_worlds import SYNTHETIC_KNOBS
from ordercomp.knobs import Knob
from ordercomp.search.history import Front, FrontPoint
from ordercomp.search.samplers import neighbors
from ordercomp.search.space import Space
from ordercomp.sequence import StageSequence
from ordercomp.stages.catalog import known_stages

REAL = Space("DPQE", {letter: known_stages()[letter].knobs for letter in "DPQE"}, optional=True)


def near(space: Space, text: str) -> set[str]:
    return {str(one) for one in neighbors(space, space.complete(StageSequence.parse(text)))}


def test_neighbors_are_one_notch_one_swap_or_one_stage_away() -> None:
    space = Space("PE", {letter: known_stages()[letter].knobs for letter in "PE"}, optional=True)
    found = near(space, "P(ratio=0.4) E(exits=2)")
    turned = {"P(ratio=0.3) E(exits=2)", "P(ratio=0.5) E(exits=2)"}
    turned |= {"P(ratio=0.4) E(exits=1)", "P(ratio=0.4) E(exits=3)"}
    assert found == turned | {"E(exits=2) P(ratio=0.4)", "P(ratio=0.4)", "E(exits=2)"}


def test_a_stage_that_is_absent_comes_at_every_place_with_its_defaults() -> None:
    assert {one for one in near(REAL, "D(depth=0.5)") if "P" in one} == {
        "D(depth=0.5) P(ratio=0.4)",
        "P(ratio=0.4) D(depth=0.5)",
    }


def test_bits_are_halved_and_doubled_and_never_leave_their_range() -> None:
    weights = {
        StageSequence.parse(one).steps[0].settings["weights"]
        for one in near(REAL, "Q(weights=1,activations=8)")
        if one.startswith("Q(") and "activations=8)" in one and " " not in one
    }
    assert weights == {2}


@pytest.mark.parametrize("place", [0, 4321, -1])
def test_every_neighbor_lies_in_the_space_and_has_the_sequence_as_its_own(place: int) -> None:
    knobs = {letter: SYNTHETIC_KNOBS[letter] for letter in "DPQ"}
    space = Space("DPQ", knobs, optional=True)
    every = list(space.sequences())
    sequence = every[place % len(every)]
    found = list(neighbors(space, sequence))
    assert found
    assert all(space.contains(one) for one in found)
    inside = [one for one in found if len(one) == len(sequence)]
    assert all(sequence in set(neighbors(space, one)) for one in inside)


def test_choices_move_to_the_next_one() -> None:
    knob = Knob(default="b", choices=("a", "b", "c", "d"), help="")
    space = Space("D", {"D": {"kind": knob}})
    assert near(space, "D(kind=b)") == {"D(kind=a)", "D(kind=c)"}


def test_the_leader_is_the_most_compressed_of_those_that_keep_to_the_loss() -> None:
    front, gentle, hard = Front(0.8), StageSequence.parse("D"), StageSequence.parse("DP")
    assert front.leader(0.9) is None
    front.add(FrontPoint(0.97, 2.0, gentle))
    front.add(FrontPoint(0.92, 5.0, hard))
    assert front.leader(0.98) is None
    assert front.leader(0.95) == gentle
    assert front.leader(0.9) == hard
