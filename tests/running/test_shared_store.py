"""A store behind an address: what one machine finished is there for another one, whole or not at all."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ordercomp.running.jobs import NodeJob, Request
from ordercomp.running.runner import Runner
from ordercomp.running.store import SharedStore, SharedStoreError, Store, open_store
from ordercomp.sequence import StageSequence
from tests import fakes
from tests.fakes import FakeTask, calls, make_record

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(params=["file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return f"file://{tmp_path}/shared"
    return f"memory://{tmp_path.name}"


@pytest.fixture
def run(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[bool]]:
    """Run an order on a machine with its own folder; whether each node was reused."""
    task = FakeTask(tmp_path / "calls")
    monkeypatch.setattr(fakes, "Store", lambda root: open_store(root, url))

    def run_at(machine: str, order: str = "DPQ") -> list[bool]:
        store = open_store(tmp_path / machine, url)
        with ThreadPoolExecutor(2) as pool, Runner(task, store, executor=pool, work=fakes.work) as runner:
            found = list(runner.run([Request(StageSequence.parse(order), 0)]))
        assert all(one.record.error is None for one in found)
        return [one.reused for one in found]

    return run_at


def entries(url: str) -> dict[str, bytes]:
    files, root = fsspec.core.url_to_fs(url)
    return {path.rsplit("/", 1)[1]: files.cat_file(path) for path in files.find(root)}


def test_what_one_machine_finished_another_one_reuses(
    run: Callable[..., list[bool]], url: str, tmp_path: Path
) -> None:
    assert run("one") == [False] * 3
    assert run("two") == [True] * 3
    assert len(calls(FakeTask(tmp_path / "calls"))) == 4
    assert sorted(Path(name).suffix for name in entries(url)) == [".json"] * 4 + [".safetensors"] * 4


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"{}", None])
def test_what_is_damaged_or_gone_at_the_address_is_computed_again_and_replaced(
    run: Callable[..., list[bool]], url: str, suffix: str, content: bytes | None
) -> None:
    run("one")
    before = entries(url)
    files, root = fsspec.core.url_to_fs(url)
    for name in before:
        if name.endswith(suffix):
            path = f"{root}/{name}"
            files.rm_file(path) if content is None else files.pipe_file(path, content)
    reused = [suffix == ".safetensors"] * 3  # a record is good without its network
    assert run("two", "DPQE") == [*reused, False]
    after = entries(url)
    assert {name: after[name] for name in before} == before


def test_an_address_that_fails_at_first_is_tried_again(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ordercomp.running.store._PAUSES", (0.0, 0.0))
    store = SharedStore(tmp_path / "one", url)
    failing = _Failing(store._files, times=2)
    monkeypatch.setattr(store, "_files", failing)
    store.put("a" * 64, _record(tmp_path), lambda path: path.write_text("network") and None)
    assert failing.times == 0
    assert SharedStore(tmp_path / "two", url).has_network("a" * 64)


def test_an_address_that_is_gone_is_named_and_what_is_finished_stays(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ordercomp.running.store._PAUSES", (0.0,))
    store = SharedStore(tmp_path / "one", url)
    monkeypatch.setattr(store, "_files", _Failing(store._files, times=9))
    with pytest.raises(SharedStoreError, match=r"store .*:// ?.* failed: no route; finished nodes are kept"):
        store.put("a" * 64, _record(tmp_path))
    assert Store(tmp_path / "one").get("a" * 64) is not None


def test_an_address_of_no_known_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"store must be an address such as s3://bucket/folder, got 'no://"):
        open_store(tmp_path / "store", "no://where")


class _Failing:
    """Files that fail some times."""

    def __init__(self, files: Any, *, times: int) -> None:
        self._files, self.times = files, times

    def __getattr__(self, name: str) -> Any:
        if self.times:
            self.times -= 1
            raise ConnectionError("no route")
        return getattr(self._files, name)


def _record(folder: Path) -> Any:
    return make_record(NodeJob(FakeTask(folder), StageSequence.parse("D"), 0, "a" * 64, "b", folder))
