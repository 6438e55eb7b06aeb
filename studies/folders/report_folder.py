"""The page of a folder made again from what lies in it: records, and law.json or search.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ordercomp.analysis.showing.law_file import LawFile
from ordercomp.analysis.showing.report import write_report, write_search_report
from ordercomp.codec import decode, read_json
from ordercomp.records import read_records
from ordercomp.search.ask.objective import Objectives

__all__ = ["write_report_again"]

SEARCH_KEYS = (
    "task",
    "study",
    "objectives",
    "cost",
    "trials",
    "networks",
    "front",
    "best",
    "law",
    "progress",
)


def write_report_again(folder: Path) -> Path:
    """Write report.html of a folder of `discover` or `search` anew, from its records and its JSON; return it.

    Trains nothing and derives nothing. Raises ValueError if the folder is none of these, in one line that
    says what was looked for.
    """
    page, records = folder / "report.html", folder / "records.jsonl"
    if not records.is_file():
        raise ValueError(f"{folder} holds no report's records: there is no {records.name} in it")
    found = read_records(records)
    told = next((folder / name for name in ("law.json", "search.json") if (folder / name).is_file()), None)
    if told is None:
        raise ValueError(f"{folder} holds records but neither law.json nor search.json to report on")
    try:
        if told.name == "law.json":
            write_report(page, _law(told), found)
        else:
            search = _read(told, SEARCH_KEYS)
            asked = {**search["objectives"], "names": tuple(search["objectives"]["names"])}
            write_search_report(page, search, map(Objectives(**asked).restrict, found))
    except (KeyError, TypeError, AttributeError) as error:  # keys are there, but not what belongs to them
        raise ValueError(f"{told} was not written by this program: {error!r}") from error
    return page


def _law(path: Path) -> LawFile:
    try:
        return decode(_content(path), LawFile, "it", strict=False)
    except ValueError as error:
        raise ValueError(f"{path} was not written by this program: {error}") from None


def _read(path: Path, keys: tuple[str, ...]) -> Mapping[str, Any]:
    data = _content(path)
    missing = keys if not isinstance(data, dict) else [key for key in keys if key not in data]
    if missing:
        raise ValueError(f"{path} was not written by this program: it lacks the key {missing[0]!r}")
    return dict(data)


def _content(path: Path) -> Any:
    try:
        return read_json(path)
    except ValueError:
        raise ValueError(f"{path} is not valid JSON") from None
