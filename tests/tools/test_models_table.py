"""Other people's networks and the stages: each works or is refused in one line, as the docs say."""

import importlib.util
import warnings
from pathlib import Path

import pytest

from tools.models_table import INSTEAD, NETWORKS, SEQUENCES, page, try_stages

TABLE = Path(__file__).parents[2] / "docs" / "models.md"


def assert_works_or_refuses(name: str) -> dict[str, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's
        found = try_stages(name)
    assert found, name
    assert not [text for text in found.values() if text.startswith("CRASH") or "\n" in text], name
    return found


@pytest.mark.integration
def test_a_small_network_goes_through_all_stages() -> None:
    found = assert_works_or_refuses("odd_nets:gated")
    assert found["D"].startswith("no: D(depth=0.5) keeps all 1 blocks")
    assert found["D by width"].endswith("×")
    assert found["P"].endswith("×")
    assert found["Q"] == "128.00×"
    assert try_stages("odd_nets:gated", "D") == {key: found[key] for key in ("cost", "D", "D by width")}


@pytest.mark.integration
def test_a_network_whose_channels_are_shuffled_is_pruned_within_its_branches() -> None:
    found = assert_works_or_refuses("torchvision:shufflenet_v2_x0_5")
    assert not [text for text in found.values() if text.startswith("no: ")]
    assert found["P"].endswith(", of 97%")


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_others_work_or_are_refused(name: str) -> None:
    if name.startswith("timm:") and importlib.util.find_spec("timm") is None:
        pytest.skip("the extra timm")
    assert_works_or_refuses(name)


def test_a_page_numbers_each_reason_once() -> None:
    works = dict.fromkeys(SEQUENCES, "2.5×")
    row = {**works, "cost": "3.2 M", "D": "no: x:a has no block", "D by width": "3.9×"}
    rows = {"x:a": row, "x:b": {**row, "D": "no: x:b has no block"}, "x:c": {"cost": "no: bad"}}
    lines = page(rows, "torch 2").splitlines()
    assert "| x:a | 3.2 M | [1], w 3.9× | 2.5× | 2.5× | 2.5× | 2.5× |" in lines
    assert "| x:c | [2] | [2] | [2] | [2] | [2] | [2] |" in lines
    assert "1. it has no block" in lines


def test_the_table_in_the_docs_holds_every_network_and_no_crash() -> None:
    text = TABLE.read_text()
    assert "CRASH" not in text
    for name in NETWORKS:
        assert f"| {name} |" in text
    assert all(f" {column} |" in text for column in SEQUENCES if column not in INSTEAD.values())
