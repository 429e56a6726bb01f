"""Types of operators on signals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ir.graph import FLOATS, TensorType
from ir.shapes.call import INDICES, NUMBERS, Call, Rule
from ir.shapes.elementwise import onnx_dtype


def _window(call: Call) -> Sequence[TensorType]:
    return [TensorType(_numbers(call, "output_datatype"), (_length(call, 0),))]


def _numbers(call: Call, name: str) -> str:
    dtype = onnx_dtype(call, name, 1)
    if dtype not in NUMBERS:
        raise call.fail(f"attribute '{name}' must name a number's dtype, not {dtype}")
    return dtype


def _length(call: Call, position: int, least: int = 0) -> int:
    length = call.known_one(position)
    if length < least:
        raise call.fail(f"input {position} is {length}; it must be at least {least}")
    return length


def _dft(call: Call) -> Sequence[TensorType]:
    data = call.type(0, FLOATS)
    rank = len(data.shape)
    axis = call.axis(_axis_input(call), rank)
    if rank < 2 or axis == rank - 1 or data.shape[-1] not in (1, 2):
        raise call.fail(f"shape {data.shape} must end in 1 or 2 parts, beside the axis {axis}")
    inverse, onesided = call.integer("inverse", 0), call.integer("onesided", 0)
    if onesided and not inverse and data.shape[-1] != 1:
        raise call.fail("a one-sided transform takes real numbers")
    length = 2 * (data.shape[axis] - 1) if inverse and onesided else data.shape[axis]
    length = _length(call, 1, 1) if call.has(1) else length
    kept = length // 2 + 1 if onesided and not inverse else length
    parts = 1 if inverse and onesided else 2
    if kept < 1:
        raise call.fail("there is nothing to transform")
    return [TensorType(data.dtype, (*data.shape[:axis], kept, *data.shape[axis + 1:-1], parts))]


def _axis_input(call: Call) -> int:
    return call.known_one(2) if call.has(2) else -2


def _stft(call: Call) -> Sequence[TensorType]:
    signal, step = call.type(0, FLOATS), _length(call, 1, 1)
    call.same_dtype((0, 2), FLOATS)
    parts = signal.shape[2:]
    if len(signal.shape) < 2 or parts not in ((), (1,), (2,)):
        raise call.fail(f"signal {signal.shape} must have batch, time and 1 or 2 parts")
    if call.has(3):
        length = _length(call, 3, 1)
    elif call.has(2):
        length = call.type(2).elements
    else:
        raise call.fail("the frames need a window or a length")
    if call.has(2) and call.type(2).shape != (length,):
        raise call.fail(f"window {call.type(2).shape} does not fit frames of {length}")
    if not 0 < length <= signal.shape[1]:
        raise call.fail(f"frames of {length} do not fit a signal of {signal.shape[1]}")
    onesided = call.integer("onesided", 1)
    if onesided and parts == (2,):
        raise call.fail("a one-sided transform takes real numbers")
    frames = (signal.shape[1] - length) // step + 1
    kept = length // 2 + 1 if onesided else length
    return [TensorType(signal.dtype, (signal.shape[0], frames, kept, 2))]


def _mel(call: Call) -> Sequence[TensorType]:
    bins, length = _length(call, 0), _length(call, 1, 1)
    call.type(2, INDICES)
    for position in (2, 3, 4):
        call.value(position)
    return [TensorType(_numbers(call, "output_datatype"), (length // 2 + 1, bins))]


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("BlackmanWindow", "HammingWindow", "HannWindow"), _window),
    "DFT": _dft, "MelWeightMatrix": _mel, "STFT": _stft,
}
