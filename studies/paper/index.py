"""The index of a folder of results: each experiment with its verdicts, and the claims that were decided."""

from pathlib import Path
from typing import get_args

from ordercomp.analysis.report.tables import Column, Table
from ordercomp.files import replace_file
from ordercomp.studies.experiment import OutcomeFile, Verdict, table_markdown
from ordercomp.studies.folders.experiment_folder import read_outcomes

_VERDICTS: tuple[str, ...] = get_args(Verdict)
_COLUMNS = (
    *map(Column, ("experiment", "paper", "asks", "task", "preset")),
    *(Column(name, "right") for name in ("trainings", *_VERDICTS)),
)


def write_index(out: Path) -> None:
    """Write `out`/index.md anew from the outcomes in `out`; nothing is judged again."""
    outcomes = read_outcomes(out)
    table = Table(
        title="Results in this folder",
        columns=_COLUMNS,
        rows=tuple(_row(folder, outcome) for folder, outcome in outcomes.items()),
        note="Columns of verdicts count claims. Those that agree or disagree:",
    )
    lines = [*table_markdown(table), ""]
    for folder, outcome in outcomes.items():
        lines += [f"- [{folder}]({folder}/outcome.md). {sentence}" for sentence in _decided(outcome)]
    replace_file(out / "index.md", "\n".join(lines) + "\n")


def _row(folder: str, outcome: OutcomeFile) -> tuple[str, ...]:
    verdicts: list[str] = [finding.verdict for finding in outcome.findings]
    part = "" if outcome.complete else f" of {outcome.planned}"
    return (
        f"[{outcome.experiment}]({folder}/outcome.md)",
        *(outcome.section, outcome.question, outcome.task, outcome.preset),
        f"{outcome.measured}{part}",
        *(str(verdicts.count(verdict)) for verdict in _VERDICTS),
    )


def _decided(outcome: OutcomeFile) -> list[str]:
    return [finding.sentence for finding in outcome.findings if finding.verdict in ("agree", "disagree")]
