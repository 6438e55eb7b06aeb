"""timm's networks, and where their trained weights lie. timm is an extra, imported when one is asked for."""

import difflib
import importlib
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ordercomp.errors import is_out_of_memory, one_line
from ordercomp.sequence import KnobValue
from ordercomp.torchvision_compat import declare_missing_operators

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
