"""Presets: what they ask of a task, and errors in their files."""

from pathlib import Path

import pytest

from ordercomp.running.task import TASKS
from ordercomp.studies.preset import Preset, load_preset, preset_names

DIGITS = TASKS["digits"]


def make_preset(**changes: object) -> Preset:
    settings = {"P": ({}, {"ratio": 0.2}, {"ratio": 0.6}), "Q": ({}, {"weights": 1})}
    usual = {"name": "mine", "description": "", "seeds": 1, "most_settings": (3, 4, 2)}
    return Preset(**{**usual, "settings": settings, **changes})  # type: ignore[arg-type]


def test_the_three_presets_come_with_the_package() -> None:
    assert preset_names() == ["hours", "minutes", "paper"]
    assert all(load_preset(name).name == name for name in preset_names())


def test_paper_has_its_200_epochs_a_tenth_of_the_rate_and_about_20_cases() -> None:
    preset = load_preset("paper")
    task = preset.prepare(DIGITS)
    assert (task.recipe.epochs, task.recipe.fine_tune_factor) == (200.0, 0.1)
    for stages in ("DP", "DQ", "PQ", "DPQ", "DPQE"):
        assert 10 <= len(preset.grid(stages)) <= 20
    widths = {(case["Q"]["weights"], case["Q"]["activations"]) for case in preset.grid("DPQE")}
    assert widths == {(4, 8), (1, 8)}
    for stages in ("PE", "QE", "DE"):
        assert 12 <= len(preset.grid(stages)) <= 20
    assert all(case["D"]["student"] == "fresh" for case in preset.grid("DPQE"))
    assert preset.zoo


def test_minutes_keep_the_task_so_that_its_trainings_are_found_again() -> None:
    assert load_preset("minutes").prepare(DIGITS).digest == DIGITS.digest


def test_a_grid_is_a_product_within_the_number_of_cases() -> None:
    preset = make_preset()
    assert [case["P"] for case in preset.grid("P")] == [{}, {"ratio": 0.2}, {"ratio": 0.6}]
    pair = preset.grid("PQ")
    assert len(pair) == 4
    assert {str(case["P"]) for case in pair} == {"{}", "{'ratio': 0.6}"}
    assert preset.grid("PQE") == [
        {"P": {}, "Q": {}, "E": {}},
        {"P": {}, "Q": {"weights": 1}, "E": {}},
    ]


def test_epochs_are_scaled_where_they_are_not_set() -> None:
    assert make_preset(epochs_factor=0.5).prepare(DIGITS).recipe.epochs == DIGITS.recipe.epochs / 2
    assert make_preset(epochs=7.0, epochs_factor=0.5).prepare(DIGITS).recipe.epochs == 7.0


def test_a_preset_can_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "short.toml"
    path.write_text("seeds = 2\ncases = [1]\n[settings]\nP = [{ratio = 0.3}]\n")
    preset = load_preset(str(path))
    assert (preset.name, preset.seeds, preset.grid("P")) == ("short", 2, [{"P": {"ratio": 0.3}}])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds = 2", "lacks the key 'cases'"),
        ("seeds = 2\ncases = [1]\nepoch = 3\n[settings]", "has no setting 'epoch'"),
        ("seeds = 0\ncases = [1]\n[settings]", "seeds must be at least 1, got 0"),
        ("seeds = 1\ncases = []\n[settings]", "cases must hold numbers"),
        ("seeds = 1\ncases = [1]\nepochs = -1\n[settings]", "epochs must be positive, got -1"),
        ("seeds = 1\ncases = [1]\n[settings]\nP = []", "settings of P must hold at least one"),
        ("seeds = 1\ncases = [1]\n[settings]\nP = 3", "preset key 'settings.…' must be a list, got {'P': 3}"),
        ("seeds = [", "no valid TOML"),
        ('seeds = "3"\ncases = [1]\n[settings]', "key 'seeds' must be a whole number, got '3'"),
        ('seeds = 1\ncases = ["1"]\n[settings]', r"key 'cases\[0\]' must be a whole number, got '1'"),
        ("seeds = 1\ncases = [1]\nzoo = 1\n[settings]", "key 'zoo' must be true or false, got 1"),
        ("seeds = true\ncases = [1]\n[settings]", "key 'seeds' must be a whole number, got True"),
        ("seeds = 1\ncases = [1]\n[settings]\nZ = [{}]", "settings must hold stages among D, P, .*got 'Z'"),
    ],
)
def test_a_bad_preset_file_is_told_with_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        load_preset(str(path))
    assert "bad.toml" in str(error.value)


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"one of hours, minutes, paper or a \.toml file, got 'days'"):
        load_preset("days")
    with pytest.raises(ValueError, match="a file that exists"):
        load_preset("days.toml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"seeds = " + b"9" * 400, "key 'seeds' holds an integer beyond 64 bits"),
        (b"seeds = " + b"[" * 3000, "nested too deeply"),
        (b"\xff\xfe", "is not valid UTF-8"),
    ],
)
def test_a_file_beyond_all_bounds_is_refused_with_its_name(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "odd.toml").write_bytes(content)
    with pytest.raises(ValueError, match=rf"odd\.toml .*{message}"):
        load_preset(str(tmp_path / "odd.toml"))
