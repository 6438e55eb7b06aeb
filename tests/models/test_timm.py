"""timm's networks by name: built without its weights, which are looked for on disk."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from ordercomp.models.catalog import build_model
from ordercomp.networks.weights import weights_path

needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="the extra timm")


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    for ask in (build_model, lambda model, **_: weights_path("pretrained", model)):
        with pytest.raises(ValueError, match=r"timm:NAME needs the extra: pip install 'ordercomp.timm.'"):
            ask("timm:resnet18", classes=10)


@needs_timm
def test_timms_networks_take_gray_images_and_options() -> None:
    model = build_model("timm:mobilenetv3_small_050(drop_rate=0.5)", classes=7, channels=1).eval()
    assert model(torch.zeros(1, 1, 32, 32)).shape == (1, 7)
    assert model.drop_rate == 0.5


@needs_timm
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("timm:resnet19", "timm has no network 'resnet19'; did you mean resnet18 or "),
        ("timm:resnet18.best", "timm has no weights 'best' of resnet18; it has a1_in1k, "),
        ("timm:resnet18(depth=3)", "timm:resnet18 failed with {'depth': 3}: .* unexpected keyword"),
    ],
)
def test_what_timm_does_not_have_is_told_in_one_line(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        build_model(spec, classes=7)
    assert "\n" not in str(caught.value)


@needs_timm
def test_timms_weights_are_looked_for_where_its_downloads_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(
        ValueError, match=r"not on disk: run `hf download timm/resnet18.a1_in1k`, or put http"
    ):
        weights_path("pretrained", "timm:resnet18")
    with pytest.raises(ValueError, match="timm has no trained weights for 'nf_resnet26'"):
        weights_path("pretrained", "timm:nf_resnet26")
    old = tmp_path / "torch" / "checkpoints" / "resnet18_a1_0-d63eafa0.pth"
    new = tmp_path / "hub" / "models--timm--resnet18.a1_in1k" / "snapshots" / "0a1b" / "model.safetensors"
    for file in (old, new):
        file.parent.mkdir(parents=True)
        file.touch()
        assert weights_path("pretrained", "timm:resnet18.a1_in1k") == file
