"""Blocks of a body: the units that distillation may drop and after which an exit may sit.

A block is a module with children of its own that stands in an nn.Sequential or nn.ModuleList, outermost
ones only: a residual block, an inverted residual, a convolution with its normalization. A sequence of
blocks is no block itself, nor is a part without weights, such as a normalization or a stage that is dropped
as a whole. Where that finds less than two blocks to drop in a network of others, the modules of one class are
its blocks, of the class with most to drop.
"""

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ordercomp.knobs import exact
from ordercomp.networks.factors import Factors
from ordercomp.networks.network import CompressedNetwork

_CONTAINERS = (nn.Sequential, nn.ModuleList)
_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish)
_POOLING = (nn.MaxPool2d, nn.AvgPool2d)
_LATE = 0.95  # share of the cost, from which on an exit saves next to nothing


@dataclass(frozen=True, slots=True)
class Block:
    """A unit of the body as it ran on an example image."""

    name: str
    droppable: bool  # its output has the shape of its input, so that nn.Identity can take its place
    features: bool  # its output has shape (n, c, h, w)
    channels: int
    share: float  # of the body's multiply-accumulates that are spent when it is done

    @property
    def container(self) -> str:
        """Name of the module that holds it."""
        return self.name.rpartition(".")[0]


def find_blocks(network: CompressedNetwork) -> list[Block]:
    """The blocks of the body in the order in which they run; blocks dropped before are no longer there."""
    body = network.copy().module.body.eval()
    image = network.architecture.example(1)
    blocks = _run(body, image, dict(_outermost_blocks(body)))
    if ":" not in network.architecture.model or sum(block.droppable for block in blocks) > 1:
        return blocks
    others = [_run(network.copy().module.body.eval(), image, names) for names in _by_kind(body)]
    return max([blocks, *others], key=lambda kind: sum(block.droppable for block in kind))


def _by_kind(body: nn.Module) -> list[dict[str, nn.Module]]:
    """Modules of the same class that have parts and weights, wherever they stand, outer classes first."""
    kinds: dict[type[nn.Module], dict[str, nn.Module]] = {}
    for name, module in body.named_modules():
        if name and type(module) is not nn.Sequential and not _is_leaf(module) and _has_weights(module):
            kinds.setdefault(type(module), {})[name] = module
    return list(kinds.values())


def split_candidates(network: CompressedNetwork) -> list[Block]:
    """Where exits may be put: after every block with feature maps but the last.

    Where that is late only, as in a container of a backbone and a head, the blocks inside of the largest one
    take its place, or else those of one class. A body without blocks (a flat nn.Sequential) offers the
    outputs of its pooling and activation layers.
    """
    body = network.copy().module.body.eval()
    image = network.architecture.example(1)

    def places(names: dict[str, nn.Module]) -> list[Block]:
        return [block for block in _run(body, image, names) if block.features][:-1]

    outermost = dict(_outermost_blocks(body))
    if not outermost:
        flat = (*_ACTIVATIONS, *_POOLING)
        return places({name: part for name, part in body.named_modules() if isinstance(part, flat)})
    candidates = first = places(outermost)
    while not _early(candidates) and (inner := _opened(body, image, outermost)):
        outermost = inner
        candidates = places(outermost)
    if not _early(candidates):
        candidates = max([candidates, *map(places, _by_kind(body))], key=lambda kind: len(_early(kind)))
    return candidates if _early(candidates) else first


def _early(blocks: list[Block]) -> list[Block]:
    """Those after which enough is left to be saved."""
    return [block for block in blocks if block.share < _LATE]


def _opened(body: nn.Module, image: Tensor, names: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """The blocks with those inside of the costliest one in its place; none if there are none."""
    done, largest, most = 0.0, "", -1.0
    for block in _run(body, image, names):
        if block.share - done > most:
            largest, most = block.name, block.share - done
        done = block.share
    inner = dict(_outermost_blocks(names[largest], largest)) if largest else {}
    return {**{name: part for name, part in names.items() if name != largest}, **inner} if inner else {}


def blocks_to_drop(blocks: list[Block], depth: float) -> list[str]:
    """Names of the blocks to drop so that a `depth` share of all blocks, rounded up, is left.

    The fullest container gives first, the earlier one among equals, and its last droppable block goes;
    so 3, 4, 6, 3 blocks at depth 0.5 become 2, 2, 2, 2. Fewer are dropped if no more are droppable.
    """
    excess = len(blocks) - max(1, math.ceil(exact(depth) * len(blocks)))
    left = Counter(block.container for block in blocks)
    droppable = [block for block in blocks if block.droppable]
    dropped: list[str] = []
    while len(dropped) < excess and droppable:
        fullest = max(
            dict.fromkeys(block.container for block in droppable), key=lambda container: left[container]
        )
        chosen = [block for block in droppable if block.container == fullest][-1]
        droppable.remove(chosen)
        left[fullest] -= 1
        dropped.append(chosen.name)
    return dropped


def _outermost_blocks(
    module: nn.Module, prefix: str = "", *, held: bool = False
) -> list[tuple[str, nn.Module]]:
    """Blocks below `module`; `held` says whether it stands in a container."""
    parts = [] if _is_leaf(module) else list(module.children())
    container = isinstance(module, _CONTAINERS) and not (held and all(_is_leaf(part) for part in parts))
    if held and parts and not container:
        return [(prefix, module)] if _has_weights(module) else []
    blocks = []
    for name, child in module.named_children() if parts else ():
        path = f"{prefix}.{name}" if prefix else name
        blocks += _outermost_blocks(child, path, held=container)
    return blocks


def _has_weights(module: nn.Module) -> bool:
    """Whether it holds more than a normalization does."""
    return any(parameter.dim() > 1 for parameter in module.parameters())


def _is_leaf(module: nn.Module) -> bool:
    return isinstance(module, Factors) or next(module.children(), None) is None


@torch.no_grad()
def _run(body: nn.Module, image: Tensor, names: dict[str, nn.Module]) -> list[Block]:
    blocks: list[Block] = []
    macs = [0]
    runs: Counter[str] = Counter()

    def count(layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, (nn.Conv2d, nn.Linear))
        macs[0] += output.numel() * layer.weight[0].numel()

    def note(name: str, inputs: tuple[Any, ...], output: Tensor) -> None:
        runs[name] += 1
        if runs[name] > 1 or not isinstance(output, Tensor):
            return
        tensors = [value for value in inputs if isinstance(value, Tensor)]
        same = len(tensors) == 1 and tensors[0] is inputs[0] and tensors[0].shape == output.shape
        blocks.append(Block(name, same, output.dim() == 4, output.shape[1], macs[0]))

    for layer in body.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(count)
    for name in names:
        body.get_submodule(name).register_forward_hook(
            lambda _module, inputs, named, output, name=name: note(name, (*inputs, *named.values()), output),
            with_kwargs=True,
        )
    body(image.to(next(body.parameters()).device))
    once = [block for block in blocks if runs[block.name] == 1]  # others stand in several places
    return [replace(block, share=block.share / max(macs[0], 1)) for block in once]
