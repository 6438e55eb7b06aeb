"""Trained weights from elsewhere: read, fitted by name, and refused in one line where they do not fit."""

import argparse
import datetime
import gzip
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from tiny_networks import tiny_network
from torch import Tensor, nn

from ordercomp.networks.network import CompressedNetwork
from ordercomp.networks.weights import fit_weights, read_weights, weights_digest, weights_path

SIZE = (8, 8)


def body(classes: int = 10, *, seed: int = 0) -> nn.Module:
    network = CompressedNetwork.create("resnet8(width=4)", classes=classes, channels=1, size=SIZE, seed=seed)
    return network.module.body


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize(
    "prefix", ["", "module.", "_orig_mod.module.", "body.", "network.", "student.", "model.backbone.net."]
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".th", ".tar", ""])
def test_the_network_takes_the_weights_of_a_file(tmp_path: Path, prefix: str, suffix: str) -> None:
    trained, fresh = body(seed=1), body(seed=2)
    tensors = {prefix + name: value.contiguous() for name, value in state(trained).items()}
    path = tmp_path / f"w{suffix}"
    if suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save({"epoch": 3, "state_dict": tensors} if suffix == ".pt" else tensors, path)
    assert fit_weights(fresh, read_weights(weights_path(str(path), "resnet8(width=4)"))) == []
    image = torch.randn(2, 1, *SIZE)
    assert torch.equal(trained.eval()(image), fresh.eval()(image))


def test_names_that_do_not_fit_are_listed() -> None:
    tensors = state(body())
    tensors["classifier.weights"] = tensors.pop("classifier.weight")
    name = next(name for name, one in tensors.items() if one.dim() == 4)
    tensors[name] = torch.zeros(1, 1, 3, 3)
    told = rf"lack classifier.weight; they hold the unknown classifier.weights; .* in {name} \(1x1x3x3 for "
    with pytest.raises(ValueError, match=told):
        fit_weights(body(), {"": tensors})


def test_a_classifier_for_other_classes_stays_new_only_where_it_may() -> None:
    module, tensors = body(), state(body(100, seed=1))
    with pytest.raises(ValueError, match=r"another shape in classifier.weight .100x16 for 10x16."):
        fit_weights(module, {"": tensors})
    before = state(module)
    assert fit_weights(module, {"": tensors}, classes=10) == ["classifier.weight", "classifier.bias"]
    after = state(module)
    for name, value in after.items():
        assert torch.equal(value, (before if name.startswith("classifier") else tensors)[name]), name


LAYOUTS: dict[str, Callable[[dict[str, Tensor]], object]] = {
    "nested": lambda state: {"model": {"state_dict": state}, "epoch": 3},
    "averaged": lambda state: {"n_averaged": torch.tensor(7), **_named("module.", state)},
    "lightning": lambda state: {
        "state_dict": {
            **_named("model.", state),
            "train_acc.tp": torch.zeros(10),
            "loss.weight": torch.ones(3),
        },
        "hyper_parameters": {"lr": 0.1},
        "optimizer_states": [{"state": {0: {"momentum_buffer": torch.zeros(3)}}}],
    },
    "counted by thop": lambda state: {
        **state,
        "total_ops": torch.zeros(1),
        "conv.total_params": torch.ones(1),
    },
    "beside its average": lambda state: {"model_ema": _zeros(state), "model": state},
    "beside its teacher": lambda state: {**_named("student.", state), "teacher.conv.weight": torch.ones(2)},
    "beside values": lambda state: {**state, "transform_input": True, "classes": ["a", "b"]},
    "beside an optimizer": lambda state: {
        "state_dict": state,
        "optimizer": {"state": {place: {"exp_avg": torch.ones(2)} for place in range(9)}},
    },
    "beside a teacher": lambda state: {**_named("teacher.", _zeros(state)), **_named("student.", state)},
    "beside an average": lambda state: {**_named("ema_model.", _zeros(state)), **_named("model.", state)},
    "beside arguments and metrics": lambda state: {
        "state_dict": state,
        "args": argparse.Namespace(lr=0.1, out=Path("runs")),
        "best": np.float64(0.9),
        "at": datetime.datetime(2026, 1, 1),
        "seen": defaultdict(list),
    },
    "beside a target": lambda state: {**_named("target_net.", _zeros(state)), **_named("online_net.", state)},
    "beside a momentum encoder": lambda state: {
        "state_dict": {
            **_named("module.encoder_k.", _zeros(state)),
            **_named("module.encoder_q.", state),
            "module.queue": torch.zeros(3, 4),
        }
    },
    "beside a shadow": lambda state: {"shadow": _zeros(state), "weights": state},
    "without counters": lambda state: _uncounted(state),
    "on several devices, without counters": lambda state: {
        "state_dict": _named("module.", _uncounted(state))
    },
    "with the normalization of images": lambda state: {"model": state, "mean": torch.zeros(3)},
    "of parts on several devices": lambda state: _within("module", state),
    "of compiled parts": lambda state: _named("net.", _within("_orig_mod", state)),
    "of sharded parts": lambda state: {"model": _within("_fsdp_wrapped_module", state)},
    "of recomputed parts": lambda state: _within("_checkpoint_wrapped_module", state),
    "of wrappers in wrappers": lambda state: _named("_orig_mod.module.", _within("_orig_mod.module", state)),
    "only averaged": lambda state: {"model": {"other.weight": torch.ones(2)}, "ema": {"module": state}},
}


