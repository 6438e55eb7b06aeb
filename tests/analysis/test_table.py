"""CSV files of other people's results: what is read, and what is refused in one line."""

from pathlib import Path

import numpy as np
import pytest

from ordercomp.analysis.order_model import Effort
from ordercomp.analysis.report.text import answer_words
from ordercomp.analysis.results_table import Columns, answer_results, read_results
from ordercomp.sequence import permutations

QUICK = Effort(draws=60)


def written(tmp_path: Path, *lines: str, header: str = "order,seed,accuracy,reduction") -> Path:
    path = tmp_path / "results.csv"
    path.write_text("\n".join((header, *lines)) + "\n")
    return path


def rows(*, seeds: int = 4) -> list[str]:
    """Networks that lose nothing and reduce the more, the later E stands."""
    rng = np.random.default_rng(0)
    found = [f",{seed},0.9,1" for seed in range(seeds)]
    return found + [
        f"{order},{seed},0.9,{2 ** (4 + order.index('E') + 0.1 * rng.standard_normal()):.4f}"
        for order in permutations("PQE")
        for seed in range(seeds)
    ]


def test_other_peoples_results_get_the_same_answer(tmp_path: Path) -> None:
    answer = answer_results(read_results(written(tmp_path, *rows())), effort=QUICK)
    assert set(answer.best_set) <= {"PQE", "QPE"}
    assert len(answer.by_loss) == 7


def test_a_score_needs_no_reduction_and_may_be_better_when_lower(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    lines = [
        f"{order};{seed};{10 - 2 * order.index('E') + 0.1 * rng.standard_normal():.3f}".replace(";", ",")
        for order in permutations("PQE")
        for seed in range(4)
    ]
    path = written(tmp_path, *lines, header="chain,run,perplexity")
    names = Columns(order="chain", seed="run", accuracy="perplexity")
    lower = answer_results(read_results(path, columns=names, lower_is_better=True), effort=QUICK)
    higher = answer_results(read_results(path, columns=names), effort=QUICK)
    assert set(lower.best_set) <= {"PQE", "QPE"}
    assert set(higher.best_set) <= {"EPQ", "EQP"}
    assert (lower.asked.loss, lower.by_loss) == (None, ())


def test_settings_belong_to_one_front(tmp_path: Path) -> None:
    lines = [f"{line},{name}" for line in rows() for name in ("light", "hard") if line.split(",")[0]]
    path = written(tmp_path, *lines, header="order,seed,accuracy,reduction,setting")
    answer = answer_results(read_results(path, baseline=0.9), effort=QUICK)
    assert [one.setting for one in answer.by_setting] == ["hard", "light"]


@pytest.mark.parametrize("told", ["D-P-Q", "D->P->Q", "D → P → Q", "d>p>q", "dpq", "D P Q", " DPQ "])
def test_orders_may_be_written_as_people_do(tmp_path: Path, told: str) -> None:
    results = read_results(written(tmp_path, f"{told},0,0.9", header="order,seed,accuracy"))
    assert [order for order, _ in results.rows] == ["DPQ"]
    assert results.stages == "DPQ"


def test_cells_may_be_parted_by_semicolons(tmp_path: Path) -> None:
    lines = [line.replace(",", ";") for line in rows()]
    parted = read_results(written(tmp_path, *lines, header="order;seed;accuracy;reduction"))
    assert parted.table(loss=0.02).values.shape == (6, 4)


def test_chains_of_some_of_the_stages_compete_like_those_of_records(tmp_path: Path) -> None:
    lines = [line for line in rows() if not line.startswith("P")]
    lines += [f"{order},{seed},0.9,{4 + seed / 10}" for order in ("P", "QP") for seed in range(4)]
    results = read_results(written(tmp_path, *lines))
    assert results.stages == "EPQ"
    answer = answer_results(results, effort=QUICK)
    assert set(answer.asked.standings) == {"P", "QP", "QPE", "QEP", "EPQ", "EQP"}
    assert answer.asked.all_stages is not None
    assert set(answer.asked.worth) == {"E", "Q"}


def test_a_baseline_in_percent_is_refused_with_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"baseline must be a fraction in \[0, 1\], such as 0.95, got 95"):
        read_results(written(tmp_path, *rows()), baseline=95)


