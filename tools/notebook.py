"""The notebook of the examples, written and executed from the cells below.

python tools/notebook.py [FILE]
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

FILE = Path(__file__).parent.parent / "examples" / "discover.ipynb"

CELLS = (
    """# In which order should a CNN be compressed?

ordercomp measures it. This notebook reads a recording that ships with the package: networks on digits,
compressed in all 24 orders of **D**istill, **P**rune, **Q**uantize and early **E**xits, at several seeds.
Nothing is trained here.""",
    """from importlib import resources

import ordercomp

recording = resources.files("ordercomp.studies") / "recordings" / "digits.jsonl.xz"
records = ordercomp.read_records(recording)
print(len(records), "networks at seeds", sorted({record.seed for record in records}))
ordercomp.show(records[:6])""",
    """## The answer

Which order to take if a loss of 2 % is tolerated, what that choice may cost, and which orders are out.""",
    """found = ordercomp.law_of_records(records, loss=0.02)
ordercomp.show(found)""",
    """print("recommended:", found.answer.recommended)
print("may be the best:", *found.answer.best_set)
print("at other losses:", {told.loss: told.recommended for told in found.answer.by_loss})""",
    """## Fronts

What the networks of an order reach at each loss. An early exit gives a network several operating points.""",
    """from matplotlib import pyplot

%config InlineBackend.figure_formats = ["svg"]
figure, axes = pyplot.subplots(figsize=(7, 3.5))
for order, color in (("DPQE", "tab:blue"), ("QPED", "tab:gray"), ("EPQD", "tab:orange")):
    points = [
        (record.baseline.accuracy - point.accuracy, point.bitops_cr)
        for record in records
        if record.order == order and record.seed == 0
        for point in record.points
    ]
    losses, reductions = zip(*sorted(points), strict=True)
    axes.plot([100 * loss for loss in losses], reductions, "o", markersize=3, color=color, label=order)
axes.set(xlabel="loss of accuracy, %", ylabel="times fewer bit operations", yscale="log", xlim=(-1, 12))
axes.legend();""",
    """## The networks to take

For each tolerated loss the network that saves the most, with the command that makes it.""",
    """for network in [one for one in found.networks if one.loss in (0.01, 0.02, 0.05)]:
    print(f"{100 * network.loss:g} %: {network.order}, {network.reduction:.0f} times fewer bit operations")
    print("   ", network.command)""",
    """## Cost without training

What a chain saves is known from its structure alone.""",
    """from ordercomp.networks.network import CompressedNetwork

network = CompressedNetwork.create("resnet8", classes=10, channels=1, size=(8, 8))
small = ordercomp.apply_untrained(network, ordercomp.StageSequence.parse("D(depth=0.5) P(ratio=0.4) Q E"))
dense, cost = ordercomp.measure_cost(network), ordercomp.measure_cost(small)
print(f"{dense.bitops() / cost.bitops():.0f} times fewer bit operations in {small.sequence}")""",
    """## Measure it on your own task

This is all that the main job takes; workers are processes, so that it belongs in a script.

```python
if __name__ == "__main__":
    found = ordercomp.discover(ordercomp.load_task("digits"), out="out/digits", budget_seconds=480)
    print(ordercomp.show(found))
```""",
)


def blank_notebook() -> nbformat.NotebookNode:
    """The notebook without outputs: text and code in turn, as they begin."""
    cells = [
        new_markdown_cell(text, id=f"cell-{place}")
        if text.startswith("#")
        else new_code_cell(text, id=f"cell-{place}")
        for place, text in enumerate(CELLS)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def executed() -> nbformat.NotebookNode:
    """The notebook with the outputs of its cells, run one after another. Raises the error of a cell."""
    notebook = blank_notebook()
    NotebookClient(notebook, timeout=300, record_timing=False).execute()
    notebook.metadata.pop("language_info", None)  # names this Python's patch version
    for cell in notebook.cells:
        if cell.cell_type == "code":  # warnings of libraries name places on this machine
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def main(path: Path = FILE) -> None:
    """Execute the cells and write the notebook."""
    nbformat.write(executed(), path)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
