"""`ordercomp law`: the analysis alone, from records, a study, or a table of other results, without torch."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import typer

from ordercomp.analysis.answer import Answer
from ordercomp.analysis.report.result_files import AdaptiveFile, LawFile
from ordercomp.analysis.results_table import Columns, answer_results, read_results
from ordercomp.cli.output import parse_loss, print_answer, print_json, print_law
from ordercomp.codec import read_json
from ordercomp.jobs.law import law_of_records, law_of_study
from ordercomp.records import Record, read_records
from ordercomp.sequence import Order

DEFAULT_LOSS = 0.02


def command(
    records: Annotated[
        list[Path] | None,
        typer.Argument(help="folders of discover, files of records (.jsonl, .gz, .xz), or one table (.csv)"),
    ] = None,
    storage: Annotated[str | None, typer.Option(help="path or URL of an Optuna storage instead")] = None,
    study: Annotated[str | None, typer.Option(help="name in the storage, if it holds several")] = None,
    stages: Annotated[str | None, typer.Option(help="letters to order; default: those that occur")] = None,
    loss: Annotated[
        str | None, typer.Option(help="tolerated loss of accuracy, e.g. 2%; default: the folder's, or 2%")
    ] = None,
    columns: Annotated[
        str | None, typer.Option(help="names in a table, e.g. order=stages,accuracy=score")
    ] = None,
    baseline: Annotated[
        float | None, typer.Option(help="accuracy of the uncompressed network, if a table lacks its rows")
    ] = None,
    lower_is_better: Annotated[
        bool, typer.Option(help="a table's score is better if less, such as perplexity")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON on stdout")] = False,
) -> None:
    """Say which order recorded runs recommend, what that may cost, and which orders are out."""
    paths = records or []
    if (not paths) == (storage is None):
        raise ValueError("law needs either a folder or files of records, or --storage")
    tolerated = parse_loss(loss) if loss is not None else None
    tables = [path for path in paths if path.suffix.lower() == ".csv"]
    if tables:
        if len(paths) > 1:
            raise ValueError(f"law reads one table at a time, got {len(paths)} paths")
        told = _answer_of_table(tables[0], tolerated, columns, baseline, lower_is_better=lower_is_better)
        if as_json:
            print_json(told)
        else:
            print_answer(told.answer, told.stages)
        return
    if columns is not None or baseline is not None or lower_is_better:
        raise ValueError("--columns, --baseline and --lower-is-better belong to a table, a .csv file")
    if storage is not None:
        file = law_of_study(storage, study, stages=stages, loss=_or_default(tolerated))
    else:
        file = _law_of_paths(paths, stages, tolerated)
    if as_json:
        print_json(file)
    else:
        print_law(file)


@dataclass(frozen=True, slots=True, kw_only=True)
class _TableAnswer:
    """What a table of results gives: an answer without a law."""

    task: str
    stages: Order
    answer: Answer


def _law_of_paths(paths: list[Path], stages: str | None, loss: float | None) -> LawFile | AdaptiveFile:
    files = [path / "records.jsonl" if path.is_dir() else path for path in paths]
    found: list[Record] = []
    for path, file in zip(paths, files, strict=True):
        if not file.is_file():
            raise FileNotFoundError(
                f"no {'records.jsonl in' if path.is_dir() else 'file of records at'} {path}"
            )
        held = [record for record in read_records(file) if record.order]
        if not held:
            raise ValueError(f"{file} holds no records to derive a law from")
        found += held
    folder = files[0].parent
    store = folder / "store" if len(files) == 1 and (folder / "store").is_dir() else None
    tolerated = loss if loss is not None else _or_default(_asked_loss(folder / "law.json"))
    return law_of_records(found, stages=stages, loss=tolerated, store=store)


def _answer_of_table(
    path: Path, loss: float | None, columns: str | None, baseline: float | None, *, lower_is_better: bool
) -> _TableAnswer:
    if not path.is_file():
        raise FileNotFoundError(f"no table at {path}")
    results = read_results(
        path, columns=_columns(columns), lower_is_better=lower_is_better, baseline=baseline
    )
    answer = answer_results(results, loss=_or_default(loss))
    return _TableAnswer(task=path.name, stages=results.stages, answer=answer.rounded())


def _columns(text: str | None) -> Columns:
    """The names told as `order=stages,accuracy=score`."""
    known = [field.name for field in fields(Columns)]
    names: dict[str, str] = {}
    for part in (text or "").split(","):
        column, _, name = (word.strip() for word in part.partition("="))
        if text and (column not in known or not name):
            raise ValueError(
                f"--columns must name some of {', '.join(known)} as in order=stages, got {part!r}"
            )
        if text:
            names[column] = name
    return Columns(**names)


def _asked_loss(path: Path) -> float | None:
    """The loss that the law.json of a folder was asked for, if there is one."""
    try:
        return float(read_json(path)["answer"]["loss"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _or_default(loss: float | None) -> float:
    return DEFAULT_LOSS if loss is None else loss
