"""The commands that make use of a compressed network: export and bench."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from ordercomp.cli.output import JsonFlag, NetworkArgument, TrustOption, print_json, print_lines, print_shown

_QDQ_HINT = "set this in onnxruntime's session options, or weights are unpacked at every run"


def export(
    network: NetworkArgument,
    onnx: Annotated[Path | None, typer.Option(help="the ONNX file to write")] = None,
    packed: Annotated[
        Path | None, typer.Option(help="the small file to write, for ordercomp.load_network")
    ] = None,
    purpose: Annotated[
        Literal["speed", "size", "any"],
        typer.Option("--for", help="speed: integers; size: fewest bytes; any: what old readers know"),
    ] = "speed",
    task: Annotated[
        str, typer.Option(help="built-in or TOML file; its training images choose the ranges between layers")
    ] = "",
    form: Annotated[
        Literal["own", "int8"],
        typer.Option(
            "--as", help="own: our quantizers; int8: onnxruntime's static ones instead, needs --task"
        ),
    ] = "own",
    opset: Annotated[int | None, typer.Option(help="version of the ONNX operators")] = None,
    segments: Annotated[
        bool, typer.Option("--segments", help="cut the ONNX network at its exits, one file for each part")
    ] = False,
    branches: Annotated[
        bool, typer.Option("--branches", help="one file for one image at a time, which leaves inside it")
    ] = False,
    trust_model: TrustOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a network for use: as ONNX, checked by onnxruntime, or packed, a 2-bit weight taking 2 bits."""
    from ordercomp.networks.network import CompressedNetwork
    from ordercomp.networks.weights import check_output
    from ordercomp.shipping.packed import save_packed

    if onnx is None and packed is None:
        raise ValueError("export needs --onnx FILE or --packed FILE")
    if onnx is not None and (onnx.suffix != ".onnx" or onnx.is_dir() or not onnx.parent.is_dir()):
        raise ValueError(f"--onnx must be a file FILE.onnx in an existing folder, got {onnx}")
    if packed is not None:
        check_output(packed, "--packed")
    loaded = CompressedNetwork.load(network, trust=trust_model or ())
    done: dict[str, Any] = {"network": str(network), "sequence": str(loaded.sequence)}
    if packed is not None:
        save_packed(loaded, packed)
        done["packed"] = {"file": str(packed), "bytes": packed.stat().st_size}
    if onnx is not None:
        options = {"purpose": purpose, "opset": opset, "segments": segments, "branches": branches}
        options["int8"] = form == "int8"
        done["onnx"] = _write_onnx(loaded, onnx, task, options)
    if as_json:
        print_json(done)
        return
    if packed is not None:
        print_lines(f"{packed}: {done['packed']['bytes']:,} bytes; ordercomp.load_network reads it")
    if onnx is not None:
        _print_onnx(done["onnx"])


def _write_onnx(loaded: Any, path: Path, task: str, options: dict[str, Any]) -> dict[str, Any]:
    from ordercomp.jobs.compress import task_images

    try:
        from ordercomp.shipping.onnx import export_onnx
    except Exception as error:  # whatever a broken installation raises
        raise _lacks_extra("--onnx", error) from None
    images = task_images(loaded, task)[0] if task else None
    try:
        exported = asdict(export_onnx(loaded, path, images=images, **options))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"the network cannot be exported: {reason}") from None
    return {**exported, "files": [str(file) for file in exported["files"]]}


def _lacks_extra(feature: str, error: Exception) -> ValueError:
    reason = " ".join(str(error).split())
    return ValueError(
        f"{feature} needs the extra: pip install 'ordercomp[export]' ({type(error).__name__}: {reason})"
    )


