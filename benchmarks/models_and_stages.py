"""Which networks of torchvision and timm go through which stages: the table in docs/models.md.

Each network is built untrained for small images, counted, and taken through D, P, Q and E with their default
knobs, and through all four, each in a process of its own with a limit of time and memory. A stage works, or
is refused in one line; anything else stands in the table as it happened. timm is needed for its part.

    python benchmarks/models_and_stages.py --json out/models.json              # measure what is missing there
    python benchmarks/models_and_stages.py --json out/models.json --docs docs/models.md
"""

import argparse
import importlib
import json
import resource
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ordercomp.data import vision  # declares operators that timm's torchvision needs
from ordercomp.measuring.cost import measure_cost
from ordercomp.measuring.untrained import apply_untrained, rehearse
from ordercomp.networks.network import CompressedNetwork
from ordercomp.sequence import StageSequence

TORCHVISION = (
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "googlenet",
    "inception_v3",
    "maxvit_t",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_x_400mf",
    "regnet_y_400mf",
    "resnet18",
    "resnext50_32x4d",
    "shufflenet_v2_x0_5",
    "squeezenet1_0",
    "swin_t",
    "swin_v2_t",
    "vgg11_bn",
    "vit_b_16(image_size=64)",
    "wide_resnet50_2",
)
TIMM = (
    "convnext_atto",
    "cspresnet50",
    "densenet121",
    "dla34",
    "efficientnet_lite0",
    "ghostnet_100",
    "mixer_s32_224",
    "mnasnet_small",
    "mobilenetv2_050",
    "mobilenetv3_small_050",
    "nf_resnet26",
    "regnety_002",
    "repvgg_a0",
    "resnet18",
    "resnetv2_50",
    "selecsls42",
    "seresnet18",
    "tf_efficientnet_b0",
    "vgg11",
    "vit_tiny_patch16_224",
)
SEQUENCES = ("D", "P", "Q", "E", "DPQE")
SIZES = {"inception_v3": 96}
SECONDS, GIGABYTES = 30, 12
_SIZED = ("mixer", "vit")  # timm's that are told the size of images


def timm_network(name: str, classes: int, channels: int) -> nn.Module:
    """timm's network of that name, for images of 64 x 64."""
    sized = {"img_size": 64} if name.startswith(_SIZED) else {}
    network: nn.Module = importlib.import_module("timm").create_model(
        name, num_classes=classes, in_chans=channels, **sized
    )
    return network


def main() -> None:
    """Measure what the JSON file lacks, and write the page if asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--docs", type=Path)
    parser.add_argument("--one", help="print what becomes of this network, as JSON")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(try_stages(given.one)))
        return
    found: dict[str, dict[str, str]] = json.loads(given.json.read_text()) if given.json.exists() else {}
    for name in (*(f"torchvision:{one}" for one in TORCHVISION), *(f"timm:{one}" for one in TIMM)):
        if name not in found:
            found[name] = _in_a_process(name)
            given.json.write_text(json.dumps(found, indent=1))
            print(name, found[name], flush=True)
    if given.docs:
        given.docs.write_text(page(found))


def try_stages(name: str) -> dict[str, str]:
    """`works` with the reduction of BitOps, or why not, for the cost and each sequence."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _too_long)
    side = SIZES.get(name.partition(":")[2].partition("(")[0], 64)
    found: dict[str, str] = {}
    dense: list[Any] = []

    def cost() -> str:
        spec = name
        if name.startswith("timm:"):
            spec = f"models_and_stages:timm_network(name={name.partition(':')[2]})"
        dense.append(CompressedNetwork.create(spec, classes=10, size=(side, side)))
        dense.append(measure_cost(dense[0]))
        rehearse(dense[0])
        return f"{dense[1].macs / 1e6:.1f} M"

    def stage(sequence: str) -> str:
        small = apply_untrained(dense[0], StageSequence.parse(sequence))
        rehearse(small)
        return f"{dense[1].bitops() / measure_cost(small).bitops():.2f}×"

    found["cost"] = _attempt(cost)
    for sequence in SEQUENCES if len(dense) == 2 and not found["cost"].startswith("no: ") else ():
        found[sequence] = _attempt(lambda sequence=sequence: stage(" ".join(sequence)))
    return found


def _attempt(work: Any) -> str:
    signal.alarm(SECONDS)
    try:
        text: str = work()
    except ValueError as error:
        return f"no: {error}"
    except Exception as error:
        return f"CRASH: {type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    return text


def _too_long(_signal: int, _frame: Any) -> None:
    raise TimeoutError(f"more than {SECONDS} s")


def _in_a_process(name: str) -> dict[str, str]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (GIGABYTES << 30, GIGABYTES << 30))

    command = [sys.executable, __file__, "--json", "-", "--one", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=limit)
    if done.returncode:
        return {"cost": f"CRASH: {done.stderr.strip().splitlines()[-1][:200]}"}
    result: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return result


def page(found: dict[str, dict[str, str]]) -> str:
    """The table, and below it the reasons of the refusals."""
    reasons: dict[str, int] = {}
    lines = [
        "# Networks and stages",
        "",
        "Made by `python benchmarks/models_and_stages.py --json out/models.json --docs docs/models.md`:",
        "untrained networks for images of 3x64x64 (inception_v3: 3x96x96), 10 classes, with "
        f"torch {torch.__version__}{_version('torchvision')}{_version('timm')}.",
        "A number says how many times fewer BitOps are left by a",
        "stage with its default knobs, and a bracket why it is refused, before anything is trained.",
        "",
        f"| network | MACs | {' | '.join(SEQUENCES)} |",
        "|---|---|" + "---|" * len(SEQUENCES),
    ]
    for name, row in found.items():
        cells = [_cell(row.get(key, ""), name, reasons) for key in ("cost", *SEQUENCES)]
        lines.append(f"| {name.partition('(')[0]} | {' | '.join(cells)} |")
    works = sum(not text.startswith(("no: ", "CRASH")) for row in found.values() for text in row.values())
    crashes = sum(text.startswith("CRASH") for row in found.values() for text in row.values())
    total = sum(len(row) for row in found.values())
    lines += ["", f"{works} of {total} work, {total - works - crashes} are refused, {crashes} crash.", ""]
    lines += [f"{number}. {reason}" for reason, number in reasons.items()]
    return "\n".join([*lines, ""])


def _cell(text: str, name: str, reasons: dict[str, int]) -> str:
    if not text.startswith(("no: ", "CRASH")):
        return text
    reason = text.removeprefix("no: ").replace(f"models_and_stages:timm_network(name={name[5:]})", "it")
    reason = " ".join(reason.replace(name, "it").split())[:240]
    return f"[{reasons.setdefault(reason, len(reasons) + 1)}]"


def _version(package: str) -> str:
    try:
        module = vision if package == "torchvision" else importlib.import_module(package)
    except ImportError:
        return ""
    found = importlib.import_module("importlib.metadata").version(package)
    return f", {package} {found}" if module else ""


if __name__ == "__main__":
    main()
