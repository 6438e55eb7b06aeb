"""Training steps: the same learning however they are taken, and a graph only where it is right and faster."""

import logging
from collections.abc import Callable

import pytest
import torch
from tiny_networks import digits, tiny_network
from torch import Tensor, nn
from torch.nn import functional

from ordercomp.data.splits import Batch
from ordercomp.networks.exits import Bits
from ordercomp.networks.layers import QuantizedLayer
from ordercomp.networks.network import CompressedNetwork
from ordercomp.training.fit import Fitting, Schedule, fit
from ordercomp.training.recipe import Recipe
from ordercomp.training.steps import (
    EagerSteps,
    GraphedSteps,
    TensorRateSGD,
    make_steps,
    own_stream,
    parameter_groups,
)

FLOAT32 = torch.autocast("cpu", torch.bfloat16, enabled=False)
RECIPE = Recipe(weight_decay=1e-2)
Body = Callable[[], Tensor]


class Recorder:
    """Stands for a GPU: keeps what is captured, and runs it at each replay."""

    def __init__(self, *, error: str = "") -> None:
        self.captures = 0
        self.replays = 0
        self.waits = 0
        self._error = error

    def capture(self, body: Body) -> Body:
        if self._error:
            raise RuntimeError(self._error)
        self.captures += 1

        def replay() -> Tensor:
            self.replays += 1
            return body()

        return replay

    def wait(self) -> None:
        self.waits += 1


def batches(size: int, count: int) -> list[Batch]:
    order = torch.Generator().manual_seed(1)
    return [batch for _ in range(count) for batch in digits().train.batches(size, rng=order)][:count]


def loss_on(network: CompressedNetwork) -> Callable[[Batch], Tensor]:
    return lambda batch: functional.cross_entropy(network.module(batch.images)[-1], batch.labels)


@pytest.fixture(autouse=True)
def steady_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """No replay seems slower than a step because the machine is busy."""
    monkeypatch.setattr("ordercomp.training.steps.time.perf_counter", lambda: 0.0)


def graphed(network: CompressedNetwork, recorder: Recorder) -> GraphedSteps:
    network.module.train()
    return GraphedSteps(
        network.module,
        loss_on(network),
        recipe=RECIPE,
        autocast=FLOAT32,
        capture=recorder.capture,
        wait=recorder.wait,
    )


def eager(network: CompressedNetwork) -> EagerSteps:
    network.module.train()
    return EagerSteps(network.module, loss_on(network), recipe=RECIPE, autocast=FLOAT32)


def weights(network: CompressedNetwork) -> Tensor:
    return torch.cat([one.detach().flatten() for one in network.module.parameters()])


def test_replayed_steps_learn_what_eager_ones_learn() -> None:
    networks, recorder = [tiny_network(), tiny_network()], Recorder()
    rates = [0.01, 0.02, 0.04, 0.05, 0.04, 0.03, 0.02, 0.01]
    losses: list[list[float]] = []
    for steps in (eager(networks[0]), graphed(networks[1], recorder)):
        taken = [steps.take(one, rate) for one, rate in zip(batches(16, 8), rates, strict=True)]
        losses.append([float(loss) for loss in taken])
        steps.finish()
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert torch.allclose(weights(networks[0]), weights(networks[1]), atol=1e-5)
    assert (recorder.captures, recorder.replays) == (1, 5)  # three steps warm up
    assert all(one.grad is None for network in networks for one in network.module.parameters())


def test_a_loss_stays_what_it_was_when_the_next_step_is_replayed() -> None:
    steps = graphed(tiny_network(), Recorder())
    taken = [steps.take(one, 0.05) for one in batches(16, 6)]
    assert len({loss.data_ptr() for loss in taken}) == 6


def test_another_shape_and_another_range_of_levels_are_captured_anew() -> None:
    network, recorder = tiny_network().quantized(Bits(4, 4)), Recorder()
    steps = graphed(network, recorder)
    for one in [*batches(16, 5), *batches(8, 5)]:
        steps.take(one, 0.01)
    assert recorder.captures == 2
    _, layer = list(network.quantized_layers())[3]
    assert isinstance(layer, QuantizedLayer)
    layer.signed = not layer.signed
    for one in batches(8, 4):
        steps.take(one, 0.01)
    assert recorder.captures == 3


