"""`ordercomp law`: the analysis alone, from records or from a study, without torch."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ordercomp.records import read_records
from ordercomp.studies.cli.law_text import print_law
from ordercomp.studies.cli.output import print_json
from ordercomp.studies.main.study_law import law_of_records, law_of_study

__all__ = ["command"]


def command(
    records: Annotated[Path | None, typer.Argument(help="a records.jsonl, also .gz or .xz")] = None,
    storage: Annotated[str | None, typer.Option(help="path or URL of an Optuna storage instead")] = None,
    study: Annotated[str | None, typer.Option(help="name in the storage, if it holds several")] = None,
    stages: Annotated[str | None, typer.Option(help="letters to order; default: those that occur")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON on stdout")] = False,
) -> None:
    """Derive the ordering law that recorded runs support, and say how sure it is."""
    if (records is None) == (storage is None):
        raise ValueError("law needs either a file of records or --storage")
    data = _law_of_file(records, stages) if records else law_of_study(str(storage), study, stages=stages)
    if as_json:
        print_json(data)
    else:
        print_law(data)


def _law_of_file(path: Path, stages: str | None) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no file of records at {path}")
    found = [record for record in read_records(path) if record.order]
    if not found:
        raise ValueError(f"{path} holds no records to derive a law from")
    return law_of_records(found, stages=stages)
