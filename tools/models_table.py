"""Which networks of torchvision and timm go through which stages: the table in docs/models.md.

Each network is built untrained for small images, counted, and taken through D, P, Q and E with their default
knobs, and through all four, in a process of its own with limits of processor time and memory. A stage works,
or is refused in one line; anything else stands in the table as it happened. timm is needed for its part.

    python tools/models_table.py --json out/models.json              # measure what is missing there
    python tools/models_table.py --json out/models.json --docs docs/models.md
"""

import argparse
import json
import resource
import signal
import subprocess
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ordercomp.measuring.cost import measure_cost
from ordercomp.networks.network import CompressedNetwork
from ordercomp.sequence import StageSequence
from ordercomp.stages.catalog import apply_untrained, dry_run

TORCHVISION = (
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "googlenet(aux_logits=false)",
    "inception_v3(aux_logits=false)",
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
    "mixer_s32_224(img_size=64)",
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
    "vit_tiny_patch16_224(img_size=64)",
)
NEW_IN_TIMM = (  # networks that timm took in in 2025 and 2026
    "convnext_zepto_rms",
    "cpubone_nano",
    "csatv2",
    "efficientvim_m1",
    "fasternet_t0",
    "ghostnetv3_100",
    "iformer_s",
    "lcnetv2_small",
    "lowformer_b0",
    "mobilenetv4_conv_small_035",
    "shvit_s1",
    "starnet_s1",
    "swiftformer_xs",
    "vit_pe_core_tiny_patch16_384(img_size=64)",
    "vit_small_patch16_dinov3(img_size=64)",
)
NETWORKS = (
    *(f"torchvision:{name}" for name in TORCHVISION),
    *(f"timm:{name}" for name in (*TIMM, *NEW_IN_TIMM)),
)
SEQUENCES = {
    "D": "D",
    "D by width": "D(depth=1.0,width=0.5)",
    "P": "P",
    "Q": "Q",
    "E": "E",
    "DPQE": "D P Q E",
    "DPQE by width": "D(depth=1.0,width=0.5) P Q E",
}
INSTEAD = {"D": "D by width", "DPQE": "DPQE by width"}  # where there is no block to drop
SIZES = {"inception_v3": 96, "maxvit_t": 224}
INTRODUCTION = """\
# Networks and stages

`torchvision:NAME` and `timm:NAME` (the extra `timm`) are models as ours are; options go to their functions,
as in `torchvision:googlenet(aux_logits=false)`. With `weights = "pretrained"` a task starts from their own
trained weights, which must lie where their downloads are kept; a missing file is told with where to get it.

{count} networks, untrained, for 10 classes and images of 3x64x64 (inception_v3: 96x96, maxvit_t: 224x224),
with {versions}. A number says how many times fewer BitOps a stage with its default knobs
leaves where all images go to the end (w: D with half the width, where it finds no block to drop), one in
brackets why it is refused. Layers with a forward of their own stay in float under Q, which gains less there.
P leaves channels that cannot be followed; "of 43%" is the share of the multiplications that it reaches.
A dash was not measured with the present form of the stages (`--only NAME` measures it), and says nothing of
what would come out.
"""
SECONDS, GIGABYTES = 400, 12  # for each entry of the table, and for a network


