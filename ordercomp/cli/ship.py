"""`ordercomp export`: a compressed network as files for use."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ordercomp.cli.output import print_json
from ordercomp.networks.network import CompressedNetwork
from ordercomp.plugins import load_function
from ordercomp.shipping.packed import save_packed

QDQ_HINT = "set this in onnxruntime's session options, or weights are unpacked at every run"


def command(
    network: Annotated[Path, typer.Argument(help="a file that compress, discover or search left")],
    onnx: Annotated[Path | None, typer.Option(help="the ONNX file to write")] = None,
    packed: Annotated[
        Path | None, typer.Option(help="the small file to write, for ordercomp.load_network")
    ] = None,
    opset: Annotated[int | None, typer.Option(help="version of the ONNX operators")] = None,
    segments: Annotated[
        bool, typer.Option("--segments", help="cut the ONNX network at its exits, one file for each part")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON on stdout")] = False,
) -> None:
    """Write a network for use: as ONNX, checked by onnxruntime, or packed, a 2-bit weight taking 2 bits."""
    if onnx is None and packed is None:
        raise ValueError("export needs --onnx FILE or --packed FILE")
    for name, file in (("--onnx", onnx), ("--packed", packed)):
        if file is not None and (file.is_dir() or not file.parent.is_dir()):
            raise ValueError(f"{name} must be a file in an existing folder, got {file}")
    chosen = CompressedNetwork.load(network)
    done: dict[str, Any] = {"network": str(network), "sequence": str(chosen.sequence)}
    if packed is not None:
        save_packed(chosen, packed)
        done["packed"] = {"file": str(packed), "bytes": packed.stat().st_size}
    if onnx is not None:
        try:
            export = load_function("ordercomp.shipping.onnx:export_onnx")
        except ValueError as error:
            raise ValueError(f"--onnx needs the extra: pip install 'ordercomp[export]' ({error})") from None
        try:
            exported = asdict(export(chosen, onnx, opset=opset, segments=segments))
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{network} cannot be exported with opset {opset}: {reason}") from None
        done["onnx"] = {**exported, "files": [str(file) for file in exported["files"]]}
    if as_json:
        print_json(done)
        return
    if packed is not None:
        print(f"{packed}: {done['packed']['bytes']:,} bytes; ordercomp.load_network reads it")
    if onnx is not None:
        facts = done["onnx"]
        print(f"{', '.join(facts['files'])}: {facts['bytes']:,} bytes, opset {facts['opset']}")
        print(f"weights: {facts['weights']}; {facts['quantizers']} activations are quantized (QDQ)")
        if facts["session_options"]:
            print(f"{QDQ_HINT}: {', '.join('='.join(one) for one in facts['session_options'].items())}")
        print(
            f"onnxruntime agrees: same label in {facts['same_labels']:.0%}, "
            f"logits differ by {facts['largest_difference']:.2g} at most"
        )
