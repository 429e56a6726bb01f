"""Types of element-wise operators: one input, or several that broadcast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ir.graph import FLOATS, ITEM_BYTES, TensorType
from ir.shapes.call import ALL, BOOL, COMPUTED, NUMBERS, SIGNED, WIDE, Call, Rule

ONNX_DTYPES: Mapping[int, str] = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
    9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16",
    17: "float8_e4m3fn", 18: "float8_e4m3fnuz", 19: "float8_e5m2", 20: "float8_e5m2fnuz",
    21: "uint4", 22: "int4", 23: "float4_e2m1fn", 24: "float8_e8m0fnu", 25: "uint2", 26: "int2",
}
"""`TensorProto.DataType` (onnx.proto3) -> dtype, for those that exist here."""


def onnx_dtype(call: Call, name: str, default: int | None = None) -> str:
    """Dtype that an integer attribute names by its ONNX number."""
    number = call.integer(name, default)
    if number not in ONNX_DTYPES:
        raise call.fail(f"attribute '{name}' names ONNX data type {number}, which is unsupported")
    return ONNX_DTYPES[number]


def _unary(dtypes: frozenset[str]) -> Rule:
    return lambda call: [call.type(0, dtypes)]


def _variadic(dtypes: frozenset[str]) -> Rule:
    """All inputs have one dtype and broadcast."""

    def rule(call: Call) -> Sequence[TensorType]:
        positions = range(len(call.types))
        dtype = call.same_dtype(positions, dtypes) if call.types else call.type(0).dtype
        return [TensorType(dtype, _shape(call, positions))]

    return rule


def _predicate(dtypes: frozenset[str], inputs: int) -> Rule:
    """The result is a truth value per element."""

    def rule(call: Call) -> Sequence[TensorType]:
        positions = range(inputs)
        call.same_dtype(positions, dtypes)
        return [TensorType("bool", _shape(call, positions))]

    return rule


def _pow(call: Call) -> Sequence[TensorType]:
    base = call.type(0, FLOATS | {"int32", "int64"})
    call.type(1, NUMBERS)
    return [TensorType(base.dtype, _shape(call, (0, 1)))]


def _where(call: Call) -> Sequence[TensorType]:
    call.type(0, BOOL)
    return [TensorType(call.same_dtype((1, 2)), _shape(call, (0, 1, 2)))]


def _prelu(call: Call) -> Sequence[TensorType]:
    data = call.type(0, WIDE)
    call.same_dtype((0, 1), WIDE)
    call.broadcast_to(1, data.shape)
    return [data]


def _clip(call: Call) -> Sequence[TensorType]:
    call.same_dtype((0, 1, 2), NUMBERS)
    for position in (1, 2):
        if call.has(position) and call.type(position).elements != 1:
            raise call.fail(f"input {position} must be a scalar")
    return [call.type(0)]


def _cast(call: Call) -> Sequence[TensorType]:
    return [TensorType(onnx_dtype(call, "to"), call.type(0, ALL).shape)]


def _cast_like(call: Call) -> Sequence[TensorType]:
    return [TensorType(call.type(1, ALL).dtype, call.type(0, ALL).shape)]


def _bit_cast(call: Call) -> Sequence[TensorType]:
    data, dtype = call.type(0), onnx_dtype(call, "to")
    if dtype not in COMPUTED or ITEM_BYTES[dtype] != ITEM_BYTES[data.dtype]:
        raise call.fail(f"{data.dtype} cannot be read as {dtype}")
    return [TensorType(dtype, data.shape)]


def _bit_shift(call: Call) -> Sequence[TensorType]:
    if call.text("direction") not in ("LEFT", "RIGHT"):
        raise call.fail("direction must be LEFT or RIGHT")
    return _variadic(_INTEGERS)(call)


def _swiglu(call: Call) -> Sequence[TensorType]:
    call.same_dtype((0, 1), FLOATS)
    if call.type(0).shape != call.type(1).shape:
        raise call.fail(f"shapes {call.type(0).shape} and {call.type(1).shape} differ")
    return [call.type(0)]


def _dropout(call: Call) -> Sequence[TensorType]:
    data = call.type(0, FLOATS)
    for position, dtypes in ((1, FLOATS), (2, BOOL)):
        if call.has(position) and call.type(position, dtypes).elements != 1:
            raise call.fail(f"input {position} must be a scalar")
    return [data, TensorType("bool", data.shape)]


def _shape(call: Call, positions: Sequence[int]) -> tuple[int, ...]:
    return call.broadcast([call.type(position, ALL).shape for position in positions])


_INTEGERS = NUMBERS - FLOATS
_FLOATS_OF_8_BITS = frozenset({
    "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"})
_FLOAT_UNARY = (
    "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Cos", "Cosh", "Elu",
    "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "Mish",
    "Reciprocal", "Round", "Selu", "Sigmoid", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt",
    "Swish", "Tan", "Tanh", "ThresholdedRelu")

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(_FLOAT_UNARY, _unary(FLOATS)),
    **dict.fromkeys(("Abs", "Sign"), _unary(NUMBERS)),
    **dict.fromkeys(("Neg", "Relu"), _unary(SIGNED)),
    "Identity": _unary(ALL),
    "Not": _unary(BOOL),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Mod", "Min", "Max"), _variadic(NUMBERS)),
    **dict.fromkeys(("Sum", "Mean"), _variadic(FLOATS)),
    **dict.fromkeys(("And", "Or", "Xor"), _predicate(BOOL, 2)),
    "Equal": _predicate(COMPUTED, 2),
    **dict.fromkeys(
        ("Greater", "GreaterOrEqual", "Less", "LessOrEqual"), _predicate(NUMBERS, 2)),
    **dict.fromkeys(("IsInf", "IsNaN"), _predicate(FLOATS | _FLOATS_OF_8_BITS, 1)),
    "BitCast": _bit_cast,
    "BitShift": _bit_shift,
    **dict.fromkeys(("BitwiseAnd", "BitwiseOr", "BitwiseXor"), _variadic(_INTEGERS)),
    "BitwiseNot": _unary(_INTEGERS),
    "Shrink": _unary(NUMBERS - {"bfloat16"}),
    "SwiGLU": _swiglu,
    "Pow": _pow,
    "Where": _where,
    "PRelu": _prelu,
    "Clip": _clip,
    "Cast": _cast,
    "CastLike": _cast_like,
    "Dropout": _dropout,
}
