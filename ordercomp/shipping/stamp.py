"""Copies of network files that know their exit threshold."""

from dataclasses import replace
from pathlib import Path

from ordercomp.networks.network import Serving
from ordercomp.networks.weights import read_checkpoint, write_checkpoint


def copy_with_threshold(source: Path, target: Path, threshold: float | None) -> None:
    """Copy a network file and store the threshold in the copy, which replaces an older file at once.

    Nothing is built for it. Raises CheckpointError for a damaged file, OSError if it cannot be written.
    """
    tensors, facts = read_checkpoint(source)
    serving = Serving.from_facts(facts["serving"]) if "serving" in facts else Serving()
    write_checkpoint(target, tensors, {**facts, "serving": replace(serving, threshold=threshold).to_facts()})
