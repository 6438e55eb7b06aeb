"""ONNX networks that let images leave early: cut at the exits, or one file with branches."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def cut_at_exits(model: onnx.ModelProto) -> list[onnx.ModelProto]:
    """One model for each output: what is still to be computed for it, given what those before it hand on.

    Each takes, by name, the image or outputs of earlier parts, and gives its logits first. Bytes are handed
    on as such: a layer runs in integers where it stands beside what reads its bytes.
    """
    graph = model.graph
    fixed = {tensor.name for tensor in graph.initializer}
    exits = {output.name for output in graph.output}
    parts: list[list[onnx.NodeProto]] = []
    done: set[str] = set()
    for place, output in enumerate(graph.output):
        wanted, part, again = {output.name}, [], set[str]()
        for node in reversed(graph.node):
            names = set(node.output)
            if wanted & names and (not done & names or _reads_bytes(node, fixed | exits)):
                part.append(onnx.NodeProto.FromString(node.SerializeToString()))
                wanted |= set(node.input)
                again |= done & names
        for node in part:
            for names in (node.input, node.output):
                names[:] = [f"{name}_{place}" if name in again else name for name in names]
        done |= {name for node in part for name in node.output}
        parts.append(part[::-1])
    kinds = _kinds(model)
    models = []
    for place, part in enumerate(parts):
        inputs = _inputs(part, fixed)
        computed = {name for node in part for name in node.output}
        later = {name for later_part in parts[place + 1 :] for name in _inputs(later_part, fixed)}
        logits = graph.output[place].name
        outputs = [logits, *sorted((computed & later) - {logits})]
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


def _reads_bytes(node: onnx.NodeProto, others: set[str]) -> bool:
    return node.op_type == "DequantizeLinear" and not others & {node.input[0], node.output[0]}


def _inputs(part: Sequence[onnx.NodeProto], fixed: set[str]) -> list[str]:
    computed = {name for node in part for name in node.output}
    names = dict.fromkeys(name for node in part for name in node.input if name)
    return [name for name in names if name not in computed and name not in fixed]


def _kinds(model: onnx.ModelProto) -> Mapping[str, onnx.ValueInfoProto]:
    """Type and shape of every tensor by name, inferred where the graph does not tell."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    return {info.name: info for info in (*inferred.value_info, *inferred.input, *inferred.output)}


def branch_at_exits(
    model: onnx.ModelProto, thresholds: Sequence[float], *, spread: float = 0.0
) -> onnx.ModelProto:
    """One model for one image at a time: what lies behind the exit where it leaves does not run.

    It gives the logits (1, classes) of that exit and its number, from 0. An image leaves at the first exit
    whose largest softmax reaches its threshold; with a `spread`, that of real targets, at the first that
    agrees so much with the one before. Weights lie inside the branches, where onnxruntime packs them once.
    """
    parts = cut_at_exits(model)
    for node in parts[-1].graph.node:
        node.output[:] = [_LAST if name == "logits" else name for name in node.output]
        node.input[:] = [_LAST if name == "logits" else name for name in node.input]
    exits = [part.graph.output[0].name for part in parts[:-1]] + [_LAST]
    shape = [1, model.graph.output[0].type.tensor_type.shape.dim[-1].dim_value]
    graphs = [part.graph for part in parts]
    _hand_on_channels_last(graphs)
    outer: set[str] = set()
    for graph in graphs:  # a constant that several parts read lies in the first
        constants = [tensor for tensor in graph.initializer if tensor.name not in outer]
        outer |= {tensor.name for tensor in constants}
        del graph.initializer[:]
        graph.initializer.extend(constants)
    inner: onnx.GraphProto | None = None
    for place in reversed(range(len(graphs))):
        inner = _branch(graphs[place], place, exits, inner, thresholds, spread, shape)
    assert inner is not None
    image = model.graph.input[0]
    image.type.tensor_type.shape.dim[0].dim_value = 1
    inner.input.append(image)
    branched = helper.make_model(inner, opset_imports=list(model.opset_import), ir_version=model.ir_version)
    branched.producer_name = model.producer_name
    return branched


_LAST = "last_logits"
_IMAGE_DIMS = 4


