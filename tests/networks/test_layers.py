"""Quantizers by hand: levels, gradients, precision; the quantized twins of layers; exit heads."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from ordercomp.networks import layers
from ordercomp.networks.layers import (
    ExitHead,
    Levels,
    QuantConv2d,
    QuantizedLayer,
    QuantLinear,
    dorefa_activation,
    dorefa_weight,
    level_table,
    quantized_layer,
)


def weights(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_hand(weight: Tensor, bits: int) -> Tensor:
    """DoReFa's equations with plain floats, times the range m = max |tanh w|."""
    flat = weight.flatten().tolist()
    if bits == 1:
        mean = sum(abs(value) for value in flat) / len(flat)
        return torch.tensor([mean if value >= 0 else -mean for value in flat]).view_as(weight)
    top = max(abs(math.tanh(value)) for value in flat)
    steps = 2**bits - 1
    levels = [round(steps * (math.tanh(value) / (2 * top) + 0.5)) / steps for value in flat]
    return torch.tensor([top * (2 * level - 1) for level in levels]).view_as(weight)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_weights_follow_the_equations(bits: int) -> None:
    weight = weights(4, 3, 3, 3)
    quantized = dorefa_weight(weight, bits)
    torch.testing.assert_close(quantized, by_hand(weight, bits), rtol=1e-6, atol=1e-7)
    assert len(quantized.unique()) == min(2**bits, len(quantized.unique()))


def test_two_bit_weights_worked_by_hand() -> None:
    weight = torch.atanh(torch.tensor([-0.9, -0.5, -0.1, 0.1, 0.5, 0.9]))  # range 0.9, levels ±0.9 and ±0.3
    expected = torch.tensor([-0.9, -0.3, -0.3, 0.3, 0.3, 0.9])
    torch.testing.assert_close(dorefa_weight(weight, 2), expected)


def test_one_bit_gives_zero_a_positive_sign() -> None:
    quantized = dorefa_weight(torch.tensor([0.0, -3.0, 1.0]), 1)
    torch.testing.assert_close(quantized, torch.tensor([1.0, -1.0, 1.0]) * 4 / 3)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_weights_have_no_zero_level_and_keep_their_range(bits: int) -> None:
    quantized = dorefa_weight(weights(500), bits)
    assert (quantized != 0).all()
    assert len(quantized.unique()) <= 2**bits
    top = weights(500).abs().mean() if bits == 1 else weights(500).tanh().abs().max()
    torch.testing.assert_close(quantized.abs().max(), top)


def test_weights_that_are_all_zero_stay_finite() -> None:
    assert all(torch.isfinite(dorefa_weight(torch.zeros(3, 3), bits)).all() for bits in (1, 2, 8))


def test_thirty_two_bits_change_nothing() -> None:
    weight = weights(5)
    assert dorefa_weight(weight, 32) is weight
    assert dorefa_activation(weight, 32, torch.tensor(0.1)) is weight


def test_one_bit_weights_pass_gradients_straight_through() -> None:
    weight = weights(6).requires_grad_(True)
    upstream = weights(6, seed=1)
    dorefa_weight(weight, 1).backward(upstream)
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, upstream)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_weight_gradients_pass_the_rounding_and_keep_the_slope_of_tanh(bits: int) -> None:
    weight = weights(6).requires_grad_(True)
    upstream = weights(6, seed=1)
    dorefa_weight(weight, bits).backward(upstream)
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, upstream * (1 - weight.detach().tanh() ** 2))


def test_activations_worked_by_hand() -> None:
    values = torch.tensor([-1.0, 0.0, 0.24, 0.26, 0.74, 1.4, 1.6, 9.0])
    quantized = dorefa_activation(values, 2, torch.tensor(0.5))  # levels 0, 0.5, 1, 1.5
    assert quantized.tolist() == [0, 0, 0, 0.5, 0.5, 1.5, 1.5, 1.5]


def test_activations_on_the_unit_range_are_the_paper_formula() -> None:
    values = weights(200)
    for bits in (1, 2, 4, 8):
        steps = 2**bits - 1
        expected = (values.clamp(0, 1) * steps).round() / steps
        torch.testing.assert_close(dorefa_activation(values, bits, torch.tensor(1 / steps)), expected)


def test_signed_activations_are_symmetric_and_have_a_zero() -> None:
    quantized = dorefa_activation(torch.linspace(-3, 3, 61), 3, torch.tensor(0.5), signed=True)
    assert quantized.unique().tolist() == [-1.5, -1, -0.5, 0, 0.5, 1, 1.5]


