"""Modules that others could import once, with where their content is now: a late finder that names it."""

import sys
from collections.abc import Mapping, Sequence

MOVED: Mapping[str, str] = {
    f"ordercomp.{former}": f"ordercomp.{place}"
    for former, place in {
        "analysis.evidence": "analysis",
        "analysis.showing": "analysis.report",
        "data.augmentation": "data.splits",
        "data.balance": "data.assemble",
        "data.folders": "data.images",
        "data.transforms": "data.images",
        "failures": "errors",
        "jobs.study_law": "jobs.search_folder",
        "layout": "codec",
        "lookup": "plugins",
        "measuring.guarantee": "measuring.accuracy",
        "measuring.latency": "measuring.accuracy",
        "measuring.metrics": "measuring.accuracy",
        "measuring.operating_points": "measuring.accuracy",
        "measuring.operations": "measuring.cost",
        "measuring.untrained": "stages.catalog",
        "models.libraries": "models.external",
        "models.mobilenet": "models.builtin",
        "models.resnet": "models.builtin",
        "models.vgg": "models.builtin",
        "networks.checkpoint": "networks.weights",
        "networks.habits": "networks.exits",
        "networks.heads": "networks.layers",
        "networks.leaving": "networks.exits",
        "networks.multi_exit": "networks.exits",
        "networks.serving": "networks.network",
        "networks.structure": "networks.network",
        "orders": "sequence",
        "running.care": "running.store",
        "running.cluster": "running.workers",
        "running.dispatch": "running.runner",
        "running.processes": "running.workers",
        "running.record_file": "running.record_log",
        "running.sealing": "running.fingerprint",
        "running.shared_store": "running.store",
        "search.abandonment": "search.drive",
        "search.ask": "search",
        "search.order_codes": "search.space",
        "search.tell": "search",
        "shipping.onnx_export": "shipping.onnx",
        "shipping.shipped": "shipping.plain",
        "stages.checks": "stages.verify",
        "studies.cli": "cli",
        "studies.design": "jobs",
        "studies.folders": "jobs",
        "studies.main": "jobs",
        "studies.paper": "studies",
        "studies.templates": "jobs.templates",
        "task": "running.task",
        "training.objectives": "training.fit",
    }.items()
}


class _Former:
    """Asked last of all finders, so only for what is not there."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> None:
        if name in MOVED:
            raise ModuleNotFoundError(
                f"{name} is {MOVED[name]} now; what the documentation names can be imported from ordercomp",
                name=name,
            )


def name_new_places() -> None:
    """Let the import of a former module fail with its new name, in this process."""
    if _Former not in sys.meta_path:
        sys.meta_path.append(_Former)
