"""Types of operators between floats and quantised numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ir.graph import FLOATS, STORED_FLOATS, STORED_INTEGERS, TensorType
from ir.shapes.call import Call, Rule
from ir.shapes.elementwise import onnx_dtype

_BYTES = frozenset({"int8", "uint8"})
_QUANTISED = frozenset(
    _BYTES | {"int16", "uint16"} | STORED_INTEGERS | STORED_FLOATS - {"float8_e8m0fnu"})
_SCALES = FLOATS - {"float64"} | {"float8_e8m0fnu"}
_FACTORS = frozenset({"float32", "float16", "bfloat16"})
_FACTORED = frozenset(_BYTES | {
    "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"})


def _fits(call: Call, position: int, data: TensorType, dtypes: frozenset[str]) -> TensorType:
    """A scale or zero point: one number, one per index of an axis, or one per block along it."""
    type_, rank = call.type(position, dtypes), len(data.shape)
    if type_.shape in ((), (1,)):
        return type_
    axis = call.axis(call.integer("axis", 1), rank)
    block = call.integer("block_size", 0)
    if block:
        wanted = (*data.shape[:axis], -(-data.shape[axis] // max(block, 1)), *data.shape[axis + 1:])
    else:
        wanted = (data.shape[axis],)
    if block < 0 or type_.shape != wanted:
        raise call.fail(f"input {position} has shape {type_.shape}, expected {wanted}")
    return type_


def _alike(zero: TensorType, scale: TensorType) -> bool:
    return zero.shape == scale.shape or zero.elements == scale.elements == 1


def _quantize(call: Call) -> Sequence[TensorType]:
    data = call.type(0, FLOATS - {"float64"} | {"int32"})
    scale = _fits(call, 1, data, frozenset(_SCALES | {"int32"}))
    dtype = onnx_dtype(call, "output_dtype") if call.integer("output_dtype", 0) else ""
    if call.has(2):
        zero = _fits(call, 2, data, _QUANTISED)
        if not _alike(zero, scale) or dtype not in ("", zero.dtype):
            raise call.fail(f"zero point {zero} does not fit scale {scale} and output_dtype")
        dtype = zero.dtype
    dtype = dtype or "uint8"
    if dtype not in _QUANTISED:
        raise call.fail(f"{dtype} is no dtype to quantise to")
    return [TensorType(dtype, data.shape)]


def _dequantize(call: Call) -> Sequence[TensorType]:
    data = call.type(0, _QUANTISED | {"int32"})
    scale = _fits(call, 1, data, _SCALES)
    if call.has(2) and not _alike(_fits(call, 2, data, frozenset({data.dtype})), scale):
        raise call.fail("scale and zero point have different shapes")
    dtype = scale.dtype
    if call.integer("output_dtype", 0):
        dtype = onnx_dtype(call, "output_dtype")
    if dtype not in FLOATS:
        raise call.fail(f"the result cannot have dtype {dtype}; set output_dtype")
    return [TensorType(dtype, data.shape)]


def _dynamic(call: Call) -> Sequence[TensorType]:
    data = call.type(0, frozenset({"float32"}))
    return [TensorType("uint8", data.shape), TensorType("float32", ()), TensorType("uint8", ())]


def _product(call: Call, left: TensorType, right: TensorType) -> tuple[int, ...]:
    if len(left.shape) < 1 or len(right.shape) < 1:
        raise call.fail("operands must have at least one axis")
    inner = right.shape[-2] if len(right.shape) > 1 else right.shape[0]
    if left.shape[-1] != inner:
        raise call.fail(f"shapes {left.shape} and {right.shape} do not fit")
    columns = right.shape[-1:] if len(right.shape) > 1 else ()
    return (*call.broadcast([left.shape[:-2], right.shape[:-2]]), *left.shape[-2:-1], *columns)


def _matmul_integer(call: Call) -> Sequence[TensorType]:
    left, right = call.type(0, _BYTES), call.type(1, _BYTES)
    shape = _product(call, left, right)
    for position, other, axis in ((2, left, -2), (3, right, -1)):
        if call.has(position):
            zero = call.type(position, frozenset({other.dtype}))
            if zero.elements != 1 and (not zero.shape or zero.shape != other.shape[axis:][:1]):
                raise call.fail(f"zero point {zero.shape} does not fit operand {other.shape}")
    return [TensorType("int32", shape)]


def _q_matmul(call: Call) -> Sequence[TensorType]:
    left, right = call.type(0, _FACTORED), call.type(3, _FACTORED)
    for scale in (1, 4, 6):
        call.type(scale, _FACTORS)
    for zero, other in ((2, 0), (5, 3), (7, None)):
        found = call.type(zero, _FACTORED)
        if other is not None and found.dtype != call.type(other, _FACTORED).dtype:
            raise call.fail(f"zero point {found} has another dtype than its operand")
    for position in (1, 2, 4, 5, 6, 7):
        if call.type(position, _FACTORED | _FACTORS).elements != 1:
            raise call.fail(f"input {position} must be a scalar")
    return [TensorType(call.type(7, _FACTORED).dtype, _product(call, left, right))]


RULES: Mapping[str, Rule] = {
    "DequantizeLinear": _dequantize, "DynamicQuantizeLinear": _dynamic,
    "MatMulInteger": _matmul_integer, "QLinearMatMul": _q_matmul, "QuantizeLinear": _quantize,
}