def test_one_bit_activations_have_two_levels_whatever_their_sign() -> None:
    values = torch.linspace(-3, 3, 61)
    for signed in (False, True):
        assert dorefa_activation(values, 1, torch.tensor(0.5), signed=signed).unique().tolist() == [0, 0.5]


def test_activation_gradients_are_one_inside_the_range_and_zero_outside() -> None:
    values = torch.tensor([-0.1, 0.1, 0.8, 1.49, 1.51, 9.0], requires_grad=True)
    dorefa_activation(values, 2, torch.tensor(0.5)).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0, 1, 1, 1, 0, 0]


@given(
    bits=st.integers(1, 8),
    signed=st.booleans(),
    scale=st.floats(2**-10, 8, width=32),
    seed=st.integers(0, 999),
)
def test_fast_activations_equal_the_built_in_quantizer_bit_for_bit(
    bits: int, signed: bool, scale: float, seed: int
) -> None:
    values = weights(257, seed=seed) * scale * 2**bits
    low, high = (-(2 ** (bits - 1) - 1), 2 ** (bits - 1) - 1) if signed and bits > 1 else (0, 2**bits - 1)
    expected = torch.fake_quantize_per_tensor_affine(values, scale, 0, low, high)
    assert torch.equal(dorefa_activation(values, bits, torch.tensor(scale), signed=signed), expected)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("signed", [False, True])
def test_a_gpu_rounds_and_passes_gradients_as_a_cpu_does(whole: bool, signed: bool) -> None:
    outputs, gradients = [], []
    low, high = (-7, 7) if signed else (0, 15)
    for quantizer, scale in (
        (layers._ActivationQuantizer, 0.25),
        (layers._ScaledQuantizer, torch.tensor(0.25)),
    ):
        values = (weights(500) * 3).requires_grad_(True)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = quantizer.apply(values, scale, low, high, whole)
        rounded.float().pow(2).sum().backward()
        assert values.grad is not None
        outputs.append(rounded)
        gradients.append(values.grad)
    assert outputs[0].dtype == outputs[1].dtype == (torch.bfloat16 if whole else torch.float32)
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(gradients[0], gradients[1])


def test_rounding_is_done_in_float32_on_bfloat16_input() -> None:
    values = (weights(1000) * 20).bfloat16()
    quantized = dorefa_activation(values, 8, torch.tensor(0.13))
    assert quantized.dtype == torch.float32
    assert torch.equal(quantized, dorefa_activation(values.float(), 8, torch.tensor(0.13)))
    assert torch.equal(dorefa_weight(values, 8), dorefa_weight(values.float(), 8))


def quantized_conv(bits: int = 4, *, bias: bool = True) -> QuantConv2d:
    torch.manual_seed(0)
    layer = quantized_layer(nn.Conv2d(6, 5, 3, bias=bias), bits, bits)
    assert isinstance(layer, QuantConv2d)
    layer.calibrate(weights(4, 6, 7, 7).relu())
    return layer


