"""How claims are decided: margins, error level, equal numbers of networks; the paper's numbers as data."""

import math
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from builders import make_record

from benchmarks.worlds import Planted, simulate
from ordercomp.analysis.report.tables import duration_text
from ordercomp.codec import encode
from ordercomp.jobs.check import StepTimes
from ordercomp.networks.network import CompressedNetwork
from ordercomp.records import Record
from ordercomp.running.task import TASKS
from ordercomp.sequence import StageSequence, permutations
from ordercomp.stages.blocks import blocks_to_drop, find_blocks
from ordercomp.studies import insertion, zoo
from ordercomp.studies.claims import Claim, convergence, decide_claims, even_out, under_trained_prefixes
from ordercomp.studies.experiment import ClaimVerdict, Conclusion, latest, with_knobs
from ordercomp.studies.facts import LAW, PAPER
from ordercomp.studies.preset import load_preset
from ordercomp.studies.run import EXPERIMENTS, plan_experiments

DIGITS = TASKS["digits"]


def decide(name: str, records: Sequence[Record]) -> Conclusion:
    return EXPERIMENTS[name].decide(records)


def side(order: str, accuracies: Sequence[float], reduction: float = 64.0) -> list[Record]:
    return [make_record(order, seed, accuracy, reduction) for seed, accuracy in enumerate(accuracies)]


def verdict(kind: str, first: Sequence[Record], second: Sequence[Record]) -> ClaimVerdict:
    return decide_claims([Claim(text="", first=first, second=second, kind=kind)])[0].verdict  # type: ignore[arg-type]


HIGH, LOW = side("PQ", (0.960, 0.961, 0.962)), side("QP", (0.930, 0.932, 0.931))
LIKE = side("QP", (0.9601, 0.9611, 0.9619))
WILD = side("QP", (0.99, 0.90, 0.96))


@pytest.mark.parametrize(
    ("kind", "first", "second", "expected"),
    [
        ("better", HIGH, LOW, "agree"),
        ("better", LOW, HIGH, "disagree"),
        ("better", HIGH, LIKE, "disagree"),
        ("better", HIGH, WILD, "undecided"),
        ("worse", LOW, HIGH, "agree"),
        ("worse", HIGH, LOW, "disagree"),
        ("alike", HIGH, LIKE, "agree"),
        ("alike", HIGH, LOW, "disagree"),
        ("alike", HIGH, WILD, "undecided"),
        ("not better", LOW, HIGH, "agree"),
        ("not better", HIGH, LIKE, "agree"),
        ("not better", HIGH, LOW, "disagree"),
        ("not worse", HIGH, LOW, "agree"),
        ("not worse", LOW, HIGH, "disagree"),
        ("not worse", HIGH, WILD, "undecided"),
        ("better", HIGH[:1], LOW[:1], "undecided"),
        ("better", HIGH[:2], LOW[:2], "undecided"),
        ("better", HIGH, [], "undecided"),
    ],
)
def test_a_claim_is_decided_by_its_interval(
    kind: str, first: Sequence[Record], second: Sequence[Record], expected: str
) -> None:
    assert verdict(kind, first, second) == expected


def test_many_claims_share_the_error_level() -> None:
    weak = Claim(text="", first=side("PQ", (0.950, 0.957, 0.956)), second=side("QP", (0.945, 0.947, 0.950)))
    idle = Claim(text="", first=side("PQ", (0.950, 0.957, 0.956)), second=side("QP", (0.953, 0.956, 0.953)))
    none = [idle] * 8
    assert decide_claims([weak])[0].verdict == "agree"
    among = decide_claims([weak, *none])
    assert among[0].verdict == "undecided"
    assert re.fullmatch(
        r"By itself the verdict would be agree \(p = 0\.0\d+\); among all claims .* p is .* \(Holm\)\.",
        among[0].caveat,
    )
    assert not among[1].caveat


