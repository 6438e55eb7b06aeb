"""The layer rule, read from the imports: data flows one way, and heavy libraries stay where they belong."""

import ast
import functools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import ordercomp

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ordercomp"
UPPER = ("analysis", "search", "jobs", "studies", "cli")

MAY_IMPORT = {
    "core": {"core"},
    "analysis": {"analysis", "plain"},
    "search": {"search", "core"},
    "jobs": {"jobs", "search", "analysis", "core"},
    "studies": {"studies", "jobs", "search", "analysis", "core"},
    "cli": {"cli", "studies", "jobs", "search", "analysis", "core"},
}
PLAIN = {
    "ordercomp.codec",
    "ordercomp.files",
    "ordercomp.sequence",
    "ordercomp.records",
    "ordercomp.knobs",
    "ordercomp.objectives",
}  # core without torch
ONLY_IN = {
    "optuna": ("ordercomp.search",),
    "matplotlib": ("ordercomp.analysis.report.plots",),
    "pickle": ("ordercomp.data.builtin",),  # that data comes pickled; read there with plain arrays only
}
MOST_LINES, MOST_FUNCTION_LINES = 600, 60
LEAST_SHARED_LINES = 60  # of a module that one other alone imports


def _module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _sources() -> Iterator[Path]:
    for folder, _, files in os.walk(PACKAGE, followlinks=True):
        yield from (Path(folder) / name for name in sorted(files) if name.endswith(".py"))


FILES = {_module_name(path): path for path in _sources()}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}


def _imports(module: str) -> set[str]:
    """Everything that a module imports, our own as module names, others as they are written."""
    found = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import in line {node.lineno}"
            assert node.module is not None
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found.update(name if name in FILES else node.module for name in inner)
    return found


IMPORTS = {module: _imports(module) for module in FILES}
OURS = {module: {name for name in names if name in FILES} - {module} for module, names in IMPORTS.items()}


def _layer(module: str) -> str:
    part = module.split(".")[1] if "." in module else ""
    return part if part in UPPER else "core"


def _allowed(module: str, imported: str) -> bool:
    allowed = MAY_IMPORT[_layer(module)]
    return _layer(imported) in allowed or ("plain" in allowed and imported in PLAIN)


def test_the_package_is_there() -> None:
    assert {"ordercomp.sequence", "ordercomp.analysis.fronts", "ordercomp.search.space"} <= set(FILES)


def test_imports_follow_the_layer_table() -> None:
    wrong = [
        f"{module} imports {imported}"
        for module, names in OURS.items()
        for imported in names
        if not _allowed(module, imported)
    ]
    assert wrong == []


def test_core_modules_without_torch_import_only_each_other() -> None:
    assert {module: OURS[module] - PLAIN for module in PLAIN if OURS[module] - PLAIN} == {}


def test_there_is_no_import_cycle() -> None:
    try:
        TopologicalSorter(OURS).prepare()
    except CycleError as error:
        pytest.fail(f"import cycle: {' -> '.join(error.args[1])}")


def test_no_two_folders_import_each_other() -> None:
    """A module belongs where what it needs lies below it; modules on top of the package count as a folder."""
    packages = {name.rpartition(".")[0] for name in FILES}

    def folder(name: str) -> str:
        return name if name in packages else name.rpartition(".")[0]

    arrows = {(folder(a), folder(b)) for a, names in OURS.items() for b in names if folder(a) != folder(b)}
    assert sorted(f"{a} and {b}" for a, b in arrows if a < b and (b, a) in arrows) == []


@pytest.mark.parametrize("library", ONLY_IN)
def test_heavy_libraries_stay_in_their_place(library: str) -> None:
    wrong = [
        module
        for module, names in IMPORTS.items()
        if any(name.split(".")[0] == library for name in names) and not module.startswith(ONLY_IN[library])
    ]
    assert wrong == []