class Spy(QuantConv2d):
    """Keeps the operands that reach the convolution."""

    def _conv_forward(self, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        self.operands = values.bfloat16(), weight.bfloat16()
        return super()._conv_forward(values, weight, bias)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_under_bfloat16_the_levels_are_those_of_float32(bits: int) -> None:
    layer = quantized_conv(bits)
    layer.__class__ = Spy
    values = weights(4, 6, 7, 7, seed=3).relu()
    with torch.autocast("cpu", torch.bfloat16):
        layer(values)
    inputs, weight = layer.operands  # type: ignore[attr-defined]
    expected_inputs, expected_weight = layer.quantized_operands(values)
    unit = dorefa_weight(layer.weight, bits).abs().max() / (2**bits - 1)
    torch.testing.assert_close(inputs.float() * layer.input_scale, expected_inputs, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(weight.float() * unit, expected_weight, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("bits", [2, 8, 32])
@pytest.mark.parametrize("bias", [True, False])
def test_bfloat16_training_follows_float32(bits: int, bias: bool) -> None:
    torch.manual_seed(0)
    linear = quantized_layer(nn.Linear(6, 5, bias=bias), bits, bits)
    assert isinstance(linear, QuantLinear)
    linear.calibrate(weights(50, 6).relu())
    layers: list[tuple[QuantConv2d | QuantLinear, Tensor]] = [
        (quantized_conv(bits, bias=bias), weights(4, 6, 7, 7, seed=3).relu()),
        (linear, weights(50, 6, seed=3).relu()),
    ]
    for layer, values in layers:
        exact, rounded = training_step(layer, values, False), training_step(layer, values, True)
        for name in exact:
            assert (rounded[name] - exact[name]).norm() < 0.01 * exact[name].norm(), name


def training_step(layer: nn.Module, values: Tensor, autocast: bool) -> dict[str, Tensor]:
    layer.zero_grad()
    leaf = values.clone().requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = layer(leaf)
    output.float().square().sum().backward()
    assert leaf.grad is not None
    gradients = {name: parameter.grad for name, parameter in layer.named_parameters()}
    found = {"output": output.detach().float(), "input": leaf.grad, **gradients}
    assert all(tensor is not None and tensor.dtype == torch.float32 for tensor in found.values())
    return found  # type: ignore[return-value]


def test_a_quantized_layer_shares_its_parameters_with_the_plain_one() -> None:
    for plain, kind in ((nn.Conv2d(2, 3, 3), QuantConv2d), (nn.Linear(2, 3), QuantLinear)):
        twin = quantized_layer(plain, 4, 4)
        assert type(twin) is kind
        assert twin.weight is plain.weight
        assert twin.bias is plain.bias
        assert "input_scale" not in dict(plain.named_buffers())


def test_32_bits_compute_what_the_plain_layer_computes() -> None:
    plain = nn.Conv2d(2, 3, 3, stride=2, padding=1)
    values = weights(2, 2, 8, 8)
    assert torch.equal(quantized_layer(plain, 32, 32)(values), plain(values))


def test_requantizing_gives_a_new_layer_with_its_own_range() -> None:
    before = quantized_conv(8)
    after = quantized_layer(before, 2, 4)
    assert isinstance(after, QuantConv2d)
    assert (after.weight_bits, after.activation_bits) == (2, 4)
    assert (before.weight_bits, before.activation_bits) == (8, 8)
    torch.testing.assert_close(after.input_scale * 15, before.input_scale * 255)
    after.input_scale.fill_(1.0)
    assert before.input_scale != 1


def test_other_layers_cannot_be_quantized() -> None:
    with pytest.raises(ValueError, match="layer must be a Conv2d or a Linear to be quantized, got ReLU"):
        quantized_layer(nn.ReLU(), 4, 4)


def error(layer: QuantizedLayer, values: Tensor) -> float:
    quantized = dorefa_activation(values, layer.activation_bits, layer.input_scale, signed=layer.signed)
    return float((quantized - values).square().mean())


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_calibration_beats_the_largest_value_as_range(bits: int) -> None:
    layer, values = quantized_conv(bits), weights(4, 6, 9, 9, seed=5).relu()
    layer.calibrate(values)
    chosen = error(layer, values)
    layer.input_scale.copy_(values.max() / (2**bits - 1))
    assert chosen <= error(layer, values)


def test_calibration_sees_negative_inputs() -> None:
    layer = quantized_conv(4)
    assert not layer.signed
    layer.calibrate(weights(2, 6, 5, 5))
    assert layer.signed
    one_bit = quantized_conv(1)
    one_bit.calibrate(weights(2, 6, 5, 5))
    assert not one_bit.signed


def test_calibration_of_constant_zero_input_stays_finite() -> None:
    layer = quantized_conv(4)
    layer.calibrate(torch.zeros(2, 6, 5, 5))
    assert torch.isfinite(layer(weights(2, 6, 5, 5))).all()


def test_a_quantized_layer_can_be_copied_after_a_forward_and_backward_pass() -> None:
    layer = quantized_conv()
    layer(weights(2, 6, 5, 5).relu()).sum().backward()
    twin = copy.deepcopy(layer)
    assert torch.equal(twin(torch.ones(1, 6, 5, 5)), layer(torch.ones(1, 6, 5, 5)))


def test_a_head_averages_features_and_classifies_them() -> None:
    head = ExitHead(3, 2)
    features = weights(4, 3, 5, 5)
    torch.testing.assert_close(head(features), head.classifier(features.mean((2, 3))))
    assert torch.equal(head(features), head.classifier(head.summarize(features)))
    assert head.summarize(torch.ones(4, 3)).shape == (4, 3)


def evaluated(layer: nn.Module, values: Tensor) -> Tensor:
    with torch.no_grad():
        output: Tensor = layer.eval()(values)
    return output


@pytest.mark.parametrize("bits", [1, 2, 8])
def test_evaluation_rounds_weights_once_and_gives_the_same_bits(
    bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, values = quantized_conv(bits), weights(2, 6, 8, 8)
    expected = layer.eval()(values).detach()  # with gradients nothing is kept
    calls: list[int] = []
    monkeypatch.setattr(
        layers, "dorefa_weight", lambda weight, bits, *_: calls.append(bits) or dorefa_weight(weight, bits)
    )
    assert torch.equal(evaluated(layer, values), expected)
    with torch.inference_mode():
        assert torch.equal(layer(values), expected)
    assert calls == [bits]


def test_a_kept_weight_is_rounded_anew_after_every_change() -> None:
    layer, values = quantized_conv(2), weights(2, 6, 8, 8)
    before = evaluated(layer, values)
    changes = [
        lambda: layer.weight.neg_(),
        lambda: layer.load_state_dict({**layer.state_dict(), "weight": weights(*layer.weight.shape, seed=5)}),
        lambda: setattr(layer, "weight", nn.Parameter(weights(*layer.weight.shape, seed=6))),
        lambda: layer.set_bits(3, 4),
        lambda: layer.train().weight.data.mul_(-1),
    ]
    for change in changes:
        with torch.no_grad():
            change()
        after = evaluated(layer, values)
        assert torch.equal(after, layer(values).detach())
        assert not torch.equal(after, before)
        before = after


def test_copies_of_a_layer_go_without_the_kept_weight() -> None:
    layer, values = quantized_conv(2), weights(2, 6, 8, 8)
    before = evaluated(layer, values)
    twin = copy.deepcopy(layer)
    assert (layer._kept is None, twin._kept) == (False, None)
    with torch.no_grad():
        twin.weight.neg_()
        assert not torch.equal(evaluated(twin, values), before)
    assert torch.equal(evaluated(layer, values), before)


@pytest.mark.parametrize(
    ("bits", "kind", "magnitudes"),
    [
        (2, "pot", [1]),
        (3, "pot", [1 / 4, 1 / 2, 1]),
        (3, "apot", [1 / 4, 1 / 2, 1]),  # one term of two bits
        (4, "apot", [1 / 24, 1 / 6, 1 / 3, 3 / 8, 1 / 2, 2 / 3, 1.0]),  # {0, 1, 1/4, 1/16} + {0, 1/2}
    ],
)
def test_levels_of_powers_of_two_worked_by_hand(bits: int, kind: Levels, magnitudes: list[float]) -> None:
    expected = torch.tensor([*(-one for one in reversed(magnitudes)), 0.0, *magnitudes])
    torch.testing.assert_close(level_table(bits, kind), expected)


@pytest.mark.parametrize("kind", ["pot", "apot"])
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
def test_weights_take_the_nearest_level_and_keep_their_range(bits: int, kind: Levels) -> None:
    weight, table = weights(500), level_table(bits, kind)
    assert len(table) == 2**bits - 1
    quantized = dorefa_weight(weight, bits, kind)
    bounded = weight.tanh()
    top = bounded.abs().max()
    nearest = (bounded[:, None] - top * table).abs().min(dim=1).values
    torch.testing.assert_close((quantized - bounded).abs(), nearest, rtol=0, atol=1e-6)
    torch.testing.assert_close(quantized.abs().max(), top)
    assert torch.equal(dorefa_weight(weight, 1, kind), dorefa_weight(weight, 1))
    assert dorefa_weight(weight, 32, kind) is weight


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_symmetric_levels_are_evenly_spaced_around_a_zero(bits: int) -> None:
    weight = weights(5000)
    bounded, half = weight.tanh(), 2 ** (bits - 1) - 1
    top = bounded.abs().max()
    expected = (bounded / top * half).round() / half * top
    torch.testing.assert_close(dorefa_weight(weight, bits, "symmetric"), expected, rtol=0, atol=1e-6)
    assert len(expected.unique()) == 2 * half + 1
    assert torch.equal(dorefa_weight(weight, 1, "symmetric"), dorefa_weight(weight, 1))


@pytest.mark.parametrize("kind", ["symmetric", "pot", "apot"])
def test_layers_multiply_the_same_under_autocast_whatever_the_levels(kind: Levels) -> None:
    layer = quantized_layer(nn.Linear(6, 5), 4, 4, levels=kind)
    values = weights(3, 6)
    with torch.autocast("cpu", torch.bfloat16):
        close = layer(values)
    torch.testing.assert_close(close.float(), layer(values), rtol=0.02, atol=0.02)
