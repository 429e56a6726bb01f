"""Types of convolutions and pooling.

Output extents follow Dumoulin & Visin 2016 (arXiv:1603.07285) and the ONNX operator reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ir.graph import FLOATS, TensorType
from ir.shapes.call import Call, Rule

_BYTES = frozenset({"int8", "uint8"})
_AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


@dataclass(frozen=True, slots=True)
class _Window:
    """Sliding window per spatial axis; pads are the sum of both sides."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]
    auto_pad: str

    def span(self, axis: int) -> int:
        """Input elements that one window covers, holes included."""
        return (self.kernel[axis] - 1) * self.dilations[axis] + 1


def _window(call: Call, kernel: tuple[int, ...]) -> _Window:
    axes = len(kernel)
    auto_pad = call.text("auto_pad", "NOTSET")
    if auto_pad not in _AUTO_PADS:
        raise call.fail(f"auto_pad '{auto_pad}' is none of {', '.join(_AUTO_PADS)}")
    strides = call.integers("strides") or (1,) * axes
    dilations = call.integers("dilations") or (1,) * axes
    pads = call.integers("pads") or (0,) * (2 * axes)
    if auto_pad != "NOTSET":
        pads = (0,) * (2 * axes)
    if not len(strides) == len(dilations) == axes or len(pads) != 2 * axes:
        raise call.fail(f"strides, dilations and pads do not fit {axes} spatial axes")
    if min((*kernel, *strides, *dilations), default=1) < 1 or min(pads, default=0) < 0:
        raise call.fail("kernel, strides and dilations must be positive, pads not negative")
    return _Window(kernel, strides, dilations, pads[:axes], pads[axes:], auto_pad)