def _named(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


def _within(wrapper: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As if the stages alone were wrapped, and each of their blocks."""
    inside = rf"\1.{wrapper}.\2.\3.{wrapper}."
    return {re.sub(r"^(stages)\.(\d)\.(\d)\.", inside, name): one for name, one in state.items()}


def _uncounted(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: one for name, one in state.items() if not name.endswith("num_batches_tracked")}


def _zeros(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.zeros_like(value) for name, value in state.items()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_state_that_fits_best_is_found_in_a_checkpoint(layout: str, tmp_path: Path) -> None:
    trained, fresh = body(seed=1), body(seed=2)
    torch.save(LAYOUTS[layout](state(trained)), tmp_path / "w.pt")
    fit_weights(fresh, read_weights(tmp_path / "w.pt"))
    image = torch.randn(2, 1, *SIZE)
    assert torch.equal(trained.eval()(image), fresh.eval()(image))


@pytest.mark.parametrize(
    ("layout", "told"),
    [
        ("beside its average", "of the weights, the state 'model' are taken; left: the state 'model_ema'"),
        ("lightning", "whose names start with 'model.' are taken; left: train_acc.tp, loss.weight"),
        ("beside an optimizer", "the state 'state_dict' are taken; left: the state 'optimizer'\n"),
        ("nested", ""),
    ],
)
def test_what_was_taken_and_what_was_left_is_told(
    layout: str, told: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    torch.save(LAYOUTS[layout](state(body(seed=1))), tmp_path / "w.pt")
    fit_weights(body(), read_weights(tmp_path / "w.pt"))
    assert told in caplog.text
    assert bool(told) == bool(caplog.text)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda value: (value * 100).to(torch.int8), r"other kinds of numbers in \S+ \(torch.int8\)"),
        (lambda value: value > 0, r"other kinds of numbers in \S+ \(torch.bool\)"),
        (lambda value: value * float("nan"), "not finite in conv.weight"),
        (lambda value: value.to_sparse(), r"other kinds of numbers in \S+ \(torch.sparse_coo\)"),
        (lambda value: value.to("meta"), r"other kinds of numbers in \S+ \(without values\)"),
        (lambda value: value[:1], "another shape in conv.weight"),
        (
            lambda value: value.to(torch.float8_e4m3fn),
            r"other kinds of numbers in \S+ \(torch.float8_e4m3fn\)",
        ),
        (lambda value: value.to(torch.float8_e5m2), r"other kinds of numbers in \S+ \(torch.float8_e5m2\)"),
        (lambda value: (value * 9).to(torch.uint8), r"other kinds of numbers in \S+ \(torch.uint8\)"),
        (lambda value: (value * 9).to(torch.int32), r"other kinds of numbers in \S+ \(torch.int32\)"),
        (lambda value: value.to(torch.complex64), r"other kinds of numbers in \S+ \(torch.complex64\)"),
    ],
)
def test_tensors_of_another_kind_are_refused_by_name(change: Callable[[Tensor], Tensor], told: str) -> None:
    tensors = state(body(seed=1))
    tensors["conv.weight"] = change(tensors["conv.weight"])
    with pytest.raises(ValueError, match=told):
        fit_weights(body(), {"": tensors})


PRECISIONS: dict[str, Callable[[Tensor], Tensor]] = {  # of parameters, and of what else is in a state
    "half": lambda value: value.half() if value.is_floating_point() else value,
    "half, counters too": Tensor.half,
    "bfloat16": lambda value: value.bfloat16() if value.is_floating_point() else value,
    "double": Tensor.double,
    "the mean of two": lambda value: (value + value) / 2,
}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_floats_of_any_precision_are_taken(precision: str) -> None:
    tensors = {name: PRECISIONS[precision](one) for name, one in state(body(seed=1)).items()}
    fresh = body(seed=3)
    assert fit_weights(fresh, {"": tensors}) == []
    assert all(torch.equal(one, tensors[name].to(one.dtype)) for name, one in fresh.state_dict().items())


def tied(*, seed: int = 0) -> nn.Module:
    return tiny_network("user_nets:tied_weights", seed=seed).module.body


def test_one_of_two_tied_weights_is_enough_and_others_must_be_equal(tmp_path: Path) -> None:
    trained = tied(seed=1).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    save_model(trained, str(tmp_path / "w.safetensors"))  # which writes what is shared once
    read = read_weights(tmp_path / "w.safetensors")
    assert len(read[""]) == len(trained.state_dict()) - 1
    fresh = tied(seed=2)
    fit_weights(fresh, read)
    assert all(torch.equal(one, trained.state_dict()[name]) for name, one in fresh.state_dict().items())
    apart = {**state(trained), "one.weight": torch.zeros_like(trained.one.weight)}  # type: ignore[union-attr, arg-type]
    with pytest.raises(
        ValueError, match=r"different values in the shared (one|two).weight and (one|two).weight"
    ):
        fit_weights(tied(), {"": apart})


class _Whole(nn.Module):
    pass


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"epoch": 3, "loss": 0.5}, "must hold tensors by name, got a mapping with the keys epoch, loss"),
        ([torch.zeros(3)], "must hold tensors by name, got list"),
        ({}, "must hold tensors by name"),
        (_Whole(), r"Python objects, .*: \S+_Whole; save `module.state_dict.*`, not the module"),
        ({"state_dict": {}, "model": _Whole()}, r"Python objects, which could run code: \S+_Whole; save"),
    ],
)
def test_other_contents_are_refused_in_one_line(tmp_path: Path, content: object, told: str) -> None:
    path = tmp_path / "w.pt"
    torch.save(content, path)
    with pytest.raises(ValueError, match=told) as error:
        read_weights(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"version https://git-lfs.github.com/spec/v1", "it only points to a file of Git LFS"),
        (b"<!DOCTYPE html>", "it is a web page"),
        (gzip.compress(b"weights", mtime=0), "it is compressed by gzip"),
        (b"", "it is empty"),
        (b"PK\3\4 cut short", "it is cut short"),
        (
            b'{"weight_map": {"conv.weight": "model-00001-of-00002.safetensors"}}',
            "it is JSON, such as the index",
        ),
        (bytes(5000), "it is neither safetensors nor a file of torch"),  # a download that never came
        (b"GGUF" + bytes(60), "it is neither safetensors nor a file of torch"),
        (b"7z" + bytes(60), "it is neither safetensors nor a file of torch"),
        (b"\x93NUMPY" + bytes(60), "it is neither safetensors nor a file of torch"),
    ],
)
def test_files_that_hold_no_weights_are_told_by_what_they_are(
    content: bytes, told: str, tmp_path: Path
) -> None:
    for name in ("w.safetensors", "w.pt", "w.any"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=told) as error:
            read_weights(weights_path(str(tmp_path / name), "resnet8"))
        assert str(error.value).isprintable()


@pytest.mark.parametrize("name", ["w.pt", "w.ckpt", "w.safetensors", "w.bin", "pytorch_model.pth"])
def test_a_file_is_read_by_what_it_holds_not_by_its_name(name: str, tmp_path: Path) -> None:
    wanted = {key: value.contiguous() for key, value in state(body(seed=1)).items()}
    for write in (torch.save, save_file):
        write(wanted, tmp_path / name)
        (found,) = read_weights(tmp_path / name).values()
        assert all(torch.equal(found[key], value) for key, value in wanted.items())


def test_torchscript_is_told_as_such(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "w.pt")
    with pytest.raises(ValueError, match="it is TorchScript; save"):
        read_weights(tmp_path / "w.pt")


def test_damaged_files_and_wrong_names_are_refused(tmp_path: Path) -> None:
    for name in ("w.safetensors", "w.pt"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(ValueError, match=f"weights .*{name} cannot be read"):
            read_weights(tmp_path / name)
    with pytest.raises(ValueError, match=r"weights must be a file or 'pretrained': there is no file best"):
        weights_path("best", "resnet8")
    with pytest.raises(ValueError, match="there is no file"):
        weights_path(str(tmp_path / "none.pt"), "resnet8")
    with pytest.raises(ValueError, match="needs a model torchvision:NAME or timm:NAME, got 'resnet8'"):
        weights_path("pretrained", "resnet8")


def test_pretrained_weights_are_looked_for_where_torch_keeps_downloads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ValueError, match=r"not on disk: put https://.*/resnet18-\w+\.pth into .*checkpoints"):
        weights_path("pretrained", "torchvision:resnet18")
    (tmp_path / "checkpoints").mkdir()
    file = tmp_path / "checkpoints" / "resnet18-f37072fd.pth"
    file.touch()
    assert weights_path("pretrained", "torchvision:resnet18") == file
    with pytest.raises(ValueError, match="torchvision has no trained weights for 'resnet17'"):
        weights_path("pretrained", "torchvision:resnet17")


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(b"a")
    first = weights_digest(path)
    path.write_bytes(b"bc")
    assert weights_digest(path) != first
