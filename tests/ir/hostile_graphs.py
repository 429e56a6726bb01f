"""Graphs that no broker may admit: a sound graph of random size, and one thing wrong with it."""

from __future__ import annotations

import random
from collections.abc import Callable

import onnx
from onnx import TensorProto, helper

from ir.serde import IR_VERSION, PARAMETERS_KEY

Change = Callable[[onnx.ModelProto, onnx.NodeProto, random.Random], str | None]
"""Spoils a model around one node; gives text that the refusal must contain, None: the node's
name."""

WIDTH = 4


def sound_model(draw: random.Random, nodes: int) -> onnx.ModelProto:
    """`nodes` layers over one batch, and their mean as the loss. `ir.admission` accepts it."""
    typed = helper.make_tensor_value_info
    made, values, previous = [], [], "x"
    parameters = ["layer.weight", "layer.bias"]
    for index in range(nodes):
        op_type = draw.choice(["MatMul", "Add", "Relu", "Tanh", "Softmax", "Identity", "Reshape"])
        output = f"blocks.{index}/hidden"
        extra = {"MatMul": parameters[:1], "Add": parameters[1:], "Reshape": ["shape"]}
        attributes = {"axis": -1} if op_type == "Softmax" else {}
        made.append(helper.make_node(
            op_type, [previous, *extra.get(op_type, [])], [output],
            name=f"blocks.{index}/{op_type}", **attributes))
        values.append(typed(output, TensorProto.FLOAT, [2, WIDTH]))
        previous = output
    # Whatever was not drawn is used here, so that nothing is unused.
    made.append(helper.make_node("MatMul", [previous, "layer.weight"], ["last"], name="head"))
    made.append(helper.make_node("Add", ["last", "layer.bias"], ["biased"], name="bias"))
    made.append(helper.make_node("Reshape", ["biased", "shape"], ["flat"], name="flatten"))
    made.append(helper.make_node("ReduceMean", ["flat", "axes"], ["loss"], name="loss", keepdims=0))
    values += [typed(name, TensorProto.FLOAT, [2, WIDTH]) for name in ("last", "biased", "flat")]
    graph = helper.make_graph(
        made, "graph",
        [typed("x", TensorProto.FLOAT, [2, WIDTH]),
         typed(parameters[0], TensorProto.FLOAT, [WIDTH, WIDTH]),
         typed(parameters[1], TensorProto.FLOAT, [WIDTH])],
        [typed("loss", TensorProto.FLOAT, [])],
        [helper.make_tensor("shape", TensorProto.INT64, [2], [2, WIDTH]),
         helper.make_tensor("axes", TensorProto.INT64, [2], [0, 1])], value_info=values)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=IR_VERSION)
    model.metadata_props.add(key=PARAMETERS_KEY, value='["layer.weight", "layer.bias"]')
    return model


def hostile_model(seed: int) -> tuple[str, str, onnx.ModelProto]:
    """A hostile graph: the name of what is wrong, what the refusal must say, the model."""
    draw = random.Random(seed)
    size = draw.choice([1, 2, 3, 5, 8, 13, 21, 34] * 30 + [200, 500, 2_000])
    model = sound_model(draw, size)
    node = draw.choice(model.graph.node[:-4])
    wrong = draw.choice(sorted(CHANGES))
    said = CHANGES[wrong](model, node, draw)
    return wrong, node.name if said is None else said, model


def spoiled(wrong: str, nodes: int, draw: random.Random) -> onnx.ModelProto:
    """A graph of a size with one thing wrong near its end, where it takes longest to find."""
    model = sound_model(draw, nodes)
    CHANGES[wrong](model, model.graph.node[-5], draw)
    return model


def _insert(model: onnx.ModelProto, before: onnx.NodeProto, new: onnx.NodeProto) -> None:
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in model.graph.node]
    place = [n.name for n in nodes].index(before.name)
    del model.graph.node[:]
    model.graph.node.extend([*nodes[:place], new, *nodes[place:]])


