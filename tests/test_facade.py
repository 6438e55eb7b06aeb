"""`import ordercomp`: what it offers, what it loads, and what it says of modules that are elsewhere now."""

import importlib
import subprocess
import sys
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path

import pytest

import ordercomp
from ordercomp.former import MOVED
from ordercomp.plugins import load_function
from ordercomp.stages import catalog


def test_every_name_is_there() -> None:
    assert [name for name in ordercomp.__all__ if not callable(getattr(ordercomp, name))] == []
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = ordercomp.nothing  # type: ignore[attr-defined]


def test_the_import_loads_nothing_heavy() -> None:
    program = "import sys, ordercomp; print(*{'torch', 'optuna', 'numpy', 'typer'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("former", "now"),
    [
        ("ordercomp.studies.main.discover", "ordercomp.studies.main is ordercomp.jobs now"),
        ("ordercomp.shipping.onnx_export", "ordercomp.shipping.onnx_export is ordercomp.shipping.onnx now"),
        ("ordercomp.task", "ordercomp.task is ordercomp.running.task now"),
        ("ordercomp.orders", "ordercomp.orders is ordercomp.sequence now"),
        ("ordercomp.failures", "ordercomp.failures is ordercomp.errors now"),
        ("ordercomp.no_such_module", "No module named 'ordercomp.no_such_module'"),
    ],
)
def test_a_former_module_is_told_with_its_new_name(former: str, now: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=now):
        importlib.import_module(former)


def test_new_names_are_there_and_former_ones_are_gone() -> None:
    assert [place for place in MOVED.values() if find_spec(place) is None] == []
    for former in MOVED:
        with pytest.raises(ModuleNotFoundError, match=f"^{former} is ordercomp"):
            find_spec(former)


def test_a_function_and_a_plug_in_that_lean_on_former_modules_are_told_the_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ValueError, match=r"ordercomp\.task is ordercomp\.running\.task now"):
        load_function("ordercomp.task:load_task")
    entry = EntryPoint("X", "ordercomp.networks.multi_exit:Stage", "ordercomp.stages")
    monkeypatch.setattr(catalog, "entry_points", lambda group: [entry])
    catalog.known_stages.cache_clear()
    with pytest.raises(ValueError, match=r"multi_exit is ordercomp\.networks\.exits now"):
        catalog.known_stages()


def test_a_file_beside_the_working_directory_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net_beside.py").write_text("def make(): return 7")
    (tmp_path / "study").mkdir()
    monkeypatch.chdir(tmp_path / "study")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert load_function("../net_beside.py:make")() == 7
    assert load_function("~/net_beside.py:make")() == 7


def test_a_file_with_an_absolute_path_is_imported_and_not_another_of_its_name(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "net_of_mine.py").write_text(f"def make():\n    return {folder!r}\n")
    assert load_function(f"{tmp_path}/one/net_of_mine.py:make")() == "one"
    with pytest.raises(
        ValueError, match=r"two/net_of_mine.py:make' is not what is imported as 'net_of_mine'"
    ):
        load_function(f"{tmp_path}/two/net_of_mine.py:make")
