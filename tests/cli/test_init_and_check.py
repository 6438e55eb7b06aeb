"""`ordercomp init` and `ordercomp check`: what they write and tell, and how they refuse."""

import json
import tomllib
from pathlib import Path

import pytest
import torch
from program import run
from safetensors.torch import save_file

from ordercomp.jobs.templates import TEMPLATES, write_templates
from ordercomp.objectives import SEEDS
from ordercomp.running.task import Task

SMALL = 'model = "resnet8(width=4)"\n'
BAD = """
import numpy as np
from torch.utils.data import Dataset

IMAGE = np.zeros((8, 8, 1), np.uint8)

class Twenty(Dataset):
    def __init__(self, item):
        self.item = item

    def __len__(self):
        return 20

    def __getitem__(self, place):
        return self.item

def pairs():
    return Twenty((IMAGE, np.array([0.5, 1.5])))

def nans():
    return Twenty((IMAGE, float("nan")))

def triples():
    return Twenty((IMAGE, 1, "a.png"))

def images():
    return Twenty(IMAGE)
"""
FLAT = """
from torch import nn

def net(classes, channels):
    return nn.Sequential(nn.Conv2d(channels, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, classes))
"""


@pytest.mark.integration
def test_what_init_writes_passes_the_check_and_is_told_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "init")[:2] == (0, "".join(f"{name}\n" for name in TEMPLATES))
    status, out, _ = run(capsys, "check", "task.toml", "--json")
    assert status == 0
    told = json.loads(out)
    convolution = 8 * 8 * 9 * 16
    assert told["macs"] == convolution + 8 * convolution * 16 + 160
    assert (told["classes"], told["shape"]) == (10, [1, 8, 8])
    assert sum(told["images"].values()) == 1797
    assert told["blocks"] == told["droppable"] == ["2.0", "2.1", "2.2", "2.3"]
    assert told["exits"] == ["2.0", "2.1", "2.2"]
    alone = {one["achieved"][0]["stage"]: one for one in told["reached"] if len(one["achieved"]) == 1}
    assert alone["Q"]["bitops_cr"] == pytest.approx(1024 / 32)
    assert alone["D"]["achieved"][0]["dropped"] == ["2.3"]
    assert alone["E"]["first_exit_cr"] > 1 > alone["E"]["bitops_cr"]
    assert [fact["stage"] for fact in told["reached"][-1]["achieved"]] == list("DPQE")
    assert told["reached"][-1]["bitops_cr"] > 32
    assert told["trainings"] > 64
    assert told["seconds"] > 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == sorted(TEMPLATES)


@pytest.mark.integration
def test_the_check_is_readable_too(capsys: pytest.CaptureFixture[str], small_task: Path) -> None:
    status, out, _ = run(capsys, "check", str(small_task))
    assert status == 0
    assert "D may drop" in out
    assert "as torch's FlopCounterMode counts them" in out
    assert f"trainings expected for {SEEDS} seeds" in out


@pytest.fixture
def small_task(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text('model = "resnet8(width=4)"\ndata = "digits"\nstages = "PQ"\n')
    return path


@pytest.mark.integration
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('model = "flat_for_check.py:net"\ndata = "digits"\nstages = "PD"', "found no droppable block"),
        ('model = "nowhere.py:net"\ndata = "digits"', "cannot import 'nowhere'"),
        ('model = "resnet8(width=4)"\ndata = "digits"\nstages = "P"', "at least two letters"),
        (SMALL + 'data = "digit"', "did you mean digits"),
        (
            SMALL + 'data = "digits"\nweights = "other.safetensors"\nnormalize = "data"',
            "weights do not fit the model: they lack",
        ),
        (
            SMALL + 'data = "digits"\nweights = "none.pt"\nnormalize = "none"',
            "weights must be a file or 'pretrained': there is no file none.pt",
        ),
        (
            SMALL + 'data = "digits"\nweights = "bad_for_check.py"\nmean = [0.5]\nstd = [0.5]',
            "weights bad_for_check.py cannot be read: ",
        ),
        (
            SMALL + 'data = "digits"\nweights = "none.pt"',
            "need the normalization that they were trained with",
        ),
        (SMALL + 'data = "digits"\ntrained_on = "train"', "is about weights, and the task has none"),
        (SMALL + 'data = "digits"\nnormalize = "zca"', "normalize"),
        (SMALL + 'data = "digits"\nmetric = "recall"', "metric must be one of accuracy, balanced accuracy"),
        (SMALL + 'data = "digits"\ncriterion = "mae"', "key 'criterion' must be cross entropy or mse or"),
        (
            SMALL + 'data = "bad_for_check.py:pairs"',
            "must be a class number or one float, got float64 of (2,)",
        ),
        (SMALL + 'data = "bad_for_check.py:nans"\nwithin = 1', "must be finite, got nan"),
        (SMALL + 'data = "bad_for_check.py:triples"', "must be (image, target), got 3 things"),
        (SMALL + 'data = "bad_for_check.py:images"', "must be (image, target), got ndarray"),
    ],
)
def test_a_task_that_cannot_work_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "flat_for_check.py").write_text(FLAT)
    (tmp_path / "bad_for_check.py").write_text(BAD)
    save_file({"classifier.weight": torch.zeros(10, 3)}, tmp_path / "other.safetensors")
    (tmp_path / "mine.toml").write_text(text)
    status, out, err = run(capsys, "check", str(tmp_path / "mine.toml"))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_init_leaves_what_is_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "my_data.py").write_text("mine")
    status, _, err = run(capsys, "init", str(tmp_path))
    assert (status, err.count("\n")) == (2, 1)
    assert "my_data.py is there already" in err
    assert [path.name for path in tmp_path.iterdir()] == ["my_data.py"]
    assert (tmp_path / "my_data.py").read_text() == "mine"


def test_the_commented_keys_of_the_task_file_are_keys_of_a_task(tmp_path: Path) -> None:
    task, *_ = write_templates(tmp_path / "new")
    lines = task.read_text().splitlines()
    uncommented = [
        line.removeprefix("# ") if line.startswith("# ") and " = " in line else line for line in lines
    ]
    data = tomllib.loads("\n".join(uncommented))
    assert {"weights", "baseline_epochs", "train_limit"} <= set(data)
    assert Task.from_mapping(data).recipe.augment
