"""A progress bar on stderr for everything that trains nodes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ordercomp.running.jobs import Finished
from ordercomp.studies.cli.output import console

__all__ = ["watching"]


@contextmanager
def watching(total: int | None) -> Iterator[Callable[[Finished], None]]:
    """Show a bar of `total` nodes; yields the function to call with each finished one."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=not console.is_terminal) as bar:
        row = bar.add_task("training", total=total)

        def report(finished: Finished) -> None:
            record = finished.record
            result = record.error or f"accuracy {record.points[0].accuracy:.3f}"
            description = f"{record.order} seed {record.seed}: {result}"
            bar.update(row, advance=1, description=description[:60])
            if not console.is_terminal:
                note = ", reused" if finished.reused else f", {record.seconds:.1f} s"
                console.print(f"{description}{note}", markup=False, highlight=False)

        yield report
