#!/usr/bin/env bash
# fvcore 0.1.5.post20221221 and torchprofile 0.1.0 count a convolution with padding="same" as nothing.
#
# Tracing gives such a layer an operator of its own (aten::_convolution_mode), for which neither has a formula.
# fvcore tells it in a warning that lists an unsupported operator, which many scripts switch off; torchprofile
# says nothing. The same layer with its padding as a number is counted right. A ratio of two networks of which
# one spells its padding as a word is off by any factor.
#
# Seen (torch 2.13.0, Python 3.11, Linux x86-64): 115,200 multiplications with padding=1, 0 with padding="same".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.13.0 torchvision==0.28.0 numpy==2.4.6 fvcore==0.1.5.post20221221 torchprofile==0.1.0
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import logging

import torch
from torch import nn

if not hasattr(torch.ops.torchvision, "nms"):  # a torchvision whose operators do not load beside a CPU torch
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from fvcore.nn import FlopCountAnalysis
from torchprofile import profile_macs

logging.disable(logging.CRITICAL)
image = torch.zeros(1, 8, 10, 10)


def counted(padding: int | str) -> tuple[int, int]:
    """Multiplications of a 3x3 convolution by fvcore and by torchprofile."""
    layer = nn.Sequential(nn.Conv2d(8, 16, 3, padding=padding, bias=False)).eval()
    return int(FlopCountAnalysis(layer, image).total()), int(profile_macs(layer, image))


number, word = counted(1), counted("same")
print(f"padding=1: {number}, padding='same': {word} (fvcore, torchprofile); right: {8 * 16 * 9 * 100}")
assert number == (8 * 16 * 9 * 100,) * 2, "padding as a number is counted otherwise now"
assert word == (0, 0), "padding as a word is counted now"
PYTHON
