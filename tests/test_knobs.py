"""Knobs: legal values, canonical types, one-line errors."""

import pytest

from ordercomp.knobs import Knob, check_knobs

RATIO = Knob(default=0.4, help="share removed", low=0.0, high=0.9)
WEIGHTS = Knob(default=4, help="bits", choices=(1, 2, 4, 8))
EXITS = Knob(default=2, help="exits", low=1, high=8)
INHERIT = Knob(default="inherit", help="student", choices=("inherit", "fresh"))
KNOBS = {"ratio": RATIO, "weights": WEIGHTS, "exits": EXITS, "student": INHERIT}


def test_defaults_are_filled_in_in_the_order_of_declaration() -> None:
    assert list(check_knobs("P", KNOBS, {"exits": 3, "ratio": 0.5}).items()) == [
        ("ratio", 0.5),
        ("weights", 4),
        ("exits", 3),
        ("student", "inherit"),
    ]


@pytest.mark.parametrize(
    ("name", "given", "found"), [("ratio", 0, 0.0), ("weights", 2.0, 2), ("exits", 3.0, 3), ("exits", 8, 8)]
)
def test_a_value_comes_back_in_the_type_of_its_knob(name: str, given: float, found: float) -> None:
    value = check_knobs("P", KNOBS, {name: given})[name]
    assert (value, type(value)) == (found, type(found))


@pytest.mark.parametrize(
    ("name", "given", "problem"),
    [
        ("ratio", 0.91, r"P knob ratio must lie in \[0.0, 0.9\], got 0.91"),
        ("ratio", "much", "P knob ratio must be a number, got 'much'"),
        ("ratio", True, "P knob ratio must be a number, got True"),
        ("ratio", float("nan"), "P knob ratio must be a number, got nan"),
        ("exits", 2.5, "P knob exits must be a whole number, got 2.5"),
        ("exits", float("inf"), "P knob exits must be a whole number, got inf"),
        ("exits", 9, r"P knob exits must lie in \[1, 8\], got 9"),
        ("weights", 3, "P knob weights must be one of 1, 2, 4, 8, got 3"),
        ("weights", True, "P knob weights must be one of 1, 2, 4, 8, got True"),
        ("student", "new", "P knob student must be one of inherit, fresh, got 'new'"),
        ("rate", 1, "P has no knob 'rate'; its knobs are: ratio, weights, exits, student"),
    ],
)
def test_an_illegal_value_is_named(name: str, given: float | str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        check_knobs("P", KNOBS, {name: given})


def test_a_stage_without_knobs_says_so() -> None:
    with pytest.raises(ValueError, match="F has no knob 'ratio'; its knobs are: none"):
        check_knobs("F", {}, {"ratio": 0.4})


def test_a_declaration_is_checked_when_made() -> None:
    with pytest.raises(ValueError, match="either choices or both of low and high"):
        Knob(default=1, help="")
    with pytest.raises(ValueError, match="either choices or both of low and high"):
        Knob(default=1, help="", low=0, high=2, choices=(1, 2))
    with pytest.raises(ValueError, match=r"the default must lie in \[1, 2\], got 3"):
        Knob(default=3, help="", low=1, high=2)


def test_whole_numbers_are_told_by_the_default() -> None:
    assert EXITS.integral
    assert not RATIO.integral
    assert not WEIGHTS.integral
