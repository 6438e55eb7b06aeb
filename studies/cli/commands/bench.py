"""`ordercomp bench`: how fast a compressed network really is here."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ordercomp.cli.output import print_json
from ordercomp.networks.network import CompressedNetwork
from ordercomp.plugins import load_function


def command(
    network: Annotated[Path, typer.Argument(help="a file that compress, discover or search left")],
    repeats: Annotated[int, typer.Option(min=3, help="calls whose median counts")] = 15,
    shares: Annotated[
        str, typer.Option(help="shares of the images that leave at each exit, as 0.7,0.2,0.1")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="print JSON on stdout")] = False,
) -> None:
    """Measure latency against the uncompressed baseline, in torch and onnxruntime, batch 1 and 64."""
    chosen = CompressedNetwork.load(network)
    leaving = _shares(shares, len(chosen.exits) + 1)
    try:
        measure = load_function("ordercomp.shipping.bench:bench")
    except ValueError as error:
        raise ValueError(f"bench needs the extra: pip install 'ordercomp[export]' ({error})") from None
    found = measure(chosen, repeats=repeats)
    expected = {engine: found.expected_ms(engine, leaving) for engine in found.exits_ms} if leaving else {}
    if as_json:
        rows = [{**asdict(one), "speedup": one.speedup} for one in found.latencies]
        print_json({**asdict(found), "latencies": rows, "expected_ms": expected})
        return
    table = Table("engine", "batch", "baseline ms", "compressed ms", "times faster")
    for one in found.latencies:
        table.add_row(
            one.engine,
            str(one.batch),
            f"{one.baseline_ms:.2f}",
            f"{one.compressed_ms:.2f}",
            f"{one.speedup:.2f}",
        )
    Console().print(table)
    for engine, times in found.exits_ms.items():
        print(f"{engine}, one image, by exit: {', '.join(f'{ms:.2f}' for ms in times)} ms")
    for engine, milliseconds in expected.items():
        print(f"{engine}, expected of an image: {milliseconds:.2f} ms")
    print(found.sentence)


def _shares(text: str, exits: int) -> tuple[float, ...]:
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
