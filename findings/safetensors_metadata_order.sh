#!/usr/bin/env bash
# safetensors 0.8.0: the same tensors with the same metadata give other bytes from call to call.
#
# The keys of `metadata` are written in the order of a hash table with a random seed, so that a file with two
# keys or more has no reproducible digest. With one key, or none, the bytes are the same. Whoever seals files
# by a digest of their bytes has to put everything into one key.
#
# Seen (Python 3.11, Linux x86-64): 40 files with five keys have more than ten digests, 40 files with one key have one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import hashlib

import numpy as np
from safetensors.numpy import save

tensors = {"weight": np.arange(6, dtype=np.float32)}


def digests(keys: int) -> int:
    """How many different files forty calls write with so many keys of metadata."""
    metadata = {f"key{number}": str(number) for number in range(keys)}
    return len({hashlib.sha256(save(tensors, metadata=metadata)).hexdigest() for _ in range(40)})


one, five = digests(1), digests(5)
print(f"files of 40 calls: {one} with one key, {five} with five keys")
assert one == 1, "one key of metadata: bytes differ now"
assert five > 10, "five keys of metadata: bytes no longer differ"
PYTHON
