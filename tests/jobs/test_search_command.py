"""`ordercomp search` from outside: what it takes and leaves, and the line that makes a network again."""

import json
import shlex
from pathlib import Path

import pytest

from ordercomp.cli.main import main
from ordercomp.jobs.search import SearchPlan, run_search
from ordercomp.networks.network import CompressedNetwork
from ordercomp.objectives import Objectives
from ordercomp.running.task import load_task

TINY = """
name = "tiny"
model = "resnet8(width=8)"
data = "digits"
stages = "PE"
train_limit = 200

[recipe]
epochs = 0.2
batch_size = 64
"""


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search over a task file, started from the folder of that file."""
    path = tmp_path_factory.mktemp("search")
    (path / "my task.toml").write_text(TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        arguments = ("--task", "my task.toml", "--out", "my out", "--sampler", "random", "--trials", "3")
        objectives = ("--objective", "accuracy", "--objective", "log2_cr", "--all-stages")
        assert run("search", *arguments, *objectives, "--workers", "1") == 0
    return path


@pytest.mark.integration
def test_the_chosen_objectives_and_all_stages_are_searched(folder: Path) -> None:
    search = json.loads((folder / "my out" / "search.json").read_text())
    assert search["objectives"]["names"] == ["accuracy", "log2_cr"]
    assert {one["order"] for one in search["orders"]} <= {"PE", "EP"}
    assert search["trials"]["complete"] == 3


@pytest.mark.integration
def test_the_line_for_a_task_file_finds_the_network_without_a_training(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    plan = SearchPlan(
        task=load_task("my task.toml"),
        out=Path("my out"),
        sampler="random",
        trials=3,
        objectives=Objectives(names=("accuracy", "log2_cr")),
        optional=False,
    )
    entries = sorted(Path("my out/store").glob("*.json"))
    program, *words = shlex.split(str(run_search(plan).compress_line(0.99)))
    assert program == "ordercomp"
    assert run(*words) == 0
    assert sorted(Path("my out/store").glob("*.json")) == entries
    assert str(CompressedNetwork.load(Path(words[-1])).sequence) == words[1]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--objective", "speed"], "objectives must be among"),
        (["--objective", "log2_cr", "--abandon"], "must hold log2_bitops_cr"),
        (["--objective", "log2_cr", "--weigh-cost"], "must hold log2_bitops_cr"),
        (["--study", ""], "study must be a name"),
        (["--storage", "sqlite://"], "would be lost with this process"),
        (["--storage", "nowhere/study.db"], "folder that does not exist"),
        (["--max-loss", "1.5"], "--max-loss must be a share in"),
        (["--max-loss", "2 points"], "--max-loss must be a share in"),
    ],
)
def test_bad_input_leaves_nothing_behind(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("search", "--out", "new", *arguments) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
