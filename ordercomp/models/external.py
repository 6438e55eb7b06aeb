"""Networks that others define: functions of the user's, and the libraries torchvision and timm.

timm is an extra, imported when a network of it is asked for.
"""

import importlib
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ordercomp import torchvision_compat
from ordercomp.errors import did_you_mean, is_out_of_memory, one_line, reraise_as
from ordercomp.plugins import load_function
from ordercomp.sequence import KnobValue, parse_call

_CLASSES, _CHANNELS = ("classes", "num_classes"), ("channels", "in_channels", "in_chans")
_TIMM_FILES = {"checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"}
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


# Trained on images from -1 to 1; with `transform_input`, false unless told, they turn ImageNet's into that.
_NORMALIZED_INSIDE = ("googlenet", "inception_v3")
Normalization = tuple[tuple[float, ...], tuple[float, ...]]  # mean and std of each channel


def call_factory(path: str, options: Mapping[str, KnobValue], *, classes: int, channels: int) -> nn.Module:
    """Call the function `package.module:name` with `options` and return the network it makes.

    It also gets the number of classes and of image channels, under the first name of its signature among
    `classes`, `num_classes` and `channels`, `in_channels`, `in_chans`; if it takes any keyword, under the
    first of these. Raises ValueError in one line if it does not take the options, fails or makes no module.
    """
    torchvision_compat.declare_missing_operators()  # modules of users import torchvision, too
    function = load_function(path)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise ValueError(f"{path} cannot be called by its signature; name a Python function") from None
    any_keyword = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    arguments = dict(options)
    for names, value in ((_CLASSES, classes), (_CHANNELS, channels)):
        taken = [name for name in names if name in signature.parameters] or [*names[: int(any_keyword)]]
        for name in taken[:1]:
            arguments.setdefault(name, value)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise ValueError(f"{path}{signature} does not take {arguments}: {error}") from None
    with reraise_as(ValueError, f"{path} failed with {arguments}"):
        network = function(**arguments)
    if not isinstance(network, nn.Module):
        raise ValueError(f"{path} must return an nn.Module, got {type(network).__name__}")
    return network


def torchvision_model(name: str, *, classes: int, channels: int, **options: KnobValue) -> nn.Module:
    """Build torchvision's classification network `name` with fresh weights; `options` go to its function.

    Raises ValueError if there is no such network, if the images have other than 3 channels, or if the
    options do not suit.
    """
    models = torchvision_compat.models
    known = models.list_models(module=models)
    if name not in known:
        raise ValueError(
            f"torchvision has no classification network {name!r}{did_you_mean(name, known, most=3)}"
        )
    if channels != 3:
        raise ValueError(f"torchvision:{name} takes images of 3 channels, the data has {channels}")
    try:
        network: nn.Module = models.get_model(name, weights=None, num_classes=classes, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"torchvision:{name} failed with {options}: {one_line(error)}") from error
    return network


def torchvision_weights(name: str) -> Path:
    """Return the file of torchvision's best weights for `name`, from the folder of torch's downloads.

    Raises ValueError if torchvision has none, or the file is not there: it says from where to get it.
    """
    entry = _torchvision_entry(name)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path: Path = folder / str(entry.url).rpartition("/")[2]
    if not path.is_file():
        raise ValueError(f"weights of torchvision:{name} are not on disk: put {entry.url} into {folder}")
    return path


def _torchvision_normalization(spelled: str) -> Normalization:
    name, options = parse_call(spelled)
    if name in _NORMALIZED_INSIDE and not options.get("transform_input", False):
        return (0.5,) * 3, (0.5,) * 3
    preset = _torchvision_entry(name).transforms()
    return tuple(preset.mean), tuple(preset.std)


def _torchvision_entry(name: str) -> Any:
    """What torchvision knows of its best weights for `name`. Raises ValueError if it has none."""
    try:
        return torchvision_compat.models.get_model_weights(name)["DEFAULT"]
    except (KeyError, ValueError):
        raise ValueError(f"torchvision has no trained weights for {name!r}") from None


def timm_model(name: str, *, classes: int, channels: int, **options: KnobValue) -> nn.Module:
    """Build timm's network `name` with fresh weights; `options` go to its function, such as `img_size`.

    Raises ValueError if timm is not installed, has no such network, or does not take the options.
    """
    timm = _timm()
    _check_name(timm, name)
    if files := sorted(_TIMM_FILES & options.keys()):
        raise ValueError(f"timm:{name} takes no {files[0]}: a task's `weights` name the file to start from")
    try:
        network: nn.Module = timm.create_model(
            name, pretrained=False, num_classes=classes, in_chans=channels, **options
        )
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(f"timm:{name} failed with {options}: {one_line(error)}") from error
    return network


def timm_weights(name: str) -> Path:
    """Return the file of timm's weights for `name`, where the Hugging Face client or torch keep downloads.

    Raises ValueError if timm is not installed or has none, or the file is not there: it says how to get it.
    """
    entry = _timm_entry(name)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if entry.hf_hub_id:
        snapshots = _hub_folder() / f"models--{entry.hf_hub_id.replace('/', '--')}" / "snapshots"
        wanted = (entry.hf_hub_filename,) if entry.hf_hub_filename else _HUB_FILES
        for file in (path for pattern in wanted for path in sorted(snapshots.glob(f"*/{pattern}"))):
            return file
    if entry.url and (file := folder / str(entry.url).rpartition("/")[2]).is_file():
        return file
    ways = [f"run `hf download {entry.hf_hub_id}`"] if entry.hf_hub_id else []
    ways += [f"put {entry.url} into {folder}"] if entry.url else []
    raise ValueError(f"weights of timm:{name} are not on disk: {', or '.join(ways)}")


def _timm_normalization(spelled: str) -> Normalization:
    entry = _timm_entry(parse_call(spelled)[0])
    return tuple(entry.mean), tuple(entry.std)


def _timm_entry(name: str) -> Any:
    """What timm knows of its weights for `name`. Raises ValueError if it is not installed or has none."""
    timm = _timm()
    _check_name(timm, name)
    entry = timm.get_pretrained_cfg(name)
    if entry is None or not (entry.hf_hub_id or entry.url):
        raise ValueError(f"timm has no trained weights for {name!r}")
    return entry


def _timm() -> Any:
    torchvision_compat.declare_missing_operators()  # timm imports torchvision
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise ValueError(f"timm:NAME needs the extra: pip install 'ordercomp[timm]' ({error})") from None


def _check_name(timm: Any, name: str) -> None:
    """Raise ValueError unless timm has the network and, if the name has one after a dot, the weights' tag."""
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        hint = did_you_mean(architecture, timm.list_models(), most=3)
        raise ValueError(f"timm has no network {architecture!r}{hint}")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(architecture)]
    if tag and tag not in tags:
        raise ValueError(f"timm has no weights {tag!r} of {architecture}; it has {', '.join(tags) or 'none'}")


def _hub_folder() -> Path:
    """Where the Hugging Face client keeps downloads."""
    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")


@dataclass(frozen=True, slots=True)
class Library:
    """Networks by name: how one is built, and the file of its trained weights."""

    build: Callable[..., nn.Module]  # (name, *, classes, channels, **options)
    pretrained_file: Callable[[str], Path]
    normalization: Callable[[str], Normalization]  # of (name with options), of these weights, white being 1


LIBRARIES: Mapping[str, Library] = {  # by what stands before the colon in `torchvision:resnet18`
    "torchvision": Library(torchvision_model, torchvision_weights, _torchvision_normalization),
    "timm": Library(timm_model, timm_weights, _timm_normalization),
}
