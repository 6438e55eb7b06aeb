"""Weights on disk: networks as files of ours, and trained weights from elsewhere, fitted by name."""

import argparse
import collections
import datetime
import functools
import hashlib
import json
import logging
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path, PosixPath
from typing import Any, Final

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ordercomp.codec import parse_json
from ordercomp.errors import is_out_of_memory, one_line
from ordercomp.files import file_digest, refuse_device, replacing
from ordercomp.models.external import LIBRARIES, Library, Normalization
from ordercomp.plugins import is_function

_log = logging.getLogger(__name__)

FORMAT = 1
_SEAL = ', "sha256": "'  # what stands between the facts and the digest over them and the tensors
PRETRAINED = "pretrained"  # the weights that a library ships for a model of its own
_DEEPEST = 3  # mappings in mappings
_AVERAGES = (  # in what names states beside the one trained
    *("ema", "avg", "average", "swa", "teacher", "target", "momentum", "shadow", "polyak", "encoder_k"),
)
_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")  # torch's own
_COUNTERS = ("num_batches_tracked", "n_averaged", "total_ops", "total_params")  # that tools leave behind
_OPTIONAL = "num_batches_tracked"  # counters that files written long ago do not have
_SHOWN = 5  # names in a message
_OTHERS = frozenset(
    {".pt", ".pth", ".ckpt", ".bin", ".onnx", ".toml", ".json", ".jsonl", ".csv", ".py", ".db"}
)

# Networks as files: one safetensors file with JSON in its header, no pickle, replaced atomically