def test_sentences_speak_of_the_score_or_of_the_cost_that_is_named(tmp_path: Path) -> None:
    scored = [
        f"{order},{seed},{len(order) + order.index('P') + seed / 100}"
        for order in ("P", "QP", "PQ", "PQE", "QPE", "EQP")
        for seed in range(4)
    ]
    path = written(tmp_path, *scored, header="order,seed,accuracy")
    said = " ".join(answer_words(answer_results(read_results(path), effort=QUICK), "EPQ").lines)
    assert "its score is expected to lie" in said
    assert "What leaving a stage out costs, in score" in said
    assert not {"bit", "operations", "doublings"} & set(said.split())
    with pytest.raises(ValueError, match="cost belongs to a column of reductions"):
        answer_results(read_results(path), cost="storage")
    reduced = read_results(written(tmp_path, *rows()))
    for cost, unit in ((None, "units of the cost"), ("macs", "multiplications")):
        assert unit in answer_words(answer_results(reduced, cost=cost, effort=QUICK), "EPQ").cost


def test_one_seed_says_how_many_it_takes(tmp_path: Path) -> None:
    answer = answer_results(read_results(written(tmp_path, *rows(seeds=1))), effort=QUICK)
    assert (answer.recommended, answer.asked.seeds_needed) == (None, 2)


@pytest.mark.parametrize(
    ("lines", "header", "told"),
    [
        (["PQ,0,0.9"], "order,run,accuracy", "lacks the column 'seed'; it has: order, run, accuracy"),
        (["PQ,0,0.9,2"], "order,seed,accuracy,seed", "has the column 'seed' twice: rename one of them"),
        (
            ["PQP,0,0.9,2"],
            None,
            "line 2: order must be one letter for each stage, each at most once, such as",
        ),
        (["P1,0,0.9,2"], None, "line 2: order must be one letter for each stage, .* got 'P1'"),
        (["prune-quant,0,0.9,2"], None, "line 2: order must be one letter for each .* got 'prune-quant'"),
        (
            ["PQ;0;0,9;2"],
            "order;seed;accuracy;reduction",
            "accuracy must be a finite number, with a point, not",
        ),
        (
            [",0,0.9,1", "PQ,0,0.9,2", "PQ,0,0.8,2"],
            None,
            "line 4: order PQ at seed 0 was told already, in line 3",
        ),
        (["PQ,0,0.9,2"], None, "lacks the uncompressed network at seed 0"),
        (["PQ,0,98,2"], None, "line 2: accuracy must be a fraction in .0, 1., such as 0.98, got 98"),
        (["PQ,0,0.9,0"], None, "line 2: reduction must be a positive number, got '0'"),
        (["PQ,0,0.9,nan"], None, "line 2: reduction must be a positive number, got 'nan'"),
        (["PQ,0.5,0.9,2"], None, "line 2: seed must be a whole number, got 0.5"),
        (["PQ,zero,0.9,2"], None, "line 2: seed must be a finite number, got 'zero'"),
        (["PQ,0,0.9"], None, "line 2: a row must have as many cells as the header"),
        ([",0,0.9,1"], None, "holds no row with an order"),
        ([], None, "holds no row with an order"),
        (
            [",0,0.9,1,", "PQ,0,0.9,2,a", "PQ,0,0.9,2,b", "QP,0,0.9,2,a"],
            "order,seed,accuracy,reduction,setting",
            "order QP at seed 0 lacks the setting 'b'",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, lines: list[str], header: str | None, told: str
) -> None:
    path = written(tmp_path, *lines, header=header or "order,seed,accuracy,reduction")
    with pytest.raises(ValueError, match=told) as caught:
        read_results(path)
    assert "\n" not in str(caught.value)


def test_lower_is_better_makes_no_sense_beside_a_reduction(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lower_is_better needs a score alone"):
        read_results(written(tmp_path, *rows()), lower_is_better=True)


def test_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not valid UTF-8"):
        read_results(path)
