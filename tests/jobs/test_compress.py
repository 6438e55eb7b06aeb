"""One sequence, trained and written: the threshold that keeps the loss is in the file, and is told."""

from pathlib import Path

import pytest
from builders import make_record

from ordercomp.jobs.compress import Compressed, compress
from ordercomp.networks.network import CompressedNetwork
from ordercomp.running.jobs import Finished
from ordercomp.running.task import Task
from ordercomp.training.recipe import Recipe

TINY = Task(
    name="tiny",
    model="resnet8(width=4)",
    data="digits",
    stages="PE",
    train_limit=128,
    recipe=Recipe(epochs=0.2, batch_size=64, precision="float32"),
)


@pytest.mark.integration
def test_the_file_holds_the_threshold_that_keeps_the_loss_and_a_store_saves_the_trainings(
    tmp_path: Path,
) -> None:
    heard: list[Finished] = []
    options = {"out": tmp_path / "n.safetensors", "store": tmp_path / "store", "report": heard.append}
    done = compress("PE", TINY, loss=0.5, **options)  # type: ignore[arg-type]
    assert (done.keeps_loss, done.record.order) == (True, "PE")
    assert done.point in done.record.points
    assert CompressedNetwork.load(done.path).serving.threshold == done.threshold
    assert done.point.bitops_cr == max(point.bitops_cr for point in done.record.points)
    compress(str(done.record.sequence), TINY, loss=0.5, **options)  # type: ignore[arg-type]
    assert [one.reused for one in heard] == [False, False, True, True]


@pytest.mark.parametrize(
    ("sequence", "out", "message"),
    [("", "n", "at least one stage"), ("PX", "n", "no stage 'X'"), ("P", "no/n", "existing folder")],
)
def test_what_cannot_be_done_is_told_before_anything_is_trained(
    sequence: str, out: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        compress(sequence, TINY, out=tmp_path / out, store=tmp_path / "store")
    assert not list(tmp_path.rglob("*.json"))


def test_a_loss_that_no_point_keeps_is_said() -> None:
    def remarks(order: str, *, keeps: bool) -> list[str]:
        record = make_record(order, accuracy=0.95, baseline=0.98)
        done = Compressed(record=record, point=record.points[0], keeps_loss=keeps, path=Path("n"))
        return done.remarks("2%")

    (line,) = remarks("PE", keeps=False)
    assert "one standard error within a loss of 2%: the best one loses 3.00 % on validation images" in line
    assert "; no exit threshold is stored" in line
    assert "threshold" not in remarks("P", keeps=False)[0]
    assert remarks("P", keeps=True) == []
