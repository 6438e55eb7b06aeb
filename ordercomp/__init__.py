"""Measure in which order a CNN should be distilled, pruned, quantized and given early exits.

Names load when first used, so that `import ordercomp` needs neither torch nor Optuna. The function `search`
lies in `ordercomp.jobs.search`, since `ordercomp.search` is a package; `run_search` is here.
"""

import importlib
from typing import Any

from ordercomp.former import name_new_places

_HOMES = {
    "CompressedNetwork": "ordercomp.networks.network",
    "Objectives": "ordercomp.objectives",
    "OperatingPoint": "ordercomp.records",
    "Recipe": "ordercomp.training.recipe",
    "Record": "ordercomp.records",
    "Request": "ordercomp.running.jobs",
    "Runner": "ordercomp.running.runner",
    "SearchPlan": "ordercomp.jobs.search",
    "StageSequence": "ordercomp.sequence",
    "Store": "ordercomp.running.store",
    "Task": "ordercomp.running.task",
    "apply_untrained": "ordercomp.stages.catalog",
    "bench": "ordercomp.shipping.bench",
    "check": "ordercomp.jobs.check",
    "collect_garbage": "ordercomp.running.store",
    "compress": "ordercomp.jobs.compress",
    "discover": "ordercomp.jobs.discover",
    "encode": "ordercomp.codec",
    "export_onnx": "ordercomp.shipping.onnx",
    "find_store": "ordercomp.running.store",
    "fingerprint_task": "ordercomp.running.fingerprint",
    "law_of_records": "ordercomp.jobs.law",
    "law_of_study": "ordercomp.jobs.search_folder",
    "list_entries": "ordercomp.running.store",
    "load_network": "ordercomp.shipping.packed",
    "load_task": "ordercomp.running.task",
    "measure_cost": "ordercomp.measuring.cost",
    "plan_experiments": "ordercomp.studies.run",
    "read_law": "ordercomp.analysis.report.result_files",
    "read_records": "ordercomp.records",
    "record_rows": "ordercomp.records",
    "find_damaged": "ordercomp.running.store",
    "report": "ordercomp.jobs.search_folder",
    "rerun": "ordercomp.jobs.rerun",
    "run_experiment": "ordercomp.studies.run",
    "run_search": "ordercomp.jobs.search",
    "save_packed": "ordercomp.shipping.packed",
    "show": "ordercomp.jobs.show",
}

__all__ = sorted(_HOMES)

name_new_places()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ordercomp' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