def test_seeds_with_unequal_numbers_of_networks_do_not_count() -> None:
    doubled = [*HIGH, make_record("PQ", 0, 0.99, 80.0)]
    assert decide_claims([Claim(text="", first=doubled, second=LOW)])[0].seeds == 2


def test_sides_are_evened_out_over_their_reductions() -> None:
    many = [make_record("P", 0, 0.9, reduction) for reduction in (2.0, 4.0, 8.0, 16.0, 32.0)]
    one, other = even_out(many, [make_record("Q", 0), make_record("Q", 0), make_record("Q", 1)])
    assert [record.points[0].bitops_cr for record in one] == [2.0, 32.0]
    assert [record.seed for record in other] == [0, 0]


def test_shared_prefixes_excuse_both_sides() -> None:
    truth = Planted(stages="PQE", under_trained={"P": 4.0}, controls=True)
    records = simulate(truth, seeds=3, rng=np.random.default_rng(0))
    guard = convergence(records)
    by_order = {order: [r for r in records if r.order == order] for order in permutations("PQE")}
    assert "P" in under_trained_prefixes(by_order["PQE"], by_order["QPE"], guard)
    assert "P" not in under_trained_prefixes(by_order["PQE"], by_order["PEQ"], guard)


def test_of_two_records_of_a_run_the_later_one_counts() -> None:
    assert latest([make_record("P", 0, 0.9), make_record("P", 0, 0.8)]) == [make_record("P", 0, 0.8)]


def test_insertions_of_a_planted_law_hold_and_those_of_its_reverse_do_not() -> None:
    for order, expected in (("DPQE", "agree"), ("EQPD", "disagree")):
        truth = Planted.law(order, 1.0, node_noise=0.05, seed_noise=0.1, interaction=0.02)
        findings = decide("insertion", simulate(truth, seeds=5, rng=np.random.default_rng(1))).findings
        assert [finding.verdict for finding in findings] == [expected] * 4


def test_an_insertion_knows_its_two_orders() -> None:
    records = simulate(Planted.law("PQE", 1.0), seeds=2, rng=np.random.default_rng(1))
    orders = {placement.orders for placement, _ in insertion.decide_placements(records)}
    assert {("PQE", "EQP"), ("QPE", "QEP"), ("PEQ", "EPQ")} <= orders


def test_a_repeated_stage_stands_against_one_that_cuts_as_much_at_once() -> None:
    (part,) = EXPERIMENTS["repetition"].parts(DIGITS, load_preset("minutes"))
    texts = {str(request.sequence) for request in part.requests}
    assert {
        "P(ratio=0.4) P(ratio=0.4)",
        "P(ratio=0.64)",
        "D(depth=0.5) D(depth=0.5)",
        "D(depth=0.25)",
    } <= texts
    once, twice = "P(ratio=0.64)", "P(ratio=0.4) P(ratio=0.4)"
    reductions = {twice: 8.0, once: 8.1, "P(ratio=0.4)": 3.0, "P(ratio=0.2)": 1.5, "D(depth=0.5)": 2.0}
    records = [
        replace(make_record("D", seed, 0.97, reduction), sequence=text, order=re.sub("[^A-Z]", "", text))
        for seed in range(3)
        for text, reduction in reductions.items()
    ]
    (finding,) = decide("repetition", records).findings
    assert f"{twice} against {once}" in finding.claim


def test_the_law_is_held_against_its_pairs_with_equally_many_networks() -> None:
    records = simulate(Planted.law("DPQE", 1.0), seeds=4, rng=np.random.default_rng(2))
    findings = decide("combination", records).findings
    assert len(findings) == 7
    assert {finding.verdict for finding in findings[:6]} == {"agree"}


def test_stages_that_cut_nothing_are_told() -> None:
    records = [
        make_record(order, seed, 0.97, reduction)
        for seed in range(3)
        for order, reduction in (("D", 2.0), ("DP", 2.0), ("DPQ", 64.0), ("DPQE", 80.0))
    ]
    crucial, regained = decide("stagewise", records).findings
    assert crucial.verdict == "disagree"
    assert regained.verdict == "disagree"


