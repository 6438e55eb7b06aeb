"""Models: sizes known from the literature, shapes, blocks, and what the names accept."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ordercomp.models.builtin import (
    ConvBlock,
    InvertedResidual,
    ResidualBlock,
    ladder_resnet,
    thin_resnet,
    vgg,
)
from ordercomp.models.catalog import MODELS, build_model

BLOCKS = (ResidualBlock, InvertedResidual, ConvBlock)


def count_macs(model: nn.Module, channels: int = 3, size: int = 32) -> int:
    """Multiply-accumulates of convolutions and linear layers for one image."""
    macs = 0

    def count(layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        macs += output.numel() * layer.weight[0].numel()

    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(count)
    with torch.no_grad():
        model.eval()(torch.zeros(1, channels, size, size))
    return macs


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("spec", "parameters", "megamacs"),
    [
        ("resnet34", 21_282_122, 1159.4),
        ("resnet18", 11_173_962, 555.4),
        ("vgg19", 20_040_522, 398.1),
        ("mobilenet_v2", 2_236_682, 88.0),
        ("mobilenet_v2(strides=nac)", 2_236_682, 296.5),
    ],
)
def test_published_sizes_are_met(spec: str, parameters: int, megamacs: float) -> None:
    model = build_model(spec, classes=10)
    assert count_parameters(model) == parameters
    assert round(count_macs(model) / 1e6, 1) == megamacs


@pytest.mark.parametrize(
    ("spec", "mega_parameters", "megamacs"),
    [
        ("resnet34(blocks=1221)", 6.379, 404.4),
        ("resnet34(blocks=1121)", 6.084, 328.9),
        ("resnet34(blocks=1111)", 4.903, 253.4),
        ("vgg16", 14.728, 313.2),
        ("vgg13", 9.416, 228.3),
        ("vgg11", 9.231, 152.8),
        ("vgg8", 3.919, 67.8),
        ("mobilenet_v2(width=0.75,strides=nac)", 1.368, 183.1),
        ("mobilenet_v2(width=0.5,strides=nac)", 0.700, 88.0),
        ("mobilenet_v2(width=0.35,strides=nac)", 0.409, 51.7),
        ("resnet20", 0.272, 40.8),
    ],
)
def test_students_have_their_published_sizes(spec: str, mega_parameters: float, megamacs: float) -> None:
    model = build_model(spec, classes=10)
    assert round(count_parameters(model) / 1e6, 3) == mega_parameters
    assert round(count_macs(model) / 1e6, 1) == megamacs


@pytest.mark.parametrize(
    ("spec", "parameters"), [("resnet34", 21_328_292), ("vgg19", 20_086_692), ("mobilenet_v2", 2_351_972)]
)
def test_sizes_for_a_hundred_classes(spec: str, parameters: int) -> None:
    assert count_parameters(build_model(spec, classes=100)) == parameters


@pytest.mark.integration
def test_torchvision_imagenet_sizes_are_met() -> None:
    model = build_model("torchvision:resnet18", classes=1000)
    assert round(count_parameters(model) / 1e6, 2) == 11.69
    assert round(count_macs(model, size=224) / 1e9, 3) == 1.814


@pytest.mark.parametrize("size", [8, 28, 32])
@pytest.mark.parametrize(
    "spec",
    ["resnet8(width=4)", "resnet18(width=4)", "vgg19(width=4)", "mobilenet_v2(width=0.1,strides=rd)"],
)
def test_every_family_takes_gray_images_of_all_usual_sizes(spec: str, size: int) -> None:
    model = build_model(spec, classes=7, channels=1).eval()
    with torch.no_grad():
        assert model(torch.zeros(2, 1, size, size)).shape == (2, 7)


def narrow(name: str) -> str:
    return f"{name}(width=0.1)" if name.startswith("mobilenet") else f"{name}(width=2)"


@pytest.mark.parametrize("name", MODELS)
def test_any_block_that_keeps_shapes_can_be_dropped(name: str) -> None:
    model = build_model(narrow(name), classes=3).eval()
    stages = [stage for stage in model.stages if isinstance(stage, nn.Sequential)]  # type: ignore[union-attr]
    image = torch.zeros(1, 3, 32, 32)
    for stage in stages:
        for place, block in enumerate(stage):
            if place > 0 and isinstance(block, BLOCKS):
                stage[place] = nn.Identity()
    with torch.no_grad():
        assert model(image).shape == (1, 3)
    assert all(len(stage) >= 1 for stage in stages)


@pytest.mark.parametrize("name", ["resnet8", "resnet34", "vgg11", "mobilenet_v2"])
def test_gradients_reach_every_parameter_also_with_hooks_that_hold_block_outputs(name: str) -> None:
    model = build_model(narrow(name), classes=3).train()
    kept: list[Tensor] = []
    for module in model.modules():
        if isinstance(module, BLOCKS):
            module.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    logits = model(torch.randn(2, 3, 32, 32))
    copies = [output.clone() for output in kept]
    (logits.sum() + sum(output.square().mean() for output in kept)).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all(torch.equal(output, copy) for output, copy in zip(kept, copies, strict=True))


def test_weights_follow_the_global_seed() -> None:
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        weights.append(next(build_model("resnet8(width=4)", classes=3).parameters()).detach())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_strided_stem_quarters_the_work_and_keeps_the_parameters() -> None:
    plain, strided = (
        build_model(spec, classes=10) for spec in ("resnet8(width=4)", "resnet8(width=4,stem_stride=2)")
    )
    assert count_parameters(strided) == count_parameters(plain)
    classifier = 16 * 10
    work = [count_macs(model, size=32) - classifier for model in (plain, strided)]
    assert work[0] == 4 * work[1]


def test_shortcuts_are_projections_only_where_shapes_change() -> None:
    blocks = [
        m for m in build_model("resnet14(width=4)", classes=3).modules() if isinstance(m, ResidualBlock)
    ]
    projected = [isinstance(block.shortcut, nn.Sequential) for block in blocks]
    assert projected == [False, False, True, False, True, False]


def test_a_projection_is_a_strided_convolution_of_the_input() -> None:
    block = ResidualBlock(4, 6, 2).eval()
    image = torch.randn(2, 4, 7, 8)
    _, projection, normalization = block.shortcut  # type: ignore[misc]
    strided = nn.functional.conv2d(image, projection.weight, stride=2)
    torch.testing.assert_close(block.shortcut(image), normalization(strided))


def test_narrow_networks_learn_from_large_images() -> None:
    model = build_model("resnet8(width=4)", classes=3).train().to(memory_format=torch.channels_last)
    images = torch.randn(2, 3, 96, 96).contiguous(memory_format=torch.channels_last)
    model(images).sum().backward()  # strided 1x1 convolutions would corrupt memory here
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_factories_refuse_depths_that_do_not_exist() -> None:
    with pytest.raises(ValueError, match=r"depth must be 6n \+ 2 with n of at least 1, got 10"):
        thin_resnet(10, classes=3)
    with pytest.raises(ValueError, match="blocks must be four digits of at least 1, such as 2222, got 222"):
        ladder_resnet(222, classes=3)
    with pytest.raises(ValueError, match="depth must be one of 8, 11, 13, 16, 19, got 12"):
        vgg(12, classes=3)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("resnet19", "model must be one of resnet8, .*got 'resnet19'; did you mean resnet18"),
        ("resnet8(depth=3)", "resnet8 has no knob 'depth'; its knobs are: width"),
        ("resnet8(width=0)", r"resnet8 knob width must lie in \[1, 4096\], got 0"),
        ("resnet8(width=wide)", "resnet8 knob width must be a whole number, got 'wide'"),
        ("resnet34(blocks=1011)", "blocks must"),
        ("mobilenet_v2(strides=none)", "strides must be one of kl, nac, rd, got 'none'"),
        ("resnet8(", r"model must be name or name\(option=value,...\), got 'resnet8\('"),
        ("resnet8(width)", "got 'resnet8\\(width\\)': expected knob=value"),
        ("torchvision:resnet19", "torchvision has no classification network 'resnet19'; did you mean"),
        (
            "torchvision:resnet18(depth=3)",
            "torchvision:resnet18 failed with {'depth': 3}: .*unexpected keyword",
        ),
    ],
)
def test_bad_specifications_are_answered_in_one_line(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        build_model(spec, classes=10)
    assert "\n" not in str(caught.value)


def test_torchvision_models_take_color_images_only() -> None:
    with pytest.raises(ValueError, match="takes images of 3 channels, the data has 1"):
        build_model("torchvision:resnet18", classes=10, channels=1)


@pytest.mark.parametrize("argument", ["classes", "channels"])
def test_numbers_below_one_are_refused(argument: str) -> None:
    with pytest.raises(ValueError, match=f"{argument} must be at least 1, got 0"):
        build_model("resnet8", **{"classes": 10, "channels": 3, argument: 0})


USER_MODULE = """
from torch import nn

