import itertools
import re
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pytest
from builders import make_record
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from page_data import a_law, a_pair

from ordercomp.analysis.fronts import front_value
from ordercomp.analysis.law import Law
from ordercomp.analysis.pairs import Group, PairVerdict
from ordercomp.analysis.ranking import RankedOrder, rank_orders
from ordercomp.analysis.report.plots import (
    _apart,
    distance_plot,
    pair_plot,
    pareto_plot,
    precedence_plot,
    progress_plot,
    ranking_plot,
    to_svg,
)
from ordercomp.analysis.statistics import Effect
from ordercomp.records import Record
from ordercomp.sequence import permutations

VERDICTS: tuple[PairVerdict, ...] = ("before", "after", "tied", "undecided", "conditional", "before")


def texts(figure: Figure) -> list[str]:
    """All words in a figure's only axes, tick labels apart."""
    axes = figure.axes[0]
    return [text.get_text() for text in axes.texts] + [axes.get_xlabel(), axes.get_ylabel()]


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of labels that lie on each other."""
    figure.draw_without_rendering()
    boxes = [(text.get_text(), text.get_window_extent()) for text in figure.axes[0].texts if text.get_text()]
    return [(a, b) for (a, one), (b, two) in itertools.combinations(boxes, 2) if one.overlaps(two)]


def some_law(
    stages: str = "DPQE",
    verdicts: Sequence[PairVerdict] = VERDICTS,
    probability: float = 0.1,
    kemeny: str = "",
) -> Law:
    """A law without a name; `probability` is that of what is decided the other way round."""
    pairs = tuple(
        a_pair(
            first,
            second,
            verdict,
            effect=Effect(0.3, (0.1, 0.5), probability if verdict == "after" else 0.9),
            under_trained=verdict == "undecided",
            groups=(Group("P earlier", 3, Effect(0.2, (0.1, 0.3), 0.9)),),
        )
        for (first, second), verdict in zip(itertools.combinations(stages, 2), verdicts, strict=False)
    )
    return a_law("undecided", stages, pairs=pairs, kemeny=kemeny)


def some_records(points: int = 3) -> list[Record]:
    rng = np.random.default_rng(0)
    levels = [(0.97 - 0.02 * k, 64.0 * 1.3**k) for k in range(points)]
    return [
        make_record(order, seed, points=[(a - 0.01 * rng.random(), c) for a, c in levels])
        for order in permutations("DPQE")
        for seed in (0, 1, 2)
    ]


def some_ranking(stages: str) -> list[RankedOrder]:
    rng = np.random.default_rng(0)
    made = [
        RankedOrder(order=order, values={seed: float(rng.normal()) for seed in (0, 1)}, complete=True)
        for order in permutations(stages)
    ]
    return sorted(made, key=lambda one: -one.value)


@pytest.mark.parametrize("points", [1, 3])
def test_fronts_are_labeled_where_they_end_and_labels_keep_apart(points: int) -> None:
    roles = {"DPQE": "law", "PDQE": "best", "EQPD": "worst"}
    figure = pareto_plot(some_records(points), highlights=roles)
    assert {"DPQE (law)", "PDQE (best)", "EQPD (worst)", "baseline"} <= set(texts(figure))
    assert "accuracy on test data" in texts(figure)
    assert overlaps(figure) == []


def test_fronts_without_any_point_give_an_empty_picture() -> None:
    assert texts(pareto_plot([make_record("DP", error="diverged")], highlights={"DP": "law"}))[0] == (
        "reduction of bit operations"
    )


def test_networks_that_lose_far_too_much_are_cut_off() -> None:
    records = [make_record("DP", accuracy=0.95), make_record("PD", accuracy=0.10)]
    assert pareto_plot(records, highlights={}).axes[0].get_ylim()[0] > 0.9


def test_precedence_shows_each_pair_once_and_labels_keep_apart() -> None:
    figure = precedence_plot(some_law(kemeny="DPQE"))
    words = texts(figure)
    assert {"D", "P", "Q", "E"} <= set(words)
    assert (words.count("0.90"), words.count("tied"), words.count("depends")) == (4, 1, 1)
    assert overlaps(figure) == []


def test_precedence_tells_verdicts_apart_by_line_and_direction() -> None:
    arcs = precedence_plot(some_law(kemeny="DPQE")).axes[0].patches
    styles = [arc.get_linestyle() for arc in arcs]
    assert len(arcs) == 6
    assert styles.count("-") == 4  # three decided, one conditional
    assert len({str(style) for style in styles}) == 3
    assert len({arc.get_edgecolor() for arc in arcs}) == 4  # forward, backward, open, conditional


def test_precedence_without_the_keys_beyond_the_contract_uses_the_stages_as_row() -> None:
    assert {"D", "P", "Q", "E"} <= set(texts(precedence_plot(some_law())))


def test_probability_shown_is_that_of_the_direction_drawn() -> None:
    assert "0.97" in texts(precedence_plot(some_law("DP", ["after"], 0.03)))


def test_pair_plot_says_who_comes_first_and_marks_under_trained_pairs() -> None:
    figure = pair_plot(some_law().pairs, margin=0.1)
    assert {"D before P", "Q before D", "tied", "undecided, under-trained", "conditional"} <= set(
        texts(figure)
    )
    assert overlaps(figure) == []


def test_ranking_of_many_orders_shows_both_ends_and_the_highlighted() -> None:
    ranking = some_ranking("DPQEL")
    middle = ranking[60].order
    axes = ranking_plot(ranking, highlights={middle: "law"}).axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(labels) == 31
    assert labels[0] == f"{ranking[0].order}  1"
    assert f"{middle}  61" in labels
    assert labels[-1] == f"{ranking[-1].order}  120"


def test_ranking_of_few_orders_shows_all() -> None:
    figure = ranking_plot(some_ranking("DPQE"), highlights={"DPQE": "law"})
    assert len(figure.axes[0].get_yticklabels()) == 24
    assert "law" in texts(figure)


def test_distance_plot_names_each_order_and_labels_keep_apart() -> None:
    figure = distance_plot(some_ranking("DPQE"), law="DPQE")
    assert set(permutations("DPQE")) <= set(texts(figure))
    assert any(text.startswith("swaps of neighbors away from DPQE   (Kendall's τ ") for text in texts(figure))
    assert overlaps(figure) == []


def test_distance_that_falls_with_every_swap_has_tau_minus_one() -> None:
    ranking = [
        RankedOrder(order=order, values={0: value}, complete=True)
        for order, value in (("DP", 2.0), ("PD", 1.0))
    ]
    assert "swaps of neighbors away from DP   (Kendall's τ -1.00)" in texts(distance_plot(ranking, law="DP"))


def test_progress_never_falls_and_ends_at_the_value_of_all_records() -> None:
    records = some_records()
    line = progress_plot(records).axes[0].lines[0]
    values = np.asarray(line.get_ydata(), dtype=float)
    assert values[0] == 0
    assert (np.diff(values) >= -1e-12).all()
    assert values[-1] == pytest.approx(front_value(records))
    assert len(values) == len(records) + 1


def test_same_figure_gives_the_same_svg_without_date() -> None:
    one, other = (to_svg(precedence_plot(some_law())) for _ in range(2))
    assert one == other
    assert one.lstrip().startswith("<?xml")
    assert not re.search(r"20\d\d-\d\d", one)


def test_pictures_leave_global_settings_alone() -> None:
    before = dict(mpl.rcParams)
    ranking = rank_orders(some_records(), "DPQE")
    for figure in (pareto_plot(some_records(), highlights={}), ranking_plot(ranking, highlights={})):
        to_svg(figure)
    assert dict(mpl.rcParams) == before


@given(heights=st.lists(st.floats(-10, 10), max_size=12))
def test_labels_are_moved_apart_in_their_order(heights: list[float]) -> None:
    moved = _apart(heights, 1.0)
    ordered = moved[np.argsort(heights, kind="stable")]
    assert (np.diff(np.sort(moved)) >= 1.0 - 1e-9).all()
    assert sorted(ordered.tolist()) == pytest.approx(np.sort(moved).tolist())


def test_labels_far_enough_apart_stay() -> None:
    assert _apart([3.0, 0.0, 1.5], 1.0).tolist() == [3.0, 0.0, 1.5]
    assert _apart([1.0, 1.0], 1.0).tolist() == [0.5, 1.5]
