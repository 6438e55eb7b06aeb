"""The claims of the paper's experiments beside each other on several data sets, judged by the one court."""

from collections.abc import Callable, Mapping, Sequence

from ordercomp.analysis.report.tables import Column, Table
from ordercomp.records import Record
from ordercomp.studies.experiment import Finding, Judgement

Judge = Callable[[Sequence[Record]], Judgement]

NOT_JUDGED = "-"


def verdict_table(title: str, judge: Judge, recordings: Mapping[str, Sequence[Record]]) -> Table:
    """One row for each claim that is judged on any of the recordings, one column for each recording.

    A cell holds the verdict, with the effect in doublings and its interval where the claim is about one.
    """
    found: dict[str, dict[str, Finding]] = {}
    for name, records in recordings.items():
        for finding in judge(records).findings:
            found.setdefault(finding.claim, {})[name] = finding
    rows = [
        (claim, *(_cell(by_name[name]) if name in by_name else NOT_JUDGED for name in recordings))
        for claim, by_name in found.items()
    ]
    columns = (Column("claim"), *(Column(name) for name in recordings))
    return Table(title=title, columns=columns, rows=tuple(rows))


def _cell(finding: Finding) -> str:
    if finding.effect is None:
        return finding.verdict
    if finding.interval is None:
        return f"{finding.verdict}, {finding.effect:+.2f}"
    low, high = finding.interval
    return f"{finding.verdict}, {finding.effect:+.2f} [{low:+.2f}, {high:+.2f}]"
