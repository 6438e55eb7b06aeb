"""Sequences and their text: it parses back exactly, and errors point at the place."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ordercomp.sequence import SequenceSyntaxError, StageSequence, Step

names = st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True)
words = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.:/-]{0,8}", fullmatch=True).filter(
    lambda word: word.lower().lstrip("_") not in ("true", "false", "nan", "inf", "infinity")
)
values = st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words
steps = st.builds(Step.of, st.sampled_from("DEFKPQ"), st.dictionaries(names, values, max_size=3))
sequences = st.lists(steps, max_size=4).map(lambda found: StageSequence(tuple(found)))


@pytest.mark.integration
@settings(max_examples=50)
@given(sequences)
def test_the_text_of_a_sequence_parses_back_to_it(sequence: StageSequence) -> None:
    again = StageSequence.parse(str(sequence))
    assert again == sequence
    assert str(again) == str(sequence)
    kinds = [type(value) for step in sequence.steps for _, value in step.knobs]
    assert [type(value) for step in again.steps for _, value in step.knobs] == kinds


def test_a_sequence_reads_as_people_write_it() -> None:
    sequence = StageSequence.parse(" D( depth = 0.5 )P(ratio=.4) Q(weights=2,activations=4) E ")
    assert str(sequence) == "D(depth=0.5) P(ratio=0.4) Q(weights=2,activations=4) E"
    assert sequence.order == "DPQE"
    assert sequence.steps[2].settings == {"weights": 2, "activations": 4}
    assert StageSequence.parse("DPQE") == StageSequence.from_order("DPQE", {})
    assert StageSequence.parse("D(student=fresh,flag=true,rate=1e-3)").steps[0].settings == {
        "student": "fresh",
        "flag": True,
        "rate": 0.001,
    }


@pytest.mark.parametrize(
    ("text", "column", "problem"),
    [
        ("D p", 3, "expected a stage letter A to Z, got 'p'; write DP"),
        ("D, P", 2, "expected a stage letter A to Z, got ','; write DP"),
        ("[D, P]", 1, "expected a stage letter A to Z, got '['; write DP"),
        ("D=>P", 2, "expected a stage letter A to Z, got '='; write DP"),
        ("D → P", 3, "expected a stage letter A to Z, got '→'; write DP"),
        ("DPQ.", 4, "expected a stage letter A to Z, got '.'; write DPQ"),
        ("d_p", 1, "expected a stage letter A to Z, got 'd'; write DP"),
        ("distill prune", 1, "expected a stage letter A to Z, got 'd'"),  # no order of those letters
        ("D(depth=0.5 P", 2, "unclosed or nested parenthesis"),
        ("P(ratio=(1))", 2, "unclosed or nested parenthesis"),
        ("D P(ratio)", 5, "expected knob=value, got 'ratio'"),
        ("P(ratio=)", 3, "expected knob=value, got 'ratio='"),
        ("Q(weights=2, ,)", 14, "expected knob=value, got ''"),
        ("Q(weights=2, weights=4)", 14, "knob 'weights' is set twice"),
        ("P(ratio=0..4)", 9, "expected a number, true, false or a word, got '0..4'"),
        ("D P(ratio=nan)", 11, "expected a finite number, got 'nan'"),
        ("P(ratio=1e999)", 9, "expected a finite number, got '1e999'"),
        ("P)", 2, "expected a stage letter A to Z, got ')'"),
        ("Ä", 1, "expected a stage letter A to Z, got 'Ä'"),
    ],
)
def test_an_error_points_at_its_place(text: str, column: int, problem: str) -> None:
    with pytest.raises(SequenceSyntaxError) as caught:
        StageSequence.parse(text)
    assert str(caught.value) == (
        f"{problem} at column {column} of the sequence\n  {text}\n  {' ' * (column - 1)}^"
    )
    assert caught.value.place == column - 1
    assert isinstance(caught.value, ValueError)


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused_with_a_place_inside_it(text: str) -> None:
    sequence, place = StageSequence(), 0
    try:
        sequence = StageSequence.parse(text)
    except SequenceSyntaxError as error:
        place = error.place
    assert 0 <= place <= len(text)
    assert StageSequence.parse(str(sequence)) == sequence


def test_prefixes_and_steps_build_a_sequence() -> None:
    sequence = StageSequence.parse("D(depth=0.5) P(ratio=0.4) Q")
    assert [str(prefix) for prefix in sequence.prefixes] == [
        "D(depth=0.5)",
        "D(depth=0.5) P(ratio=0.4)",
        str(sequence),
    ]
    assert StageSequence(sequence.steps[:2]) + sequence.steps[2] == sequence
    assert (len(sequence), len(StageSequence()), str(StageSequence())) == (3, 0, "")


def test_digests_differ_with_order_and_knobs_and_stay_the_same_otherwise() -> None:
    texts = ["", "D P", "P D", "D P(ratio=0.4)", "D P(ratio=0.5)"]
    digests = [StageSequence.parse(text).digest for text in texts]
    assert len(set(digests)) == len(texts)
    assert StageSequence.parse("DP").digest == StageSequence.parse(" D  P ").digest


def test_a_step_is_checked_when_built() -> None:
    with pytest.raises(ValueError, match="stage must be one letter A to Z, got 'DP'"):
        Step("DP")
    with pytest.raises(ValueError, match=r"knobs of P must be set once each, got \['ratio', 'ratio'\]"):
        Step("P", (("ratio", 0.4), ("ratio", 0.5)))
    with pytest.raises(ValueError, match="knob of P must have a name like `ratio`, got 'Ratio'"):
        Step.of("P", {"Ratio": 0.4})
    for value in (float("nan"), float("inf"), "two words", "true", "1e5", ""):
        with pytest.raises(ValueError, match="P knob ratio must be a finite number, true, false or a word"):
            Step.of("P", {"ratio": value})


def test_a_line_of_many_knobs_is_read_in_time_that_grows_with_its_length() -> None:
    text = f"P({','.join(f'k{number}={number}' for number in range(20_000))})"
    start = time.perf_counter()
    assert len(StageSequence.parse(text).steps[0].knobs) == 20_000
    assert time.perf_counter() - start < 2.0
