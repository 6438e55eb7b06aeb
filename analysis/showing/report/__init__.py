"""One page that a person can look at: the verdict first, then what it rests on."""

from ordercomp.analysis.showing.report.page import write_report
from ordercomp.analysis.showing.report.search_page import write_search_report
from ordercomp.analysis.showing.words import Verdict, read_verdict

__all__ = ["Verdict", "read_verdict", "write_report", "write_search_report"]
