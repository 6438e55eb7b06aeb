"""torchvision can be imported whether or not its compiled operators load."""

import subprocess
import sys

import pytest
import torch

from ordercomp import torchvision_compat as vision

PROGRAM = """
import torch
torch.ops.load_library = lambda path: (_ for _ in ()).throw(OSError("built for another torch"))
from ordercomp.torchvision_compat import models
network = models.get_model("resnet18", weights=None, num_classes=4).eval()
print(tuple(network(torch.zeros(1, 3, 64, 64)).shape))
"""


@pytest.mark.slow
def test_torchvision_is_usable_without_its_compiled_operators() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "(1, 4)", done.stderr


def test_the_detection_operators_are_known_to_torch() -> None:
    assert vision.models.list_models(module=vision.models)
    assert torch.ops.torchvision.nms
    assert torch.ops.torchvision.qnms
