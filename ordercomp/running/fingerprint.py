"""Input fingerprint of a task: what it only names (weights, data, the user's functions) joins its digest.

Results are kept by that digest, so that changed data or code train anew instead of meeting old results.
"""

import ast
import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from ordercomp.files import digest_of
from ordercomp.networks.weights import weights_digest, weights_path
from ordercomp.plugins import is_function, is_installed, load_function, module_name, origin_of
from ordercomp.running.node import create_network, task_data
from ordercomp.running.task import Task
from ordercomp.sequence import parse_call

_EMBEDDED = frozenset({"digits", "rotated-digits"})  # data whose bytes come with this program's dependencies


def fingerprint_task(task: Task) -> Task:
    """Return the task with a hash in `outside` over all that shapes its results and that it only names.

    That is: the bytes of its weights; its data, images and labels; the source of its model's and data's
    functions, with the modules of the user's that those import; names, shapes and settings of
    the layers of the network that its model's function makes. What a function reads while it runs is not
    seen. A task that names nothing outside of this program stays as it is. Loads the data, builds the model.

    Raises ValueError if one of them is not there or does not fit.
    """
    facts: dict[str, Any] = {}
    if task.weights:
        facts["weights"] = weights_digest(weights_path(task.weights, task.model))
    if task.data not in _EMBEDDED:
        facts["data"] = task_data(task, 0).digest
    paths = (parse_call(task.model)[0], task.data)
    functions = [path for path in (*paths, task.transforms) if is_function(path)]
    if functions:
        facts["functions"] = {path: source_fingerprint(path) for path in functions}
    if ":" in paths[0]:
        module = create_network(task, seed=0).module
        shapes = [(name, tuple(value.shape)) for name, value in module.state_dict().items()]
        facts["network"] = digest_of(str(shapes), repr(module))
    return replace(task, outside=digest_of(json.dumps(facts, sort_keys=True)) if facts else "")


def source_fingerprint(path: str) -> str:
    """Hash the source behind `package.module:function`: its module and those of the user's that it imports.

    Modules of installed packages stand with their version instead, those of the standard library and of this
    program not at all: what the program makes is told by the versions of its results.
    """
    load_function(path)
    digest = hashlib.sha256()
    for name, origin in sorted(_reached(module_name(path)).items()):
        digest.update(f"{name} {_version(name)}\n".encode())
        if not is_installed(origin):
            digest.update(origin.read_bytes())
    return digest.hexdigest()


def _reached(first: str) -> dict[str, Path]:
    """Files of the module, and of every one of the user's that it or one of these imports, by name."""
    files: dict[str, Path] = {}
    waiting = [first]
    while waiting:
        name = waiting.pop()
        origin = origin_of(name)
        if name in files or origin is None or name.partition(".")[0] == "ordercomp":
            continue
        files[name] = origin
        if not is_installed(origin):
            waiting.extend(inner for inner in _imported(name, origin) if _is_users(inner))
    return files


def _imported(name: str, origin: Path) -> Iterator[str]:
    """Names of modules that a module's values come from or that its source imports, within functions, too."""
    for value in vars(sys.modules.get(name, object)).values():
        home = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        if isinstance(home, str):
            yield home
    package = name if origin.stem == "__init__" else name.rpartition(".")[0]
    for statement in _imports(origin):
        if isinstance(statement, ast.Import):
            names = [alias.name for alias in statement.names]
        else:
            start = ".".join(package.split(".")[: len(package.split(".")) - max(statement.level - 1, 0)])
            base = ".".join(part for part in (start if statement.level else "", statement.module) if part)
            names = [base, *(f"{base}.{alias.name}" for alias in statement.names)]
        for imported in names:
            parts = imported.split(".")
            yield from (".".join(parts[:length]) for length in range(1, len(parts) + 1))


def _imports(origin: Path) -> list[ast.Import | ast.ImportFrom]:
    """The import statements of a source file; none of what is not, or no valid, Python source."""
    try:
        tree = ast.parse(origin.read_bytes()) if origin.suffix == ".py" else None
    except SyntaxError:
        tree = None
    nodes = ast.walk(tree) if tree else ()
    return [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]


def _is_users(name: str) -> bool:
    origin = origin_of(name)
    return origin is not None and not is_installed(origin)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name.partition(".")[0])
    except importlib.metadata.PackageNotFoundError:
        return ""