def test_zoo_rows_are_decided_by_the_papers_own_reduction_and_loss() -> None:
    records = [
        make_record("DPQE", seed, 0.985, reduction, task=task)
        for seed in range(3)
        for task, reduction in (("resnet34-cifar10", 900.0), ("vgg19-svhn", 100.0), ("mine", 300.0))
    ]
    found = {finding.claim.split(":")[0]: finding.verdict for finding in decide("zoo", records).findings}
    assert found == {"resnet34 on cifar10": "agree", "vgg19 on svhn": "disagree", "mine": "agree"}
    assert "mobilenetv2-imagenet" in decide("zoo", records).notes[0]


def test_every_row_of_table_2_is_a_task() -> None:
    assert len({zoo.zoo_task(row).digest for row in PAPER.table_2.rows}) == len(PAPER.table_2.rows) == 15
    assert zoo.zoo_task(PAPER.table_2.rows[4]).knobs["Q"] == {"weights": 8, "activations": 8}


def test_the_row_whose_bits_the_paper_states_is_run_at_these_bits() -> None:
    (row,) = (row for row in PAPER.table_2.rows if (row.model, row.data) == ("resnet34", "cifar100"))
    assert zoo.zoo_task(row).knobs["Q"] == {"weights": 4, "activations": 8}


def test_small_presets_leave_the_papers_networks_alone() -> None:
    for name in ("minutes", "hours"):
        assert [part.task.name for part in EXPERIMENTS["zoo"].parts(DIGITS, load_preset(name))] == ["digits"]


@pytest.mark.integration
def test_every_row_of_table_2_has_a_student() -> None:
    tasks = [zoo.zoo_task(row) for row in PAPER.table_2.rows]
    assert all(task.knobs["D"]["depth"] != 1 or 0 < float(task.knobs["D"]["width"]) < 1 for task in tasks)
    shallower = {(task.model, float(task.knobs["D"]["depth"])) for task in tasks}
    for model, depth in sorted(one for one in shallower if one[1] < 1):
        blocks = find_blocks(CompressedNetwork.create(model, classes=10, size=(64, 64)))
        assert 0 < len(blocks_to_drop(blocks, depth)) < len(blocks)


def test_rivals_train_for_equally_many_epochs() -> None:
    whole, shared = EXPERIMENTS["rivals"].parts(DIGITS, load_preset("minutes"))
    assert shared.task.accounting == "total"
    usual = DIGITS.recipe.epochs
    spent = {
        sum(float(step.settings.get("epochs", usual)) for step in request.sequence.steps)
        for request in (*whole.requests, *shared.requests)
        if len(request.sequence) == 4 or request in shared.requests
    }
    assert spent == {4 * usual}


def test_a_repeated_quantization_goes_down_in_bits() -> None:
    _, shared = EXPERIMENTS["rivals"].parts(DIGITS, load_preset("minutes"))
    chain = next(r.sequence for r in shared.requests if r.sequence.order == "PQQFE")
    assert [step.settings["weights"] for step in chain.steps if step.stage == "Q"] == [8, 2]


def test_cited_methods_stand_beside_the_law_with_their_baselines() -> None:
    (part,) = EXPERIMENTS["versus"].parts(DIGITS, load_preset("minutes"))
    orders = {request.sequence.order for request in part.requests}
    assert orders == {"DPQE", *(method.order for method in PAPER.table_3.methods)}
    table = (
        EXPERIMENTS["versus"]
        .decide([make_record(order, seed) for order in orders for seed in range(2)])
        .tables[1]
    )
    against = {row[1]: row[7] for row in table.rows}
    assert against["APQ"] == "the same model at 8 bits"
    assert against["OICSR-GL"] == "the same model at 32 bits"


