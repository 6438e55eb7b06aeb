"""Sealing a task: what it only names (weights, data, the user's functions) becomes part of its digest.

Results are kept by that digest, so that changed data or code train anew instead of meeting old results.
"""

import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from ordercomp.lookup import load_function
from ordercomp.networks.weights import weights_digest, weights_path
from ordercomp.running.node import create_network, task_data
from ordercomp.sequence import parse_call
from ordercomp.task import Task

__all__ = ["seal_task", "source_digest"]

_EMBEDDED = frozenset({"digits", "rotated-digits"})  # data whose bytes come with this program's dependencies


def seal_task(task: Task) -> Task:
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
    functions = [path for path in paths if _is_function(path)]
    if functions:
        facts["functions"] = {path: source_digest(path) for path in functions}
    if _is_function(paths[0]) or paths[0].startswith("torchvision:"):
        module = create_network(task, seed=0).module
        shapes = [(name, tuple(value.shape)) for name, value in module.state_dict().items()]
        facts["network"] = _hash(str(shapes), repr(module))
    return replace(task, outside=_hash(json.dumps(facts, sort_keys=True)) if facts else "")


def source_digest(path: str) -> str:
    """Hash the source behind `package.module:function`: its module and those of the user's that it imports.

    Modules of installed packages stand with their version instead, those of the standard library not at all.
    """
    load_function(path)
    digest = hashlib.sha256()
    for name, module in sorted(_reached(path.partition(":")[0]).items()):
        origin = Path(str(module.__file__))
        digest.update(f"{name} {_version(name)}\n".encode())
        if not _is_installed(origin):
            digest.update(origin.read_bytes())
    return digest.hexdigest()


def _reached(first: str) -> dict[str, ModuleType]:
    """The module, and every one of the user's that is imported from it or from one of these, by name."""
    found: dict[str, ModuleType] = {}
    waiting = [first]
    while waiting:
        name = waiting.pop()
        module = sys.modules.get(name)
        if name in found or module is None or not getattr(module, "__file__", None):
            continue
        found[name] = module
        if not _is_installed(Path(str(module.__file__))):
            waiting.extend(_imported(module))
    return found


def _imported(module: ModuleType) -> Iterator[str]:
    """Names of the modules that the values of a module come from, where they lie beside it or below."""
    for value in vars(module).values():
        name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        origin = getattr(sys.modules.get(name or ""), "__file__", None) if isinstance(name, str) else None
        if isinstance(name, str) and origin and not _is_installed(Path(origin)):
            yield name


def _is_installed(path: Path) -> bool:
    """Whether a file belongs to the standard library, an installed package or this program."""
    places = (Path(sys.prefix), Path(sys.base_prefix) / "lib", Path(__file__).resolve().parent.parent)
    resolved = path.resolve()
    return "site-packages" in resolved.parts or any(resolved.is_relative_to(place) for place in places)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name.partition(".")[0])
    except importlib.metadata.PackageNotFoundError:
        return ""


def _is_function(path: str) -> bool:
    kind, colon, _ = path.partition(":")
    return colon != "" and kind not in ("torchvision", "folder", "photos")


def _hash(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
