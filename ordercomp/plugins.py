"""Stages of other packages: classes that the entry-point group `ordercomp.stages` names by their letter."""

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any

from torch import nn

from ordercomp.errors import reraise_as


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
    made: nn.Module = stage_plugins()[letter].rebuild(module, facts)
    return made


# Functions by name: `package.module:function`, from installed packages or the working directory.


def module_name(path: str) -> str:
    """The module of `package.module:function`; a file in the working directory, `module.py`, is one, too."""
    name = path.partition(":")[0]
    return name.removesuffix(".py").removeprefix("./").replace("/", ".") if name.endswith(".py") else name


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
    function = getattr(module, function_name, None)
    if not callable(function):
        kind = "nothing" if function is None else type(function).__name__
        raise ValueError(f"{path!r} must name a function; module {name!r} has {kind} of that name")
    return function  # type: ignore[no-any-return]
