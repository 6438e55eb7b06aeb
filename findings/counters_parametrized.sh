#!/usr/bin/env bash
# thop 0.1.1.post2209072238, torchinfo 1.8.0 and torch-pruning 1.6.1 count a layer under weight_norm as nothing.
#
# torch.nn.utils.parametrizations gives the layer another class and moves its weight into a part of its own;
# counters that look layers up by their class, or count weights beside outputs, find nothing there and say so
# nowhere. The counter of torch itself, which watches operators, is right. Also spectral_norm and orthogonal.
#
# Seen (torch 2.13.0, Python 3.11, Linux x86-64): 115,200 multiplications without weight_norm in all four, with it
# 115,200 in torch and 0 in the other three.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.13.0 numpy==2.4.6 thop==0.1.1.post2209072238 torchinfo==1.8.0 torch-pruning==1.6.1
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch
import torch_pruning
from thop import profile
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.flop_counter import FlopCounterMode
from torchinfo import summary

image = torch.zeros(1, 8, 10, 10)


def counted(*, normed: bool) -> dict[str, int]:
    """Multiplications of a 3x3 convolution by each counter."""
    layer = nn.Conv2d(8, 16, 3, padding=1, bias=False)
    network = nn.Sequential(weight_norm(layer) if normed else layer).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    return {
        "torch": counter.get_total_flops() // 2,
        "thop": int(profile(network, (image,), verbose=False)[0]),
        "torchinfo": int(summary(network, input_data=image, verbose=0).total_mult_adds),
        "torch-pruning": int(torch_pruning.utils.count_ops_and_params(network, image)[0]),
    }


plain, normed = counted(normed=False), counted(normed=True)
print(f"plain: {plain}\nunder weight_norm: {normed}")
assert set(plain.values()) == {8 * 16 * 9 * 100}, "a plain convolution is counted otherwise now"
assert normed.pop("torch") == 8 * 16 * 9 * 100, "torch counts otherwise now"
assert set(normed.values()) == {0}, "a layer under weight_norm is counted now"
PYTHON
