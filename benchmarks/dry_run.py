"""How long the dry run before a training takes: the four stages, alone and together, on an untrained network.

python benchmarks/dry_run.py                                # ResNet-18 at 3x32x32, one thread
python benchmarks/dry_run.py --model torchvision:resnet50 --size 64
"""

import argparse
import time

import torch

from ordercomp.networks.network import CompressedNetwork
from ordercomp.sequence import StageSequence
from ordercomp.stages.catalog import apply_untrained, dry_run

SEQUENCES = ("D", "P", "Q", "E", "D P Q E")


def main() -> None:
    """Print the seconds of each sequence and of all, by the clock and of the processor."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--size", type=int, default=32)
    options = parser.parse_args()
    torch.set_num_threads(1)
    start, busy = time.perf_counter(), time.process_time()
    network = CompressedNetwork.create(options.model, classes=10, size=(options.size, options.size))
    dry_run(network)
    print(f"{'the network':>12} {time.perf_counter() - start:6.2f} s")
    for sequence in SEQUENCES:
        began = time.perf_counter()
        dry_run(apply_untrained(network, StageSequence.parse(sequence)))
        print(f"{sequence:>12} {time.perf_counter() - began:6.2f} s")
    seconds, of_processor = time.perf_counter() - start, time.process_time() - busy
    print(f"{'all':>12} {seconds:6.2f} s, {of_processor:.2f} s of the processor")


if __name__ == "__main__":
    main()
