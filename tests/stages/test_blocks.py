"""Blocks: which units of a body may be dropped, and where exits may sit."""

from collections import Counter

import pytest
from sibling_nets import cases
from tiny_networks import apply, logits, tiny_network

from ordercomp.networks.network import CompressedNetwork
from ordercomp.stages.blocks import Block, blocks_to_drop, find_blocks, split_candidates
from ordercomp.stages.early_exit import spread
from ordercomp.stages.stage import StageError


def block(name: str, *, droppable: bool = True, share: float = 0.5) -> Block:
    return Block(name, droppable, True, 8, share)


def stages(*counts: int) -> list[Block]:
    """Residual stages whose first block changes the shape, but in the first stage."""
    return [
        block(f"stages.{stage}.{place}", droppable=place > 0 or stage == 0)
        for stage, count in enumerate(counts)
        for place in range(count)
    ]


def left(blocks: list[Block], depth: float) -> list[int]:
    dropped = blocks_to_drop(blocks, depth)
    counts = Counter(one.container for one in blocks if one.name not in dropped)
    return [counts[container] for container in sorted({one.container for one in blocks})]


def test_half_of_resnet34_is_resnet18() -> None:
    assert left(stages(3, 4, 6, 3), 0.5) == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("depth", "expected"),
    [
        (1.0, [2, 2, 2]),
        (0.9, [2, 2, 2]),
        (0.8, [1, 2, 2]),
        (0.5, [1, 1, 1]),
        (0.3, [0, 1, 1]),
        (0.1, [0, 1, 1]),
    ],
)
def test_the_share_kept_is_rounded_up_and_fixed_blocks_stay(depth: float, expected: list[int]) -> None:
    assert left(stages(2, 2, 2), depth) == expected


def test_the_fullest_stage_gives_first_and_its_last_block_goes() -> None:
    assert blocks_to_drop(stages(2, 3), 0.8) == ["stages.1.2"]
    assert len(blocks_to_drop(stages(100), 0.55)) == 45  # in floats 55.00000000000001 are to stay
    assert blocks_to_drop(stages(2, 2), 0.7) == ["stages.0.1"]  # the earlier one among equals


def test_nothing_is_dropped_from_nothing() -> None:
    assert blocks_to_drop([], 0.5) == []
    assert blocks_to_drop([block("a.0", droppable=False)] * 4, 0.5) == []


@pytest.mark.parametrize(
    ("model", "blocks", "droppable"),
    [
        ("resnet14(width=4)", 6, 4),
        ("resnet34(width=4)", 16, 13),
        ("vgg8(width=4)", 5, 1),
        ("vgg19(width=4)", 16, 12),
        ("mobilenet_v2(width=0.1)", 17, 12),
        ("user_nets:in_place_blocks", 3, 3),
        ("user_nets:flat", 0, 0),
        ("user_nets:nested_stages", 4, 3),
    ],
)
def test_blocks_of_known_models(model: str, blocks: int, droppable: int) -> None:
    found = find_blocks(tiny_network(model))
    assert (len(found), sum(one.droppable for one in found)) == (blocks, droppable)
    shares = [one.share for one in found]
    assert shares == sorted(shares)
    assert all(0 < share <= 1 for share in shares)


def test_a_block_in_two_places_is_neither_dropped_nor_given_an_exit() -> None:
    network = tiny_network("user_nets:repeated_block")
    assert [one.name for one in find_blocks(network)] == ["1.2"]
    assert [one.name for one in split_candidates(network)] == []


def test_dropped_blocks_are_gone_for_the_next_distillation() -> None:
    once = apply("D", tiny_network("resnet14(width=4)"), depth=0.7)
    assert once.lineage[-1].achieved == {"dropped": ["stages.0.1"], "blocks": 5}
    twice = apply("D", once, depth=0.7)
    assert len(find_blocks(once)) == 5
    assert twice.dropped == ("stages.0.1", "stages.1.1")
    assert twice.lineage[-1].achieved["blocks"] == 4


def test_repeated_distillation_ends_with_an_error_once_nothing_can_be_dropped() -> None:
    network = apply("D", tiny_network("resnet14(width=4)"), depth=0.1)
    assert network.lineage[-1].achieved["blocks"] == 2
    with pytest.raises(StageError, match=r"D\(depth=0.1\) found no droppable block among the 2 blocks"):
        apply("D", network, depth=0.1)


