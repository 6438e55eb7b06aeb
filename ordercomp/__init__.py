"""Measure in which order a CNN should be distilled, pruned, quantized and given early exits.

Names load when first used, so that `import ordercomp` needs neither torch nor Optuna.
"""

import importlib
from typing import Any

__all__ = [
    "CompressedNetwork",
    "Record",
    "StageSequence",
    "Task",
    "compress",
    "discover",
    "load_network",
    "load_task",
    "read_records",
    "run_search",
    "show",
]

_HOMES = {
    "CompressedNetwork": "ordercomp.networks.network",
    "Record": "ordercomp.records",
    "StageSequence": "ordercomp.sequence",
    "Task": "ordercomp.running.task",
    "compress": "ordercomp.jobs.compress",
    "discover": "ordercomp.jobs.discover",
    "load_network": "ordercomp.shipping.packed",
    "load_task": "ordercomp.running.task",
    "read_records": "ordercomp.records",
    "run_search": "ordercomp.jobs.search",
    "show": "ordercomp.jobs.show",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ordercomp' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
