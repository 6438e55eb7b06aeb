"""One training step: launched by Python each time on the CPU, replayed as a captured graph on CUDA.

A small network's step on a GPU is a few hundred tiny kernels, and launching them one by one takes longer
than they run. A graph holds them all and is launched at once. It needs that nothing in a step waits for the
host, so the learning rate is a tensor there.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ordercomp.data.splits import Batch
from ordercomp.errors import is_out_of_memory, one_line
from ordercomp.networks.constraints import WeightConstraints
from ordercomp.networks.layers import RoundedInput
from ordercomp.training.recipe import Recipe

GRAPHS_VARIABLE = "ORDERCOMP_CUDA_GRAPHS"  # "off": every step eagerly
_WARM_UP = 3  # eager steps before a capture: libraries allocate and choose kernels in them

Body = Callable[[], Tensor]
Capture = Callable[[Body], Body]

_log = logging.getLogger(__name__)


class Steps(Protocol):
    """Takes training steps, one for each item of the data."""

    def take(self, item: Any, rate: float) -> Tensor:
        """Train on `item` at a learning rate and return the loss, or losses that add up, detached."""

    def finish(self) -> None:
        """Let go of gradients."""


class EagerSteps:
    """SGD as Python launches it, step by step."""

    def __init__(
        self, module: nn.Module, loss_of: Callable[[Any], Tensor], *, recipe: Recipe, autocast: torch.autocast
    ) -> None:
        self._optimizer = torch.optim.SGD(
            parameter_groups(module, recipe.weight_decay),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            nesterov=True,
        )
        self._train = partial(_train, loss_of, self._optimizer, autocast, WeightConstraints(module))

    def take(self, item: Any, rate: float) -> Tensor:
        """Train on `item`, as Steps says."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        return self._train(item)

    def finish(self) -> None:
        """Let go of gradients."""
        self._optimizer.zero_grad(set_to_none=True)


class GraphedSteps:
    """Steps that are captured once and replayed, if that is faster and nothing speaks against it.

    Eager steps come first, and again whenever an item has another shape or a quantized layer another range
    of levels, which a graph would not notice. Where a capture fails all steps are eager; `refusal` says why.
    """

    def __init__(
        self,
        module: nn.Module,
        loss_of: Callable[[Any], Tensor],
        *,
        recipe: Recipe,
        autocast: torch.autocast,
        capture: Capture,
        wait: Callable[[], object],
    ) -> None:
        """Prepare steps; `capture` makes a replayable body, `wait` waits until the device is done."""
        self._rate = torch.zeros((), device=next(module.parameters()).device)
        groups = parameter_groups(module, recipe.weight_decay)
        self._optimizer = TensorRateSGD(groups, momentum=recipe.momentum, rate=self._rate)
        self._train = partial(_train, loss_of, self._optimizer, autocast, WeightConstraints(module))
        self._quantized = [layer for layer in module.modules() if isinstance(layer, RoundedInput)]
        self._capture, self._wait = capture, wait
        self._facts: object = None  # what the steps since the last warm-up have in common
        self._eager = 0  # steps since then
        self._eager_seconds = 0.0
        self._item: Any = None  # what the graph reads
        self._replay: Body | None = None
        self.refusal = "switched off" if os.environ.get(GRAPHS_VARIABLE) == "off" else ""

    def take(self, item: Any, rate: float) -> Tensor:
        """Train on `item`, as Steps says."""
        self._rate.fill_(rate)
        facts = ([part.shape for part in _parts(item)], [layer.signed for layer in self._quantized])
        if facts != self._facts:
            self.finish()
            self._facts, self._eager = facts, 0
        if self._replay is not None:
            _copy(item, to=self._item)
            return self._replay().clone()
        if self.refusal or self._eager < _WARM_UP:
            return self._take_eagerly(item)
        return self._start_replaying(item)

    def finish(self) -> None:
        """Let go of gradients and of the graph."""
        if self._replay is not None:
            self._wait()  # what a running graph uses must not be freed
        self._replay = self._item = None
        self._optimizer.zero_grad()

    def _take_eagerly(self, item: Any) -> Tensor:
        timed = self._eager == _WARM_UP - 1
        if timed:
            self._wait()
        start = time.perf_counter()
        loss = self._train(item)
        if timed:
            self._wait()
            self._eager_seconds = time.perf_counter() - start
        self._eager += 1
        return loss

    def _start_replaying(self, item: Any) -> Tensor:
        """Capture the step and replay it on `item`, or say why not and take it eagerly."""
        self._item = _clone(item)
        self._optimizer.zero_grad()
        try:
            self._replay = self._capture(lambda: self._train(self._item))
        except RuntimeError as error:  # whatever a step does that a graph cannot hold
            self.finish()
            self.refusal = ("memory was short" if is_out_of_memory(error) else one_line(error))[:200]
            _log.warning("steps are not captured as a graph: %s", self.refusal)
            return self._take_eagerly(item)
        self._wait()
        start = time.perf_counter()
        loss = self._replay().clone()
        self._wait()
        seconds = time.perf_counter() - start
        if seconds > 1.5 * self._eager_seconds:  # the first replay also uploads the graph
            self.refusal = f"a replay took {seconds:.2g} s, an eager step {self._eager_seconds:.2g} s"
            self.finish()
        return loss


