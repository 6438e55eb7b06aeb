"""Networks to take: copied out of the store only if they are whole, made again if they are not."""

from dataclasses import replace
from pathlib import Path

import pytest

from ordercomp.running.jobs import Request
from ordercomp.running.runner import Runner
from ordercomp.running.store import Store
from ordercomp.sequence import StageSequence
from tests import fakes


@pytest.mark.integration
def test_a_damaged_network_is_trained_again_before_it_is_taken(tmp_path: Path) -> None:
    task = fakes.FakeTask(tmp_path / "calls")
    with Runner(task, Store(tmp_path / "store"), workers=1, work=fakes.describe_origin) as runner:
        (finished,) = runner.run([Request(StageSequence.parse("D"), 0)])
        path = runner.whole_network(finished.record)
        assert path is not None
        whole = path.read_bytes()
        assert fakes.calls(task) == ["- 0", "D 0"]
        path.write_bytes(b"damaged")
        assert runner.whole_network(finished.record) == path
        assert path.read_bytes() == whole
        assert fakes.calls(task) == ["- 0", "D 0", "D 0"]
        path.unlink()  # as evicted ones are
        assert runner.whole_network(finished.record) is None
        runner.store.remove(path.stem)  # as with the whole folder
        assert runner.whole_network(finished.record) == path
        assert path.read_bytes() == whole


@pytest.mark.integration
def test_a_digest_that_leads_out_of_the_store_names_no_network(tmp_path: Path) -> None:
    (tmp_path / "foreign.safetensors").write_text("of a stranger")
    task = fakes.FakeTask(tmp_path / "calls")
    with Runner(task, Store(tmp_path / "store"), workers=1, work=fakes.describe_origin) as runner:
        (finished,) = runner.run([Request(StageSequence.parse("D"), 0)])
        record = replace(finished.record, extra={"digest": "../foreign"})
        assert (runner.store.folder / "../foreign.safetensors").is_file()
        assert runner.whole_network(record) is None
