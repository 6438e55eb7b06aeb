"""The limit on how long the tracer follows a network, and what is said of what it cannot follow."""

import pytest
from tiny_networks import apply, tiny_network

from ordercomp.stages import StageError, tracing


def test_a_network_that_goes_beyond_the_limit_is_refused_and_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = tiny_network("user_nets:flat")
    apply("P", network)
    monkeypatch.setattr(tracing, "_MOST_CHANNELS", 100)
    with pytest.raises(
        StageError, match=r"flat cannot be pruned: .*TracingLimitError: its channels multiply"
    ):
        apply("P", network)
