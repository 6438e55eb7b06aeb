"""What `ordercomp discover` says at its end."""

from pathlib import Path

import pytest

from ordercomp.cli import output
from ordercomp.cli.main import main
from ordercomp.cli.run import within_loss


def test_the_network_that_is_named_keeps_to_the_loss_that_was_asked_for(tmp_path: Path) -> None:
    for percent in ("0.2", "0.6", "2", "8"):
        (tmp_path / f"loss-{percent}.safetensors").touch()
    (tmp_path / "loss-1-percent.safetensors").touch()  # as searches once named theirs
    assert within_loss(tmp_path, 0.02) == tmp_path / "loss-2.safetensors"
    assert within_loss(tmp_path, 0.01) == tmp_path / "loss-0.6.safetensors"
    assert within_loss(tmp_path, 0.001) is None
    assert within_loss(tmp_path / "none", 0.02) is None


@pytest.mark.parametrize(
    ("found", "purpose"), [(None, "use it (pip install 'ordercomp[export]')"), (1, "use it")]
)
def test_what_to_do_next_names_the_extra_that_it_lacks(
    monkeypatch: pytest.MonkeyPatch, found: object, purpose: str
) -> None:
    monkeypatch.setattr(output, "find_spec", lambda name: found)
    (first, words), *_ = output.next_steps(Path("loss-2.safetensors"), "resnet8")
    assert (first, *words[:2]) == (purpose, "ordercomp", "export")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--prior", "mine"), "--prior must be recorded, and without --proxy, got 'mine'"),
        (("--prior", "recorded", "--proxy", "auto"), "got --proxy auto, whose copy tells more"),
        (("--prior", "recorded", "--stages", "LU"), "needs two of the stages DPQE, got 'LU'"),
    ],
)
def test_a_prior_that_cannot_be_is_refused_before_anything_is_written(
    options: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["discover", "--out", str(tmp_path / "out"), *options])
    assert ended.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
