"""Several pieces of work, each of which trains a network: their trainings are done side by side, as one.

Every piece runs in a thread of its own, one at a time, until it comes to a training. When all have, the
networks are joined and trained together; then the pieces go on with their own. So whoever trains, stages
included, need not know. Where joining does not pay or cannot be done they train one after the other if that
is a matter of moments, else the first one alone, and the others are given back.
"""

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from ordercomp.errors import one_line
from ordercomp.networks.constraints import is_shared, is_sparse
from ordercomp.networks.exits import blank_copy
from ordercomp.networks.layers import (
    QuantConv2d,
    QuantizedLayer,
    QuantLinear,
    RoundedInput,
    has_plain_forward,
    linear_side_by_side,
)
from ordercomp.training.fit import DivergedError, Fitting, fit_alone, run_steps, seat

_LEAST_GAIN = 1.1  # of the pace, for joining to be worth its memory
_MOST_ODDS = 0.05  # of the outputs' standard deviation, by which joint outputs may miss those of the networks
_PATIENCE = 1.0  # seconds that networks which are not joined train one after the other
_ROUNDS = 2  # timings of a step, after one to warm up

Result = TypeVar("Result")
_paces: dict[object, float] = {}  # how many times faster networks of a kind train together, as far as tried
_unlike: set[object] = set()  # structures whose joint network computes something else
_log = logging.getLogger(__name__)


class GivenBackError(BaseException):
    """Ends a piece of work that is to be done alone; no `except Exception` is to take it for a failure."""


def together(works: Sequence[Callable[[], Result]], *, pays: bool = False) -> list[Result | None]:
    """The results of pieces of work whose trainings were done side by side; None: do that one alone.

    None stands for pieces that could not be joined, and for those that failed in whatever way. Whether it
    `pays` is measured unless it is said to.
    """
    table = [_Seat(work, count=len(works)) for work in works]
    for piece in table:
        piece.go_on()
    while waiting := [piece for piece in table if piece.asked is not None]:
        for piece, answer in zip(waiting, _train(waiting, pays=pays), strict=True):
            piece.go_on(answer)
    return [piece.result for piece in table]


def train_again(work: Callable[[], Result], *, place: int, count: int) -> Result | None:
    """Do a piece of work whose training was one of `count` in that place, with copies for the others.

    The result has the same bits, since networks side by side share nothing. None as of `together`.
    """
    table = [_Seat(work, count=count) for _ in range(count)]
    for piece in table:
        piece.go_on()
    if all(piece.asked is not None for piece in table):
        answers = _train(table, pays=True)
        for piece in table:
            piece.go_on(answers[place] if piece is table[place] else GivenBackError())
    return table[place].result


def own_seconds() -> float:
    """A clock for how long work takes: what others do meanwhile does not count, shared work by its share."""
    return time.perf_counter() - float(getattr(seat, "away", 0.0))


def seats() -> int:
    """How many pieces of work are done together with this one, itself included."""
    return int(getattr(seat, "count", 1))


def trained_as_one() -> tuple[int, int]:
    """The place of this piece of work's network when it last trained, and how many were one then."""
    place, count = getattr(seat, "joined", (0, 1))
    return place, count


Answer = tuple[float, float, tuple[int, int]]  # mean loss, seconds of it that count, place and networks


