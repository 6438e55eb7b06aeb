"""Tasks: checked when built, read from files, identified by what shapes a result."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_data import write_cifar10

from ordercomp.data.catalog import load_data
from ordercomp.data.source import DataError
from ordercomp.networks.network import CompressedNetwork
from ordercomp.running.task import TASKS, Task, load_task
from ordercomp.stages.catalog import apply_untrained
from ordercomp.training.recipe import Recipe

SMALL = Task(name="small", model="resnet8(width=4)", data="digits")


@pytest.mark.parametrize("name", TASKS)
def test_built_in_tasks_have_complete_sequences(name: str) -> None:
    task = load_task(name)
    assert task.name == name
    assert task.sequence(task.stages).order == task.stages


@pytest.mark.integration
@pytest.mark.parametrize("name", ["cifar10", "cifar10-full"])
def test_tasks_on_cifar10_take_every_stage_and_say_where_missing_images_come_from(
    name: str, tmp_path: Path
) -> None:
    task = load_task(name)
    with pytest.raises(DataError, match=r"cifar10 not found: .*download=True.* or set ORDERCOMP_DATA"):
        load_data(task.data, root=tmp_path)
    write_cifar10(tmp_path)
    data = load_data(task.data, root=tmp_path, train_limit=task.train_limit)
    network = CompressedNetwork.create(
        task.model, classes=data.classes, channels=data.channels, size=data.size
    )
    assert apply_untrained(network, task.sequence("DPQE")).sequence.order == "DPQE"


@pytest.mark.parametrize("name", TASKS)
def test_built_in_tasks_have_a_light_and_a_hard_setting(name: str) -> None:
    task = load_task(name)
    light, hard = (task.sequence("Q", case).steps[0].settings for case in task.settings)
    assert (light["weights"], light["activations"]) == (4, 8)
    assert (hard["weights"], hard["activations"]) == (2, 4)
    assert task.loss == 0.02


def test_the_knobs_of_a_task_stand_in_its_sequences() -> None:
    task = replace(SMALL, knobs={"P": {"ratio": 0.2}, "Q": {"weights": 1}})
    assert str(task.sequence("QP")) == "Q(weights=1,activations=4) P(ratio=0.2)"
    assert str(task.sequence("QP", {"Q": {"activations": 8}})) == "Q(weights=1,activations=8) P(ratio=0.2)"
    assert str(task.sequence("DD")) == "D(depth=0.5) D(depth=0.5)"


def test_the_cost_of_a_task_is_no_part_of_what_is_measured() -> None:
    assert replace(SMALL, cost="storage").digest == SMALL.digest
    assert Task.from_mapping({"name": "x", "model": "m", "data": "d", "cost": "macs"}).cost == "macs"


def test_a_task_whose_cost_is_latency_measures_it() -> None:
    timed = replace(SMALL, cost="latency")
    assert timed.latency
    assert timed.digest == replace(SMALL, latency=True).digest != SMALL.digest


def test_total_accounting_gives_every_order_the_same_epochs() -> None:
    task = replace(SMALL, recipe=Recipe(epochs=12), accounting="total")
    epochs = {
        order: sum(step.settings["epochs"] for step in task.sequence(order).steps)  # type: ignore[misc]
        for order in ("D", "DP", "DPQ", "DPQE", "DPQEQ")
    }
    assert epochs == pytest.approx(dict.fromkeys(epochs, 48.0))


def test_the_digest_covers_what_shapes_a_result_and_nothing_else() -> None:
    others = [
        replace(SMALL, model="resnet8(width=8)"),
        replace(SMALL, data="fashion-mnist"),
        replace(SMALL, train_limit=100),
        replace(SMALL, recipe=Recipe(epochs=7)),
        replace(SMALL, recipe=Recipe(precision="bfloat16")),
    ]
    assert len({task.digest for task in (SMALL, *others)}) == 1 + len(others)
    same = [
        replace(SMALL, name="other"),
        replace(SMALL, stages="QP"),
        replace(SMALL, loss=0.05),
        replace(SMALL, knobs={"P": {"ratio": 0.2}}),
    ]
    assert {task.digest for task in same} == {SMALL.digest}


TOML = """
model = "resnet8(width=4)"
data = "digits"
stages = "QPE"
extra = ["QQ"]
[knobs.P]
ratio = 0.25
[[cases]]
[[cases]]
Q = {weights = 1}
[recipe]
epochs = 3
"""


def test_a_task_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(TOML)
    task = load_task(str(tmp_path / "mine.toml"))
    assert (task.name, task.stages, task.extra) == ("mine", "QPE", ("QQ",))
    assert task.recipe.epochs == 3
    assert task.settings == ({}, {"Q": {"weights": 1}})
    assert str(task.sequence("P")) == "P(ratio=0.25)"


def test_a_task_spells_itself_as_a_command_takes_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TOML)
    task = load_task(str(path))
    assert task.spelled == str(path)
    assert load_task(task.spelled) == task
    assert load_task("digits").spelled == "digits"
    assert replace(task, source="").digest == task.digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model = ", "is no valid TOML"),
        ('data = "digits"', "task lacks the key 'model'"),
        ('model = "resnet8"', "task lacks the key 'data'"),
        (TOML + "epoch = 3", "recipe has no setting 'epoch'; its settings are: epochs"),
        ("wheels = 4\n" + TOML, "task has no setting 'wheels'; its settings are: name, model, data"),
        ('source = "elsewhere"\n' + TOML, "task has no setting 'source'"),
        (TOML.replace("QPE", "QXE"), "stages of task 'mine' hold 'X', but there is no such stage"),
        (TOML.replace("QPE", ""), "an order needs at least one stage letter"),
        (TOML.replace('"QPE"', "5"), "stages"),
        (TOML.replace("0.25", "3"), r"stage P knob ratio must lie in \[0.05, 0.9\], got 3"),
        (TOML.replace("0.25", '"much"'), "stage P knob ratio must be a number, got 'much'"),
        (TOML.replace("weights = 1", "bits = 1"), "stage Q has no knob 'bits'"),
        (TOML.replace('["QQ"]', '["EE"]'), "stage E .* may come only once, got 'EE'"),
        (TOML.replace('["QQ"]', "[1]"), "extra"),
        (TOML.replace('["QQ"]', '"QQ"'), "extra"),
        (TOML.replace("epochs = 3", "epochs = -3"), "recipe epochs must be positive, got -3"),
        (TOML.replace("epochs = 3", 'epochs = "3"'), "task key 'recipe.epochs' must be a number, got '3'"),
        ("recipe = 3\n" + TOML.partition("[recipe]")[0], "recipe must be a table of settings, got 3"),
        ("knobs = 3\n" + TOML.partition("[knobs")[0], "knobs"),
        ("[knobs]\nP = 3\n", "task lacks"),
        (TOML.partition("[knobs")[0] + "[knobs]\nP = 3\n", "knobs"),
        ("cases = 3\n" + TOML.partition("[knobs")[0], "cases"),
        ("cases = []\n" + TOML.partition("[knobs")[0], "cases must hold at least one knob setting"),
        ('train_limit = "all"\n' + TOML, "train_limit"),
        ("train_limit = 0\n" + TOML, "train_limit must be a positive number of images, got 0"),
        ('accounting = "none"\n' + TOML, "key 'accounting' must be per-stage or total, got 'none'"),
        ('latency = "yes"\n' + TOML, "latency"),
        ('loss = "2"\n' + TOML, r"loss must be a share in \(0, 100 %\], such as 2% or 0.02, got '2'"),
        ("loss = 2\n" + TOML, r"loss must lie in \(0, 100 %\], got 200 %"),
        ("model = 3\n" + TOML.partition("\n")[2].partition("\n")[2], "model"),
    ],
)
def test_wrong_files_are_answered_in_one_line_with_their_name(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        load_task(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_unknown_tasks_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no task file at .*absent\.toml"):
        load_task(str(tmp_path / "absent.toml"))
    with pytest.raises(ValueError, match=r"task must be one of digits, .* or a \.toml file, got 'mnist'"):
        load_task("mnist")


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe model")
    with pytest.raises(ValueError, match=r"mine\.toml"):
        load_task(str(tmp_path / "mine.toml"))


def settings(**changes: Any) -> dict[str, Any]:
    return {"name": "small", "model": "resnet8", "data": "digits", **changes}


def test_a_mapping_without_a_recipe_takes_the_usual_one() -> None:
    assert Task.from_mapping(settings()).recipe == Recipe()


def test_whole_numbers_of_a_file_stay_whole_since_results_are_kept_by_their_text() -> None:
    task = Task.from_mapping(settings(within=10, mean=[0, 0.5], std=[1, 1]))
    assert (repr(task.within), repr(task.mean)) == ("10", "(0, 0.5)")
    assert task.digest != Task.from_mapping(settings(within=10.5, mean=[0, 0.5], std=[1, 1])).digest


@pytest.mark.parametrize(("told", "loss"), [("2%", 0.02), ("0.5 %", 0.005), ("0.02", 0.02), (0.02, 0.02)])
def test_a_loss_may_be_told_in_percent(told: str | float, loss: float) -> None:
    task = Task.from_mapping({"name": "t", "model": "resnet8", "data": "digits", "loss": told})
    assert task.loss == loss


@pytest.mark.parametrize("told", ["2 points", "200%", "-1%", ""])
def test_a_loss_that_is_none_is_refused(told: str) -> None:
    with pytest.raises(ValueError, match=r"loss must be a share in .0, 100 %., such as 2% or 0.02, got"):
        Task.from_mapping({"name": "t", "model": "resnet8", "data": "digits", "loss": told})