def _hand_on_channels_last(graphs: Sequence[onnx.GraphProto]) -> None:
    """Hand bytes on, in place, as integer kernels lay them out; onnxruntime turns none inside a graph."""
    for place, graph in enumerate(graphs):
        for info in graph.output[1:]:
            kind, laid = info.type.tensor_type, f"{info.name}_nhwc"
            if kind.elem_type != TensorProto.UINT8 or len(kind.shape.dim) != _IMAGE_DIMS:
                continue
            graph.node.append(helper.make_node("Transpose", [info.name], [laid], perm=(0, 2, 3, 1)))
            for later in graphs[place + 1 :]:
                own = f"{laid}_{later.name}"
                readers = [node for node in later.node if info.name in node.input]
                for node in readers:
                    node.input[:] = [own if name == info.name else name for name in node.input]
                if readers:
                    turn = helper.make_node("Transpose", [laid], [own], perm=(0, 3, 1, 2))
                    later.node.insert(0, turn)


def _branch(
    graph: onnx.GraphProto,
    place: int,
    exits: Sequence[str],
    deeper: onnx.GraphProto | None,
    thresholds: Sequence[float],
    spread: float,
    shape: Sequence[int],
) -> onnx.GraphProto:
    """What runs from an exit on: its part, and behind a condition the rest."""
    suffix = f"_{place}" if place else ""
    outputs = [f"logits{suffix}", f"exit{suffix}"]
    nodes, constants = list(graph.node), list(graph.initializer)
    if deeper is None:
        nodes += _leave(exits[place], place, outputs)
    elif spread and place == 0:  # nothing that it could agree with
        nodes += deeper.node
        constants += deeper.initializer
        outputs = [output.name for output in deeper.output]
        nodes += [helper.make_node("Identity", [name], [name.rpartition("_")[0]]) for name in outputs]
        outputs = [name.rpartition("_")[0] for name in outputs]
    else:
        asked, bars = _condition(place, exits, thresholds[place], spread)
        left = [f"left{suffix}_logits", f"left{suffix}_exit"]
        leaving = helper.make_graph(
            _leave(exits[place], place, left), f"leave{place}", [], _outputs(left, shape)
        )
        nodes += [
            *asked,
            helper.make_node("If", [f"sure{place}"], outputs, then_branch=leaving, else_branch=deeper),
        ]
        constants += bars
    return helper.make_graph(nodes, f"from{place}", [], _outputs(outputs, shape), constants)


def _condition(
    place: int, exits: Sequence[str], threshold: float, spread: float
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    bar, sure = f"bar{place}", f"sure{place}"
    constants = [numpy_helper.from_array(np.array(threshold, np.float32), bar)]
    if spread:
        names = [f"apart{place}", f"distance{place}", f"relative{place}", f"more{place}", f"each{place}"]
        constants += [
            numpy_helper.from_array(np.array(value, np.float32), f"{name}{place}")
            for name, value in (("spread", spread), ("one", 1.0))
        ]
        nodes = [
            helper.make_node("Sub", [exits[place], exits[place - 1]], [names[0]]),
            helper.make_node("Abs", [names[0]], [names[1]]),
            helper.make_node("Div", [names[1], f"spread{place}"], [names[2]]),
            helper.make_node("Add", [names[2], f"one{place}"], [names[3]]),
            helper.make_node("Reciprocal", [names[3]], [names[4]]),
        ]
    else:
        nodes = [helper.make_node("Softmax", [exits[place]], [f"each{place}"], axis=1)]
    return [
        *nodes,
        helper.make_node("ReduceMax", [f"each{place}"], [f"most{place}"], keepdims=0),
        helper.make_node("GreaterOrEqual", [f"most{place}", bar], [sure]),
    ], constants


def _leave(logits: str, place: int, outputs: Sequence[str]) -> list[onnx.NodeProto]:
    number = numpy_helper.from_array(np.array(place, np.int64))
    return [
        helper.make_node("Identity", [logits], [outputs[0]]),
        helper.make_node("Constant", [], [outputs[1]], value=number),
    ]


def _outputs(names: Sequence[str], shape: Sequence[int]) -> list[onnx.ValueInfoProto]:
    logits, place = names
    return [
        helper.make_tensor_value_info(logits, TensorProto.FLOAT, shape),
        helper.make_tensor_value_info(place, TensorProto.INT64, []),
    ]
