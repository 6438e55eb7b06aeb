"""The documentation: commands and options that exist, names that can be imported, links that lead somewhere.

The tutorial is run as it is written, with a smaller budget.
"""

import ast
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from typer.main import get_command

import ordercomp
from ordercomp.cli.main import app
from ordercomp.search.samplers import OWN_DRAW_IN
from tools.figures import PICTURES, drawn

GROUP: Any = get_command(app)
COMMANDS = GROUP.commands
ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r"^```(?P<kind>\w*)[^\n]*?(?:title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```", re.M | re.S
)
HIDDEN = {"my_package", "ordercomp_low_rank"}  # modules of packages that a page tells of


def blocks(page: Path) -> Iterator[tuple[str, str, str]]:
    """Kind, title and text of the fenced blocks of a page, in order."""
    for found in BLOCK.finditer(page.read_text(encoding="utf-8")):
        yield found["kind"], found["title"] or "", found["text"]


def commands(page: Path) -> list[str]:
    """Lines that call the program, in blocks without a language."""
    lines = [line for kind, _, text in blocks(page) if kind in ("", "sh") for line in text.splitlines()]
    return [
        line.removeprefix(".venv/bin/")
        for line in lines
        if line.removeprefix(".venv/bin/").startswith("ordercomp ") and "[" not in line
    ]


EVERY = [(page.name, line) for page in PAGES for line in commands(page)]


@pytest.mark.parametrize(
    ("page", "line"), EVERY, ids=[f"{page}-{place}" for place, (page, _) in enumerate(EVERY)]
)
def test_commands_take_what_the_pages_give_them(page: str, line: str) -> None:
    program, name, *arguments = shlex.split(line, comments=True)
    assert program == "ordercomp"
    assert name in COMMANDS, f"{page} calls a command that is not there: {line}"
    COMMANDS[name].make_context(name, arguments)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize("text", [text for page in PAGES for kind, _, text in blocks(page) if kind == "bash"])
def test_shell_scripts_can_be_read(text: str) -> None:
    checked = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)
    assert not checked.stderr
    for line in text.replace("\\\n", " ").splitlines():
        if (start := line.find("ordercomp ")) >= 0 and not line.startswith("#"):
            name, *arguments = shlex.split(line[start:].removesuffix("&"), comments=True)[1:]
            numbers = [word if not word.startswith("$") else "8" for word in arguments]
            COMMANDS[name].make_context(name, numbers)


@pytest.mark.parametrize("text", [text for page in PAGES for kind, _, text in blocks(page) if kind == "yaml"])
def test_manifests_can_be_read_and_fit_together(text: str) -> None:
    objects = list(yaml.safe_load_all(text))
    assert {"Service", "Deployment", "Job"} <= {one["kind"] for one in objects}
    (service,) = (one for one in objects if one["kind"] == "Service")
    pods = [one["spec"]["template"] for one in objects if "template" in one["spec"]]
    assert any(pod["metadata"]["labels"] == service["spec"]["selector"] for pod in pods)
    for one in objects:
        if one["kind"] == "Deployment":
            chosen = one["spec"]["selector"]["matchLabels"]
            assert chosen == one["spec"]["template"]["metadata"]["labels"]
    commands = [container["command"] for pod in pods for container in pod["spec"]["containers"]]
    for command in commands:
        if command[0] == "ordercomp":
            COMMANDS[command[1]].make_context(command[1], command[2:])
        else:
            address = next(
                (word for word in command if "://" in word), f"://{service['metadata']['name']}:8786"
            )
            assert address.partition("://")[2] == f"{service['metadata']['name']}:8786"


def test_the_pages_show_commands_and_code() -> None:
    assert len(EVERY) >= 12
    assert sum(kind == "python" for page in PAGES for kind, _, _ in blocks(page)) >= 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_that_the_pages_import_are_there(page: Path) -> None:
    for kind, title, text in blocks(page):
        if kind != "python":
            continue
        tree = ast.parse(text, filename=f"{page.name} {title}")
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] not in HIDDEN:
                module = importlib.import_module(node.module)
                assert not [one.name for one in node.names if not hasattr(module, one.name)]


