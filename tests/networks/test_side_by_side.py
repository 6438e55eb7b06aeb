"""Networks side by side: the joint one computes and learns what each does by itself, in one memory."""

from collections.abc import Callable

import pytest
import torch
from tiny_networks import apply, tiny_network
from torch import Tensor, nn

from ordercomp.networks.exits import Bits
from ordercomp.networks.layers import Levels, dorefa_weight
from ordercomp.training.together import UnlikeError, join, separate

SEEDS = range(3)


def images(seed: int) -> Tensor:
    return torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def run_joint(joint: nn.Module) -> list[tuple[Tensor, ...]]:
    outputs = joint(torch.cat([images(seed) for seed in SEEDS], 1))
    return list(zip(*(output.chunk(len(SEEDS), 1) for output in outputs), strict=True))


@pytest.mark.integration
@pytest.mark.parametrize("model", ["resnet8(width=4)", "vgg8(width=4)", "mobilenet_v2(width=0.25)"])
@pytest.mark.parametrize("bits", [None, Bits(2, 4), Bits(1, 8)])
def test_a_joint_network_computes_what_its_parts_compute(model: str, bits: Bits | None) -> None:
    networks = [apply("E", tiny_network(model, seed=seed, size=8)) for seed in SEEDS]
    modules = [(one.quantized(bits) if bits else one).module.train() for one in networks]
    expected = [module(images(seed)) for seed, module in zip(SEEDS, modules, strict=True)]
    for own, alone in zip(run_joint(join(modules)), expected, strict=True):
        for beside, wanted in zip(own, alone, strict=True):
            torch.testing.assert_close(beside, wanted, rtol=1e-3, atol=1e-3)


def test_a_few_steps_side_by_side_are_the_steps_of_each_in_float64() -> None:
    def steps(module: nn.Module, run: Callable[[], Tensor]) -> None:
        optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, nesterov=True)
        for _ in range(4):
            optimizer.zero_grad()
            run().backward()
            optimizer.step()

    alone, beside = ([tiny_network(seed=seed).module.double().train() for seed in SEEDS] for _ in range(2))
    for seed, module in zip(SEEDS, alone, strict=True):
        steps(module, lambda seed=seed, module=module: module(images(seed).double())[-1].square().mean())
    joint, inputs = join(beside), torch.cat([images(seed).double() for seed in SEEDS], 1)
    steps(joint, lambda: torch.stack([p.square().mean() for p in joint(inputs)[-1].chunk(3, 1)]).sum())
    for one, other in zip(alone, beside, strict=True):
        pairs = zip(one.state_dict().items(), other.state_dict().values(), strict=True)
        assert all(torch.allclose(value, now, rtol=1e-11, atol=1e-13) for (_, value), now in pairs)


def test_parts_see_what_the_joint_network_learns_until_they_are_separated() -> None:
    modules = [tiny_network(seed=seed).quantized(Bits(2, 4)).module for seed in SEEDS]
    layouts = [tensor.stride() for tensor in modules[1].state_dict().values()]
    joint = join(modules)
    with torch.no_grad():
        for tensor in [*joint.parameters(), *joint.buffers()]:
            tensor.fill_(2)
    assert all((tensor == 2).all() for module in modules for tensor in module.state_dict().values())
    modules[1].body.conv.weight.data.fill_(3)
    assert (joint.body.conv.weight[4:8] == 3).all()
    assert (joint.body.conv.weight[:4] == 2).all()
    separate(modules)
    assert [tensor.stride() for tensor in modules[1].state_dict().values()] == layouts
    joint.body.conv.weight.data.fill_(4)
    assert (modules[0].body.conv.weight == 2).all()


@pytest.mark.parametrize("levels", ["uniform", "symmetric", "apot"])
@pytest.mark.parametrize("bits", [1, 2, 8])
def test_weights_of_each_net_are_rounded_in_their_own_range(bits: int, levels: Levels) -> None:
    weights = [torch.randn(4, 3, 3, 3) * scale for scale in (0.1, 1.0, 5.0)]
    joint = dorefa_weight(
        torch.cat(weights).contiguous(memory_format=torch.channels_last), bits, levels, nets=3
    )
    torch.testing.assert_close(joint, torch.cat([dorefa_weight(one, bits, levels) for one in weights]))


class _Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight


@pytest.mark.parametrize(
    ("modules", "told"),
    [
        ([nn.Linear(4, 4), nn.Linear(4, 5)], "the same layers, widths and bits"),
        ([nn.LayerNorm(4), nn.LayerNorm(4)], "a LayerNorm cannot lie beside others"),
        ([_Tied(), _Tied()], "share a parameter"),
    ],
)
def test_what_cannot_be_joined_is_refused_and_left_as_it_was(modules: list[nn.Module], told: str) -> None:
    before = [tensor.data_ptr() for module in modules for tensor in module.parameters()]
    with pytest.raises(UnlikeError, match=told):
        join(modules)
    assert [tensor.data_ptr() for module in modules for tensor in module.parameters()] == before