def main() -> None:
    """Measure what the JSON file lacks, and write the page if asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--docs", type=Path)
    parser.add_argument("--only", help="networks whose name holds this text")
    parser.add_argument("--stages", help="the one column to measure, such as P; others stay as they are")
    parser.add_argument("--one", help="print what becomes of this network, as JSON")
    options = parser.parse_args()
    if options.one:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        print(json.dumps(try_stages(options.one, options.stages)))
        return
    results: dict[str, dict[str, str]] = json.loads(options.json.read_text()) if options.json.exists() else {}
    for name in NETWORKS:
        row = results.get(name, {})
        if (options.only or "") in name and (options.stages or "") not in row and (options.stages or not row):
            results[name] = row | _in_a_process(name, options.stages)
            options.json.write_text(json.dumps(results, indent=1))
            print(name, results[name], flush=True)
    if options.docs:
        libraries = ("torch", "torchvision", "timm")
        versions = ", ".join(f"{library} {version(library).partition('+')[0]}" for library in libraries)
        options.docs.write_text(page(results, versions))


def try_stages(name: str, stages: str | None = None) -> dict[str, str]:
    """`works` with the reduction of BitOps, or why not, for the cost and each sequence, or one of them."""
    signal.signal(signal.SIGPROF, _too_long)
    side = SIZES.get(name.partition(":")[2].partition("(")[0], 64)
    row: dict[str, str] = {}
    dense: list[Any] = []

    def cost() -> str:
        dense.append(CompressedNetwork.create(name, classes=10, size=(side, side)))
        dense.append(measure_cost(dense[0]))
        dry_run(dense[0])
        return f"{dense[1].macs / 1e6:.1f} M"

    def stage(sequence: str) -> str:
        small = apply_untrained(dense[0], StageSequence.parse(sequence))
        dry_run(small)
        exits = f", {len(small.exits)} exit{'s' * (len(small.exits) > 1)}" if small.exits else ""
        reached = small.lineage[0].achieved.get("reached", 1) if sequence == "P" else 1
        part = f", of {reached:.0%}" if reached < 0.995 else ""
        return f"{dense[1].bitops() / measure_cost(small).bitops():.2f}×{exits}{part}"

    row["cost"] = _attempt(cost)
    if row["cost"].startswith(("no: ", "CRASH")):
        return row
    for column, sequence in SEQUENCES.items():
        replaced = [key for key, other in INSTEAD.items() if other == column]
        if stages in (None, column, *replaced) and all(row[key].startswith("no: ") for key in replaced):
            row[column] = _attempt(lambda sequence=sequence: stage(sequence))
    return row


def _attempt(work: Any) -> str:
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        text: str = work()
    except ValueError as error:
        return f"no: {error}"
    except Exception as error:
        return f"CRASH: {type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return text


def _too_long(_signal: int, _frame: Any) -> None:
    raise TimeoutError(f"more than {SECONDS} s")


def _in_a_process(name: str, stages: str | None) -> dict[str, str]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (GIGABYTES << 30, GIGABYTES << 30))

    command = [sys.executable, __file__, "--json", "-", "--one", name]
    command += ["--stages", stages] if stages else []
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=limit)
    if done.returncode:
        return {"cost": f"CRASH: {done.stderr.strip().splitlines()[-1][:200]}"}
    result: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return result


def page(results: dict[str, dict[str, str]], versions: str) -> str:
    """The table, and below it the reasons of the refusals; `versions` of the libraries, in words."""
    reasons: dict[str, int] = {}
    columns = [column for column in SEQUENCES if column not in INSTEAD.values()]
    lines = [
        INTRODUCTION.format(count=len(results), versions=versions),
        f"| network | MACs | {' | '.join(columns)} |",
        "|---|---|" + "---|" * len(columns),
    ]
    for name, row in results.items():
        cells = [_cell(row, key, name, reasons) for key in ("cost", *columns)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    texts = [row[key] for row in results.values() for key in ("cost", *columns) if row.get(key, "–") != "–"]
    crashes = sum(text.startswith("CRASH") for text in texts)
    works = sum(not text.startswith(("no: ", "CRASH")) for text in texts)
    lines += [
        "",
        f"{works} of {len(texts)} entries work, {len(texts) - works - crashes} are refused, {crashes} crash.",
        "",
        *(f"{number}. {reason}" for reason, number in reasons.items()),
        "",
        "Made by `python tools/models_table.py --json out/models.json --docs docs/models.md`.",
        "",
    ]
    return "\n".join(lines)


def _cell(row: dict[str, str], key: str, name: str, reasons: dict[str, int]) -> str:
    text = row.get(key, row["cost"] if row["cost"].startswith(("no: ", "CRASH")) else "–")
    if not text.startswith(("no: ", "CRASH")):
        return text
    reason = " ".join(text.removeprefix("no: ").replace(f"model {name}", "it").replace(name, "it").split())
    cell = f"[{reasons.setdefault(reason, len(reasons) + 1)}]"
    other = row.get(INSTEAD.get(key, ""), "no: ")
    if other.startswith(("no: ", "CRASH")):
        return cell
    return f"{cell}, w {other}"


if __name__ == "__main__":
    main()
