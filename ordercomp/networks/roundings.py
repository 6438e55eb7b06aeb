"""Which tensors between layers a network rounds, so that it runs in integers as it was trained.

An engine runs a layer, a sum or an average in integers where what that reads and makes are bytes. Layers
round what they read. What else is read or made there gets a `Rounding` on the output of the module that makes
it, so that all who read the tensor read the same bytes.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ordercomp.networks.exits import MultiExit, blank_copy
from ordercomp.networks.layers import QuantizedLayer, Rounding

_SUMS = ("add", "add_")
_AVERAGES = ("mean", "_adaptive_avg_pool2d", "adaptive_avg_pool2d")
_CLIPS = ("relu", "relu_", "hardtanh", "hardtanh_")  # what a quantizer of their result does as well
_CARRIES = ("view", "_unsafe_view", "clone", "max_pool2d_with_indices")  # hand levels on
_LAYER = "layer"


def make_roundings(signed: Mapping[str, bool], device: torch.device | None = None) -> dict[str, Rounding]:
    """Roundings by the name of the module whose output they round, yet to calibrate."""
    made = {name: Rounding(device or torch.device("cpu")) for name in signed}
    for name, below in signed.items():
        made[name].signed = below
    return made


def signs(module: MultiExit) -> dict[str, bool]:
    """By the name of a module whose output is rounded, whether its levels reach below zero."""
    return {
        name: isinstance(rounding, Rounding) and rounding.signed
        for name, rounding in zip(module.rounded, module.roundings, strict=True)
    }


def place_roundings(module: MultiExit, images: Tensor) -> bool:
    """Round the outputs of `shared_outputs`, in place; ranges that are known stay. Whether that is new."""
    known = dict(zip(module.rounded, module.roundings, strict=True))
    names = shared_outputs(module, images)
    fresh = make_roundings(dict.fromkeys(names, False), images.device)
    module.round_outputs({name: known.get(name, fresh[name]) for name in names})
    return list(known) != names


def shared_outputs(module: MultiExit, images: Tensor) -> list[str]:
    """Names of the modules of the body whose outputs must be rounded, in the order in which they run.

    It is found by one run on `images`, (n, c, h, w). A tensor that no module hands out, or one that runs
    several times, is left out. Layers that are not quantized count as float.
    """
    twin: MultiExit = blank_copy(module).eval()
    twin.round_outputs({})
    log = _Log(twin)
    with torch.no_grad(), log:
        twin(images)
    return log.names()


class _Log(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes which operation reads and makes which tensor; tensors are numbered anew where they change."""

    def __init__(self, module: MultiExit) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._number: dict[int, int] = {}
        self._alive: list[Tensor] = []  # so that no identity comes twice
        self._made = 0
        self._reads: dict[int, list[tuple[str, int]]] = defaultdict(list)  # by whom, and what that made
        self._needed: set[int] = set()
        self._carried: dict[int, int] = {}  # what a tensor has its levels from
        self._sources: set[int] = set()  # what layers, sums and averages make
        self._owners: dict[int, list[str]] = defaultdict(list)  # inner ones first
        self._runs: Counter[str] = Counter()
        self._inside = 0  # of quantized layers, whose own operations do not count
        for layer in module.modules():
            if isinstance(layer, QuantizedLayer):
                layer.register_forward_pre_hook(self._enter)
                layer.register_forward_hook(self._leave)
        for name, part in module.body.named_modules():
            if name:
                part.register_forward_hook(partial(self._own, name))
        for name in module.split_points:  # heads average what they read
            module.body.get_submodule(name).register_forward_hook(self._need)

    def names(self) -> list[str]:
        """Modules whose output is needed in bytes, and is not just what one layer rounds."""
        needed = {self._origin(made) for made in self._needed | set(map(self._behind, self._sources))}
        rounded = [made for made in sorted(needed) if self._readers(made) not in ([], [_LAYER])]
        names = [[name for name in self._owners[made] if self._runs[name] == 1] for made in rounded]
        return list(dict.fromkeys(aliases[0] for aliases in names if aliases))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        first = output[0] if isinstance(output, tuple | list) and output else output
        if not self._inside and isinstance(first, Tensor):
            read = [self._number[id(leaf)] for leaf in tree_leaves(args) if id(leaf) in self._number]
            self._note(func.overloadpacket.__name__, read, first)
        return output

    def _note(self, kind: str, read: list[int], output: Tensor) -> None:
        made = self._new(output)
        for number in read:
            self._reads[number].append((kind, made))
        if kind in _CARRIES and read:
            self._carried[made] = read[0]
        if (kind in _SUMS and len(read) > 1) or (kind in _AVERAGES and read):
            self._needed |= set(read)
            self._sources.add(made)

    def _new(self, tensor: Tensor) -> int:
        self._made += 1
        self._number[id(tensor)] = self._made
        self._alive.append(tensor)
        return self._made

    def _enter(self, _layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._inside += 1
        if id(inputs[0]) not in self._number:
            self._new(inputs[0])

    def _leave(self, _layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self._inside -= 1
        made = self._new(output)
        self._reads[self._number[id(inputs[0])]].append((_LAYER, made))
        self._sources.add(made)

    def _own(self, name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        self._runs[name] += 1
        if id(output) in self._number:
            self._owners[self._number[id(output)]].append(name)

    def _need(self, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        self._needed.add(self._number[id(output)])

    def _behind(self, made: int) -> int:
        """What a normalization and a clip, which are folded into a layer, make of a tensor."""
        for folded in ("batch_norm", *_CLIPS):
            if len(self._reads[made]) == 1 and folded in self._reads[made][0][0]:
                made = self._reads[made][0][1]
        return made

    def _origin(self, made: int) -> int:
        while made in self._carried:
            made = self._carried[made]
        return made

    def _readers(self, made: int) -> list[str]:
        """Kinds of those who read a tensor, also through what carries its levels."""
        readers: list[str] = []
        for kind, output in self._reads[made]:
            readers += self._readers(output) if kind in _CARRIES else [kind]
        return readers
