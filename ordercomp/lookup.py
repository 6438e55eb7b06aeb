"""Functions by name: `package.module:function`, from installed packages or the working directory."""

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any


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
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:  # whatever the module of a user raises
        reason = " ".join(str(error).split())
        raise ValueError(f"cannot import {name!r} of {path!r}: {type(error).__name__}: {reason}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        kind = "nothing" if function is None else type(function).__name__
        raise ValueError(f"{path!r} must name a function; module {name!r} has {kind} of that name")
    return function  # type: ignore[no-any-return]