def test_exits_that_sat_on_dropped_blocks_stay_and_see_the_features_there() -> None:
    network = apply("E", tiny_network("resnet14(width=4)"), exits=5)
    assert network.exits == ("stages.0.0", "stages.0.1", "stages.1.0", "stages.1.1", "stages.2.0")
    student = apply("D", network, depth=0.5)
    assert student.dropped == ("stages.0.1", "stages.1.1", "stages.2.1")
    assert student.exits == network.exits
    assert [output.shape for output in logits(student)] == [(3, 10)] * 6


def test_split_points_are_all_blocks_with_feature_maps_but_the_last() -> None:
    names = [one.name for one in split_candidates(tiny_network("resnet14(width=4)"))]
    assert names == ["stages.0.0", "stages.0.1", "stages.1.0", "stages.1.1", "stages.2.0"]


def test_a_body_without_blocks_offers_activations_and_pooling() -> None:
    assert [one.name for one in split_candidates(tiny_network("user_nets:flat"))] == ["1"]
    assert [one.name for one in split_candidates(tiny_network("user_nets:normalized"))] == ["2"]


@pytest.mark.parametrize(("name", "inside"), [("with_normalization", "1.stages"), ("with_backbone", "0.3")])
def test_a_network_in_a_container_shows_the_blocks_inside(name: str, inside: str) -> None:
    network = tiny_network(f"common_nets:{name}")
    wanted = [f"{inside}.{stage}.{place}" for stage in range(3) for place in range(2)]
    assert [one.name for one in split_candidates(network)][:5] == wanted[:5]
    assert [one.name for one in find_blocks(network) if one.droppable] == [
        f"{inside}.0.0",
        f"{inside}.0.1",
        f"{inside}.1.1",
        f"{inside}.2.1",
    ]


@pytest.mark.integration
@pytest.mark.parametrize(("model", "inside"), cases("CONTAINERS"))
def test_exits_and_blocks_to_drop_of_a_network_in_a_container_are_its_own(model: str, inside: str) -> None:
    bare, wrapped = tiny_network("resnet14(width=4)"), tiny_network(model)
    for network, prefix in ((bare, ""), (wrapped, inside)):
        assert apply("E", network).exits == (f"{prefix}stages.0.1", f"{prefix}stages.1.1")
        assert apply("D", network).dropped == tuple(f"{prefix}stages.{stage}.1" for stage in range(3))


def test_exits_sit_nearest_to_equal_shares_of_the_cost() -> None:
    candidates = [block(str(place), share=share) for place, share in enumerate((0.1, 0.3, 0.35, 0.6, 0.9))]
    assert spread(candidates, 1) == ["3"]
    assert spread(candidates, 2) == ["2", "3"]
    assert spread(candidates, 3) == ["1", "3", "4"]


def test_more_exits_than_places_give_every_place() -> None:
    assert spread([block("0"), block("1")], 8) == ["0", "1"]
    assert spread([], 2) == []
    network = apply("E", tiny_network("resnet8(width=4)"), exits=8)
    assert network.lineage[-1].achieved == {
        "exits": ["stages.0.0", "stages.1.0"],
        "notice": "finds room for 2 of 8 exits",
    }


@pytest.mark.parametrize("model", ["user_nets:flat", "user_nets:dense_only"])
def test_a_model_without_droppable_blocks_is_named_with_a_way_out(model: str) -> None:
    message = rf"found no droppable block among the 0 blocks of {model}.*try D\(depth=1.0,width=0.5\)"
    with pytest.raises(StageError, match=message):
        apply("D", tiny_network(model))
    narrowed: CompressedNetwork = apply("D", tiny_network(model), depth=1.0, width=0.5)
    assert narrowed.dropped == ()
    assert narrowed.lineage[-1].achieved["dropped"] == []


def test_a_model_without_a_place_for_an_exit_is_named() -> None:
    with pytest.raises(StageError, match="E found no place for an exit in user_nets:dense_only"):
        apply("E", tiny_network("user_nets:dense_only"))


def test_blocks_outside_of_containers_are_found() -> None:
    found = [block for block in find_blocks(tiny_network("odd_nets:hidden_blocks")) if block.droppable]
    assert [block.name for block in found] == [
        f"1.{stage}.b{place}" for stage in (0, 1) for place in range(3)
    ]


def test_a_student_that_saves_next_to_nothing_is_refused() -> None:
    with pytest.raises(StageError, match=r"D was to save 50% of odd_nets:norms_between and saves \d.\d%"):
        apply("D", tiny_network("odd_nets:norms_between"), depth=0.5)


def test_a_depth_that_rounds_up_to_all_blocks_is_told_as_that() -> None:
    with pytest.raises(StageError, match=r"D\(depth=0.9\) keeps all 9 blocks, rounded up; take less"):
        apply("D", tiny_network("resnet20(width=2)"), depth=0.9)
