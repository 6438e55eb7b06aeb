"""Networks that others define: torchvision's and functions of the user's."""

import difflib
import importlib
import inspect
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ordercomp.errors import is_out_of_memory, one_line
from ordercomp.plugins import load_function
from ordercomp.sequence import KnobValue
from ordercomp.torchvision_compat import declare_missing_operators, models

_CLASSES, _CHANNELS = ("classes", "num_classes"), ("channels", "in_channels", "in_chans")


def call_factory(path: str, options: Mapping[str, KnobValue], *, classes: int, channels: int) -> nn.Module:
    """Call the function `package.module:name` with `options` and return the network it makes.

    It also gets the number of classes and of image channels, under the first name of its signature among
    `classes`, `num_classes` and `channels`, `in_channels`, `in_chans`; if it takes any keyword, under the
    first of these. Raises ValueError in one line if it does not take the options, fails or makes no module.
    """
    declare_missing_operators()  # modules of users import torchvision, too
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
    try:
        network = function(**arguments)
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} failed with {arguments}: {type(error).__name__}: {reason}") from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"{path} must return an nn.Module, got {type(network).__name__}")
    return network


# torchvision's classification networks, and where their trained weights lie.


def torchvision_model(name: str, *, classes: int, channels: int, **options: KnobValue) -> nn.Module:
    """Build torchvision's classification network `name` with fresh weights; `options` go to its function.

    Raises ValueError if there is no such network, if the images have other than 3 channels, or if the
    options do not suit.
    """
    known = models.list_models(module=models)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise ValueError(f"torchvision has no classification network {name!r}{hint}")
    if channels != 3:
        raise ValueError(f"torchvision:{name} takes images of 3 channels, the data has {channels}")
    try:
        network: nn.Module = models.get_model(name, weights=None, num_classes=classes, **options)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"torchvision:{name} failed with {options}: {' '.join(str(error).split())}"
        ) from error
    return network


def pretrained_file(name: str) -> Path:
    """Return the file of torchvision's best weights for `name`, from the folder of torch's downloads.

    Raises ValueError if torchvision has none, or the file is not there: it says from where to get it.
    """
    try:
        entry = models.get_model_weights(name)["DEFAULT"]
    except (KeyError, ValueError):
        raise ValueError(f"torchvision has no trained weights for {name!r}") from None
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path: Path = folder / str(entry.url).rpartition("/")[2]
    if not path.is_file():
        raise ValueError(f"weights of torchvision:{name} are not on disk: put {entry.url} into {folder}")
    return path


# timm's networks, and where their trained weights lie. timm is an extra, imported when one is asked for.


_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def timm_model(name: str, *, classes: int, channels: int, **options: KnobValue) -> nn.Module:
    """Build timm's network `name` with fresh weights; `options` go to its function, such as `img_size`.

    Raises ValueError if timm is not installed, has no such network, or does not take the options.
    """
    timm = _timm()
    _check_name(timm, name)
    try:
        network: nn.Module = timm.create_model(
            name, pretrained=False, num_classes=classes, in_chans=channels, **options
        )
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(f"timm:{name} failed with {options}: {one_line(error)}") from error
    return network


def timm_pretrained_file(name: str) -> Path:
    """Return the file of timm's weights for `name`, where the Hugging Face client or torch keep downloads.

    Raises ValueError if timm is not installed or has none, or the file is not there: it says how to get it.
    """
    timm = _timm()
    _check_name(timm, name)
    entry = timm.get_pretrained_cfg(name)
    if entry is None or not (entry.hf_hub_id or entry.url):
        raise ValueError(f"timm has no trained weights for {name!r}")
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if entry.hf_hub_id:
        snapshots = _hub_folder() / f"models--{entry.hf_hub_id.replace('/', '--')}" / "snapshots"
        wanted = (entry.hf_hub_filename,) if entry.hf_hub_filename else _HUB_FILES
        for file in (found for one in wanted for found in sorted(snapshots.glob(f"*/{one}"))):
            return file
    if entry.url and (file := folder / str(entry.url).rpartition("/")[2]).is_file():
        return file
    ways = [f"run `hf download {entry.hf_hub_id}`"] if entry.hf_hub_id else []
    ways += [f"put {entry.url} into {folder}"] if entry.url else []
    raise ValueError(f"weights of timm:{name} are not on disk: {', or '.join(ways)}")


def _timm() -> Any:
    declare_missing_operators()  # timm imports torchvision
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise ValueError(f"timm:NAME needs the extra: pip install 'ordercomp[timm]' ({error})") from None


def _check_name(timm: Any, name: str) -> None:
    """Raise ValueError unless timm has the network and, if the name has one after a dot, the weights' tag."""
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise ValueError(f"timm has no network {architecture!r}{hint}")
    tags = [one.partition(".")[2] for one in timm.list_pretrained(architecture)]
    if tag and tag not in tags:
        raise ValueError(f"timm has no weights {tag!r} of {architecture}; it has {', '.join(tags) or 'none'}")


def _hub_folder() -> Path:
    """Where the Hugging Face client keeps downloads."""
    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")


# Libraries of networks by the name before the colon in `torchvision:resnet18`.


@dataclass(frozen=True, slots=True)
class Library:
    """Functions by name, so that only what is asked for is imported: torchvision takes two seconds."""

    build: str  # (name, *, classes, channels, **options) -> nn.Module
    pretrained_file: str  # (name) -> Path


LIBRARIES: Mapping[str, Library] = {
    "torchvision": Library(
        build="ordercomp.models.external:torchvision_model",
        pretrained_file="ordercomp.models.external:pretrained_file",
    ),
    "timm": Library(
        build="ordercomp.models.external:timm_model",
        pretrained_file="ordercomp.models.external:timm_pretrained_file",
    ),
}