def test_the_papers_numbers_are_whole() -> None:
    assert set(PAPER.table_1.rows) <= set(permutations(LAW))
    assert all(len(row) == len(PAPER.table_1.losses) for row in PAPER.table_1.rows.values())
    rows = (*PAPER.table_2.rows, *PAPER.table_3.own)
    assert all(row.change == pytest.approx(row.accuracy - row.original, abs=0.02) for row in rows)
    assert set(PAPER.pairs) == {a + b for place, a in enumerate(LAW) for b in LAW[place + 1 :]}
    assert {stage for claim in (*PAPER.singles, *PAPER.insertions) for stage in claim} == set(LAW)
    methods = PAPER.table_3.methods
    assert len({method.key for method in methods}) == len(methods) == 15


def test_the_papers_numbers_need_no_torch() -> None:
    program = "import sys, ordercomp.studies.facts; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


TIMES = {DIGITS.digest: StepTimes(1.0, 2.0)}


def test_a_plan_counts_what_later_experiments_share() -> None:
    plan = plan_experiments(
        ["pairwise", "insertion", "exhaustive"], task=DIGITS, preset="minutes", workers=2, times=TIMES
    )
    pairs, insertions, whole = plan.experiments
    assert pairs.new == pairs.trainings
    assert insertions.new < insertions.trainings
    assert insertions.new + whole.new < whole.trainings
    assert whole.unshared > whole.trainings
    assert whole.seconds < whole.seconds_alone
    assert plan.table.rows[-1][0] == "all"
    assert encode(plan)["seconds"] == pytest.approx(plan.seconds, abs=0.1)


def test_the_exhaustive_plan_has_the_64_nodes_and_their_controls() -> None:
    plan = plan_experiments(["exhaustive"], task=DIGITS, preset="minutes", times=TIMES)
    assert plan.experiments[0].trainings == 3 * (64 + 15)
    assert plan.experiments[0].unshared == 3 * (196 + 15 + 3 + 2 * 6 + 3 * 6)


def test_a_plan_of_the_paper_takes_days() -> None:
    paper = load_preset("paper")
    times = {paper.prepare(DIGITS).digest: StepTimes(3600.0, 7200.0)}
    plan = plan_experiments(["exhaustive"], task=DIGITS, preset=paper, times=times)
    assert plan.seconds > 86_400
    assert duration_text(plan.seconds).endswith("days")
    with pytest.raises(ValueError, match="experiment must be one of"):
        plan_experiments(["all"], task=DIGITS, preset=paper, times=times)
    with pytest.raises(ValueError, match="workers must be at least 1"):
        plan_experiments(task=DIGITS, preset=paper, workers=0, times=times)


def test_experiments_have_different_names_and_questions() -> None:
    assert len({one.question for one in EXPERIMENTS.values()}) == len(EXPERIMENTS) == 15


def versus_sequences() -> list[StageSequence]:
    (part,) = EXPERIMENTS["versus"].parts(DIGITS, load_preset("minutes"))
    return [request.sequence for request in part.requests if request.seed == 0]


def test_all_fifteen_methods_run_at_equal_epochs_and_with_knobs_of_their_own() -> None:
    sequences = versus_sequences()
    total = DIGITS.recipe.epochs * len(DIGITS.stages)
    for sequence in sequences[1:]:
        assert sum(float(step.settings.get("epochs", 0.0)) for step in sequence.steps) == total
    texts = set(map(str, sequences))
    each = total / 2
    assert {text for text in texts if text.startswith("E")} == {
        f"E(exits=4,policy=predictive,epochs={each}) Q(weights=8,activations=8,epochs={each})"
    }
    assert f"P(ratio=0.4,epochs={each}) Q(weights=4,activations=8,levels=pot,epochs={each})" in texts
    for method in PAPER.table_3.methods:
        points = math.prod(len(values) for knobs in method.grid.values() for values in knobs.values())
        shown = [
            one for one in sequences if one.order == method.order and one == with_knobs(one, method.knobs)
        ]
        assert len(shown) == points, method.name
        assert (method.kind == "a proxy") >= bool(method.grid)