def test_what_cannot_be_captured_is_trained_eagerly_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    networks = [tiny_network(), tiny_network()]
    refused = graphed(networks[1], Recorder(error="operation not permitted\nwhen stream is capturing"))
    with caplog.at_level(logging.WARNING):
        for steps in (eager(networks[0]), refused):
            for one in batches(16, 7):
                steps.take(one, 0.02)
    assert torch.allclose(weights(networks[0]), weights(networks[1]), atol=1e-5)
    assert refused.refusal == "operation not permitted when stream is capturing"
    assert caplog.text.count("steps are not captured as a graph: operation not permitted") == 1


def test_a_lack_of_memory_while_capturing_is_named() -> None:
    steps = graphed(tiny_network(), Recorder(error="CUDA out of memory. Tried to allocate 2 GiB"))
    for one in batches(16, 4):
        steps.take(one, 0.02)
    assert steps.refusal == "memory was short"


def test_a_graph_that_is_slower_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    ticks = iter([0.0, 0.0, 0.0, 1.0, 2.0, 7.0])  # the third eager step takes 1 s, the first replay 5 s
    monkeypatch.setattr("ordercomp.training.steps.time.perf_counter", lambda: next(ticks, 7.0))
    steps = graphed(tiny_network(), recorder)
    for one in batches(16, 6):
        steps.take(one, 0.02)
    assert recorder.replays == 1
    assert steps.refusal == "a replay took 5 s, an eager step 1 s"


def test_graphs_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERCOMP_CUDA_GRAPHS", "off")
    recorder = Recorder()
    steps = graphed(tiny_network(), recorder)
    for one in batches(16, 6):
        steps.take(one, 0.02)
    assert (recorder.captures, steps.refusal) == (0, "switched off")


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_optimizer_of_graphs_does_what_that_of_torch_does(momentum: float) -> None:
    rate = torch.tensor(0.0)
    pairs = []
    for ours in (True, False):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(2, 2))  # the last one stays unused
        groups = parameter_groups(module, 0.1)
        torchs = torch.optim.SGD(groups, lr=1.0, momentum=momentum, nesterov=momentum > 0)
        optimizer = TensorRateSGD(groups, momentum=momentum, rate=rate) if ours else torchs
        for step in range(4):
            rate.fill_(0.1 / (step + 1))
            for group in torchs.param_groups:
                group["lr"] = float(rate)
            optimizer.zero_grad()
            module[:2](torch.full((5, 3), 0.5 + step)).square().sum().backward()
            optimizer.step()
        pairs.append(torch.cat([one.detach().flatten() for one in module.parameters()]))
    assert torch.allclose(pairs[0], pairs[1], rtol=1e-5)


def test_the_loop_on_a_cpu_is_plain_sgd_bit_for_bit() -> None:
    networks = [tiny_network(), tiny_network()]
    schedule = Schedule(peak=0.1, steps=5, warmup=0.25)
    data = batches(16, 5)
    networks[0].module.train()
    fit(
        Fitting(
            module=networks[0].module,
            batches=lambda: data,
            inputs_of=lambda batch: (batch.images,),
            loss_of=lambda outputs, batch: functional.cross_entropy(outputs[-1], batch.labels),
            example=lambda: data[0],
            schedule=schedule,
            recipe=RECIPE,
            autocast=FLOAT32,
        )
    )
    module = networks[1].module.train()
    optimizer = torch.optim.SGD(parameter_groups(module, 1e-2), lr=1.0, momentum=0.9, nesterov=True)
    for step, batch in enumerate(data):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        loss = functional.cross_entropy(module(batch.images)[-1], batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.equal(weights(networks[0]), weights(networks[1]))


def test_a_cpu_has_no_stream_of_its_own_and_no_graphs() -> None:
    network = tiny_network()
    with own_stream(torch.device("cpu")) as stream:
        steps = make_steps(network.module, loss_on(network), recipe=RECIPE, autocast=FLOAT32)
    assert stream is None
    assert isinstance(steps, EagerSteps)
