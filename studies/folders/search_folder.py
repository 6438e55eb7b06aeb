"""What a search leaves in its folder beside the records: search.json, report.html and the best networks."""

from collections.abc import Callable
from pathlib import Path

from ordercomp.analysis.report.search_page import write_search_report
from ordercomp.codec import format_json
from ordercomp.files import drop_drafts, replace_file
from ordercomp.jobs.search_folder import SearchResult
from ordercomp.records import Record
from ordercomp.shipping.packed import copy_with_threshold


def write_search_outcome(result: SearchResult, *, network_of: Callable[[Record], Path | None]) -> None:
    """Write the outcome into the folder of the search; `network_of` finds the whole network of a record.

    Raises OSError if it cannot be written.
    """
    file = result.file
    replace_file(result.out / "search.json", format_json(file, indent=2))
    write_search_report(result.out / "report.html", file, map(result.objectives.restrict, result.records))
    _keep_networks(result, result.out / "networks", network_of)


def _keep_networks(result: SearchResult, folder: Path, network_of: Callable[[Record], Path | None]) -> None:
    """Copy the best network of each tolerance out of the store, where one is there."""
    drop_drafts(folder)
    for tolerance, best in result.best_by_tolerance.items():
        name = f"loss-{100 * tolerance:g}-percent.safetensors"
        network = None if best is None else network_of(best.record)
        if best is not None and network is not None:
            folder.mkdir(exist_ok=True)
            copy_with_threshold(network, folder / name, best.point.threshold)