class _Seat(Generic[Result]):
    """A piece of work in a thread of its own, which pauses at each training until it is told the outcome."""

    def __init__(self, work: Callable[[], Result], *, count: int) -> None:
        self._work = work
        self._count = count
        self._answers: queue.SimpleQueue[Answer | BaseException | None] = queue.SimpleQueue()
        self._questions: queue.SimpleQueue[Fitting[Any] | None] = queue.SimpleQueue()
        self._gpu = torch.cuda.current_device() if torch.cuda.is_available() else None
        threading.Thread(target=self._run, daemon=True).start()
        self.asked: Fitting[Any] | None = None
        self.result: Result | None = None

    def go_on(self, answer: Answer | BaseException | None = None) -> None:
        """Let the work go on until it ends or asks for a training."""
        self._answers.put(answer)
        self.asked = self._questions.get()

    def _run(self) -> None:
        self._answers.get()
        if self._gpu is not None:
            torch.cuda.set_device(self._gpu)
        seat.hand_over, seat.count = self._hand_over, self._count
        try:
            self.result = self._work()
        except GivenBackError:
            pass
        except BaseException as error:
            _log.info("one of several seeds is to be trained again, alone: %s", one_line(error))
        self._questions.put(None)

    def _hand_over(self, fitting: Fitting[Any]) -> float:
        start = time.perf_counter()
        self._questions.put(fitting)
        answer = self._answers.get()
        if isinstance(answer, BaseException):
            raise answer
        assert answer is not None
        mean, seconds, seat.joined = answer
        seat.away = float(getattr(seat, "away", 0.0)) + time.perf_counter() - start - seconds
        return mean


def _train(waiting: Sequence[_Seat[Any]], *, pays: bool) -> list[Answer | BaseException]:
    """Train what the seats ask for as one if that pays, else one after the other."""
    fittings = [piece.asked for piece in waiting if piece.asked is not None]
    start = time.perf_counter()
    try:
        joint = None if len(fittings) == 1 else _join_if_it_pays(fittings, pays=pays)
        if joint is None:
            return _fit_in_turn(fittings)
        means = _fit_joined(fittings, joint)
    except (RuntimeError, MemoryError, DivergedError, ValueError) as error:
        _log.info("%d seeds were not trained as one: %s", len(fittings), one_line(error))
        return [GivenBackError() for _ in fittings]
    share = (time.perf_counter() - start) / len(fittings)
    return [(mean, share, (place, len(means))) for place, mean in enumerate(means)]


def _fit_in_turn(fittings: Sequence[Fitting[Any]]) -> list[Answer | BaseException]:
    """Train each alone; what would start after `_PATIENCE` is given back, since other workers may be idle."""
    begin, answers = time.perf_counter(), list[Answer | BaseException]()
    for fitting in fittings:
        start = time.perf_counter()
        if answers and start - begin > _PATIENCE:
            answers.append(GivenBackError())
            continue
        try:
            answers.append((fit_alone(fitting), time.perf_counter() - start, (0, 1)))
        except Exception as error:
            answers.append(error)
    return answers


def _fit_joined(fittings: Sequence[Fitting[Any]], joint: nn.Module) -> list[float]:
    levels = levels_of(joint)

    def batches() -> Iterator[tuple[Any, ...]]:
        for items in zip(*(fitting.batches() for fitting in fittings), strict=True):
            if any(levels_of(fitting.module) != levels for fitting in fittings):
                raise UnlikeError("a layer has levels below zero in one network and not in another")
            yield items

    try:
        return run_steps(fittings[0], joint, batches, _joint_losses(fittings, joint)).tolist()
    finally:
        separate(fitting.module for fitting in fittings)


def _joint_losses(fittings: Sequence[Fitting[Any]], joint: nn.Module) -> Callable[[tuple[Any, ...]], Tensor]:
    """The losses of all networks, shape (nets,), for an item of each."""

    def losses_of(items: tuple[Any, ...]) -> Tensor:
        outputs = _run_joint(fittings, joint, items)
        each = zip(fittings, outputs, items, strict=True)
        return torch.stack([fitting.loss_of(own, item) for fitting, own, item in each])

    return losses_of


def _run_joint(
    fittings: Sequence[Fitting[Any]], joint: nn.Module, items: Sequence[Any]
) -> list[tuple[Tensor, ...]]:
    """The outputs of each network, one for every exit."""
    inputs = [fitting.inputs_of(item) for fitting, item in zip(fittings, items, strict=True)]
    outputs = joint(*(torch.cat(parts, 1) for parts in zip(*inputs, strict=True)))
    return list(zip(*(output.chunk(len(fittings), 1) for output in outputs), strict=True))


# Whether joining pays: measured once for networks of a kind and size, and whatever that changes is put back


