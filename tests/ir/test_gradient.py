from ir.gradient import differentiable_values, gives_gradient, gradient_inputs
from ir.graph import Graph, Node, TensorType


def test_everything_between_parameters_and_loss(mlp):
    trainable = frozenset(mlp.parameters)
    found = differentiable_values(mlp, trainable)
    assert found == trainable | {f"v{k}" for k in range(7)}


def test_frozen_layers_before_the_first_trainable_one_have_no_gradient(mlp):
    found = differentiable_values(mlp, frozenset({"layers.1.bias"}))
    assert found == {"layers.1.bias", "v2", "v3", "v4", "v5", "v6"}


def test_no_gradient_without_trainable_parameters(mlp):
    assert differentiable_values(mlp, frozenset()) == frozenset()
    assert differentiable_values(mlp, frozenset({"x", "nobody"})) == frozenset()


def test_comparisons_integers_and_shapes_stop_gradients(builder):
    b = builder
    w = b.parameter("w", 4, 4)
    greater = b.node("Greater", w, b.constant(0.0, "float32"))
    mask = b.node("Cast", greater, to=1)
    index = b.node("ArgMax", w, axis=1, keepdims=0)
    row = b.node("Gather", b.parameter("table", 4, 4), index)
    loss = b.node("ReduceSum", b.node("Mul", mask, row), keepdims=0)
    graph = b.build(loss)
    found = differentiable_values(graph, frozenset({"w", "table"}))
    assert found == {"table", row, "v4", loss}


def test_inert_inputs_receive_no_gradient(builder):
    b = builder
    data = b.node("Mul", b.parameter("w", 4), b.parameter("w2", 4))
    ratio = b.node("ReduceMean", b.parameter("r", 4), keepdims=0)
    dropped = b.node("Dropout", data, ratio, b.constant(True, "bool"))
    like = b.node("CastLike", dropped, b.parameter("kind", 1))
    graph = b.build(b.node("ReduceSum", like, keepdims=0))
    found = differentiable_values(graph, frozenset(graph.parameters))
    assert "r" not in found
    assert ratio not in found
    assert "kind" not in found
    assert {"w", "w2", dropped} <= found


def test_dead_branches_have_no_gradient(builder):
    b = builder
    w = b.parameter("w", 4)
    used = b.node("Exp", w)
    dead = b.node("Log", w)
    loss = b.node("ReduceSum", used, keepdims=0)
    graph = b.build(loss, dead)
    found = differentiable_values(graph, frozenset({"w"}))
    assert dead not in found
    assert gives_gradient(graph, graph.nodes[0], "w", found)
    assert not gives_gradient(graph, graph.nodes[1], "w", found)


def test_an_integer_loss_has_no_gradient(builder):
    loss = builder.node("Cast", builder.parameter("w"), to=7)
    assert differentiable_values(builder.build(loss), frozenset({"w"})) == frozenset()


def test_gradient_inputs_are_floats_that_are_not_inert(builder):
    b = builder
    b.node("Where", b.data("c", 2, dtype="bool"), b.parameter("w", 2), b.constant(1.0, "float32"))
    graph = b.build("v0")
    assert list(gradient_inputs(graph, graph.nodes[0])) == ["w", "c0"]


def test_no_gradient_passes_through_running_statistics():
    x, channel = TensorType("float32", (4, 3)), TensorType("float32", (3,))
    types = {"x": x, "y": x, "total": TensorType("float32", ()),
             **dict.fromkeys(("w", "b", "m", "v", "rm", "rv"), channel)}

    def graph(read):
        return Graph(
            opset=23, inputs=("x",), parameters=("w", "b", "m", "v"), outputs=("total",),
            nodes=(Node(0, "norm", "BatchNormalization", ("x", "w", "b", "m", "v"),
                        ("y", "rm", "rv"), {"training_mode": 1}),
                   Node(1, "sum", "ReduceSum", (read,), ("total",), {"keepdims": 0})),
            constants={}, types=types)

    trainable = frozenset(("w", "b", "m", "v"))
    assert differentiable_values(graph("y"), trainable) == {"w", "b", "y", "total"}
    assert differentiable_values(graph("rm"), trainable) == frozenset()
