"""Multiplications by torch's own counter, told apart by the module that runs them."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ordercomp.networks.network import CompressedNetwork


class Operations:
    """A context in which modules run; it knows what each of them multiplied itself, outside of its parts.

    Attention runs in the form that torch can count.
    """

    def __init__(self) -> None:
        self._mode = FlopCounterMode(display=False)
        self._counting = ExitStack()
        self._running: list[str] = []
        self._seen = 0  # operations that are told apart already
        self._segment = 0
        self._own: Counter[tuple[str, int]] = Counter()

    def __enter__(self) -> "Operations":
        self._counting.enter_context(_countable())
        self._counting.enter_context(self._mode)
        return self

    def __exit__(self, *failure: Any) -> None:
        self._counting.__exit__(*failure)

    def watch(self, name: str, module: nn.Module) -> None:
        """Note when `module` starts; `close` notes when it ends, after hooks that are registered between."""

        def start(_module: nn.Module, _inputs: Any) -> None:
            self._tell_apart()
            self._running.append(name)

        module.register_forward_pre_hook(start)

    def close(self, module: nn.Module) -> None:
        """Note when a watched module ends."""

        def end(_module: nn.Module, _inputs: Any, _output: Any) -> None:
            self._tell_apart()
            self._running.pop()

        module.register_forward_hook(end)

    def next_segment(self) -> None:
        """What follows runs behind the next exit."""
        self._tell_apart()
        self._segment += 1

    def explain(self, name: str, macs: int) -> None:
        """Take multiply-accumulates that are counted elsewhere off what the module `name` ran."""
        self._tell_apart()
        self._own[name, self._segment] -= 2 * macs

    def left(self) -> dict[tuple[str, int], int]:
        """Multiply-accumulates by module and segment that are not explained; negative ones never ran."""
        return {key: operations // 2 for key, operations in self._own.items() if operations}

    def _tell_apart(self) -> None:
        total = self._mode.get_total_flops()
        if self._running:
            self._own[self._running[-1], self._segment] += total - self._seen
        self._seen = total


def used_parameters(network: CompressedNetwork, names: Iterable[str]) -> dict[str, int]:
    """Sizes of those parameters that the logits depend on, by name."""
    module = network.copy().module.eval()
    parameters = {name: parameter for name, parameter in module.named_parameters() if name in names}
    image = network.architecture.example(1).to(next(module.parameters()).device)
    with torch.enable_grad():
        logits = module(image)
        gradients = torch.autograd.grad(
            sum(one.sum() for one in logits), list(parameters.values()), allow_unused=True
        )
    pairs = zip(parameters.items(), gradients, strict=True)
    return {name: parameter.numel() for (name, parameter), gradient in pairs if gradient is not None}


def counted_macs(network: CompressedNetwork) -> int:
    """Multiply-accumulates of one image through all of the network, as torch's FlopCounterMode has them."""
    module = network.copy().module.eval()
    image = network.architecture.example(1).to(next(module.parameters()).device)
    with torch.no_grad(), _countable(), FlopCounterMode(display=False) as counter:
        module(image)
    return int(counter.get_total_flops()) // 2


@contextmanager
def _countable() -> Iterator[None]:
    """Let attention run in the form whose operations torch can count: in pieces, not fused."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
