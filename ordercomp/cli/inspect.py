"""The commands that train nothing: init, check, plan, cost, law, report and store."""

import gc
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.tree import Tree

from ordercomp.cli.output import (
    ConventionOption,
    CostOption,
    JsonFlag,
    OutcomeJsonFlag,
    StagesOption,
    TaskArgument,
    TaskOption,
    number_text,
    parse_convention,
    parse_loss,
    parse_shape,
    parse_size,
    print_json,
    print_lines,
    print_next,
    print_pairs,
    print_shown,
    size_text,
)
from ordercomp.codec import read_json
from ordercomp.errors import FailedRunError
from ordercomp.objectives import COST, LOSS, SEEDS
from ordercomp.records import CostName, Record, check_cost, read_records
from ordercomp.sequence import PrefixTrie, StageSequence, Step

_MOST_NAMES = 6


def init(folder: Annotated[Path, typer.Argument(help="for the files, made if need be")] = Path()) -> None:
    """Write a commented task file and templates of the functions that give a model and images."""
    from ordercomp.jobs.templates import write_templates

    for path in write_templates(folder):
        print_lines(str(path))
    where = [("go there", ("cd", folder))] if folder.resolve() != Path.cwd() else []
    print_next(
        [
            *where,
            ("try every stage, without training", ("ordercomp", "check", "task.toml")),
            ("find the order", ("ordercomp", "discover", "--task", "task.toml", "--out", "out/mine")),
        ]
    )


def check(
    task: Annotated[str, typer.Argument(help="a TOML file or a built-in task")],
    seeds: Annotated[int, typer.Option(min=1, help="of the race whose time is estimated")] = SEEDS,
    as_json: JsonFlag = False,
) -> None:
    """Try every stage on the untrained network: blocks, exits, what is reached, and the time."""
    from ordercomp.analysis.report.tables import duration_text
    from ordercomp.jobs import check as job
    from ordercomp.running.task import load_task

    facts = job.check(load_task(task), seeds=seeds)
    if as_json:
        print_json(facts)
        return
    images = ", ".join(f"{count:,} for {name}" for name, count in facts.images.items())
    print_lines(
        f"{facts.task}: {facts.model} on {facts.data}",
        f"images: {images}; {facts.classes} classes, {'x'.join(map(str, facts.shape))}",
        f"blocks: {len(facts.blocks)}; D may drop {_names(facts.droppable)}",
        f"exits: E may put them after {_names(facts.exits)}",
        f"multiply-accumulates of an image: {facts.macs:,}, as torch's FlopCounterMode counts them",
    )
    table = Table(title="how many times less than the network as it is, untrained")
    longest = max(len(step) for reach in facts.reached for step in reach.sequence.split())
    table.add_column("sequence", min_width=longest)  # broken between steps only
    for name in ("BitOps", "first exit", "storage", "reached"):
        table.add_column(name, overflow="fold")
    for reach in facts.reached:
        numbers = map(number_text, (reach.bitops_cr, reach.first_exit_cr, reach.cr))
        table.add_row(reach.sequence, *numbers, _facts(*reach.achieved) if len(reach.achieved) == 1 else "")
    print_shown(table)
    if facts.widths:
        print_lines(f"for speed: {facts.widths}")
    print_lines(
        f"{facts.trainings:,} trainings expected for {seeds} seeds: very roughly "
        f"{duration_text(facts.seconds)} with one worker"
    )
    print_next([("measure the time", ("ordercomp", "plan", "--task", task))])


def _names(names: Iterable[str]) -> str:
    listed = list(names)
    shown = ", ".join(listed[:_MOST_NAMES]) + (", …" if len(listed) > _MOST_NAMES else "")
    return f"{len(listed)}: {shown}" if listed else "none"


def _facts(achieved: Mapping[str, Any]) -> str:
    facts = {name: value for name, value in achieved.items() if name != "stage"}
    return "; ".join(
        f"{name} {_names(value) if isinstance(value, list) else value}" for name, value in facts.items()
    )


