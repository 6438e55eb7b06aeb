"""Code of others: stages of packages, functions by name, and which of these a file may name."""

import importlib
import os
import shlex
import sys
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from importlib.machinery import PathFinder
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from torch import nn

from ordercomp.errors import reraise_as

_KINDS = ("torchvision", "timm", "folder", "photos")  # what stands before a colon and names no module
_PACKAGE = Path(__file__).resolve().parent
_OWN_PLACES = (_PACKAGE, *(path.resolve() for path in _PACKAGE.iterdir() if path.is_dir()))  # links followed


@lru_cache(maxsize=1)
def stage_plugins() -> Mapping[str, Any]:
    """The classes by letter, as they are; `known_stages` checks them. Raises what their import raises."""
    return {entry.name: entry.load() for entry in entry_points(group="ordercomp.stages")}


def rebuild_module(letter: str, module: nn.Module, facts: Mapping[str, Any]) -> nn.Module:
    """What the stage `letter` put in the place of `module`. Raises ValueError if nobody offers that stage."""
    if letter not in stage_plugins():
        raise ValueError(
            f"stage {letter} made layers of it, and no installed package offers that stage; "
            f"install the one that does (entry point {letter} in the group ordercomp.stages)"
        )
    rebuilt: nn.Module = stage_plugins()[letter].rebuild(module, facts)
    return rebuilt


# Functions by name: `package.module:function`, from installed packages or the working directory.


def module_name(path: str) -> str:
    """The module of `package.module:function`; `module.py` is one, too, in the working directory or anywhere.

    The folder of a file whose path is absolute, or begins with `..` or `~`, becomes one in which modules are
    found.
    """
    name = path.partition(":")[0]
    if not name.endswith(".py"):
        return name
    if file := _elsewhere(name):
        folder = str(file.parent)
        if folder not in sys.path:
            sys.path.append(folder)
        return Path(name).stem
    return name.removesuffix(".py").removeprefix("./").replace("/", ".")


def _elsewhere(name: str) -> Path | None:
    """The file of that name if its path leads out of the working directory."""
    file = Path(name).expanduser()
    return file.resolve() if file.is_absolute() or ".." in file.parts else None


def load_function(path: str) -> Callable[..., Any]:
    """Import what `package.module:function` or `module.py:function` names.

    Modules of the working directory are found last.
    Raises ValueError in one line if the path is malformed, the import fails, or it names no function.
    """
    name, function_name = module_name(path), path.partition(":")[2]
    if not name or not function_name:
        raise ValueError(f"expected package.module:function, got {path!r}")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    with reraise_as(ValueError, f"cannot import {name!r} of {path!r}"):
        module = importlib.import_module(name)
    file = _elsewhere(path.partition(":")[0])
    if file and Path(str(module.__file__)).resolve() != file:
        raise ValueError(
            f"{path!r} is not what is imported as {name!r}, which is {module.__file__}: rename one"
        )
    function = getattr(module, function_name, None)
    if not callable(function):
        kind = "nothing" if function is None else type(function).__name__
        raise ValueError(f"{path!r} must name a function; module {name!r} has {kind} of that name")
    return function  # type: ignore[no-any-return]


def is_function(text: str) -> bool:
    """Whether a model, data set or transform is a function by name, not one of ours or of a library."""
    kind, colon, _ = text.partition("(")[0].partition(":")
    return colon != "" and kind not in _KINDS


def refuse_untrusted(text: str, trust: Collection[str], *, source: object) -> None:
    """Raise ValueError if `text`, which the file `source` holds, names a function that may not be called.

    That is one which the user has not named in `trust`; and, even if he has, one of the standard library, or
    of an installed package that does not declare it in the entry-point group `ordercomp.models`.
    """
    if not is_function(text):
        return
    name = text.partition("(")[0].strip()
    module = module_name(name)
    declared = {entry.value.strip() for entry in entry_points(group="ordercomp.models")}
    foreign = module.partition(".")[0] in sys.stdlib_module_names or _belongs_to_package(module)
    if foreign and f"{module}:{name.partition(':')[2]}" not in declared:
        raise ValueError(
            f"{source} names {name!r}, which a file may not call: its module is installed, and no package "
            "declares it as a model (entry-point group ordercomp.models)"
        )
    if name not in trust:
        raise ValueError(
            f"{source} names {name!r}, a function that would be called; if you trust who wrote both, add "
            f"--trust-model {shlex.quote(name)} (in Python: trust=[{name!r}])"
        )


def _belongs_to_package(module: str) -> bool:
    """Whether a module, or a package that it lies in, is an installed one."""
    parts = module.split(".")
    origins = (origin_of(".".join(parts[:length])) for length in range(1, len(parts) + 1))
    return any(origin is not None and is_installed(origin) for origin in origins)


def origin_of(name: str) -> Path | None:
    """The file of a module, found without importing it; None if there is none."""
    if file := getattr(sys.modules.get(name), "__file__", None):
        return Path(file)
    parts, places = name.split("."), None
    for length in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:length]), places)
        if spec is None or (length < len(parts) and spec.submodule_search_locations is None):
            return None
        places = spec.submodule_search_locations
    return Path(spec.origin) if spec and spec.has_location and spec.origin else None


def is_installed(path: Path) -> bool:
    """Whether a file belongs to the standard library, an installed package or this program."""
    places = (Path(sys.prefix), Path(sys.base_prefix) / "lib", *_OWN_PLACES)
    resolved = path.resolve()
    return "site-packages" in resolved.parts or any(resolved.is_relative_to(place) for place in places)
