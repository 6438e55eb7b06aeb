"""The recordings that come with the package: real records, so that nobody need train."""

from collections.abc import Iterable
from importlib import resources
from importlib.resources import as_file

from ordercomp.analysis.hints import Hints, HintSource
from ordercomp.analysis.values import networks_of
from ordercomp.records import CostName, Record, read_records
from ordercomp.sequence import Order

RACED = {"digits": "digits", "fashion-mnist-raced": "fashion-mnist", "cifar10": "cifar10"}  # and their data
RACED_STAGES = "DPQE"  # of which they hold every order
_FOLDER = resources.files("ordercomp.studies") / "recordings"
_SUFFIX = ".jsonl.xz"


def recorded_names() -> list[str]:
    """Names of the recordings, which are those of the tasks that were run."""
    return sorted(
        file.name.removesuffix(_SUFFIX) for file in _FOLDER.iterdir() if file.name.endswith(_SUFFIX)
    )


def load_recorded(name: str) -> list[Record]:
    """All records of a recording: every order at several knob settings and seeds, controls, repeats.

    The task file beside it says what was run. Raises ValueError for an unknown name.
    """
    if name not in recorded_names():
        raise ValueError(f"recording must be one of {', '.join(recorded_names())}, got {name!r}")
    with as_file(_FOLDER / f"{name}{_SUFFIX}") as path:
        return read_records(path)


def raced_elsewhere(data: str) -> tuple[str, ...]:
    """The recordings that may speak for a task: those of other data than its own."""
    return tuple(name for name, own in RACED.items() if own != data)


def recorded_hints(names: Iterable[str], stages: Order, *, cost: CostName = "bitops") -> Hints:
    """What recordings say of the chains of a task's stages, at the same loss and by the same cost.

    They hold no latency; bit operations speak for it. Raises ValueError for an unknown name, and for stages
    of which they know fewer than two.
    """
    recorded_stages = "".join(stage for stage in stages if stage in RACED_STAGES)
    if len(recorded_stages) < 2:
        raise ValueError(f"a prior from recordings needs two of the stages {RACED_STAGES}, got {stages!r}")
    recorded_cost: CostName = "bitops" if cost == "latency" else cost
    names = tuple(names)
    tables = [networks_of(load_recorded(name), recorded_stages, cost=recorded_cost) for name in names]
    return Hints(tuple(HintSource(tuple(networks)) for networks in tables), recorded_stages, names)