def test_a_method_that_searches_is_judged_by_the_network_that_validation_images_chose() -> None:
    grid = {"P": {"ratio": 0.2}}, {"P": {"ratio": 0.4}}, {"P": {"ratio": 0.6}}
    seen = ((0.979, 2.0, -0.3), (0.975, 3.0, 0.0), (0.95, 9.0, 0.015))  # validation, reduction, shift on test
    records = [make_record("DPQE", seed, 0.97, 500.0) for seed in range(3)]
    records += [
        make_record("P", seed, accuracy, factor, knobs=knobs, test_shift=shift)
        for seed in range(3)
        for knobs, (accuracy, factor, shift) in zip(grid, seen, strict=True)
    ]
    conclusion = decide("versus", records)
    rows = {row[0]: row for row in conclusion.tables[0].rows}
    assert rows["l"][4] == "97.50 %"  # the most reduced of those that lose at most a point
    assert rows["l"][6] == "3×"
    assert set(rows["d"][4:10]) == {"not run"}
    assert list(rows) == ["", *"abcdefghijklmno"]
    assert [one.claim for one in conclusion.findings] == ["DPQE does better than Hybrid search as P"]


def test_a_search_that_loses_too_much_everywhere_takes_the_most_accurate_network() -> None:
    knobs = [{"P": {"ratio": ratio}} for ratio in (0.2, 0.4, 0.6)]
    records = [make_record("DPQE", accuracy=0.97)]
    records += [
        make_record("P", accuracy=accuracy, bitops_cr=factor, knobs=one)
        for one, (accuracy, factor) in zip(knobs, [(0.9, 2.0), (0.92, 3.0), (0.8, 9.0)], strict=True)
    ]
    rows = {row[0]: row for row in decide("versus", records).tables[0].rows}
    assert rows["l"][4] == "92.00 %"


def test_a_failed_repetition_is_no_claim() -> None:
    law = [make_record("DPQE", seed) for seed in range(3)]
    failed = [make_record("DPQED", seed, error="no droppable block") for seed in range(3)]
    once = [make_record("D", seed, bitops_cr=2.0) for seed in range(3)]
    twice = [make_record("DD", seed, error="no droppable block") for seed in range(3)]
    assert decide("repetition", [*law, *failed, *once, *twice]).findings == ()
    assert "DPQED" not in EXPERIMENTS["repetition"].figures([*law, *failed, *once, *twice])["paths"]


def test_what_a_pair_is_compared_with_does_not_depend_on_which_training_ended_first() -> None:
    settings = ({"P": {"ratio": 0.4}}, {"P": {"ratio": 0.2}})
    records = [
        make_record(order, seed, 0.95 - 0.01 * place, 8.0 + place, knobs=knobs)
        for seed in range(3)
        for place, knobs in enumerate(settings)
        for order in ("P", "PE", "EP")
    ]
    records += [make_record("E", seed) for seed in range(3)]
    told = [decide("pairwise", some).findings for some in (records, records[::-1])]
    assert told[0] == told[1]


def test_a_fresh_student_hides_pruning_and_quantization_but_no_exits() -> None:
    knobs = {"D": {"depth": 0.5, "student": "fresh"}}
    orders = [*permutations("DPE"), *permutations("DP"), *permutations("DE"), *permutations("PE"), *"DPE"]
    records = [
        make_record(order, seed, 0.95 - 0.001 * (3 * place + seed), knobs=knobs)
        for seed in range(3)
        for place, order in enumerate(orders)
    ]
    verdicts = {finding.claim[-11:]: finding.verdict for finding in decide("pairwise", records).findings}
    assert verdicts["DP over PD)"[-11:]] == "true by construction"
    assert verdicts["DE over ED)"[-11:]] != "true by construction"
    told = {finding.claim: finding.verdict for finding in decide("insertion", records).findings}
    assert "true by construction" not in told.values()
