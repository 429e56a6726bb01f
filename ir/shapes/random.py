"""Types of operators that draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ir.graph import FLOATS, TensorType
from ir.shapes.call import COMPUTED, Call, Rule
from ir.shapes.elementwise import onnx_dtype


def _plain(call: Call) -> Sequence[TensorType]:
    shape = call.integers("shape") or ()
    if min(shape, default=0) < 0:
        raise call.fail(f"shape {shape} has a negative extent")
    return [TensorType(_float(call, onnx_dtype(call, "dtype", 1)), shape)]


def _like(call: Call) -> Sequence[TensorType]:
    data = call.type(0)
    dtype = onnx_dtype(call, "dtype") if "dtype" in call.node.attributes else data.dtype
    return [TensorType(_float(call, dtype), data.shape)]


def _float(call: Call, dtype: str) -> str:
    if dtype not in FLOATS:
        raise call.fail(f"{dtype} is no dtype to draw; it must be a float")
    return dtype


def _bernoulli(call: Call) -> Sequence[TensorType]:
    data = call.type(0, FLOATS)
    dtype = onnx_dtype(call, "dtype") if "dtype" in call.node.attributes else data.dtype
    if dtype not in COMPUTED:
        raise call.fail(f"{dtype} is no dtype of a result")
    return [TensorType(dtype, data.shape)]


def _multinomial(call: Call) -> Sequence[TensorType]:
    data, count = call.type(0, FLOATS), call.integer("sample_size", 1)
    dtype = onnx_dtype(call, "dtype", 6)
    if len(data.shape) != 2 or not data.shape[1] or count < 1 or dtype not in ("int32", "int64"):
        raise call.fail(f"{count} draws of {dtype} from scores {data.shape} are not possible")
    return [TensorType(dtype, (data.shape[0], count))]


RULES: Mapping[str, Rule] = {
    "Bernoulli": _bernoulli, "Multinomial": _multinomial,
    **dict.fromkeys(("RandomNormal", "RandomUniform"), _plain),
    **dict.fromkeys(("RandomNormalLike", "RandomUniformLike"), _like),
}
