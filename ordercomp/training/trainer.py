"""Trainer: what a stage needs to train a network, and the one that trains on a task's data."""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from ordercomp.data.splits import Batch, ImageData
from ordercomp.networks.layers import RoundedInput, Rounding
from ordercomp.networks.network import CompressedNetwork
from ordercomp.networks.roundings import place_roundings
from ordercomp.training.fit import Criterion, Fitting, Objective, Schedule, batched, fit, make_objective
from ordercomp.training.recipe import Recipe

_EVALUATION_BATCH = 256
_SAMPLE = 64
Item = TypeVar("Item")

Batches = Callable[[], Iterator[Batch]]
BeforeStep = Callable[[float], None]  # of the share of the training that is done


class Trainer(Protocol):
    """What stages ask of a trainer; all methods change the module of a network in place."""

    @property
    def seed(self) -> int:
        """Seed of the fresh weights that a stage makes."""

    @property
    def baseline(self) -> CompressedNetwork | None:
        """The uncompressed network, if there is one to learn from."""

    def train(
        self,
        network: CompressedNetwork,
        *,
        fresh: bool,
        teacher: CompressedNetwork | None = None,
        before_step: BeforeStep | None = None,
    ) -> float:
        """Train the whole network and return the epochs spent; `before_step` hears of each step's start."""

    def train_heads(self, network: CompressedNetwork, *, joint: bool = False) -> float:
        """Train only the exit heads, or jointly with the body, and return the epochs spent."""

    def calibrate(self, network: CompressedNetwork, *, again: bool = False) -> None:
        """Set the input ranges of all quantized layers; `again` where they were set for other weights."""

    def sample(self, network: CompressedNetwork) -> Tensor:
        """Some training images as the network takes them, shape (n, c, h, w), on its device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataTrainer:
    """Data, recipe and seed of one stage."""

    data: ImageData
    recipe: Recipe
    seed: int
    device: torch.device
    precision: torch.dtype  # torch.float32 or torch.bfloat16
    baseline: CompressedNetwork | None = None  # the uncompressed network, for stages that learn from it
    criterion: Criterion = ""  # empty: the usual one of the data

    def for_stage(self, purpose: str, *, epochs: float = 0.0) -> "DataTrainer":
        """A trainer with its own stream of random numbers and, if `epochs` is positive, its own length."""
        digest = hashlib.sha256(f"{self.seed}/{purpose}".encode()).digest()
        recipe = replace(self.recipe, epochs=epochs) if epochs > 0 else self.recipe
        return replace(self, recipe=recipe, seed=int.from_bytes(digest[:6], "big"))

    def train(
        self,
        network: CompressedNetwork,
        *,
        fresh: bool,
        teacher: CompressedNetwork | None = None,
        before_step: BeforeStep | None = None,
    ) -> float:
        """Train the whole network, all exits jointly, and return the epochs spent.

        `fresh` weights train at the recipe's full rate, others at its fine-tuning rate. Activation ranges for
        fresh weights are fitted again when the rate is at its peak: before, nothing was learned. With a
        teacher the loss is distillation, exit from exit, else that of the targets. `before_step` is told the
        share of the training that is done and may change weights in place. Raises DivergedError.
        """
        module = network.module.to(self.device).train()
        objective = self._objective()
        targets = None if teacher is None else self._targets(teacher)

        def loss_of(outputs: Sequence[Tensor], batch: Batch) -> Tensor:
            if targets is None:
                return objective.of_targets(outputs, batch.labels)
            return objective.of_teacher(outputs, targets(batch), batch.labels)

        batches = self._batches()
        if fresh and any(True for _ in network.quantized_layers()):
            batches = _numbered(self._refitting(network), batches)
        if before_step is not None:
            steps = self._steps()[1]
            batches = _numbered(lambda step: before_step(step / steps), batches)
        epochs = self._fit(
            module, batches, lambda batch: (batch.images,), loss_of, example=self._example, fresh=fresh
        )
        module.eval()
        return epochs

    def train_heads(self, network: CompressedNetwork, *, joint: bool = False) -> float:
        """Train only the exit heads on features of the frozen body, statistics included; return the epochs.

        The features are computed once, so an epoch costs little. Quantized heads are calibrated first.
        `joint` trains the body with them, at the fine-tuning rate.
        """
        module = network.module.to(self.device).eval()
        features = self._sweep(module.head_inputs)
        labels = self.data.train.labels.to(self.device)
        for head, inputs in zip(module.heads, features, strict=True):
            _calibrate(head, inputs)
        if joint:
            return self.train(network, fresh=False)
        objective, rng = self._objective(), self._generator()

        def batches() -> Iterator[Tensor]:
            return batched(len(labels), self.recipe.batch_size, rng, device=self.device)

        return self._fit(
            _Heads(module.heads),
            batches,
            lambda index: tuple(inputs[index] for inputs in features),
            lambda outputs, index: objective.of_targets(outputs, labels[index]),
            example=lambda: torch.arange(min(len(labels), self.recipe.batch_size), device=self.device),
            fresh=True,
        )

    def calibrate(self, network: CompressedNetwork, *, again: bool = False) -> None:
        """Set the input ranges of all quantized layers on one batch of training images.

        With `again` the ranges stay as they are if the recipe says so.
        """
        module = network.module.to(self.device)
        new = False
        if network.bits is not None and network.bits.placement == "tensor":
            new = place_roundings(module, self._training_images(2))
        if new or not again or self.recipe.refit_ranges:
            self._fit_ranges(module)

    def _fit_ranges(self, module: nn.Module) -> None:
        _calibrate(module.train(), self._training_images(_EVALUATION_BATCH))

    def sample(self, network: CompressedNetwork) -> Tensor:
        """Some training images as the network takes them, shape (n, c, h, w), on its device."""
        return self._training_images(_SAMPLE).to(network.device)

    def _fit(
        self,
        module: nn.Module,
        batches: Callable[[], Iterator[Item]],
        inputs_of: Callable[[Item], tuple[Tensor, ...]],
        loss_of: Callable[[Sequence[Tensor], Item], Tensor],
        *,
        example: Callable[[], Item],
        fresh: bool,
    ) -> float:
        steps_an_epoch, steps = self._steps()
        rate = self.recipe.learning_rate * (1 if fresh else self.recipe.fine_tune_factor)
        fit(
            Fitting(
                module=module,
                batches=batches,
                inputs_of=inputs_of,
                loss_of=loss_of,
                example=example,
                schedule=Schedule(peak=rate, steps=steps, warmup=self.recipe.warmup),
                recipe=self.recipe,
                autocast=torch.autocast(
                    self.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16
                ),
            )
        )
        return steps / steps_an_epoch

    def _example(self) -> Batch:
        """A batch, as training has them but for augmentation."""
        size = min(self.recipe.batch_size, len(self.data.train))
        return next(iter(self.data.train.batches(size, rng=None, device=self.device)))

    def _steps(self) -> tuple[int, int]:
        """Steps of an epoch, and of the whole training."""
        steps_an_epoch = max(1, len(self.data.train) // self.recipe.batch_size)
        return steps_an_epoch, max(1, round(self.recipe.epochs * steps_an_epoch))

    def _refitting(self, network: CompressedNetwork) -> Callable[[int], None]:
        """Fits ranges again when the share of the steps that is warm-up is over."""
        peak = round(self.recipe.warmup * self._steps()[1])

        def refit(step: int) -> None:
            if step == peak > 0 and self.recipe.refit_ranges:
                self._fit_ranges(network.module)

        return refit

    def _training_images(self, count: int) -> Tensor:
        batches = self.data.train.batches(count, rng=self._generator(), device=self.device)
        return next(iter(batches)).images.contiguous(memory_format=torch.channels_last)

    def _batches(self) -> Callable[[], Iterator[Batch]]:
        rng = self._generator()
        size, augment = min(self.recipe.batch_size, len(self.data.train)), self.recipe.augment

        def batches() -> Iterator[Batch]:
            for batch in self.data.train.batches(size, rng=rng, augment=augment, device=self.device):
                if len(batch.labels) == size:  # a small last batch has noisy statistics
                    yield batch

        return batches

    def _targets(self, teacher: CompressedNetwork) -> Callable[[Batch], list[Tensor]]:
        """A teacher's logits for a batch: looked up, or computed if images are augmented."""
        module = teacher.copy().module.to(self.device).eval()
        if self.recipe.augment:
            return torch.no_grad()(lambda batch: list(module(batch.images)))
        cached = self._sweep(module)
        return lambda batch: [logits[batch.index] for logits in cached]

    def _sweep(self, function: Callable[[Tensor], tuple[Tensor, ...]]) -> list[Tensor]:
        """Apply a function to all training images in their own order, in float32."""
        with torch.no_grad():
            parts = [
                function(batch.images)
                for batch in self.data.train.batches(_EVALUATION_BATCH, rng=None, device=self.device)
            ]
        return [torch.cat(outputs).float() for outputs in zip(*parts, strict=True)]

    def _objective(self) -> Objective:
        return make_objective(self.criterion, self.data, self.recipe)

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)