class CheckpointError(ValueError):
    """A file that is no network of ours, or a damaged one."""


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors, by name, and facts that JSON can hold; tensors that share memory are stored apart.

    An older file at `path` stays whole until the new one is, and as it is if it is the same. Raises OSError
    if it cannot be written.
    """
    apart, text = _apart(tensors), json.dumps({"format": FORMAT, **facts})
    sealed = f'{text[:-1]}{_SEAL}{_seal(apart, text)}"}}'
    header = {"ordercomp": sealed}  # one key: the library writes several in any order
    content = save(apart, metadata=header)  # the library's own writing leaves drafts after a kill
    try:
        if path.is_file() and not path.is_symlink() and path.read_bytes() == content:
            return
        with replacing(path) as draft:
            draft.write_bytes(content)
    except OSError as error:
        problem = f"cannot write the network to {path}: {one_line(error)}"
        raise OSError(error.errno or 0, problem) from None


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the facts of a file, and check them against the digest that it carries.

    Files of former versions carry none. Raises CheckpointError for a damaged or foreign file,
    FileNotFoundError for a missing one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no network file at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("ordercomp", "null")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        before, sealed, seal = text.rpartition(_SEAL)
        facts = parse_json(f"{before}}}".encode() if sealed else text.encode())
        if sealed and seal[:64] != _seal(tensors, f"{before}}}"):
            raise ValueError("its content is not what its digest says")
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file: {one_line(error)}") from None
    if facts is None:
        raise CheckpointError(
            f"{path} holds tensors that ordercomp did not write; a task's `weights` may start from them"
        )
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise CheckpointError(f"{path} was not written by this version of ordercomp (format {FORMAT})")
    return tensors, facts


def check_output(path: Path, name: str) -> None:
    """Raise ValueError, on behalf of `name`, unless a network may be written there: a new file, or ours."""
    if not path.parent.is_dir():
        raise ValueError(f"{name} must lie in an existing folder, got {path}")
    if path.is_dir():
        raise ValueError(f"{name} must be a file, got the folder {path}")
    refuse_device(path)
    if path.suffix in _OTHERS:
        raise ValueError(f"{name} must be a safetensors file, which {path.suffix} does not stand for: {path}")
    if path.exists() and path.stat().st_size and not _is_ours(path):
        raise ValueError(
            f"{name} must be a new file or one that ordercomp wrote, got {path}, which is neither"
        )


def _is_ours(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt") as file:
            return "ordercomp" in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False


def is_sealed(path: Path) -> bool:
    """Whether a file is a network of ours, whole by the digest that it carries. Reads all of it."""
    try:
        read_checkpoint(path)
        with safe_open(path, framework="pt") as file:
            return _SEAL in file.metadata()["ordercomp"]
    except (OSError, CheckpointError):
        return False


def _seal(tensors: Mapping[str, Tensor], facts: str) -> str:
    """SHA-256 over the facts and, by name, the kinds, shapes and bytes of the tensors."""
    digest = hashlib.sha256(facts.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


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


# Python objects that stand beside weights in many checkpoints, and run nothing when they are read
_SCALAR: Any = np.float64(0).__reduce__()[0]
_PLAIN: Final[list[Any]] = [
    *(argparse.Namespace, collections.defaultdict, datetime.datetime, list, PosixPath),
    *(np.dtype, *{type(np.dtype(kind)) for kind in "?bhilqBHILQefd"}, _SCALAR),
    (_SCALAR, "numpy.core.multiarray.scalar"),  # as numpy 1 wrote it
]
_NO_WEIGHTS: Final = {  # what files hold instead, by how they begin
    b"version https://git-lfs": "it only points to a file of Git LFS; get that by `git lfs pull`",
    b"<": "it is a web page, as a failed download leaves it",
    b"\x1f\x8b": "it is compressed by gzip; unpack it first",
    b"\x89HDF": "it is HDF5, as Keras writes it",
    b"{": "it is JSON, such as the index of several files or what a server said instead",
}

# Trained weights from elsewhere: found on disk, read without pickle's code


def weights_path(weights: str, model: str) -> Path:
    """Return the file that a task's `weights` stand for.

    `pretrained` is the file that torchvision or timm names for `model`, which must lie where its downloads
    are kept; nothing is downloaded. Raises ValueError if there is no such file, with what to do.
    """
    if weights == PRETRAINED:
        library, name = _library(model)
        return library.pretrained_file(name)
    path = Path(weights).expanduser()
    if not path.is_file():
        raise ValueError(f"weights must be a file or 'pretrained': there is no file {path}")
    return path


def pretrained_normalization(model: str) -> Normalization:
    """Mean and std of each channel, white being 1, that the library's weights for `model` were trained with.

    Raises ValueError for a model of no library.
    """
    library, _ = _library(model)
    return library.normalization(model.partition(":")[2])


def _library(model: str) -> tuple[Library, str]:
    package, _, name = model.partition("(")[0].partition(":")
    if package not in LIBRARIES:
        known = " or ".join(f"{library}:NAME" for library in LIBRARIES)
        raise ValueError(f"weights = 'pretrained' needs a model {known}, got {model!r}")
    return LIBRARIES[package], name


def weights_digest(path: Path) -> str:
    """SHA-256 of a file, read again only when its size or time of change differs."""
    facts = path.stat()
    return _file_digest(str(path.resolve()), facts.st_size, facts.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _file_digest(path: str, _size: int, _changed: int) -> str:
    return file_digest(path)


def read_weights(path: Path) -> dict[str, dict[str, Tensor]]:
    """Read tensors by name: safetensors, or what torch saved, with `weights_only=True`, however it is called.

    Returns every state in the file by the keys that lead to it, "" for the file itself: a training checkpoint
    may hold several, as under `model` and `model_ema`. Raises ValueError if the file is damaged or has none.
    """
    try:
        if _begins_as_safetensors(path):
            content: Any = load_file(path)
        else:
            with (
                torch.serialization.safe_globals(_PLAIN),
                path.open("rb") as file,
            ):  # names mean more to torch
                content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the readers raise anything
        if is_out_of_memory(error):
            raise
        raise CheckpointError(f"weights {path} cannot be read: {_why_unreadable(path, error)}") from None
    if states := dict(_states(content)):
        return states
    keys = _listed([str(key) for key in content]) if isinstance(content, Mapping) else ""
    kind = f"a mapping with the keys {keys}" if isinstance(content, Mapping) else type(content).__name__
    raise ValueError(f"weights {path} must hold tensors by name, got {kind}")


def _begins_as_safetensors(path: Path) -> bool:
    """Whether JSON follows the eight bytes that tell its length."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _why_unreadable(path: Path, error: Exception) -> str:
    """What is in a file instead of tensors, and what to do, as far as its first bytes and its names tell."""
    with path.open("rb") as file:
        start = file.read(40)
    for begins, words in _NO_WEIGHTS.items():
        if start.startswith(begins):
            return words
    if not start:
        return "it is empty"
    if start.startswith(b"PK"):
        if not zipfile.is_zipfile(path):
            return "it is cut short, as a failed copy leaves it"
        names = [name.rpartition("/")[2] for name in zipfile.ZipFile(path).namelist()]
        if "data.pkl" not in names:
            return "it is a zip file that torch did not write"
        if "constants.pkl" in names:
            return "it is TorchScript; save `torch.jit.load(FILE).state_dict()`"
    if not start.startswith((b"PK", b"\x80")) and start[8:9] != b"{":
        return "it is neither safetensors nor a file of torch"
    reason = one_line(error).partition(". ")[0][:200]
    with suppress(Exception), torch.serialization.safe_globals(_PLAIN):  # it may be damaged in any way
        if objects := sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path)):
            reason = f"it holds Python objects, which could run code: {_listed(objects)}"
    return f"{reason}; save `module.state_dict()`, not the module"


