"""What a search takes over from a race: its networks, what they measured, the orders that may be best."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ordercomp.analysis.report.result_files import read_law
from ordercomp.codec import read_json
from ordercomp.objectives import Objectives
from ordercomp.records import Record
from ordercomp.running.record_log import RecordLog
from ordercomp.running.task import Task
from ordercomp.search.results import add_prefix_trial, measured_nodes
from ordercomp.search.space import Space
from ordercomp.search.study import Study
from ordercomp.sequence import Order, StageSequence

MOST_ORDERS = 4  # whose knobs a search tries first
LEAST_CHANCE = 0.02  # of an order that the race left out, against those that may be best


@dataclass(frozen=True, slots=True)
class Handover:
    """A finished race as a search sees it."""

    folder: Path
    records: tuple[Record, ...]
    chances: Mapping[Order, float]  # of being best, most probable first; empty where nothing was recommended

    @classmethod
    def of(cls, folder: Path, task: Task) -> "Handover":
        """Read a folder of `discover`. Raises ValueError if it is none, or of another task."""
        try:
            file = read_law(read_json(folder / "law.json"), str(folder / "law.json"))
        except FileNotFoundError:
            raise ValueError(
                f"from must be a folder that discover wrote, got {folder} without law.json"
            ) from None
        records = RecordLog(folder / "records.jsonl", task=task).records
        asked = None if file.answer is None else file.answer.asked
        best = [] if asked is None else asked.best_set
        chances = {order: max(asked.probability_best[order], LEAST_CHANCE) for order in best} if asked else {}
        return cls(folder, tuple(records), chances)

    def tell(self, study: Study, space: Space, objectives: Objectives, *, seed: int) -> int:
        """Tell a study what the race measured at a seed, once; return how many networks are new there."""
        measured = {str(sequence) for sequence, at in measured_nodes(study) if at == seed}
        new = [
            (sequence, record)
            for record in self.records
            if record.seed == seed and record.points and record.sequence not in measured
            for sequence in [StageSequence.parse(record.sequence)]
            if space.contains(sequence)
        ]
        for sequence, record in new:
            add_prefix_trial(study, space, objectives, sequence, record)
        return len(new)

    def first(self, space: Space) -> list[StageSequence]:
        """The orders that may be best, at every knob setting at which the race ran them at some seed."""
        orders = list(self.chances)[:MOST_ORDERS]
        ran = sorted({record.sequence for record in self.records if record.order in orders and record.points})
        return [sequence for text in ran if space.contains(sequence := StageSequence.parse(text))]
