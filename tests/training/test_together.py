"""Trainings side by side: each learns what it learns alone, and what cannot be joined is given back."""

import time
from collections.abc import Callable
from functools import partial

import pytest
import torch
from tiny_networks import apply, tiny_network, tiny_trainer
from torch import Tensor, nn

from ordercomp.networks.exits import Bits
from ordercomp.networks.network import CompressedNetwork
from ordercomp.training import together as together_module
from ordercomp.training.fit import DivergedError, Fitting, Schedule, fit
from ordercomp.training.recipe import Recipe
from ordercomp.training.together import own_seconds, seats, together, train_again, trained_as_one

FLOAT = torch.autocast("cpu", torch.bfloat16, enabled=False)


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together_module, "_paces", {})
    monkeypatch.setattr(together_module, "_unlike", set())


def train(seed: int, *, bits: Bits | None = None, **recipe: float) -> CompressedNetwork:
    network = tiny_network(seed=seed)
    network = network.quantized(bits) if bits else network
    trainer = tiny_trainer(seed=seed, epochs=2, **recipe)
    trainer.calibrate(network)
    trainer.train(network, fresh=True, teacher=tiny_network(seed=9))
    return network


def tensors(network: CompressedNetwork) -> Tensor:
    return torch.cat([value.double().flatten() for value in network.module.state_dict().values()])


def works(count: int = 3, **options: object) -> list[Callable[[], CompressedNetwork]]:
    return [partial(train, seed, **options) for seed in range(count)]


@pytest.mark.integration
@pytest.mark.parametrize("bits", [None, Bits(2, 4)])
def test_seeds_learn_together_what_they_learn_alone(bits: Bits | None) -> None:
    for seed, network in enumerate(together(works(bits=bits), pays=True)):
        assert network is not None
        torch.testing.assert_close(tensors(network), tensors(train(seed, bits=bits)), rtol=0.05, atol=0.01)
        assert network.module.body.conv.weight.untyped_storage().nbytes() == 4 * 4 * 9  # its own memory


@pytest.mark.integration
def test_a_seed_is_trained_again_with_copies_for_the_others_bit_for_bit() -> None:
    joined = together(works(), pays=True)
    for place in range(3):
        again = train_again(partial(train, place), place=place, count=3)
        assert torch.equal(tensors(again), tensors(joined[place]))


@pytest.mark.integration
def test_heads_and_every_stage_train_side_by_side_unchanged() -> None:
    def work(seed: int) -> tuple[CompressedNetwork, tuple[int, int]]:
        network = apply("E", tiny_network(seed=seed), tiny_trainer(seed=seed))
        return apply("P", network, tiny_trainer(seed=seed)), trained_as_one()

    for seed, made in enumerate(together([partial(work, seed) for seed in range(2)], pays=True)):
        assert made is not None
        assert made[1] == (seed, 2)
        torch.testing.assert_close(tensors(made[0]), tensors(work(seed)[0]), rtol=0.01, atol=0.01)


def test_where_it_does_not_pay_each_trains_alone_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together_module, "_speedup", lambda *_things: 1.0)
    for seed, network in enumerate(together(works(2))):
        assert torch.equal(tensors(network), tensors(train(seed)))


def test_long_trainings_that_are_not_joined_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together_module, "_speedup", lambda *_things: 1.0)
    monkeypatch.setattr(together_module, "_PATIENCE", 0.0)
    first, *others = together(works(3))
    assert torch.equal(tensors(first), tensors(train(0)))
    assert others == [None, None]


class _Mixing(nn.Module):
    """Looks at all its channels at once, as no two networks may."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, values: Tensor) -> tuple[Tensor, ...]:
        return (self.linear(values).softmax(1),)


def small_fitting(module: nn.Module, *, target: float = 0.0) -> Fitting[Tensor]:
    values = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    return Fitting(
        module=module,
        batches=lambda: [values] * 2,
        inputs_of=lambda item: (item,),
        loss_of=lambda outputs, item: (outputs[0] - target).square().mean(),
        example=lambda: values,
        schedule=Schedule(peak=0.1, steps=4, warmup=0.25),
        recipe=Recipe(),
        autocast=FLOAT,
    )


def test_a_network_that_mixes_its_channels_is_not_joined() -> None:
    def work() -> tuple[float, tuple[int, int]]:
        torch.manual_seed(0)
        return fit(small_fitting(_Mixing())), trained_as_one()

    assert together([work, work], pays=True) == [(work()[0], (0, 1))] * 2


class _Plain(_Mixing):
    def forward(self, values: Tensor) -> tuple[Tensor, ...]:
        return (self.linear(values),)


def test_all_are_given_back_when_one_diverges_side_by_side() -> None:
    assert (
        together([partial(fit, small_fitting(_Plain(), target=t)) for t in (0.0, float("inf"))], pays=True)
        == [None] * 2
    )


def test_a_piece_that_fails_or_trains_nothing_leaves_the_others() -> None:
    def fails() -> float:
        raise DivergedError("before it trained")

    def trains() -> float:
        return fit(small_fitting(_Plain()))

    results = together([fails, trains, lambda: 5.0, trains], pays=True)
    assert [one is None for one in results] == [True, False, False, False]
    assert results[2] == 5.0


def test_an_except_clause_of_a_stage_does_not_take_giving_back_for_a_failure() -> None:
    def work(target: float) -> str:
        try:
            fit(small_fitting(_Plain(), target=target))
        except Exception:
            return "fell back"
        return "trained"

    assert together([partial(work, 0.0), partial(work, float("nan"))], pays=True) == [None, None]


def test_time_of_others_does_not_count_and_shared_time_by_its_share() -> None:
    def work(seconds: float) -> float:
        start = own_seconds()
        time.sleep(seconds)
        fit(small_fitting(_Plain()))
        assert seats() == 2
        return own_seconds() - start

    short, long = together([partial(work, 0.0), partial(work, 0.3)], pays=True)
    assert short is not None
    assert long is not None
    assert short < 0.25 < 0.3 <= long
    assert (seats(), trained_as_one()) == (1, (0, 1))  # nothing of it is left in this thread
