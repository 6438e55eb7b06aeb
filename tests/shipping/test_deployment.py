"""What stands beside an export and inside it: facts, the program that runs it, and exits that end early."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_networks import apply, tiny_network, tiny_trainer

from ordercomp.networks.network import CompressedNetwork, Serving
from ordercomp.shipping.plain import ship

onnx = pytest.importorskip("onnx", reason="the extra `export` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
pytest.importorskip("onnxscript", reason="the extra `export` is not installed")

from ordercomp.shipping.exit_times import ExitTimes, describe_exits, leaving_shares, measure_exits  # noqa: E402
from ordercomp.shipping.infer import Network, read_image  # noqa: E402
from ordercomp.shipping.onnx import export_onnx, finish, onnx_session, trace, without_quantizers  # noqa: E402


def with_exits(**serving: object) -> CompressedNetwork:
    network = tiny_network()
    for letter in "QE":
        network = apply(letter, network, **({"weights": 4, "activations": 8} if letter == "Q" else {}))
    network.module.eval()
    facts = {"mean": (100.0,) * 3, "std": (50.0,) * 3, **serving}
    channels = network.architecture.channels
    facts |= {name: facts[name][:channels] for name in ("mean", "std")}
    return replace(network, serving=Serving(**facts))


def pixels(network: CompressedNetwork, count: int) -> np.ndarray:
    shape = (count, network.architecture.channels, *network.architecture.size)
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.integration
@pytest.mark.parametrize("form", ["whole", "segments", "branches"])
@pytest.mark.parametrize("scale", [(), (3.0, 2.0)])
def test_the_program_beside_an_export_says_what_predict_says(
    form: str, scale: tuple[float, ...], tmp_path: Path
) -> None:
    network = with_exits(threshold=0.5, scale=scale)
    images = pixels(network, 8)
    shipped = ship(network)
    told = [shipped.predict(image.transpose(1, 2, 0)) for image in images]
    if not scale:  # a threshold that some images reach
        middle = sorted(one.confidence for one in told)[4]
        network = replace(network, serving=replace(network.serving, threshold=middle + 1e-3))
        shipped = ship(network)
        told = [shipped.predict(image.transpose(1, 2, 0)) for image in images]
    options = {} if form == "whole" else {form: True}
    exported = export_onnx(network, tmp_path / "n.onnx", **options)  # type: ignore[arg-type]
    reader = Network([str(file) for file in exported.files])
    for image, one in zip(images, told, strict=True):
        logits, sure, place = reader.predict(image)
        assert place == one.exit
        if scale:
            assert logits[0] == pytest.approx(one.value, abs=1e-2)
        else:
            assert logits == pytest.approx(one.logits, abs=1e-2)
            assert sure == pytest.approx(one.confidence, abs=1e-2)
    together = reader.predict_all(images)
    assert [place for _, _, place in together] == [one.exit for one in told]
    for (logits, sure, _), image in zip(together, images, strict=True):
        alone = reader.predict(image)
        assert logits == pytest.approx(alone[0], abs=1e-4)
        assert sure == pytest.approx(alone[1], abs=1e-4)
    with pytest.raises(ValueError, match="must have the shape"):
        reader.predict(images[0][:, 1:])


def operators(graph: onnx.GraphProto) -> Counter[str]:
    """How often each operator stands in a graph and its branches."""
    counts = Counter(node.op_type for node in graph.node)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                counts += operators(attribute.g)
    return counts


@pytest.mark.integration
@pytest.mark.parametrize("placement", ["layer", "tensor"])
def test_exits_leave_everything_in_integers_and_turn_no_features(placement: str, tmp_path: Path) -> None:
    network = tiny_network("resnet14(width=16)")
    for letter, knobs in (("Q", {"weights": 4, "placement": placement}), ("E", {"exits": 2})):
        network = apply(letter, network, **knobs)
    network = replace(network, serving=replace(network.serving, threshold=0.5))
    network.module.eval()
    counts = {}
    for form in ("whole", "segments", "branches"):
        options = {} if form == "whole" else {form: True}
        images = network.architecture.example(32)
        exported = export_onnx(network, tmp_path / f"{form}.onnx", images=images, **options)
        counts[form] = Counter[str]()
        for file in exported.files:
            onnx_session(str(file), optimized=str(tmp_path / "optimized.onnx"))
            counts[form] += operators(onnx.load(tmp_path / "optimized.onnx").graph)
    for kind in ("QLinearConv", "QLinearAdd", "QGemm", "QuantizeLinear", "Add"):
        assert {form[kind] for form in counts.values()} == {counts["whole"][kind]}, kind
    assert counts["branches"]["Transpose"] <= counts["whole"]["Transpose"] + 2


@pytest.mark.integration
def test_the_program_runs_alone_and_reads_plain_files(tmp_path: Path) -> None:
    names = tuple(f"class {number}" for number in range(tiny_network().architecture.classes))
    network = with_exits(threshold=0.2, names=names)
    export_onnx(network, tmp_path / "n.onnx", branches=True)
    image = pixels(network, 1)[0]
    np.save(tmp_path / "i.npy", image)
    height, width = network.architecture.size
    kind = "P5" if len(image) == 1 else "P6"
    header = f"{kind}\n{width} {height}\n255\n".encode()
    (tmp_path / "i.ppm").write_bytes(header + image.transpose(1, 2, 0).tobytes())
    assert (read_image(str(tmp_path / "i.ppm")) == image).all()
    done = subprocess.run(
        [sys.executable, "infer.py", "n.onnx", "i.npy", "i.ppm"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    one, two = done.stdout.splitlines()
    assert one.removeprefix("i.npy") == two.removeprefix("i.ppm")
    assert one.startswith("i.npy: class ")
    assert "torch" not in Path(tmp_path / "infer.py").read_text()


@pytest.mark.integration
def test_a_file_tells_its_input_and_threshold_and_leaves_a_users_program_alone(tmp_path: Path) -> None:
    (tmp_path / "infer.py").write_text("mine")
    network = with_exits(threshold=0.25)
    exported = export_onnx(network, tmp_path / "n.onnx")
    assert (tmp_path / "infer.py").read_text() == "mine"
    assert any("stays" in note for note in exported.notes)
    facts = onnx_session(str(tmp_path / "n.onnx")).get_modelmeta().custom_metadata_map
    assert json.loads(facts["threshold"]) == 0.25
    assert json.loads(facts["shape"]) == [network.architecture.channels, *network.architecture.size]
    assert json.loads(facts["mean"]) == list(network.serving.mean)
    assert facts["layout"] == '"NCHW"'


def test_branches_need_exits_and_a_threshold(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--branches lets an image leave"):
        export_onnx(with_exits(), tmp_path / "n.onnx", branches=True)
    with pytest.raises(ValueError, match="--branches lets an image leave"):
        export_onnx(tiny_network(), tmp_path / "n.onnx", branches=True)


def times(*exits: float, shares: tuple[float, ...] = ()) -> ExitTimes:
    return ExitTimes(whole_ms=1.0, exits_ms=exits, shares=shares)


def test_exits_pay_from_the_share_at_which_both_take_as_long() -> None:
    found = times(0.5, 0.9, 1.25, shares=(0.5, 0.0, 0.5))
    assert found.pays_from == pytest.approx(1 / 3)
    assert found.of_whole == pytest.approx(0.875)
    assert "they pay here if more than 33% leave at the first" in describe_exits(found)
    assert "50% of the test images do: 0.88 of it" in describe_exits(found)


def test_exits_that_take_as_long_as_the_whole_never_pay() -> None:
    found = times(1.0, 1.2)
    assert found.pays_from is None
    assert found.of_whole is None
    assert "do not pay here, however many leave" in describe_exits(found)


@pytest.mark.integration
def test_one_file_is_timed_and_images_leave_where_predict_lets_them() -> None:
    network = with_exits(threshold=0.5)
    images = pixels(network, 12)
    shipped = ship(network)
    told = [shipped.predict(image.transpose(1, 2, 0)).confidence for image in images]
    middle = float(np.median(told))
    model = trace(without_quantizers(network), network)
    finish(model)
    session = onnx_session(model.SerializeToString())
    batch = torch.from_numpy(images).float()
    shares = leaving_shares(session, batch, middle)
    assert len(shares) == len(network.exits) + 1
    assert sum(shares) == pytest.approx(1)
    assert leaving_shares(session, batch, None) == (0.0,) * len(network.exits) + (1.0,)
    assert leaving_shares(session, batch, 0.0)[0] == 1.0
    found = measure_exits(model, batch[:1].numpy(), repeats=3, shares=shares)
    assert len(found.exits_ms) == len(shares)
    assert found.whole_ms > 0


@pytest.mark.integration
@pytest.mark.parametrize("policy", ["patience", "predictive"])
def test_the_program_beside_an_export_knows_the_policy(policy: str, tmp_path: Path) -> None:
    network = apply("E", tiny_network(), tiny_trainer(epochs=1), policy=policy, exits=4)
    images, shipped = pixels(network, 12), ship(network)

    def predicted(threshold: float) -> list[int]:
        return [shipped.predict(one.transpose(1, 2, 0), threshold=threshold).exit for one in images]

    threshold = max(np.linspace(0.05, 0.99, 48), key=lambda one: len(set(predicted(float(one)))))
    told = predicted(float(threshold))
    assert len(set(told)) > 1
    network = replace(network, serving=Serving(threshold=float(threshold)))
    exported = export_onnx(network, tmp_path / "n.onnx", segments=True)
    reader = Network([str(file) for file in exported.files])
    assert [reader.predict(image)[2] for image in images] == told
    with pytest.raises(ValueError, match=f"knows the policy confidence alone, the exits have {policy}"):
        export_onnx(network, tmp_path / "n.onnx", branches=True)