def _numbered(tell: Callable[[int], None], batches: Batches) -> Batches:
    """The same batches; before each its number, from 0 and on through the epochs, is told."""
    steps = itertools.count()

    def telling() -> Iterator[Batch]:
        for batch in batches():
            tell(next(steps))
            yield batch

    return telling


class _Heads(nn.Module):
    """Exit heads by themselves, each on its own features."""

    def __init__(self, heads: nn.ModuleList) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, *features: Tensor) -> tuple[Tensor, ...]:
        """Logits of every head, each of shape (n, classes), for what it summarizes."""
        return tuple(head(inputs) for head, inputs in zip(self.heads, features, strict=True))


@torch.no_grad()
def _calibrate(module: nn.Module, inputs: Tensor) -> None:
    """Run `inputs` through `module` once; whatever rounds chooses its range just before it runs.

    A layer that runs several times ends with a range for the inputs of all its runs.
    """
    seen: dict[nn.Module, Tensor] = {}

    def choose(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, RoundedInput)
        values = arguments[0]
        if layer in seen:
            values = torch.cat([seen[layer], _summary(values)])
        layer.calibrate(values, [earlier.input_scale for earlier in seen if isinstance(earlier, Rounding)])
        seen[layer] = _summary(values)

    layers = [layer for layer in module.modules() if isinstance(layer, RoundedInput)]
    with ExitStack() as hooks:
        for layer in layers:
            hooks.enter_context(layer.register_forward_pre_hook(choose))
        if layers:
            module(inputs)


def _summary(values: Tensor, count: int = 16384) -> Tensor:
    """Evenly spaced values with both extremes: what is needed to choose a range again, in little memory."""
    flat = values.detach().float().flatten()
    return torch.cat([flat[:: max(1, len(flat) // count)], torch.stack(flat.aminmax())])