def _print_onnx(facts: dict[str, Any]) -> None:
    print_lines(f"{', '.join(facts['files'])}: {facts['bytes']:,} bytes, opset {facts['opset']}")
    print_lines(f"weights: {facts['weights']}; {facts['quantizers']} activations are quantized (QDQ)")
    print_lines(
        f"onnxruntime runs {facts['integer_layers']} of {facts['layers']} layers with weights in integers"
    )
    for note in facts["notes"]:
        print_lines(note)
    if facts["session_options"]:
        print_lines(
            f"{_QDQ_HINT}: {', '.join('='.join(option) for option in facts['session_options'].items())}"
        )
    print_lines(
        f"onnxruntime agrees: same label in {facts['same_labels']:.0%}, "
        f"logits differ by {facts['largest_difference']:.2g} at most"
    )


def bench(
    network: NetworkArgument,
    repeats: Annotated[int, typer.Option(min=3, help="calls whose median counts")] = 15,
    shares: Annotated[
        str, typer.Option(help="shares of the images that leave at each exit, as 0.7,0.2,0.1")
    ] = "",
    task: Annotated[
        str, typer.Option(help="built-in or TOML file: its images choose ranges and measure accuracy")
    ] = "",
    baseline: Annotated[
        Path | None, typer.Option(help="the trained baseline, a network file, for its accuracy")
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="of an engine; 0 takes all cores")] = 1,
    trust_model: TrustOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure the shipped network beside the float baseline and plain int8 of both, batch 1 and 64."""
    from ordercomp.jobs.compress import task_images
    from ordercomp.networks.network import CompressedNetwork

    loaded = CompressedNetwork.load(network, trust=trust_model or ())
    leaving = _parse_shares(shares, len(loaded.exits) + 1)
    try:
        from ordercomp.shipping import bench as job
    except Exception as error:  # whatever a broken installation raises
        raise _lacks_extra("bench", error) from None
    images, test = task_images(loaded, task) if task else (None, None)
    measured = job.bench(
        loaded,
        repeats=repeats,
        threads=threads,
        images=images,
        test=test,
        baseline=None if baseline is None else CompressedNetwork.load(baseline, trust=trust_model or ()),
    )
    engines = measured.exits_ms if leaving else ()
    expected = {engine: measured.expected_ms(engine, leaving) for engine in engines}
    if as_json:
        rows = [{**asdict(latency), "speedup": latency.speedup} for latency in measured.latencies]
        print_json({**asdict(measured), "latencies": rows, "expected_ms": expected})
        return
    _print_contenders(measured)
    for engine, times in measured.exits_ms.items():
        print_lines(f"{engine}, one image, by exit: {', '.join(f'{ms:.2f}' for ms in times)} ms")
    for engine, milliseconds in expected.items():
        print_lines(f"{engine}, expected of an image: {milliseconds:.2f} ms")
    print_lines(measured.sentence)


def _print_contenders(measured: Any) -> None:
    table = Table("engine", "network", "batch x threads", "ms", "times faster", "accuracy")
    for latency in measured.latencies:
        if latency.engine != "onnxruntime":
            numbers = (f"{latency.compressed_ms:.3f}", f"{latency.speedup:.2f}")
            table.add_row(latency.engine, "shipped", f"{latency.batch}x{latency.threads}", *numbers, "")
    base = measured.contenders[0].milliseconds
    for contender in measured.contenders:
        accuracy = "" if contender.accuracy is None else f"{contender.accuracy:.1%}"
        for place, ms in contender.milliseconds.items():
            table.add_row(
                "onnxruntime", contender.name, place, f"{ms:.3f}", f"{base[place] / ms:.2f}", accuracy
            )
    print_shown(table)
    print_lines(
        f"onnxruntime runs {measured.integer_layers} of {measured.layers} layers with weights in integers"
    )


def _parse_shares(text: str, exits: int) -> tuple[float, ...]:
    """Shares that sum to 1, none if the text is empty. Raises ValueError."""
    if not text:
        return ()
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError:
        shares = ()
    if len(shares) != exits or min(shares) < 0 or abs(sum(shares) - 1) > 1e-3:
        raise ValueError(f"--shares must be {exits} shares that sum to 1, got {text!r}")
    return shares
