"""What gets installed: every source file under `ordercomp`, and nothing beside it."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
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


@pytest.mark.integration
def test_the_wheel_holds_every_source_file(names: list[str]) -> None:
    assert set(sources()) - set(names) == set()


@pytest.mark.integration
def test_the_wheel_leaves_the_results_of_experiments_out(names: list[str]) -> None:
    assert not [name for name in names if "/results/" in name]


@pytest.mark.integration
def test_the_wheel_brings_no_generic_name_to_the_top_level(names: list[str]) -> None:
    assert {name.split("/")[0] for name in names} == {
        "ordercomp",
        f"ordercomp-{PROJECT['version']}.dist-info",
    }


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
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    pins = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert {name.split(">=")[0] for name in wanted} - pins == set()


def test_package_changelog_and_citation_name_one_release() -> None:
    """Each release has a dated section, below what is not released yet; the citation names the last one."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (.+)$", changelog, re.M)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert sections[:2] == ["Unreleased", f"{PROJECT['version']} - {citation['date-released']}"]
    assert str(citation["version"]) == PROJECT["version"]
    assert [author["name"] for author in citation["authors"]] == [one["name"] for one in PROJECT["authors"]]


def test_the_readme_cites_what_the_citation_file_does() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    (paper,) = citation["references"]
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    for text in (paper["title"], paper["url"], f"version = {{{citation['version']}}}"):
        assert text in readme
    for author in paper["authors"]:
        assert f"{author['family-names']}, {author['given-names']}" in readme
