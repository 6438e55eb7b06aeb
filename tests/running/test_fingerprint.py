"""Input fingerprint: what a task only names joins its digest, so that changed data or code train anew."""

import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ordercomp.networks.network import CompressedNetwork
from ordercomp.plugins import is_installed
from ordercomp.running import node
from ordercomp.running.fingerprint import fingerprint_task, source_fingerprint
from ordercomp.running.jobs import NodeJob, node_key
from ordercomp.running.node import create_network, start_network, train_node
from ordercomp.running.store import Store
from ordercomp.running.task import Task, load_task
from ordercomp.sequence import StageSequence
from ordercomp.training.recipe import Recipe

TINY = Task(
    name="tiny",
    model="resnet8(width=4)",
    data="digits",
    recipe=Recipe(epochs=0.5, batch_size=32, learning_rate=0.05, precision="float32"),
    train_limit=64,
)
LAYERS = """
from torch import nn


def conv(inputs, outputs):
    return nn.Conv2d(inputs, outputs, {size}, padding=1)
"""
NET = """
from torch import nn

from {layers} import conv


def net(classes, channels):
    body = conv(channels, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(4, classes))
"""


def test_the_layers_behind_the_links_are_no_code_of_the_users() -> None:
    root = Path(__file__).parents[2]
    for folder in ("search", "analysis", "studies", "ordercomp"):
        assert is_installed(root / folder / "__init__.py")
    assert not is_installed(root / "tests" / "fakes.py")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the user's with a model function that uses another module of the user's."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "user_layers.py").write_text(LAYERS.format(size=3))
    (tmp_path / "user_net.py").write_text(NET.format(layers="user_layers"))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("user_")]:
        sys.modules.pop(name)


def digest(task: Task) -> str:
    for name in ("user_net", "user_layers"):
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    node._recent.clear()
    return fingerprint_task(task).digest


def test_a_task_that_names_nothing_outside_keeps_its_digest() -> None:
    task = load_task("digits")
    assert fingerprint_task(task) == task


def test_an_edited_model_function_is_another_task(package: Path) -> None:
    task = replace(TINY, model="user_net:net")
    first = digest(task)
    assert digest(task) == first
    (package / "user_net.py").write_text(NET.format(layers="user_layers") + "# a comment\n")
    assert digest(task) != first


def test_an_edited_module_that_a_model_imports_is_another_task(package: Path) -> None:
    task = replace(TINY, model="user_net:net")
    first = digest(task)
    (package / "user_layers.py").write_text(LAYERS.format(size=5))
    assert digest(task) != first


@pytest.mark.parametrize(
    "source",
    [
        "from user_layers import SCALE\n",
        "from user_layers import *\n",
        "def scale():\n    import user_layers\n    return user_layers.SCALE\n",
        "try:\n    from no_such import SCALE\nexcept ImportError:\n    from user_layers import SCALE\n",
    ],
)
def test_an_edited_constant_that_a_model_imports_is_another_task(package: Path, source: str) -> None:
    (package / "user_net.py").write_text(
        source
        + NET.format(layers="torch.nn")
        .replace("conv\n", "Conv2d\n")
        .replace("conv(channels, 4)", "Conv2d(channels, 4, 3)")
    )
    task = replace(TINY, model="user_net:net")
    (package / "user_layers.py").write_text("SCALE = 1.0\n")
    first = digest(task)
    assert digest(task) == first
    (package / "user_layers.py").write_text("SCALE = 50.0\n")
    assert digest(task) != first


def test_an_edited_part_of_a_package_is_another_task(package: Path) -> None:
    inner = package / "user_package" / "inner"
    inner.mkdir(parents=True)
    (package / "user_package" / "__init__.py").write_text("")
    (inner / "__init__.py").write_text("from ..sizes import SIZE\n")
    (package / "user_package" / "sizes.py").write_text("SIZE = 1\n")
    (package / "user_net.py").write_text(
        "from user_package.inner import SIZE\n\n\ndef net():\n    return SIZE\n"
    )
    first = source_fingerprint("user_net:net")
    (package / "user_package" / "sizes.py").write_text("SIZE = 2\n")
    assert source_fingerprint("user_net:net") != first


def test_replaced_images_are_another_task(tmp_path: Path) -> None:
    def paint(value: int) -> None:
        for part in ("train", "val", "test"):
            for label in ("a", "b"):
                (tmp_path / part / label).mkdir(parents=True, exist_ok=True)
                for place in range(4):
                    pixels = np.full((8, 8), value + 10 * place, dtype=np.uint8)
                    Image.fromarray(pixels).save(tmp_path / part / label / f"{place}.png")

    task = replace(TINY, data=f"folder:{tmp_path}", train_limit=None)
    paint(0)
    first = digest(task)
    assert digest(task) == first
    paint(100)
    assert digest(task) != first


def test_whole_numbers_and_their_decimals_are_one_recipe() -> None:
    assert replace(TINY, recipe=Recipe(epochs=30)).digest == replace(TINY, recipe=Recipe(epochs=30.0)).digest


def weights_of(task: Task, path: Path, seed: int = 5) -> Path:
    torch.save(create_network(task, seed=seed).module.body.state_dict(), path)
    return path


def trained_weights(task: Task, path: Path) -> Path:
    store = path.parent / "trained"
    baseline(replace(task, recipe=replace(task.recipe, epochs=4)), store)
    (file,) = store.glob("*.safetensors")
    torch.save(CompressedNetwork.load(file).module.body.state_dict(), path)
    return path


def baseline(task: Task, folder: Path) -> torch.Tensor:
    """First weight of the baseline."""
    empty = StageSequence()
    job = NodeJob(task, empty, 0, node_key(task.digest, empty, 0), None, folder)
    train_node(job)
    network = CompressedNetwork.load(Store(folder).network_path(job.key))
    return next(iter(network.module.body.state_dict().values()))


def test_given_weights_are_measured_and_not_trained(tmp_path: Path) -> None:
    path = trained_weights(TINY, tmp_path / "w.pt")
    task = fingerprint_task(replace(TINY, weights=str(path), normalize="data"))
    start = next(iter(torch.load(path, weights_only=True).values()))
    assert torch.equal(baseline(task, tmp_path / "store"), start)


def test_given_weights_are_fine_tuned_where_epochs_are_asked_for(tmp_path: Path) -> None:
    path = weights_of(TINY, tmp_path / "w.pt")
    task = fingerprint_task(replace(TINY, weights=str(path), baseline_epochs=0.5))
    start = next(iter(torch.load(path, weights_only=True).values()))
    assert not torch.equal(baseline(task, tmp_path / "store"), start)


def test_other_weights_are_another_task(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    task = replace(TINY, weights=str(weights_of(TINY, path, seed=1)), normalize="data")
    first = fingerprint_task(task).digest
    assert first != TINY.digest
    weights_of(TINY, path, seed=2)
    assert fingerprint_task(task).digest != first


def test_weights_that_do_not_fit_are_refused_with_their_file(tmp_path: Path) -> None:
    path = weights_of(replace(TINY, model="resnet8(width=6)"), tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"w\.pt: weights do not fit the model: they have another shape in"):
        start_network(replace(TINY, weights=str(path), normalize="data"), seed=0)


def test_no_epochs_without_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="baseline_epochs = 0 needs weights"):
        replace(TINY, baseline_epochs=0)
