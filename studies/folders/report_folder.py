"""The page of a folder made again from what lies in it: records, and law.json or search.json."""

from pathlib import Path
from typing import TypeVar

from ordercomp.analysis.report.law_page import write_report
from ordercomp.analysis.report.result_files import LawFile, SearchFile
from ordercomp.analysis.report.search_page import write_search_report
from ordercomp.codec import decode, encode, read_json
from ordercomp.records import read_records
from ordercomp.search.objective import Objectives

T = TypeVar("T", LawFile, SearchFile)


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
    if told.name == "law.json":
        write_report(page, _decoded(told, LawFile), found)
    else:
        search = _decoded(told, SearchFile)
        objectives = decode(encode(search.objectives), Objectives, "objectives")
        write_search_report(page, search, map(objectives.restrict, found))
    return page


def _decoded(path: Path, kind: type[T]) -> T:
    return decode(read_json(path), kind, str(path), strict=False)
