"""Behaviors of other libraries that ordercomp leans on or works around; docs/library-facts.md lists them.

A test here that fails after an upgrade says that the library changed, and which of our code to look at.
"""

import importlib.metadata
import sqlite3
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import optuna
import pytest
import torch
import torch_pruning as tp
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

optuna.logging.set_verbosity(optuna.logging.WARNING)


def version(package: str) -> str:
    return f"with {package} {importlib.metadata.version(package)}"


def pruned_width(width: int, ratio: float) -> int:
    """What Torch-Pruning leaves of a layer, told as the exact decimal."""
    network = nn.Sequential(nn.Conv2d(1, width, 3), nn.ReLU(), nn.Conv2d(width, 2, 3))
    pruner = tp.pruner.BasePruner(
        network,
        torch.randn(1, 1, 8, 8),
        tp.importance.MagnitudeImportance(p=2),
        pruning_ratio=ratio,
        ignored_layers=[network[2]],
    )
    pruner.step()
    return int(network[0].out_channels)


def test_torch_pruning_loses_a_channel_to_floating_point() -> None:
    """`stages.channels` tells it a ratio that is less by 1e-9."""
    assert pruned_width(40, 0.8) == 7, version("torch-pruning")  # 40 · (1 − 0.8) is 8
    assert pruned_width(40, 0.8 - 1e-9) == 8, version("torch-pruning")


def test_torch_pruning_leaves_all_channels_where_less_than_one_would_stay() -> None:
    """`stages.channels` gives such layers a ratio of their own."""
    assert pruned_width(20, 0.97) == 20, version("torch-pruning")


def test_torch_pruning_does_not_cut_frozen_layers() -> None:
    """`stages.channels` thaws the module while it is cut."""
    network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 3)).requires_grad_(False)
    tp.pruner.BasePruner(
        network,
        torch.randn(1, 1, 8, 8),
        tp.importance.MagnitudeImportance(p=2),
        pruning_ratio=0.5,
        ignored_layers=[network[2]],
    ).step()
    assert network[0].out_channels == 8, version("torch-pruning")


@pytest.mark.parametrize("counted", ["matrix", "vector"])
def test_flop_counter_takes_a_matrix_times_a_vector_for_free(counted: str) -> None:
    """`measuring.cost` counts these products itself."""
    matrix, vector = torch.randn(5, 7), torch.randn(7)
    with FlopCounterMode(display=False) as counter:
        _ = matrix @ (vector if counted == "vector" else vector[:, None])
    assert counter.get_total_flops() == (0 if counted == "vector" else 70), version("torch")


def session(
    nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], shape: list[int]
) -> onnxruntime.InferenceSession:
    """A session with default options for a graph from x to y."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def quantizer(source: str, target: str, scale: str) -> list[onnx.NodeProto]:
    names = [source, scale, "zero"]
    return [
        helper.make_node("QuantizeLinear", names, [f"{target}_q"]),
        helper.make_node("DequantizeLinear", [f"{target}_q", scale, "zero"], [target]),
    ]


def test_onnxruntime_keeps_one_of_two_quantizers_in_a_row() -> None:
    """`shipping` never writes two quantizers after each other."""
    constants = {"a": np.float32(1.0), "b": np.float32(0.1), "zero": np.uint8(128)}
    constants = {name: np.asarray(value) for name, value in constants.items()}
    run = session([*quantizer("x", "m", "a"), *quantizer("m", "y", "b")], constants, [8])
    x = np.array([0.3, 0.7, 1.2, -0.4, -2.6, 3.3, 0.1, 5.9], dtype=np.float32)
    (got,) = run.run(None, {"x": x})
    promised = np.round(np.round(x) / np.float32(0.1)) * np.float32(0.1)
    assert np.abs(got - promised).max() > 0.2, version("onnxruntime")


def convolution(scales: list[float]) -> np.ndarray:
    """What onnxruntime makes of an image of ones with an int8 convolution of bias 1, one output per scale."""
    channels = len(scales)
    constants = {
        "a": np.asarray(np.float32(0.02)),
        "zero": np.asarray(np.uint8(128)),
        "w": np.ones((channels, 1, 1, 1), np.int8),
        "ws": np.array(scales, np.float32),
        "wz": np.zeros(channels, np.int8),
        "bias": np.ones(channels, np.float32),
    }
    nodes = [
        *quantizer("x", "xi", "a"),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        helper.make_node("Conv", ["xi", "wd", "bias"], ["c"]),
        *quantizer("c", "y", "a"),
    ]
    (got,) = session(nodes, constants, [1, 1, 1, 1]).run(None, {"x": np.ones((1, 1, 1, 1), np.float32)})
    return np.asarray(got).ravel()


def test_onnxruntime_loses_the_bias_of_a_channel_without_scale() -> None:
    """`shipping.graph` gives such channels a usual scale and zero numbers."""
    got = convolution([0.1, 0.0])
    assert got[0] == pytest.approx(1.1, abs=0.03), version("onnxruntime")
    assert got[1] != pytest.approx(1.0, abs=0.03), version("onnxruntime")


def test_nsga_has_no_enqueued_parents_in_optuna() -> None:
    """What a race or a design enqueued is lost on `--sampler nsga2`; docs/search.md says so."""
    sampler = optuna.samplers.NSGAIISampler(population_size=4, seed=0, mutation_prob=0.0, crossover_prob=0.0)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    for x in (0.1, 0.2, 0.3, 0.4):
        study.enqueue_trial({"x": x})
    study.optimize(lambda trial: (trial.suggest_float("x", 0, 1), 1.0), n_trials=12)
    later = {trial.params["x"] for trial in study.trials[4:]}
    assert not later & {0.1, 0.2, 0.3, 0.4}, version("optuna")


def test_optuna_stores_minus_zero_as_zero(tmp_path: Path) -> None:
    """No value of ours may tell apart the two zeros once it was stored."""
    study = optuna.create_study(storage=f"sqlite:///{tmp_path / 'study.db'}")
    study.add_trial(optuna.trial.create_trial(value=-0.0))
    stored = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path / 'study.db'}").trials[0].value
    assert stored == 0.0
    assert not np.signbit(stored), f"sqlite {sqlite3.sqlite_version}"
