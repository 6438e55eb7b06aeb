"""Pictures of findings and experiments."""

from ordercomp.analysis.showing.experiment_plots import loss_plot


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