def _join_if_it_pays(fittings: Sequence[Fitting[Any]], *, pays: bool) -> nn.Module | None:
    first = fittings[0]
    items = [fitting.example() for fitting in fittings]
    shapes = [part.shape for part in first.inputs_of(items[0])]
    kind = (len(fittings), _kind(first), *shapes)
    exactly = (structure(first.module), *shapes)
    if len({_plan(fitting) for fitting in fittings}) > 1 or exactly in _unlike:
        return None
    if _paces.get(kind, _LEAST_GAIN) < _LEAST_GAIN and not pays:
        return None
    modules = [fitting.module for fitting in fittings]
    try:
        joint = join(modules)
    except UnlikeError as error:
        _log.info("%d seeds are not trained as one: %s", len(fittings), one_line(error))
        return None
    with _nothing_changed([joint, *modules]):
        if not _agrees(fittings, joint, items):
            _unlike.add(exactly)
        elif kind not in _paces:
            _paces[kind] = _speedup(fittings, joint, items)
    if exactly not in _unlike and (pays or _paces[kind] >= _LEAST_GAIN):
        return joint
    separate(modules)
    return None


def _plan(fitting: Fitting[Any]) -> object:
    return fitting.recipe, fitting.schedule


def _kind(fitting: Fitting[Any]) -> object:
    """What decides about the pace: the layers, to a factor of two the number of weights, the precision."""
    layers = tuple(type(layer) for layer in fitting.module.modules())
    weights = sum(parameter.numel() for parameter in fitting.module.parameters())
    return layers, round(math.log2(weights)), fitting.autocast._enabled, fitting.autocast.fast_dtype


