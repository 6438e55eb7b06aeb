"""Pictures of findings and experiments."""

from builders import make_record

from ordercomp.analysis.report.plots import Panel, Path, loss_plot, panels_plot, paths_plot


def test_orders_that_lead_at_some_loss_are_named_and_those_on_the_floor_are_not() -> None:
    curves = {
        "DPQE": [(0.002, 0.0), (0.02, 3.0), (0.05, 4.0)],
        "EDPQ": [(0.002, 0.01), (0.02, 2.0), (0.05, 5.0)],
        "EQPD": [(0.002, 0.02), (0.02, 1.0), (0.05, 1.0)],
    }
    axes = loss_plot(curves).axes[0]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["DPQE", "EDPQ"]
    assert len(axes.lines) == 3


def test_axes_name_the_metric_of_their_records() -> None:
    record = make_record("DP", metric="balanced accuracy")
    panels = panels_plot([Panel(title="one", series={"a": [record]})])
    paths = paths_plot([Path(name="one", steps=[("D", []), ("DP", [record])])])
    assert [figure.axes[0].get_ylabel() for figure in (panels, paths)] == [
        "balanced accuracy on test data"
    ] * 2
