"""Types of matrix products, attention, normalisation and losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ir.graph import FLOATS, TensorType
from ir.shapes.call import ALL, INDICES, NUMBERS, WIDE, Call, Rule
from ir.shapes.einsum import parse_einsum
from ir.shapes.elementwise import onnx_dtype


def _matmul(call: Call) -> Sequence[TensorType]:
    dtype = call.same_dtype((0, 1), WIDE)
    left, right = call.type(0).shape, call.type(1).shape
    if not left or not right:
        raise call.fail("operands must have at least one axis")
    rows = left[-2:-1]
    columns = right[-1:] if len(right) > 1 else ()
    inner = right[-2] if len(right) > 1 else right[0]
    if left[-1] != inner:
        raise call.fail(f"shapes {left} and {right}: {left[-1]} columns meet {inner} rows")
    return [TensorType(dtype, call.broadcast([left[:-2], right[:-2]]) + rows + columns)]


def _gemm(call: Call) -> Sequence[TensorType]:
    dtype = call.same_dtype((0, 1, 2), WIDE)
    left, right = call.type(0).shape, call.type(1).shape
    if len(left) != 2 or len(right) != 2:
        raise call.fail(f"shapes {left} and {right} must have two axes")
    rows, inner = reversed(left) if call.integer("transA", 0) else left
    other, columns = reversed(right) if call.integer("transB", 0) else right
    if inner != other:
        raise call.fail(f"shapes {left} and {right}: {inner} columns meet {other} rows")
    if call.has(2):
        call.broadcast_to(2, (rows, columns))
    return [TensorType(dtype, (rows, columns))]


def _einsum(call: Call) -> Sequence[TensorType]:
    positions = range(len(call.types))
    dtype = call.same_dtype(positions, NUMBERS)
    try:
        found = parse_einsum(call.text("equation"), [call.type(place).shape for place in positions])
    except ValueError as error:
        raise call.fail(str(error)) from None
    return [TensorType(dtype, found.shape)]


def _attention(call: Call) -> Sequence[TensorType]:
    dtype = call.same_dtype((0, 1, 4), FLOATS)
    value_dtype = call.same_dtype((2, 5), FLOATS)
    query, key, value = (_heads(call, place) for place in range(3))
    batch, heads, length, depth = query
    if key[:3] != value[:3] or key[0] != batch or key[3] != depth:
        raise call.fail(f"query {query}, key {key}, value {value} do not fit (after heads)")
    if not key[1] or heads % key[1]:
        raise call.fail(f"{heads} query heads are no multiple of {key[1]} key heads")
    total = key[2] + _past(call, key, value)
    if call.has(3):
        mask = call.type(3, ALL).shape
        # Keys beyond the mask's end are hidden.
        reach = mask[-1] if mask and 1 < mask[-1] < total else total
        call.broadcast_to(3, (batch, heads, length, reach))
    if call.has(6) and (call.has(4) or call.type(6, frozenset({"int64"})).shape != (batch,)):
        raise call.fail(f"numbers of valid keys need shape ({batch},) and no past key")
    if min(call.integer("left_window_size", -1), call.integer("right_window_size", -1)) < -1:
        raise call.fail("a window size is below -1")
    joined = (batch, length, heads * value[3])
    return [
        TensorType(dtype, joined if len(call.type(0).shape) == 3 else (*query[:3], value[3])),
        TensorType(dtype, (*key[:2], total, key[3])),
        TensorType(value_dtype, (*value[:2], total, value[3])),
        TensorType(dtype, (batch, heads, length, total)),
    ]


def _heads(call: Call, position: int) -> tuple[int, ...]:
    """Shape (batch, heads, length, depth) of query, key or value, whichever form they have."""
    shape = call.type(position).shape
    if len(shape) != len(call.type(0).shape) or len(shape) not in (3, 4):
        raise call.fail("query, key and value must all have 3 or all have 4 axes")
    if len(shape) == 4:
        return shape
    heads = call.integer("kv_num_heads" if position else "q_num_heads")
    if heads < 1 or shape[2] % heads:
        raise call.fail(f"{shape[2]} features do not divide into {heads} heads")
    return (shape[0], heads, shape[1], shape[2] // heads)


def _past(call: Call, key: tuple[int, ...], value: tuple[int, ...]) -> int:
    if call.has(4) != call.has(5):
        raise call.fail("past key and past value must be given together")
    if not call.has(4):
        return 0
    old_key, old_value = call.type(4).shape, call.type(5).shape
    fits = len(old_key) == 4 and old_key == (*key[:2], old_key[2], key[3])
    if not fits or old_value != (*value[:2], old_key[2], value[3]):
        raise call.fail(f"past {old_key} and {old_value} do not fit key {key}, value {value}")
    return old_key[2]


def _rotary(call: Call) -> Sequence[TensorType]:
    data = call.type(0, FLOATS)
    call.same_dtype((0, 1, 2), FLOATS)
    if len(data.shape) == 4:
        batch, _, length, depth = data.shape
    elif len(data.shape) == 3:
        batch, length, features = data.shape
        heads = call.integer("num_heads")
        if heads < 1 or features % heads:
            raise call.fail(f"{features} features do not divide into {heads} heads")
        depth = features // heads
    else:
        raise call.fail(f"shape {data.shape} must have 3 or 4 axes")
    rotated = call.integer("rotary_embedding_dim", 0) or depth
    if rotated % 2 or not 0 < rotated <= depth:
        raise call.fail(f"{rotated} rotated features of {depth} must be even and fit")
    cosines, sines = call.type(1).shape, call.type(2).shape
    if call.has(3):
        fits = len(cosines) == 2 and call.type(3, frozenset({"int64"})).shape == (batch, length)
    else:
        fits = len(cosines) == 3 and cosines[:2] in ((batch, length), (1, length))
    if not fits or cosines != sines or cosines[-1] != rotated // 2:
        raise call.fail(f"tables {cosines} and {sines} do not fit input {data.shape}")
    return [data]


def _layer_norm(call: Call) -> Sequence[TensorType]:
    data = call.type(0, FLOATS)
    call.same_dtype((0, 1, 2), FLOATS)
    axis = call.axis(call.integer("axis", -1), len(data.shape))
    for position in (1, 2):
        if call.has(position):
            call.broadcast_to(position, data.shape)
    ones = (1,) * (len(data.shape) - axis)
    statistics = TensorType(onnx_dtype(call, "stash_type", 1), data.shape[:axis] + ones)
    return [data, statistics, statistics]


def _rms_norm(call: Call) -> Sequence[TensorType]:
    data, scale = call.type(0, FLOATS), call.type(1, FLOATS)
    call.axis(call.integer("axis", -1), len(data.shape))
    call.broadcast_to(1, data.shape)
    return [TensorType(scale.dtype, data.shape)]


def _channel_norm(call: Call) -> Sequence[TensorType]:
    data = call.type(0, FLOATS)
    call.same_dtype((0, 1, 2), FLOATS)
    if len(data.shape) < 2:
        raise call.fail(f"shape {data.shape} must have at least batch and channels")
    channels = data.shape[1]
    for position in (1, 2):
        if call.type(position).shape != (channels,):
            raise call.fail(
                f"input {position} has shape {call.type(position).shape}, expected ({channels},)")
    if call.node.op_type == "GroupNormalization":
        groups = call.integer("num_groups")
        if groups < 1 or channels % groups:
            raise call.fail(f"{channels} channels do not divide into {groups} groups")
    return [data]


def _batch_norm(call: Call) -> Sequence[TensorType]:
    data = call.type(0, FLOATS)
    call.same_dtype((1, 2), FLOATS)
    statistics = TensorType(call.same_dtype((3, 4), FLOATS), data.shape[1:2])
    if len(data.shape) < 2:
        raise call.fail(f"shape {data.shape} must have at least batch and channels")
    for position in range(1, 5):
        if call.type(position).shape != data.shape[1:2]:
            raise call.fail(
                f"input {position} has shape {call.type(position).shape}, expected "
                f"{data.shape[1:2]}")
    if not call.integer("training_mode", 0) and any(call.node.outputs[1:]):
        raise call.fail("running statistics are outputs only with training_mode 1")
    return [data, statistics, statistics]


def _loss(call: Call) -> Sequence[TensorType]:
    scores, labels = call.type(0, FLOATS), call.type(1, INDICES)
    if len(scores.shape) < 2 or scores.shape[:1] + scores.shape[2:] != labels.shape:
        raise call.fail(f"scores {scores.shape} and labels {labels.shape} do not fit")
    if call.has(2) and call.type(2, frozenset({scores.dtype})).shape != scores.shape[1:2]:
        raise call.fail(f"weights must have shape {scores.shape[1:2]}")
    reduction = call.text("reduction", "mean")
    if reduction not in ("none", "mean", "sum"):
        raise call.fail(f"reduction '{reduction}' is none of none, mean, sum")
    shape = labels.shape if reduction == "none" else ()
    return [TensorType(scores.dtype, shape), scores]


def _det(call: Call) -> Sequence[TensorType]:
    data = call.type(0, FLOATS)
    if len(data.shape) < 2 or data.shape[-1] != data.shape[-2]:
        raise call.fail(f"shape {data.shape} must end in a square matrix")
    return [TensorType(data.dtype, data.shape[:-2])]


def _mean_variance(call: Call) -> Sequence[TensorType]:
    data = call.type(0, FLOATS)
    axes = call.integers("axes")
    call.axes((0, 2, 3) if axes is None else axes, len(data.shape))
    return [data]


RULES: Mapping[str, Rule] = {
    "Det": _det, "MeanVarianceNormalization": _mean_variance,
    "Attention": _attention, "BatchNormalization": _batch_norm, "Einsum": _einsum,
    "Gemm": _gemm, "LayerNormalization": _layer_norm, "MatMul": _matmul,
    "RMSNormalization": _rms_norm, "RotaryEmbedding": _rotary,
    **dict.fromkeys(("GroupNormalization", "InstanceNormalization"), _channel_norm),
    **dict.fromkeys(("SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss"), _loss),
}
