"""What gets installed: every source file under `ordercomp`, and nothing beside it."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINKED = ("analysis", "search", "studies")
NOT_SHIPPED = ("__pycache__", "*.pyc", "*.egg-info")


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names in a wheel that is built from a copy of the sources."""
    copy = tmp_path_factory.mktemp("sources")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("ordercomp", *LINKED):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns(*NOT_SHIPPED))
    wheels = copy / "wheels"
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", str(wheels)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, str(copy)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def sources() -> list[str]:
    found = []
    for folder, folders, files in os.walk(ROOT / "ordercomp", followlinks=True):
        folders[:] = [name for name in folders if name not in ("__pycache__", "results")]
        found += [(Path(folder) / name).relative_to(ROOT).as_posix() for name in files]
    return [name for name in found if not name.endswith((".pyc", ".md"))]


def test_the_wheel_holds_every_source_file(names: list[str]) -> None:
    assert set(sources()) - set(names) == set()


def test_the_wheel_leaves_the_results_of_experiments_out(names: list[str]) -> None:
    assert not [name for name in names if "/results/" in name]


def test_the_wheel_brings_no_generic_name_to_the_top_level(names: list[str]) -> None:
    assert {name.split("/")[0] for name in names} == {"ordercomp", "ordercomp-0.1.0.dist-info"}


def test_the_upper_layers_are_committed_as_relative_links() -> None:
    for name in LINKED:
        link = ROOT / "ordercomp" / name
        assert link.is_symlink()
        assert os.readlink(link) == f"../{name}"


def test_the_upper_layers_are_imported_under_the_package_only() -> None:
    program = "import ordercomp.search, ordercomp.analysis, ordercomp.studies; print('ok')"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "ok\n", done.stderr


def test_every_dependency_has_a_tested_pin() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    pins = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert {name.split(">=")[0] for name in wanted} - pins == set()
