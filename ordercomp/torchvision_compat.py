"""The one door to torchvision, which opens even where torchvision's compiled operators do not load.

Take its parts from here when they are needed: `torchvision_compat.datasets`, `.models`, `.transforms`. The
first access imports torchvision, and with it torch's compiler: two seconds, which most runs can do without.
"""

import importlib
import importlib.util
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

__all__ = ["declare_missing_operators"]


@lru_cache(maxsize=1)
def declare_missing_operators() -> torch.library.Library | None:
    """Declare the operators that `import torchvision` describes to torch, unless its own library does it.

    A torchvision built for another torch (say for CUDA beside a CPU torch) cannot load its library. It says
    nothing about that, but then its import stops at `operator torchvision::nms does not exist`. The two
    detection operators stay without an implementation; nothing in ordercomp calls them. Call it before
    anything imports torchvision. The declarations live as long as what it returns, which is kept.
    """
    spec = importlib.util.find_spec("torchvision")
    if "torchvision" in sys.modules or spec is None or spec.origin is None:
        return None  # imported before, or about to fail with a clear error
    for compiled in Path(spec.origin).parent.glob("_C*"):
        try:
            torch.ops.load_library(str(compiled))  # type: ignore[no-untyped-call]
        except (ImportError, OSError):
            continue
        return None
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        schema = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        library.define(schema)  # type: ignore[no-untyped-call]
    return library


def __getattr__(name: str) -> Any:
    if name not in ("datasets", "models", "transforms"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    declare_missing_operators()
    return importlib.import_module(f"torchvision.{name}")
