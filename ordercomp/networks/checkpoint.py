"""Networks as files: one safetensors file with JSON in its header, no pickle, replaced atomically."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ordercomp.codec import parse_json
from ordercomp.files import replacing

FORMAT = 1


class CheckpointError(ValueError):
    """A file that is no network of ours, or a damaged one."""


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors, by name, and facts that JSON can hold; tensors that share memory are stored apart.

    An older file at `path` stays whole until the new one is, and as it is if it is the same. Raises OSError
    if it cannot be written.
    """
    header = {"ordercomp": json.dumps({"format": FORMAT, **facts})}
    content = save(_apart(tensors), metadata=header)  # the library's own writing leaves drafts after a kill
    try:
        if path.is_file() and not path.is_symlink() and path.read_bytes() == content:
            return
        with replacing(path) as draft:
            draft.write_bytes(content)
    except OSError as error:
        problem = f"cannot write the network to {path}: {_line(error)}"
        raise OSError(error.errno or 0, problem) from None


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the facts of a file.

    Raises CheckpointError for a damaged or foreign file, FileNotFoundError for a missing one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no network file at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            facts = parse_json((file.metadata() or {}).get("ordercomp", "null").encode())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file: {_line(error)}") from None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise CheckpointError(f"{path} was not written by this version of ordercomp (format {FORMAT})")
    return tensors, facts


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors of which no two share memory."""
    places: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().contiguous()
        place = tensor.untyped_storage().data_ptr()
        result[name] = tensor.clone() if place in places else tensor
        places.add(place)
    return result


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
