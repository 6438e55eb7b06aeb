"""H's stream against the entropy of the same numbers and against xz and zstd, and how fast it is read.

    python benchmarks/coding.py [model]

The model's fresh weights are quantized to 2, 4 and 8 bits; the streams hold the numbers of all weights.
"""

import lzma
import shutil
import subprocess
import sys
import time

import numpy as np
import torch

from ordercomp import CompressedNetwork
from ordercomp.networks.bits import pack_bits
from ordercomp.networks.constraints import weight_layers
from ordercomp.networks.exits import Bits
from ordercomp.networks.stored import code_weights, decode_weights, store_weight, stored_facts


def entropy_bytes(numbers: np.ndarray) -> float:
    """The entropy of one array of numbers by their shares in it."""
    share = np.bincount(numbers) / len(numbers)
    share = share[share > 0]
    return float(-len(numbers) * (share * np.log2(share)).sum() / 8)


def zstd_bytes(data: bytes) -> int | None:
    """What zstd -19 makes of it, where the program is installed."""
    if shutil.which("zstd") is None:
        return None
    return len(
        subprocess.run(["zstd", "-19", "-c", "-q"], input=data, capture_output=True, check=True).stdout
    )


def main() -> None:
    """Print a line for each width."""
    torch.set_num_threads(1)
    network = CompressedNetwork.create(sys.argv[1] if len(sys.argv) > 1 else "resnet18", classes=10)
    for bits in (2, 4, 8):
        module = network.quantized(Bits(bits, 8)).module.eval()
        weights = {name: store_weight(layer) for name, layer in weight_layers(module)}
        least = sum(entropy_bytes(weight.numbers["index"]) for weight in weights.values())
        plain = b"".join(pack_bits(weight.numbers["index"], bits).tobytes() for weight in weights.values())
        start = time.process_time()
        stream = code_weights(weights)
        middle = time.process_time()
        decode_weights(stream, {name: stored_facts(weight) for name, weight in weights.items()})
        seconds = time.process_time() - middle
        print(
            f"{bits} bits: stream {stream.numel():,} bytes, entropy {least:,.0f} "
            f"({100 * stream.numel() / least - 100:.2f} % more), packed {len(plain):,}, "
            f"xz {len(lzma.compress(plain, preset=9)):,}, zstd {zstd_bytes(plain) or 'not installed'}; "
            f"coded in {middle - start:.2f} s, decoded in {seconds:.2f} s"
        )


if __name__ == "__main__":
    main()