def _train(
    loss_of: Callable[[Any], Tensor],
    optimizer: "torch.optim.SGD | TensorRateSGD",
    autocast: torch.autocast,
    constraints: WeightConstraints,
    item: Any,
) -> Tensor:
    with autocast:
        loss = loss_of(item)
    optimizer.zero_grad()
    loss.sum().backward()  # type: ignore[no-untyped-call]
    constraints.over(optimizer.step)
    return loss.detach()


class TensorRateSGD:
    """SGD with Nesterov momentum as torch has it, but with a learning rate that a captured graph reads."""

    def __init__(self, groups: Sequence[dict[str, Any]], *, momentum: float, rate: Tensor) -> None:
        """Take groups of `params` and `weight_decay`; `rate` is read anew at each step, shape ()."""
        self._groups = [
            (group["params"], list(map(torch.zeros_like, group["params"])), group["weight_decay"])
            for group in groups
        ]
        self._momentum, self._rate = momentum, rate

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient."""
        for parameters, buffers, decay in self._groups:
            moving = [pair for pair in zip(parameters, buffers, strict=True) if pair[0].grad is not None]
            if not moving:
                continue
            weights, speeds = ([*tensors] for tensors in zip(*moving, strict=True))
            slopes = [weight.grad for weight in weights]
            if decay:
                slopes = list(torch._foreach_add(slopes, weights, alpha=decay))
            torch._foreach_mul_(speeds, self._momentum)
            torch._foreach_add_(speeds, slopes)
            changes = list(torch._foreach_add(slopes, speeds, alpha=self._momentum))
            torch._foreach_mul_(changes, self._rate)
            torch._foreach_sub_(weights, changes)

    def zero_grad(self) -> None:
        """Let go of all gradients."""
        for parameters, _, _ in self._groups:
            for parameter in parameters:
                parameter.grad = None


def make_steps(
    module: nn.Module, loss_of: Callable[[Any], Tensor], *, recipe: Recipe, autocast: torch.autocast
) -> Steps:
    """Graphs for a module on CUDA, else eager steps. On CUDA, use them inside `own_stream`."""
    device = next(module.parameters()).device
    if device.type != "cuda":
        return EagerSteps(module, loss_of, recipe=recipe, autocast=autocast)
    return GraphedSteps(
        module,
        loss_of,
        recipe=recipe,
        autocast=autocast,
        capture=_capture_on_cuda,
        wait=torch.cuda.current_stream(device).synchronize,
    )


@contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """On CUDA a stream beside the default one, on which nothing can be captured; elsewhere nothing.

    It starts after what is under way, and what follows waits for it.
    """
    if device.type != "cuda":
        yield
        return
    before = torch.cuda.current_stream(device)
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(before)
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        before.wait_stream(stream)


def _capture_on_cuda(body: Body) -> Body:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream(), capture_error_mode="thread_local"):
        loss = body()

    def replay() -> Tensor:
        graph.replay()
        return loss

    return replay


def _parts(item: Any) -> tuple[Tensor, ...]:
    """The tensors of an item: a batch, a tensor by itself, or a tuple of items."""
    if isinstance(item, tuple):
        return tuple(part for element in item for part in _parts(element))
    return (item.images, item.labels, item.index) if isinstance(item, Batch) else (item,)


def _clone(item: Any) -> Any:
    if isinstance(item, tuple):
        return tuple(map(_clone, item))
    return Batch(*(part.clone() for part in _parts(item))) if isinstance(item, Batch) else item.clone()


def _copy(item: Any, *, to: Any) -> None:
    for source, target in zip(_parts(item), _parts(to), strict=True):
        target.copy_(source)


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Optimizer groups: weight decay on tensors of two and more dimensions, none on biases and norms."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