def _states(content: Any, place: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The tensors by name in nested mappings, with the keys that lead there; those of averages come last."""
    if not isinstance(content, Mapping) or depth > _DEEPEST:
        return
    tensors = {name: value for name, value in content.items() if _is_entry((name, value))}
    if tensors:
        yield place, tensors
    inner = {str(key): value for key, value in content.items() if isinstance(value, Mapping)}
    for key in sorted(inner, key=_is_average):
        yield from _states(inner[key], f"{place}.{key}" if place else key, depth + 1)


def fit_weights(
    module: nn.Module, states: Mapping[str, Mapping[str, Tensor]], *, classes: int | None = None
) -> list[str]:
    """Copy the state that fits best into `module`, in place, and return the names that keep their own values.

    Of `states`, as `read_weights` gives them, the one is taken of which most tensors fit, without a prefix of
    its names and what torch's wrappers put between them; what was left is logged. With `classes` a
    tensor may differ in its first dimension where the module has `classes` there: a classifier for other
    classes, whose layer then stays new. Of names that are one tensor in the module one is enough. Raises
    ValueError that lists the names that are missing, left over, of another shape or kind, not finite, or
    different where the module has one tensor.
    """
    own = dict(module.state_dict())
    given = _choose(states, own)
    names = {value.data_ptr(): name for name, value in own.items() if name in given}  # one of each tensor
    twins = {name: names.get(value.data_ptr(), "") for name, value in own.items()}
    missing = [name for name, twin in twins.items() if not twin and not name.endswith(_OPTIONAL)]
    extra = [name for name in given if name not in own and not name.endswith(_COUNTERS)]
    both = [name for name in own if name in given]
    odd = [name for name in both if given[name].shape != own[name].shape]
    fresh = [name for name in odd if _is_classifier(own[name], given[name], classes)]
    layers = {name.rpartition(".")[0] for name in fresh}
    fresh = [name for name in own if name.rpartition(".")[0] in layers]
    wrong = [name for name in odd if name not in fresh]
    kinds = {name: _kind(given[name]) for name in both}
    whole = [
        name
        for name in both
        if own[name].is_floating_point() != (kinds[name] == "floats") and not name.endswith(_OPTIONAL)
    ]
    floats = [name for name in both if kinds[name] == "floats"]
    apart = [f"{n} and {twins[n]}" for n in floats if not _alike(given, n, twins[n])]
    problems = [
        f"{what} {_listed(names)}"
        for what, names in (
            ("lack", missing),
            ("hold the unknown", extra),
            ("have another shape in", [_shapes(name, own, given) for name in wrong]),
            ("hold other kinds of numbers in", [f"{name} ({kinds[name]})" for name in whole]),
            ("hold values that are not finite in", [n for n in floats if not given[n].isfinite().all()]),
            ("hold different values in the shared", apart),
        )
        if names
    ]
    if problems:
        raise ValueError(f"weights do not fit the model: they {'; they '.join(problems)}")
    with torch.no_grad():
        for name in both:
            if name not in fresh:
                own[name].copy_(given[name])
    return fresh


def _choose(states: Mapping[str, Mapping[str, Tensor]], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the state, without the prefix, with which most fit `own`; the first one among equals."""
    states = {place: _unwrapped(state, own) for place, state in states.items()}
    fits = {
        (place, prefix): sum(
            f"{prefix}{name}" in state and state[f"{prefix}{name}"].shape == value.shape
            for name, value in own.items()
        )
        for place, state in states.items()
        for prefix in _prefixes(state, own)
    }
    place, prefix = max(fits, key=lambda key: fits[key])
    taken = {name: value for name, value in states[place].items() if name.startswith(prefix)}
    within = "" if not place else place.partition(".")[0]
    others = {where if where.partition(".")[0] == within else where.partition(".")[0] for where in states}
    left = [
        *(f"the state {where!r}" if where else "the tensors beside it" for where in sorted(others - {place})),
        *(name for name in states[place] if name not in taken),
    ]
    if left:
        what = f"the state {place!r}" if place else "the tensors"
        named = f" whose names start with {prefix!r}" if prefix else ""
        _log.warning("of the weights, %s%s are taken; left: %s", what, named, _listed(left))
    return {name.removeprefix(prefix): value for name, value in taken.items()}


def _unwrapped(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors by names without the parts of wrappers that `own` has not, if they differ even so."""
    around = {part for part in _WRAPPERS if not any(part in name.split(".") for name in own)}
    bare = {
        ".".join(part for part in name.split(".") if part not in around): value
        for name, value in state.items()
    }
    return bare if len(bare) == len(state) else state


def _prefixes(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """What wrappers of modules may have put before the names of `own`."""
    probe = max(own, key=lambda name: (not name.endswith(_OPTIONAL), name.count("."), len(name)))
    prefixes = {name.removesuffix(probe): 0 for name in state if name == probe or name.endswith(f".{probe}")}
    return [
        "",
        *sorted(prefixes.keys() - {""}, key=lambda prefix: (_is_average(prefix), [*prefixes].index(prefix))),
    ]


def _is_average(name: str) -> bool:
    return any(word in name.lower() for word in _AVERAGES)


def _kind(tensor: Tensor) -> str:
    if tensor.is_meta:
        return "without values"
    if tensor.layout is not torch.strided:
        return str(tensor.layout)
    return "floats" if tensor.is_floating_point() and tensor.itemsize > 1 else str(tensor.dtype)


def _alike(given: Mapping[str, Tensor], first: str, second: str) -> bool:
    return first == second or torch.equal(given[first].float(), given[second].float())


def _is_classifier(own: Tensor, given: Tensor, classes: int | None) -> bool:
    return (
        classes is not None
        and own.dim() == given.dim() > 0
        and own.shape[0] == classes
        and own.shape[1:] == given.shape[1:]
    )


def _shapes(name: str, own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    return f"{name} ({'x'.join(map(str, given[name].shape))} for {'x'.join(map(str, own[name].shape))})"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _is_entry(entry: tuple[object, object]) -> bool:
    return isinstance(entry[0], str) and isinstance(entry[1], Tensor)


# A bound on what a stranger's network may take while it is built: a small file must not fill the memory

_SMALL = 64 * 2**20  # bytes that the uncompressed network of any file may take
_WIDE = 256 * 2**20  # bytes that one feature map may take on top
_MOST_TIMES = 200  # how many times larger than its file a network may be: stages cut widths and blocks
_FLOAT = 4  # bytes


def bounded(model: str, file_bytes: int) -> AbstractContextManager[object]:
    """Bound what is built in the block by the size of the file that asks for it.

    There RuntimeError is raised before tensors are made that are too large. What a function of somebody's
    (`module:function`) makes is not bounded: it is code.
    """
    return nullcontext() if is_function(model) else _Bounded(_SMALL + _MOST_TIMES * file_bytes)


class _Bounded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of new tensors, and looks at feature maps before they are computed."""

    def __init__(self, most: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._most = most
        self._taken = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.convolution.default:
            self._check(_FLOAT * _map_size(*args[:7]), _WIDE + self._most, "a feature map")
        elif args and isinstance(args[0], list | tuple) and all(type(size) is int for size in args[0]):
            self._taken += _FLOAT * math.prod(args[0])
            self._check(self._taken, self._most, "a network")
        return func(*args, **(kwargs or {}))

    def _check(self, size: int, most: int, what: str) -> None:
        if size > most:
            raise RuntimeError(
                f"it names {what} of {size / 2**20:,.0f} MiB or more, its size allows {most / 2**20:,.0f} MiB"
            )


def _map_size(
    images: torch.Tensor,
    weight: torch.Tensor,
    _bias: object,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
) -> int:
    """How many numbers a convolution gives; transposed ones are taken as they come."""
    if transposed:
        return 0
    sides = zip(images.shape[2:], weight.shape[2:], padding, dilation, stride, strict=False)
    lengths = [
        (side + 2 * pad - step * (kernel - 1) - 1) // jump + 1 for side, kernel, pad, step, jump in sides
    ]
    return images.shape[0] * weight.shape[0] * math.prod(lengths)