def _type(model: onnx.ModelProto, name: str) -> onnx.TypeProto.Tensor:
    values = (*model.graph.value_info, *model.graph.output)
    return next(value.type.tensor_type for value in values if value.name == name)


def overflowing_extent(model, node, draw):
    _type(model, node.output[0]).shape.dim[0].dim_value = draw.choice(
        [2**31 + 1, 2**62, 2**63 - 1, -1, -(2**63)])
    return node.output[0]


def overflowing_product(model, node, draw):
    """Each extent is allowed; together they overflow 64 bits."""
    shape = _type(model, node.output[0]).shape
    del shape.dim[:]
    for _ in range(draw.randint(3, 16)):
        shape.dim.add(dim_value=2**31)
    return node.output[0]


def too_many_axes(model, node, draw):
    shape = _type(model, node.output[0]).shape
    for _ in range(draw.randint(15, 200)):
        shape.dim.add(dim_value=1)
    return node.output[0]


def expand_to_everything(model, node, draw):
    """A tiny node whose result would take exbibytes."""
    rank = draw.randint(2, 8)
    extents = [2**31 - 1] * rank
    model.graph.initializer.append(helper.make_tensor("everything", TensorProto.INT64, [rank],
                                                      extents))
    _insert(model, node, helper.make_node(
        "Expand", [node.input[0], "everything"], ["vast"], name="vast node"))
    model.graph.value_info.append(
        helper.make_tensor_value_info("vast", TensorProto.FLOAT, extents))
    return "vast"


def tile_to_everything(model, node, draw):
    model.graph.initializer.append(
        helper.make_tensor("repeats", TensorProto.INT64, [2], [2**draw.randint(40, 61), 1]))
    _insert(model, node, helper.make_node(
        "Tile", [node.input[0], "repeats"], ["tiled"], name="tile node"))
    model.graph.value_info.append(
        helper.make_tensor_value_info("tiled", TensorProto.FLOAT, [2, WIDTH]))
    return "tile node"


def pad_to_everything(model, node, draw):
    model.graph.initializer.append(
        helper.make_tensor("pads", TensorProto.INT64, [4], [2**draw.randint(33, 62), 0, 0, 0]))
    _insert(model, node, helper.make_node(
        "Pad", [node.input[0], "pads"], ["padded"], name="pad node"))
    model.graph.value_info.append(
        helper.make_tensor_value_info("padded", TensorProto.FLOAT, [2, WIDTH]))
    return "pad node"


def range_of_everything(model, node, draw):
    for name, value in (("start", 0), ("limit", 2**draw.randint(41, 62)), ("delta", 1)):
        model.graph.initializer.append(helper.make_tensor(name, TensorProto.INT64, [], [value]))
    _insert(model, node, helper.make_node(
        "Range", ["start", "limit", "delta"], ["ranged"], name="range node"))
    model.graph.value_info.append(
        helper.make_tensor_value_info("ranged", TensorProto.INT64, [2**31]))
    return "range node"


def vast_constant(model, node, draw):
    """2**62 elements announced, none there."""
    dims = draw.choice([[2**62], [2**31, 2**31], [2**16] * 4, [1, 2**31, 2**10]])
    model.graph.initializer.append(TensorProto(name="vast", data_type=1, dims=dims, raw_data=b""))
    return "vast"


def vast_constant_node(model, node, draw):
    tensor = TensorProto(data_type=draw.choice([1, 7, 11]), dims=[2**62], raw_data=b"1234")
    _insert(model, node, helper.make_node("Constant", [], ["literal"], name="literal node",
                                          value=tensor))
    return "literal node"


def deep_nesting(model, node, draw):
    inner = helper.make_graph([], "innermost", [], [])
    for level in range(draw.randint(1, 24)):
        inner = helper.make_graph(
            [helper.make_node("If", ["c"], ["r"], name=f"if {level}", then_branch=inner)],
            "branch", [], [])
    node.attribute.append(helper.make_attribute("body", inner))
    return ""  # deep ones are refused before there are nodes


