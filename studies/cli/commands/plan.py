"""`ordercomp plan`: what discover would train, and how long that takes here, without training it."""

from dataclasses import replace
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.tree import Tree

from ordercomp.cli.output import print_json
from ordercomp.jobs.check import probe_steps
from ordercomp.jobs.defaults import SEEDS
from ordercomp.jobs.race import Race, plan_race
from ordercomp.running.task import load_task
from ordercomp.running.workers import usable_workers
from ordercomp.sequence import PrefixTrie, Step
from ordercomp.studies.run import ExperimentPlan, plan_experiments


def command(
    task: Annotated[str, typer.Option(help="a built-in task or a TOML file")] = "digits",
    stages: Annotated[str | None, typer.Option(help="letters to order, default the task's")] = None,
    seeds: Annotated[int, typer.Option(min=1)] = SEEDS,
    workers: Annotated[int | None, typer.Option(min=1, help="default one a core")] = None,
    preset: Annotated[
        str | None, typer.Option(help="plan the paper's experiments: minutes, hours, paper")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON on stdout")] = False,
) -> None:
    """Show what a race of the orders would train, at most and as expected, and the estimated time."""
    torch.set_num_threads(1)  # as workers do
    chosen, many = load_task(task), workers or usable_workers()
    if stages is not None:
        chosen = replace(chosen, stages=stages)
    if preset is not None:
        _show_experiments(plan_experiments(task=chosen, preset=preset, workers=many), as_json=as_json)
        return
    race = Race(task=chosen, seeds=seeds)
    worst, expected = plan_race(race, losing=False), plan_race(race, losing=True)
    times = probe_steps(chosen)
    summary = {
        "task": chosen.name,
        "stages": chosen.stages,
        "knob_settings": len(chosen.settings),
        "seeds": seeds,
        "orders_at_the_first_seed": len(worst.blocks[0]) // len(race.rungs),
        "trainings_at_most": len(worst.nodes),
        "trainings_expected": len(expected.nodes),
        "expected_unshared": expected.unshared,
        "seconds_at_most": round(times.total(worst.nodes) / many, 1),
        "seconds_expected": round(times.total(expected.nodes) / many, 1),
    }
    if as_json:
        print_json(summary)
        return
    console = Console()
    first = PrefixTrie(sequence.steps for sequence in worst.blocks[0])
    console.print(_tree(f"{chosen.name}: {chosen.model} on {chosen.data}, first seed", first))
    for name, value in summary.items():
        console.print(f"{name.replace('_', ' ')}: {value}", markup=False, highlight=False)


def _show_experiments(planned: ExperimentPlan, *, as_json: bool) -> None:
    if as_json:
        print_json(planned)
    else:
        Console().print(planned.table.to_text(), markup=False, highlight=False, soft_wrap=True)


def _tree(title: str, trie: PrefixTrie[Step]) -> Tree:
    """The trie as lines and corners."""
    root = Tree(title)
    branches: dict[tuple[Step, ...], Tree] = {(): root}
    for node in trie:
        branches[node] = branches[node[:-1]].add(str(node[-1]))
    return root