def test_imports_stand_at_the_top_of_their_module() -> None:
    inner = [
        f"{module}, line {node.lineno}"
        for module, tree in TREES.items()
        if _layer(module) != "cli"  # a command loads what it needs, and nothing of what another needs
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert inner == []


def test_nothing_is_imported_for_type_checking_alone() -> None:
    assert [name for name in FILES if "TYPE_CHECKING" in FILES[name].read_text(encoding="utf-8")] == []


def test_no_two_public_classes_have_one_name() -> None:
    homes: dict[str, list[str]] = {}
    for module, tree in TREES.items():
        for node in tree.body:
            if (
                isinstance(node, ast.ClassDef)
                and not node.name.startswith("_")
                and ".templates." not in module
            ):
                homes.setdefault(node.name, []).append(module)
    assert {name: modules for name, modules in homes.items() if len(modules) > 1} == {}


def test_every_module_says_what_it_is_for_and_holds_one_idea() -> None:
    silent = [name for name, tree in TREES.items() if tree.body and not ast.get_docstring(tree)]
    long = [name for name, path in FILES.items() if len(path.read_text().splitlines()) > MOST_LINES]
    assert (silent, long) == ([], [])


def test_a_function_fits_a_screen() -> None:
    long = [
        f"{module}, line {node.lineno}: {node.name} has {lines} lines"
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > MOST_FUNCTION_LINES
    ]
    assert long == []


@pytest.mark.integration
def test_records_can_be_read_and_analyzed_without_torch() -> None:
    plain = sorted(PLAIN | {name for name in FILES if name.startswith("ordercomp.analysis")})
    program = (
        f"import importlib, sys\nfor name in {plain}: importlib.import_module(name)\n"
        "print(*sorted({'torch', 'torchvision', 'optuna'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stderr, done.stdout.strip()) == ("", "")


def _names_used(tree: ast.Module) -> Iterator[str]:
    """Names and attributes that a module reads, and what it imports by name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Load):
                yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names)


def _top_names(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def test_every_public_name_is_used_or_documented() -> None:
    """What nothing but tests reaches goes, with its tests."""
    further = [
        ast.parse(path.read_text())
        for folder in ("tools", "benchmarks")
        for path in (ROOT / folder).glob("*.py")
    ]
    used = {name for tree in (*TREES.values(), *further) for name in _names_used(tree)}
    named = {node.value for node in ast.walk(TREES["ordercomp"]) if isinstance(node, ast.Constant)}
    texts = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    documented = set(re.findall(r"\w+", " ".join(path.read_text(encoding="utf-8") for path in texts)))
    known = used | named | documented
    idle = [
        f"{module}.{name}"
        for module, tree in TREES.items()
        for name in _top_names(tree)
        if not name.startswith("_") and name not in known
    ]
    assert idle == []


@pytest.mark.parametrize("folder", ["tools", "benchmarks", "examples", "tests/stress"])
def test_programs_beside_the_package_import_what_is_there(folder: str) -> None:
    """No test runs them all, so that a moved module would be missed first by whoever runs one."""
    lost = [
        f"{path.name}: {node.module}.{alias.name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "ordercomp"
        for alias in node.names
        if f"{node.module}.{alias.name}" not in TREES
        and (node.module not in TREES or alias.name not in _names_held(TREES[str(node.module)]))
        and not (node.module == "ordercomp" and alias.name in ordercomp.__all__)
    ]
    assert lost == []


@functools.cache
def _names_held(tree: ast.Module) -> set[str]:
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    stored = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return imported | stored | set(_top_names(tree))


def test_a_small_module_belongs_to_more_than_one() -> None:
    """A few lines that one neighbor alone imports are a part of that one; a stage is one by itself."""
    importers = {module: [other for other, names in OURS.items() if module in names] for module in FILES}
    small = [
        f"{module} belongs into {importers[module][0]}"
        for module, path in FILES.items()
        if len(path.read_text(encoding="utf-8").splitlines()) < LEAST_SHARED_LINES
        and len(importers[module]) == 1
        and importers[module][0].rpartition(".")[0] == module.rpartition(".")[0]
        and not module.startswith("ordercomp.stages.")
    ]
    assert small == []
