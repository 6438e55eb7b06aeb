"""Show: whatever a call returned, as text, as tables in a terminal, as HTML in a notebook."""

from collections.abc import Iterable, Mapping

from ordercomp.analysis.fronts import Candidate
from ordercomp.analysis.report.result_files import LawFile, read_law
from ordercomp.analysis.report.shown import Shown, shown_front, shown_law, shown_records
from ordercomp.codec import Plain
from ordercomp.jobs.compress import Compressed
from ordercomp.jobs.discover import Discovery
from ordercomp.jobs.search_folder import SearchResult
from ordercomp.records import Record

Presentable = Discovery | SearchResult | Compressed | LawFile | Plain | Record


def show(what: Presentable | Iterable[Record | Candidate]) -> Shown:
    """Make a result presentable: `print(show(records))`, or `show(records)` as the last line of a cell.

    `what` is what `discover`, `search`, `compress` or `law_of_records` returned, the content of a law.json,
    one record or many, or the points of a front. Raises ValueError for anything else.
    """
    if isinstance(what, Discovery):
        return shown_law(what.file)
    if isinstance(what, SearchResult):
        return shown_front(what.front)
    if isinstance(what, Compressed):
        return shown_records([what.record])
    if isinstance(what, Record):
        return shown_records([what])
    if isinstance(what, LawFile):
        return shown_law(what)
    if isinstance(what, Mapping):
        if not {"law", "pairs", "stages"} <= set(what):
            raise ValueError(f"show takes the content of a law.json, got a mapping of {', '.join(what)}")
        return shown_law(read_law(what))
    items = list(what) if isinstance(what, Iterable) else [what]
    records = [item for item in items if isinstance(item, Record)]
    points = [item for item in items if isinstance(item, Candidate)]
    if len(records) == len(items):
        return shown_records(records)
    if len(points) == len(items):
        return shown_front(points)
    raise ValueError(f"show takes results, records or the points of a front, got {type(items[0]).__name__}")