@contextmanager
def _nothing_changed(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Put back what training steps without an optimizer change; the first module holds all the buffers."""
    saved = [buffer.clone() for buffer in modules[0].buffers()]
    with torch.random.fork_rng(devices=[]):
        yield
    for buffer, before in zip(modules[0].buffers(), saved, strict=True):
        buffer.copy_(before)
    for module in modules:
        module.zero_grad(set_to_none=True)


@torch.no_grad()
def _agrees(fittings: Sequence[Fitting[Any]], joint: nn.Module, items: Sequence[Any]) -> bool:
    """Whether the joint module computes what the networks compute, in full precision."""
    try:
        outputs = _run_joint(fittings, joint, items)
    except (RuntimeError, ValueError, TypeError) as error:  # whatever a forward does that needs its own shape
        _log.info("%d seeds are not trained as one: %s", len(fittings), one_line(error))
        return False
    for fitting, item, own in zip(fittings, items, outputs, strict=True):
        for alone, beside in zip(fitting.module(*fitting.inputs_of(item)), own, strict=True):
            if alone.shape != beside.shape:
                return False
            if not (alone - beside).square().mean().sqrt() <= _MOST_ODDS * alone.std():
                return False
    return True


def _speedup(fittings: Sequence[Fitting[Any]], joint: nn.Module, items: Sequence[Any]) -> float:
    first, losses_of = fittings[0], _joint_losses(fittings, joint)

    def alone() -> Tensor:
        return first.loss_of(first.module(*first.inputs_of(items[0])), items[0])

    on_cpu = next(first.module.parameters()).device.type == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter  # other programs keep processors busy
    seconds = {alone: float("inf"), losses_of: float("inf")}
    for timed in range(_ROUNDS + 1):
        for function in seconds:
            start = clock()
            with first.autocast:
                loss = function() if function is alone else losses_of(tuple(items))
            loss.sum().backward()  # type: ignore[no-untyped-call]
            float(loss.detach().sum())  # waits for the device
            if timed:
                seconds[function] = min(seconds[function], clock() - start)
    return len(fittings) * seconds[alone] / seconds[losses_of]


# Networks as one, whose channels lie side by side and share nothing


class UnlikeError(ValueError):
    """Networks that cannot lie side by side."""


class _Linears(nn.Linear):
    """Linear layers side by side: (n, nets · in_features) to (n, nets · out_features)."""

    nets = 1

    def forward(self, values: Tensor) -> Tensor:
        return linear_side_by_side(values, self.weight, self.bias, nets=self.nets)


_KINDS = (nn.Conv2d, QuantConv2d, nn.Linear, QuantLinear, nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm)
_WIDTHS = ("in_channels", "out_channels", "num_features", "num_channels", "groups", "num_groups")


def join(modules: Sequence[nn.Module]) -> nn.Module:
    """One module for all: inputs and outputs have theirs side by side in dimension 1, as (n, nets · c, …).

    Convolutions become grouped ones: one call does the work of several, on which small networks spend much.

    The parameters and buffers of `modules` are views of the joint ones from then on, until `separate`. Try
    whether the joint module computes what they do: that depends on what forwards do beside calling layers.
    Raises UnlikeError where shapes or bits differ, or a layer is of a kind that cannot be joined.
    """
    first = modules[0]
    if any(structure(module) != structure(first) for module in modules[1:]):
        raise UnlikeError("networks side by side must have the same layers, widths and bits")
    joint: nn.Module = blank_copy(first)
    layers = [(name, layer) for name, layer in joint.named_modules() if _own_tensors(layer)]
    for _, layer in layers:
        plain = not isinstance(layer, nn.Conv2d | nn.Linear) or has_plain_forward(layer)
        if is_sparse(layer) or is_shared(layer):
            raise UnlikeError("weights whose zeros or shared values are held cannot lie beside others")
        if type(layer) not in _KINDS or not plain:
            raise UnlikeError(f"a {type(layer).__name__} cannot lie beside others of its kind")
    if sum(len(list(layer.parameters(recurse=False))) for _, layer in layers) > len(list(joint.parameters())):
        raise UnlikeError("layers that share a parameter cannot lie beside others")
    for name, layer in layers:
        _share(layer, [module.get_submodule(name) for module in modules])
        _widen(layer, len(modules))
    return joint


def separate(modules: Iterable[nn.Module]) -> None:
    """Give every module memory of its own again."""
    for module in modules:
        for tensor in _tensors(module):
            tensor.data = tensor.data.clone()


def levels_of(module: nn.Module) -> list[bool]:
    """Which quantized layers have levels below zero: a joint layer does not notice where that changes."""
    return [layer.signed for layer in module.modules() if isinstance(layer, RoundedInput)]


def structure(module: nn.Module) -> tuple[object, ...]:
    """What modules must have in common: layers with their settings, bits, shapes, and what is frozen."""
    return tuple(
        (
            *(name, type(layer), layer.extra_repr(), layer.training),
            *(getattr(layer, fact, None) for fact in ("weight_bits", "activation_bits", "levels", "signed")),
            *((key, tensor.shape, tensor.requires_grad) for key, tensor in _own_tensors(layer).items()),
        )
        for name, layer in module.named_modules()
    )


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _own_tensors(layer: nn.Module) -> dict[str, Tensor]:
    return dict([*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)])


@torch.no_grad()
def _share(layer: nn.Module, twins: Sequence[nn.Module]) -> None:
    """Give a layer the tensors of its twins, one after the other, and the twins views of these."""
    each = [_own_tensors(twin) for twin in twins]
    for name, own in _own_tensors(layer).items():
        parts = [tensors[name] for tensors in each]
        joined = torch.cat([part.data for part in parts]) if own.dim() else torch.stack(parts)
        own.data = joined.detach()
        for place, part in enumerate(parts):
            part.data = own.data[place] if not part.dim() else own.data.chunk(len(parts))[place]


def _widen(layer: nn.Module, nets: int) -> None:
    if isinstance(layer, nn.Linear):
        if type(layer) is nn.Linear:
            layer.__class__ = _Linears  # in place, since it may have several names
        layer.nets = nets  # type: ignore[assignment]
        return
    for name in _WIDTHS:
        if hasattr(layer, name):
            setattr(layer, name, nets * getattr(layer, name))
    if isinstance(layer, QuantizedLayer):
        layer.nets = nets