def test_every_command_has_a_call_in_python() -> None:
    table = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `ordercomp (\w+)[^|]*\| `ordercomp\.(\w+)\(", table, re.M)
    assert {name for name, _ in rows} <= set(COMMANDS)
    assert len({name for name, _ in rows}) >= 13
    assert all(callable(getattr(ordercomp, call)) for _, call in rows)


def test_contributing_names_the_folders_that_there_are() -> None:
    """Every package and every folder on top has a row, and no row is left of one that is gone."""
    table = CONTRIBUTING.partition("| room | what it holds |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `([\w/]+)/` \|", table, re.M)
    assert len(rows) == len(set(rows))
    rooms = {"ordercomp", *(path.name for path in ROOT.iterdir() if path.is_dir() and _has_sources(path))}
    for top in ("ordercomp", "analysis", "search", "studies"):
        packages = {path.parent.relative_to(ROOT) for path in (ROOT / top).rglob("__init__.py")}
        rooms |= {path.as_posix() for path in packages}
    assert rooms - set(rows) == set()
    assert [row for row in rows if not (ROOT / row).is_dir()] == []


def _has_sources(folder: Path) -> bool:
    named = not folder.name.startswith(".") and folder.name not in ("out", "site", "build", "dist", "shared")
    return named and any(folder.rglob("*.py" if folder.name != "docs" else "*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_and_files_that_the_pages_name_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    folders = r"`((?:ordercomp|analysis|search|studies|tests|benchmarks|examples|tools|docs)/[\w./-]*)`"
    assert [path for path in re.findall(folders, text) if not (ROOT / path).exists()] == []
    for dotted in re.findall(r"`(ordercomp(?:\.\w+)+)[`(]", text):
        assert _resolves(dotted), f"{page.name} names {dotted}"


def _resolves(dotted: str) -> bool:
    """Whether this is a module, or a name within one."""
    module, _, name = dotted.rpartition(".")
    return hasattr(importlib.import_module(module), name) or bool(importlib.import_module(dotted))


def test_the_neighbors_share_of_proposals_is_the_codes() -> None:
    words = {2: "two", 3: "three", 4: "four", 5: "five"}
    own, others = words[OWN_DRAW_IN], words[OWN_DRAW_IN - 1]
    assert f"one proposal in {own} is TPE's" in (ROOT / "docs" / "search.md").read_text(encoding="utf-8")
    assert f"{others} of {own} proposals are" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_reference_lists_every_public_name() -> None:
    listed = re.findall(r"^::: (\S+)$", (ROOT / "docs" / "reference.md").read_text(encoding="utf-8"), re.M)
    assert {f"ordercomp.{name}" for name in ordercomp.__all__} - set(listed) == set()
    assert len(listed) == len(set(listed))
    assert all(_resolves(dotted) for dotted in listed)


def test_the_site_holds_every_page() -> None:
    listed = re.findall(r"(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M)
    assert sorted(listed) == sorted(page.name for page in (ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_links_of_a_page_lead_to_pages_of_the_site(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert not [one for one in targets if ".." in one or not (page.parent / one).exists()]


def test_every_picture_of_the_pages_has_a_program() -> None:
    made = {path.name for path in (ROOT / "docs" / "figures").iterdir()}
    assert {name for name in made if not name.startswith("findings-")} == set(PICTURES)
    shown = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [name for name in made if f"figures/{name})" not in shown] == []


def test_the_picture_of_the_answer_says_what_the_text_below_it_says() -> None:
    with Image.open(ROOT / "docs" / "figures" / "answer.png") as picture:
        title = picture.info["Title"]
    assert f"```text\n{title}\n" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_what_the_recordings_give(name: str) -> None:
    assert (ROOT / "docs" / "figures" / name).read_bytes() == drawn(name)


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("zensical", reason="the extra `docs` is not installed")
    for name in ("docs", "mkdocs.yml", "ordercomp", "search", "analysis", "studies"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    reference = (tmp_path / "site" / "reference.html").read_text(encoding="utf-8")
    assert "Run the paired design" in reference or "discover" in reference
    assert "ordercomp.testing.stage_checks" in reference


@pytest.mark.slow
def test_the_tutorial_runs_as_it_is_written(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    for kind, title, text in blocks(ROOT / "docs" / "tutorial.md"):
        if title:
            (tmp_path / title).write_text(text, encoding="utf-8")
            continue
        calls = [["-c", text]] if kind == "python" else []
        if kind == "":
            for line in text.splitlines():
                words = shlex.split(line.replace("--budget 5m", "--budget 40s"))
                calls += [["-m", "ordercomp.cli.main", *words[1:]]] if words[0] == "ordercomp" else []
        for call in calls:
            done = subprocess.run(
                [sys.executable, *call],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=600,
                check=False,
            )
            assert done.returncode == 0, f"{call}\n{done.stderr}"
    assert (tmp_path / "small.onnx").stat().st_size > 1000
    assert (tmp_path / "out" / "mine" / "report.html").exists()
