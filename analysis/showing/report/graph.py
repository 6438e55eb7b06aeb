"""The precedence of a best set as a drawing: stages from left to right, arrows for what is settled."""

from collections.abc import Sequence

import networkx as nx
from markupsafe import Markup, escape

_STEP, _ROW, _RADIUS = 96, 64, 21


def precedence_svg(stages: str, precedence: Sequence[tuple[str, str]]) -> Markup:
    """Draw the pairs that hold in every order that may be best; what follows from others is left out.

    Stages that nothing orders stand below each other. Raises networkx.NetworkXError on a cycle, which the
    precedence of a set of orders cannot have.
    """
    graph = nx.DiGraph()
    graph.add_nodes_from(stages)
    graph.add_edges_from(precedence)
    layers = [sorted(layer, key=stages.index) for layer in nx.topological_generations(graph)]
    tallest = max(len(layer) for layer in layers)
    places = {
        stage: (
            _RADIUS + 8 + _STEP * column,
            _RADIUS + 8 + _ROW * (row + (tallest - len(layer)) / 2),
        )
        for column, layer in enumerate(layers)
        for row, stage in enumerate(layer)
    }
    width = 2 * (_RADIUS + 8) + _STEP * (len(layers) - 1)
    height = 2 * (_RADIUS + 8) + _ROW * (tallest - 1)
    told = ", ".join(f"{first} before {second}" for first, second in precedence) or "no pair is settled"
    parts = [
        f'<svg class="precedence" viewBox="0 0 {width} {height}" width="{width}" role="img" '
        f'aria-label="{escape(told)}"><title>{escape(told)}</title>'
    ]
    parts += [_arrow(places[a], places[b]) for a, b in nx.transitive_reduction(graph).edges]
    for stage, (x, y) in places.items():
        parts.append(
            f'<circle cx="{x}" cy="{y:g}" r="{_RADIUS}"/><text x="{x}" y="{y + 6:g}">{escape(stage)}</text>'
        )
    return Markup("".join(parts) + "</svg>")  # every text in it was escaped


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    (x1, y1), (x2, y2) = start, end
    length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
    dx, dy = (x2 - x1) / length, (y2 - y1) / length
    x1, y1, tip_x, tip_y = (
        x1 + dx * _RADIUS,
        y1 + dy * _RADIUS,
        x2 - dx * (_RADIUS + 2),
        y2 - dy * (_RADIUS + 2),
    )
    back_x, back_y = tip_x - 10 * dx, tip_y - 10 * dy
    corners = ((tip_x, tip_y), (back_x - 5 * dy, back_y + 5 * dx), (back_x + 5 * dy, back_y - 5 * dx))
    head = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{back_x:.1f}" y2="{back_y:.1f}"/><polygon points="{head}"/>'
    )
