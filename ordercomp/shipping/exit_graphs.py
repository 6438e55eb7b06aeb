"""ONNX networks that let images leave early: cut at the exits, or one file with branches."""

from collections.abc import Mapping, Sequence

import onnx
from onnx import helper


def cut_at_exits(model: onnx.ModelProto) -> list[onnx.ModelProto]:
    """One model for each output: what is still to be computed for it, given what those before it hand on.

    Each takes, by name, the image or outputs of earlier parts, and gives its logits first.
    """
    graph = model.graph
    fixed = {tensor.name for tensor in graph.initializer}
    parts: list[list[onnx.NodeProto]] = []
    done: set[str] = set()
    for output in graph.output:
        wanted, part = {output.name}, []
        for node in reversed(graph.node):
            if wanted & set(node.output) and not done & set(node.output):
                part.append(node)
                wanted |= set(node.input)
        done |= {name for node in part for name in node.output}
        parts.append(part[::-1])
    kinds = _kinds(model)
    models = []
    for place, part in enumerate(parts):
        inputs = _inputs(part, fixed)
        made = {name for node in part for name in node.output}
        later = {name for rest in parts[place + 1 :] for name in _inputs(rest, fixed)}
        logits = graph.output[place].name
        outputs = [logits, *sorted((made & later) - {logits})]
        needed = {name for node in part for name in node.input}
        cut = helper.make_graph(
            part,
            f"part{place + 1}",
            [kinds[name] for name in inputs],
            [kinds[name] for name in outputs],
            [tensor for tensor in graph.initializer if tensor.name in needed],
        )
        models.append(
            helper.make_model(cut, opset_imports=list(model.opset_import), ir_version=model.ir_version)
        )
    return models


def _inputs(part: Sequence[onnx.NodeProto], fixed: set[str]) -> list[str]:
    made = {name for node in part for name in node.output}
    names = dict.fromkeys(name for node in part for name in node.input if name)
    return [name for name in names if name not in made and name not in fixed]


def _kinds(model: onnx.ModelProto) -> Mapping[str, onnx.ValueInfoProto]:
    """Type and shape of every tensor by name, inferred where the graph does not tell."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    return {info.name: info for info in (*inferred.value_info, *inferred.input, *inferred.output)}