def both(*, classes, channels, width=4):
    return nn.Sequential(nn.Conv2d(channels, width, 3), nn.Flatten(), nn.LazyLinear(classes))

def switched(bias=True):
    return nn.Linear(3, 7, bias=bias is True)

def torch_style(num_classes=1000, in_chans=3):
    return nn.Linear(in_chans, num_classes)

def any_keyword(**settings):
    return nn.Linear(settings["channels"], settings["classes"])

def neither(width):
    return nn.Linear(width, 10)

def broken(classes):
    raise RuntimeError("first line\\nsecond line")

def text(classes):
    return "no network"

number = 3
"""


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"nets_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(USER_MODULE)
    monkeypatch.chdir(tmp_path)
    return name


@pytest.mark.parametrize(
    ("call", "shape"),
    [("torch_style", (7, 2)), ("any_keyword", (7, 2)), ("neither(width=5)", (10, 5))],
)
def test_user_functions_get_the_arguments_they_take(
    user_module: str, call: str, shape: tuple[int, int]
) -> None:
    model = build_model(f"{user_module}:{call}", classes=7, channels=2)
    assert tuple(model.weight.shape) == shape  # type: ignore[arg-type]


def test_user_functions_take_options_beside_classes_and_channels(user_module: str) -> None:
    model = build_model(f"{user_module}:both(width=6)", classes=7, channels=2)
    assert tuple(model[0].weight.shape) == (6, 2, 3, 3)  # type: ignore[index]
    assert model(torch.zeros(2, 2, 8, 8)).shape == (2, 7)


@pytest.mark.parametrize("no", ["false", "False"])
def test_an_option_that_is_switched_off_is_off(user_module: str, no: str) -> None:
    assert build_model(f"{user_module}:switched(bias={no})", classes=7).bias is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("absent", "must name a function; module 'nets_.*' has nothing of that name"),
        ("number", "must name a function; module 'nets_.*' has int of that name"),
        ("neither", "does not take {}: missing a required argument: 'width'"),
        ("both(depth=3)", "does not take .*: got an unexpected keyword argument 'depth'"),
        ("broken", "failed with {'classes': 7}: RuntimeError: first line second line"),
        ("text", "must return an nn.Module, got str"),
    ],
)
def test_failing_user_functions_are_named_in_one_line(user_module: str, call: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        build_model(f"{user_module}:{call}", classes=7)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("no_such_module:net", "cannot import 'no_such_module' .*: ModuleNotFoundError: No module named"),
        (":net", "expected package.module:function, got ':net'"),
        ("module:", "expected package.module:function, got 'module:'"),
    ],
)
def test_functions_that_cannot_be_imported_are_explained(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_model(spec, classes=7)


@pytest.mark.integration
def test_building_loads_no_other_half_of_torch_to_count_parameters() -> None:
    program = (
        "import sys; from ordercomp.models.catalog import build_model\n"
        "before = set(sys.modules)\n"
        "model = build_model('resnet8(width=4)', classes=10)\n"
        "print(len(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 20  # of modules; what torch loads to draw on "meta" are hundreds
