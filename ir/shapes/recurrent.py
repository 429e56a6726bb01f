"""Types of operators that carry a state along a sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ir.graph import FLOATS, TensorType
from ir.shapes.call import Call, Rule

GATES: Mapping[str, int] = {"RNN": 1, "GRU": 3, "LSTM": 4}
"""Cell -> how many matrices it stacks."""


def _cell(call: Call) -> Sequence[TensorType]:
    """RNN, GRU, LSTM. D directions, H hidden units, G gates."""
    positions = (0, 1, 2, 3, 5, 6, 7) if call.node.op_type == "LSTM" else (0, 1, 2, 3, 5)
    dtype, gates = call.same_dtype(positions, FLOATS), GATES[call.node.op_type]
    data, weights, recurrent = (call.type(position).shape for position in range(3))
    if len(data) != 3 or len(weights) != 3 or len(recurrent) != 3:
        raise call.fail("data and weights must have 3 axes")
    batch_first = bool(call.integer("layout", 0))
    length, batch = (data[1], data[0]) if batch_first else data[:2]
    hidden = recurrent[2]
    if call.text("direction", "forward") not in ("forward", "reverse", "bidirectional"):
        raise call.fail("direction must be forward, reverse or bidirectional")
    ways = 2 if call.text("direction", "forward") == "bidirectional" else 1
    state = (batch, ways, hidden) if batch_first else (ways, batch, hidden)
    expected = {1: (ways, gates * hidden, data[2]), 2: (ways, gates * hidden, hidden),
                3: (ways, 2 * gates * hidden), 4: (batch,), 5: state, 6: state,
                7: (ways, 3 * hidden)}
    for position, shape in expected.items():
        if call.has(position) and call.type(position).shape != shape:
            raise call.fail(
                f"input {position} has shape {call.type(position).shape}, expected {shape}")
    if call.has(4):
        call.type(4, frozenset({"int32"}))
    if call.integer("hidden_size", hidden) != hidden:
        raise call.fail(f"hidden_size differs from the weights' {hidden}")
    every = (batch, length, ways, hidden) if batch_first else (length, ways, batch, hidden)
    return [TensorType(dtype, every), TensorType(dtype, state), TensorType(dtype, state)]


def _linear_attention(call: Call) -> Sequence[TensorType]:
    dtype = call.same_dtype((0, 1, 2, 4, 5), FLOATS - {"float64"})
    heads, groups = call.integer("q_num_heads"), call.integer("kv_num_heads")
    shapes = [call.type(position).shape for position in range(3)]
    if any(len(shape) != 3 or shape[:2] != shapes[0][:2] for shape in shapes):
        raise call.fail(f"query, key and value {shapes} must share batch and length")
    if groups < 1 or heads < 1 or heads % groups:
        raise call.fail(f"{heads} query heads are no multiple of {groups} key heads")
    (batch, length, wide), (_, _, key), (_, _, value) = shapes
    if wide % heads or key % groups or value % groups or wide // heads != key // groups:
        raise call.fail(f"features {wide}, {key} and {value} do not divide into heads")
    state = (batch, groups, key // groups, value // groups)
    rule = call.text("update_rule", "gated_delta")
    if rule not in ("linear", "gated", "delta", "gated_delta"):
        raise call.fail(f"update_rule '{rule}' is unknown")
    for position, name, widths in ((4, "gated", (key, groups)), (5, "delta", (groups, 1))):
        allowed = [(batch, length, width) for width in widths]
        if name in rule and not call.has(position):
            raise call.fail(f"update rule {rule} needs input {position}")
        if call.has(position) and call.type(position).shape not in allowed:
            raise call.fail(f"input {position} has shape {call.type(position).shape}, expected "
                            f"{allowed[0]} or {allowed[1]}")
    kept = call.type(3, FLOATS - {"float64"}) if call.has(3) else TensorType(dtype, state)
    if kept.shape != state:
        raise call.fail(f"state has shape {kept.shape}, expected {state}")
    return [TensorType(dtype, (batch, length, heads * (value // groups))), kept]


def _causal_conv(call: Call) -> Sequence[TensorType]:
    dtype = call.same_dtype((0, 1, 2, 3), FLOATS - {"float64"})
    data, weight = call.type(0).shape, call.type(1).shape
    if len(data) != 3 or len(weight) != 3 or weight[:2] != (data[1], 1) or weight[2] < 1:
        raise call.fail(f"data {data} and weight {weight} do not fit")
    state = (*data[:2], weight[2] - 1)
    for position, shape in ((2, data[1:2]), (3, state)):
        if call.has(position) and call.type(position).shape != shape:
            raise call.fail(
                f"input {position} has shape {call.type(position).shape}, expected {shape}")
    if call.text("activation", "none") not in ("none", "silu", "swish"):
        raise call.fail("activation must be none, silu or swish")
    return [TensorType(dtype, data), TensorType(dtype, state)]


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(GATES, _cell), "CausalConvWithState": _causal_conv,
    "LinearAttention": _linear_attention,
}