def plan(
    task_file: TaskArgument = None,
    task: TaskOption = "digits",
    stages: StagesOption = None,
    seeds: Annotated[int, typer.Option(min=1)] = SEEDS,
    workers: Annotated[int | None, typer.Option(min=1, help="default one a core")] = None,
    preset: Annotated[
        str | None, typer.Option(help="plan the paper's experiments: minutes, hours, paper")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what a race of the orders would train, at most and as expected, and the estimated time."""
    from ordercomp.jobs.check import probe_steps
    from ordercomp.jobs.race import Race, plan_race
    from ordercomp.running.task import load_task
    from ordercomp.running.workers import usable_workers
    from ordercomp.studies.run import plan_experiments

    loaded, many = load_task(task_file or task), workers or usable_workers()
    if stages is not None:
        loaded = replace(loaded, stages=stages)
    if preset is not None:
        planned = plan_experiments(task=loaded, preset=preset, workers=many)
        if as_json:
            print_json(planned)
        else:
            print_lines(planned.table.to_text())
        return
    race = Race(task=loaded, seeds=seeds)
    worst, expected = plan_race(race, losing=False), plan_race(race, losing=True)
    times = probe_steps(loaded)
    summary = {
        "task": loaded.name,
        "stages": loaded.stages,
        "knob_settings": len(loaded.settings),
        "seeds": seeds,
        "orders_at_the_first_seed": len(worst.seeds[0]),
        "trainings_at_most": len(worst.nodes),
        "trainings_expected": len(expected.nodes),
        "expected_unshared": expected.unshared,
        "seconds_at_most": round(times.total(worst.nodes) / many, 1),
        "seconds_expected": round(times.total(expected.nodes) / many, 1),
    }
    if as_json:
        print_json(summary)
        return
    first = PrefixTrie(sequence.steps for sequence in race.sequences(worst.seeds[0]))
    print_shown(_tree(f"{loaded.name}: {loaded.model} on {loaded.data}, first seed", first))
    print_lines(*(f"{name.replace('_', ' ')}: {value}" for name, value in summary.items()))


def _tree(title: str, trie: PrefixTrie[Step]) -> Tree:
    """The trie as lines and corners."""
    root = Tree(title)
    branches: dict[tuple[Step, ...], Tree] = {(): root}
    for node in trie:
        branches[node] = branches[node[:-1]].add(str(node[-1]))
    return root


def cost(
    model: Annotated[
        str, typer.Argument(help="resnet34, vgg19, torchvision:resnet18, timm:resnet18, module:function, …")
    ],
    sequence: Annotated[str, typer.Argument(help='such as "D(depth=0.5) P(ratio=0.4)"')] = "",
    shape: Annotated[str, typer.Option("--input", help="channels x height x width")] = "3x32x32",
    classes: Annotated[int, typer.Option(min=2)] = 10,
    convention: ConventionOption = "paper",
    as_json: JsonFlag = False,
) -> None:
    """Count parameters, MACs, BitOps and bits; no training, all images taken to the last exit."""
    from ordercomp.measuring.cost import measure_cost
    from ordercomp.networks.network import CompressedNetwork
    from ordercomp.running.node import log_stage_notices
    from ordercomp.stages.catalog import apply_untrained, cost_summary

    channels, height, width = parse_shape(shape)
    counting = parse_convention(convention)
    network = CompressedNetwork.create(model, classes=classes, channels=channels, size=(height, width))
    baseline = measure_cost(network)
    compressed = apply_untrained(network, StageSequence.parse(sequence))
    log_stage_notices(compressed)
    summary = cost_summary(measure_cost(compressed), baseline, counting)
    if as_json:
        print_json(summary)
    else:
        print_pairs(f"{model} {compressed.sequence}, convention {counting}", summary)


def law(
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
    cost: CostOption = None,
    columns: Annotated[
        str | None, typer.Option(help="names in a table, e.g. order=stages,accuracy=score")
    ] = None,
    baseline: Annotated[
        float | None, typer.Option(help="accuracy of the uncompressed network, if a table lacks its rows")
    ] = None,
    lower_is_better: Annotated[
        bool, typer.Option(help="a table's score is better if less, such as perplexity")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Say which order recorded runs recommend, what that may cost, and which orders are out."""
    from ordercomp.analysis.report.terminal import law_lines

    paths = records or []
    if (not paths) == (storage is None):
        raise ValueError("law needs either a folder or files of records, or --storage")
    tolerated = None if loss is None else parse_loss(loss)
    counted = None if cost is None else check_cost(cost)
    tables = [path for path in paths if path.suffix.lower() == ".csv"]
    if tables:
        if len(paths) > 1:
            raise ValueError(f"law reads one table at a time, got {len(paths)} paths")
        _answer_of_table(
            tables[0], tolerated, counted, columns, baseline, lower=lower_is_better, as_json=as_json
        )
        return
    if columns is not None or baseline is not None or lower_is_better:
        raise ValueError("--columns, --baseline and --lower-is-better belong to a table, a .csv file")
    if storage is not None:
        from ordercomp.jobs.search_folder import law_of_study

        asked = LOSS if tolerated is None else tolerated
        file: Any = law_of_study(storage, study, stages=stages, loss=asked, cost=counted or COST)
    else:
        file = _law_of_paths(paths, stages, tolerated, counted)
    if as_json:
        print_json(file)
    else:
        print_lines(*law_lines(file))


def _law_of_paths(
    paths: Sequence[Path], stages: str | None, loss: float | None, cost: CostName | None
) -> Any:
    """The law of all records in these files and folders, by what the first one was asked for."""
    from ordercomp.jobs.law import law_of_records

    folder = paths[0] if paths[0].is_dir() else paths[0].parent
    store = folder / "store" if len(paths) == 1 and (folder / "store").is_dir() else None
    measured = [record for path in paths for record in _measured(path)]
    gc.freeze()  # they stay until the end, so that no search for garbage need pass through them
    asked, by, prior = (
        (loss, cost, ()) if loss is not None and cost is not None else _question_of(folder / "law.json")
    )
    return law_of_records(
        measured,
        stages=stages,
        loss=asked if loss is None else loss,
        cost=cost or by,
        store=store,
        copied=folder if len(paths) == 1 else None,
        prior=prior,
    )


def _measured(path: Path) -> list[Record]:
    """The records of a file, or of the one in a folder, without those of baselines."""
    file = path / "records.jsonl" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"no {'records.jsonl in' if path.is_dir() else 'file of records at'} {path}")
    records = [record for record in read_records(file) if record.order]
    if not records:
        raise ValueError(f"{file} holds no records to derive a law from")
    return records


def _question_of(path: Path) -> tuple[float, CostName, tuple[str, ...]]:
    """What the law.json of a folder was asked for, loss, cost and prior; the defaults without one."""
    if not path.exists():
        return LOSS, COST, ()
    match read_json(path):
        case {"answer": {"loss": float(loss), **told}} if 0 < loss <= 1:
            prior = told.get("prior")
            names = tuple(map(str, prior)) if isinstance(prior, list) else ()
            return loss, check_cost(str(told.get("cost", COST))), names
        case {"answer": _}:
            raise ValueError(
                f"{path} does not tell the loss of its answer as a fraction; give --loss and --cost"
            )
    return LOSS, COST, ()


def _answer_of_table(
    path: Path,
    loss: float | None,
    cost: CostName | None,
    columns: str | None,
    baseline: float | None,
    *,
    lower: bool,
    as_json: bool,
) -> None:
    """Print what a table of results gives: an answer without a law."""
    from ordercomp.analysis.answer import rounded
    from ordercomp.analysis.report.terminal import answer_lines
    from ordercomp.analysis.results_table import Columns, answer_results, read_results

    if not path.is_file():
        raise FileNotFoundError(f"no table at {path}")
    names = Columns(**_parse_columns(columns or "", [field.name for field in fields(Columns)]))
    results = read_results(path, columns=names, lower_is_better=lower, baseline=baseline)
    answer = rounded(answer_results(results, loss=LOSS if loss is None else loss, cost=cost))
    if as_json:
        print_json({"task": path.name, "stages": results.stages, "answer": answer})
    else:
        print_lines(*answer_lines(answer, results.stages))


def _parse_columns(text: str, keys: Sequence[str]) -> dict[str, str]:
    """The names told as `order=stages,accuracy=score`. Raises ValueError."""
    names: dict[str, str] = {}
    for part in text.split(",") if text else ():
        column, _, name = (word.strip() for word in part.partition("="))
        if column not in keys or not name:
            raise ValueError(
                f"--columns must name some of {', '.join(keys)} as in order=stages, got {part!r}"
            )
        names[column] = name
    return names


def report(
    folder: Annotated[Path, typer.Argument(help="where discover or search left records and law or search")],
) -> None:
    """Write report.html of a folder of discover or search again, from its records alone."""
    from ordercomp.jobs import search_folder as job

    print_lines(str(job.report(folder)))


def store(
    action: Annotated[str, typer.Argument(help="ls, verify or gc")],
    folder: Annotated[Path, typer.Argument(help="a store, or a folder of results that holds one")],
    cap: Annotated[str, typer.Option(help="room for networks after gc, e.g. 500MiB")] = "20GiB",
    as_json: OutcomeJsonFlag = False,
) -> None:
    """List what a store holds, check it against its digests, or make room; what is gone is computed again."""
    actions = {"ls": _list_store, "verify": _verify_store, "gc": _shrink_store}
    if action not in actions:
        raise ValueError(f"action must be ls, verify or gc, got {action!r}")
    actions[action](folder, parse_size(cap), as_json)


def _list_store(folder: Path, cap: int, as_json: bool) -> None:
    from ordercomp.running.store import find_store, list_entries

    held = find_store(folder)
    entries = list_entries(held)
    if as_json:
        rows = [
            {
                "key": entry.key,
                "task": entry.record.task,
                "seed": entry.record.seed,
                "sequence": entry.record.sequence,
                "error": entry.record.error,
                "accuracy": entry.record.points[0].accuracy if entry.record.points else None,
                "network_bytes": entry.network_bytes,
            }
            for entry in entries
        ]
        print_json({"folder": str(held.folder), "entries": rows})
        return
    table = Table("task", "seed", "sequence", "accuracy", "network", "key")
    for entry in entries:
        record = entry.record
        reached = "failed" if record.error else f"{record.points[0].accuracy:.4f}"
        network = size_text(entry.network_bytes) if entry.network_bytes else "none"
        name = record.sequence or "baseline"
        cells = (record.task, str(record.seed), name, reached, network, entry.key[:12])
        table.add_row(*cells)
    print_shown(table)
    print_lines(f"{len(entries)} results; networks take {size_text(held.network_bytes())}")


def _verify_store(folder: Path, cap: int, as_json: bool) -> None:
    from ordercomp.running.store import find_damaged, find_store, list_entries

    held = find_store(folder)
    damaged = find_damaged(held)
    intact = sum(entry.key not in damaged for entry in list_entries(held))
    if as_json:
        print_json({"folder": str(held.folder), "whole": intact, "damaged": damaged})
    else:
        print_lines(f"{intact} results are whole")
    if damaged:
        names = ", ".join(key[:12] for key in damaged[:5])
        raise FailedRunError(
            f"{len(damaged)} results are damaged ({names}) and count as absent: "
            "the next run that needs them computes them again"
        )


def _shrink_store(folder: Path, cap: int, as_json: bool) -> None:
    from ordercomp.running.store import Store, collect_garbage, find_store

    freed = collect_garbage(Store(find_store(folder).folder, cap_bytes=cap))
    if as_json:
        print_json(asdict(freed))
    else:
        print_lines(
            f"freed {size_text(freed.bytes)}: {freed.evicted} networks beyond the cap, "
            f"{freed.unfinished} without a record; {freed.locks} locks that nobody holds"
        )