def unbounded_loop(model, node, draw):
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["again"])], "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []),
         helper.make_tensor_value_info("go", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("again", TensorProto.BOOL, [])])
    _insert(model, node, helper.make_node("Loop", ["", ""], ["out"], name="endless", body=body))
    return "endless"


def duplicate_node_name(model, node, draw):
    model.graph.node[-1].name = node.name
    return None


def duplicate_value(model, node, draw):
    model.graph.node[-4].output[0] = node.output[0]
    return "head"


def duplicate_input(model, node, draw):
    model.graph.input.append(model.graph.input[draw.randrange(3)])
    return model.graph.input[-1].name


def cycle(model, node, draw):
    node.input[0] = draw.choice([node.output[0], "last", "loss"])
    return None


def dangling_input(model, node, draw):
    node.input[0] = draw.choice(["nowhere", "x ", "X", "loss "])
    return None


def dangling_output(model, node, draw):
    model.graph.output[0].name = "nothing"
    return "nothing"


def climbing_name(model, node, draw):
    path = draw.choice(["../../etc/passwd", "a/../b", "..", "..\\..\\boot", "weights/.."])
    if draw.random() < 0.5:
        node.name = path
    else:
        node.output[0] = path
    return ".."


def unprintable_name(model, node, draw):
    node.name = draw.choice(["\x1b[2J", "a\nb", "\u202e", "\x00"])
    return "unprintable"


def endless_name(model, node, draw):
    node.name = "n" * draw.choice([513, 10_000, 1_000_000])
    return "characters"


def unknown_domain(model, node, draw):
    node.domain = draw.choice(["com.microsoft", "ai.onnx.ml", "evil", "ai.onnx.preview.training"])
    return None


def unknown_opset_domain(model, node, draw):
    model.opset_import.add(domain="com.evil", version=draw.randrange(2**40))
    return "com.evil"


def unknown_operator(model, node, draw):
    node.op_type = draw.choice(["PyOp", "Loop", "Eval", "System", "relu"])
    return None


def unknown_attribute(model, node, draw):
    node.attribute.append(helper.make_attribute("command", "rm"))
    return None


def external_data(model, node, draw):
    tensor = model.graph.initializer[0]
    tensor.ClearField("int64_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=draw.choice(["/etc/passwd", "../x", "\\\\h\\s"]))
    return "another file"


def string_tensor(model, node, draw):
    model.graph.initializer.append(
        helper.make_tensor("text", TensorProto.STRING, [1], [b"x" * draw.randrange(100_000)]))
    return "text"


def wrong_type(model, node, draw):
    tensor = _type(model, node.output[0])
    if draw.random() < 0.5:
        tensor.elem_type = draw.choice([TensorProto.INT32, TensorProto.DOUBLE, 16_000])
    else:
        tensor.shape.dim[0].dim_value = draw.choice([0, 1, 3, 2**31])
    return node.output[0]


def function_body(model, node, draw):
    model.functions.add(name=node.op_type, domain="")
    return "functions"


def sparse_constant(model, node, draw):
    model.graph.sparse_initializer.add()
    return "sparse"


def unused_work(model, node, draw):
    """Work for nothing, as an attacker would burn a peer's time."""
    _insert(model, node, helper.make_node("Relu", ["x"], ["burnt"], name="burner"))
    model.graph.value_info.append(
        helper.make_tensor_value_info("burnt", TensorProto.FLOAT, [2, WIDTH]))
    return "burner"


CHANGES: dict[str, Change] = {
    change.__name__: change for change in (
        overflowing_extent, overflowing_product, too_many_axes, expand_to_everything,
        tile_to_everything, pad_to_everything, range_of_everything, vast_constant,
        vast_constant_node, deep_nesting, unbounded_loop, duplicate_node_name, duplicate_value,
        duplicate_input, cycle, dangling_input, dangling_output, climbing_name, unprintable_name,
        endless_name, unknown_domain, unknown_opset_domain, unknown_operator, unknown_attribute,
        external_data, string_tensor, wrong_type, function_body, sparse_constant, unused_work)
}
