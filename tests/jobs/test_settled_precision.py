"""The precision that a probe finds faster is found once for a store."""

from dataclasses import replace
from pathlib import Path

import pytest

from ordercomp.codec import read_json
from ordercomp.jobs import law_folder
from ordercomp.running.store import Store
from ordercomp.running.task import Task, load_task
from ordercomp.training.device import Probe

DIGITS = load_task("digits")
AUTO: Task = replace(DIGITS, recipe=replace(DIGITS.recipe, precision="auto"))


@pytest.mark.parametrize("damage", [None, "{", '{"precision": "float8"}', "[]"])
def test_a_probe_is_kept_with_the_store_and_made_again_where_its_file_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str | None
) -> None:
    probes: list[int] = []

    def probe(network: object, *, batch_size: int) -> Probe:
        probes.append(batch_size)
        return Probe(precision="bfloat16", speedup=1.5)

    monkeypatch.setattr(law_folder, "probe_precision", probe)
    store = Store(tmp_path)
    assert law_folder.settle_precision(AUTO, store).recipe.precision == "bfloat16"
    (kept,) = tmp_path.glob("precision-*.json")
    assert read_json(kept) == {"precision": "bfloat16", "speedup": 1.5}
    if damage is not None:
        kept.write_text(damage)
    assert law_folder.settle_precision(AUTO, store).recipe.precision == "bfloat16"
    assert len(probes) == (1 if damage is None else 2)