def _extent(call: Call, window: _Window, axis: int, extent: int, ceil: bool = False) -> int:
    """Number of window positions along one spatial axis."""
    stride = window.strides[axis]
    if window.auto_pad.startswith("SAME"):
        return -(-extent // stride)
    begin = window.begins[axis]
    room = extent + begin + window.ends[axis] - window.span(axis)
    if room < 0:
        raise call.fail(
            f"a window of {window.span(axis)} does not fit extent {extent} of spatial axis {axis}")
    if not ceil:
        return room // stride + 1
    positions = -(-room // stride) + 1
    # A last window that would start in the right padding is dropped, as every framework does.
    return positions - 1 if (positions - 1) * stride >= extent + begin else positions


def _weights(
    call: Call, at: int = 1, dtypes: frozenset[str] = FLOATS
) -> tuple[TensorType, TensorType, tuple[int, ...]]:
    """Data, weight (input `at`) and kernel extents of a convolution."""
    data, weight = call.type(0, dtypes), call.type(at, dtypes)
    if len(data.shape) < 3 or len(weight.shape) != len(data.shape):
        raise call.fail(f"data {data.shape} and weight {weight.shape} must have equal rank >= 3")
    kernel = weight.shape[2:]
    if (call.integers("kernel_shape") or kernel) != kernel:
        raise call.fail(f"kernel_shape differs from the weight's shape {weight.shape}")
    return data, weight, kernel


def _bias(call: Call, channels: int) -> None:
    if call.has(2) and call.type(2).shape != (channels,):
        raise call.fail(f"bias has shape {call.type(2).shape}, expected ({channels},)")


def _conv(call: Call) -> Sequence[TensorType]:
    call.same_dtype((0, 1, 2), FLOATS)
    shape = _conv_shape(call, *_weights(call))
    _bias(call, shape[1])
    return [TensorType(call.type(0).dtype, shape)]


def _conv_shape(
    call: Call, data: TensorType, weight: TensorType, kernel: tuple[int, ...]
) -> tuple[int, ...]:
    groups = call.integer("group", 1)
    if groups < 1 or data.shape[1] != weight.shape[1] * groups or weight.shape[0] % groups:
        raise call.fail(
            f"data {data.shape} and weight {weight.shape} do not fit with {groups} groups")
    window = _window(call, kernel)
    spatial = tuple(
        _extent(call, window, axis, extent) for axis, extent in enumerate(data.shape[2:]))
    return (data.shape[0], weight.shape[0], *spatial)


def _conv_integer(call: Call) -> Sequence[TensorType]:
    data, weight, kernel = _weights(call, 1, _BYTES)
    _zero_point(call, 2, 0)
    _zero_point(call, 3, 1)
    return [TensorType("int32", _conv_shape(call, data, weight, kernel))]


def _q_linear_conv(call: Call) -> Sequence[TensorType]:
    data, weight, kernel = _weights(call, 3, _BYTES)
    _zero_point(call, 2, 0)
    _zero_point(call, 5, 3)
    for scale in (1, 4, 6):
        found = call.type(scale, frozenset({"float32"}))
        if found.elements != 1 and (scale != 4 or found.shape != weight.shape[:1]):
            raise call.fail(f"scale {scale} has shape {found.shape}")
    shape = _conv_shape(call, data, weight, kernel)
    if call.type(7, _BYTES).elements != 1:
        raise call.fail("the zero point of the result must be a scalar")
    if call.has(8) and call.type(8, frozenset({"int32"})).shape != shape[1:2]:
        raise call.fail(f"bias has shape {call.type(8).shape}, expected ({shape[1]},)")
    return [TensorType(call.type(7).dtype, shape)]


def _zero_point(call: Call, position: int, operand: int) -> None:
    if not call.has(position):
        return
    found, other = call.type(position), call.type(operand)
    if found.dtype != other.dtype or (found.elements != 1 and found.shape != other.shape[:1]):
        raise call.fail(f"zero point {found} does not fit operand {other}")


def _deform_conv(call: Call) -> Sequence[TensorType]:
    call.same_dtype((0, 1, 2, 3, 4), FLOATS)
    data, weight, kernel = _weights(call)
    if len(kernel) != 2:
        raise call.fail(f"only images of two axes are deformed, not {len(kernel)}")
    shape = _conv_shape(call, data, weight, kernel)
    groups = call.integer("offset_group", 1)
    if groups < 1 or data.shape[1] % groups:
        raise call.fail(f"{data.shape[1]} channels do not divide into {groups} offset groups")
    taps = groups * kernel[0] * kernel[1]
    for position, channels in ((2, 2 * taps), (4, taps)):
        expected = (data.shape[0], channels, *shape[2:])
        if call.has(position) and call.type(position).shape != expected:
            raise call.fail(
                f"input {position} has shape {call.type(position).shape}, expected {expected}")
    if call.has(3) and call.type(3).shape != shape[1:2]:
        raise call.fail(f"bias has shape {call.type(3).shape}, expected ({shape[1]},)")
    return [TensorType(data.dtype, shape)]


def _conv_transpose(call: Call) -> Sequence[TensorType]:
    call.same_dtype((0, 1, 2), FLOATS)
    data, weight, kernel = _weights(call)
    groups = call.integer("group", 1)
    if groups < 1 or data.shape[1] != weight.shape[0] or data.shape[1] % groups:
        raise call.fail(
            f"data {data.shape} and weight {weight.shape} do not fit with {groups} groups")
    channels = weight.shape[1] * groups
    _bias(call, channels)
    window = _window(call, kernel)
    extra = call.integers("output_padding") or (0,) * len(kernel)
    wanted = call.integers("output_shape")
    if len(extra) != len(kernel) or min(extra, default=0) < 0:
        raise call.fail(f"output_padding {extra} does not fit {len(kernel)} spatial axes")
    if wanted is not None and (len(wanted) != len(kernel) or min(wanted) < 1):
        raise call.fail(f"output_shape {wanted} does not fit {len(kernel)} spatial axes")
    if wanted is None:
        wanted = tuple(
            _spread(call, window, axis, extent, extra[axis])
            for axis, extent in enumerate(data.shape[2:]))
    return [TensorType(data.dtype, (data.shape[0], channels, *wanted))]


def _spread(call: Call, window: _Window, axis: int, extent: int, extra: int) -> int:
    stride = window.strides[axis]
    if window.auto_pad.startswith("SAME"):
        return extent * stride
    full = stride * (extent - 1) + extra + window.span(axis)
    result = full - window.begins[axis] - window.ends[axis]
    if result < 0:
        raise call.fail(f"pads leave nothing of spatial axis {axis}")
    return result


def _pool(call: Call) -> Sequence[TensorType]:
    dtypes = FLOATS | {"int8", "uint8"} if call.node.op_type == "MaxPool" else FLOATS
    data, kernel = call.type(0, dtypes), call.integers("kernel_shape")
    if kernel is None or len(data.shape) < 3 or len(kernel) != len(data.shape) - 2:
        raise call.fail(f"kernel_shape {kernel} does not fit data {data.shape}")
    window = _window(call, kernel)
    ceil = bool(call.integer("ceil_mode", 0))
    spatial = tuple(
        _extent(call, window, axis, extent, ceil) for axis, extent in enumerate(data.shape[2:]))
    shape = (*data.shape[:2], *spatial)
    return [TensorType(data.dtype, shape), TensorType("int64", shape)]


def _global_pool(call: Call) -> Sequence[TensorType]:
    data = call.type(0, FLOATS)
    if len(data.shape) < 2:
        raise call.fail(f"shape {data.shape} must have at least batch and channels")
    return [TensorType(data.dtype, data.shape[:2] + (1,) * (len(data.shape) - 2))]


RULES: Mapping[str, Rule] = {
    "Conv": _conv, "ConvInteger": _conv_integer, "ConvTranspose": _conv_transpose,
    "DeformConv": _deform_conv, "QLinearConv": _q_linear_conv,
    **dict.fromkeys(("AveragePool", "LpPool", "MaxPool"), _pool),
    **dict.fromkeys(("GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool"), _global_pool),
}
