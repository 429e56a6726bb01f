"""Fourier transforms, windows and mel bins."""

from __future__ import annotations

from math import log, pi

import numpy as np

from ir.semantics.backend import Array, Backend
from ir.semantics.call import SHORT_FLOATS, OpCall
from ir.semantics.creation import fixed
from ir.semantics.registry import Runner, semantics
from ir.tensor_proto import numpy_dtype


def _parts(backend: Backend, x: Array) -> Array:
    """Complex numbers as a last axis of two."""
    return backend.xp.stack([backend.xp.real(x), backend.xp.imag(x)], axis=-1)


def _numbers(x: Array) -> Array:
    """The last axis of one or two parts as real or complex numbers."""
    return x[..., 0] if x.shape[-1] == 1 else x[..., 0] + 1j * x[..., 1]


@semantics("DFT", host=(1, 2))
def _dft(call: OpCall, backend: Backend) -> Runner:
    fft, dtype, shape = backend.xp.fft, call.type(0).dtype, call.shape(0)
    stash = "float32" if dtype in SHORT_FLOATS else dtype
    axis = int(call.host_number(2, -2)) % len(shape)
    inverse, onesided = call.integer("inverse", 0), call.integer("onesided", 0)
    length = shape[axis]
    if inverse and onesided:
        length = 2 * (length - 1)
    length = int(call.host_number(1, length))

    def run(x: Array, *_: None) -> Array:
        numbers = _numbers(backend.cast(x, stash))
        if inverse and onesided:
            real = fft.irfft(numbers + 0j, n=length, axis=axis)
            return backend.cast(backend.xp.expand_dims(real, axis=-1), dtype)
        if onesided:
            return backend.cast(_parts(backend, fft.rfft(numbers, n=length, axis=axis)), dtype)
        function = fft.ifft if inverse else fft.fft
        return backend.cast(
            _parts(backend, function(numbers + 0j, n=length, axis=axis)), dtype)

    return run


@semantics("STFT", host=(1, 3))
def _stft(call: OpCall, backend: Backend) -> Runner:
    fft, dtype, out = backend.xp.fft, call.type(0).dtype, call.out().shape
    stash, onesided = "float32" if dtype in SHORT_FLOATS else dtype, call.integer("onesided", 1)
    step = int(call.host_number(1))
    length = int(call.host_number(3)) if call.has(3) else call.type(2).elements
    frames = backend.constant(
        step * np.arange(out[1], dtype=np.int64)[:, None] + np.arange(length, dtype=np.int64))
    plain = len(call.shape(0)) == 2

    def run(x: Array, _: None, window: Array | None = None, __: None = None) -> Array:
        signal = backend.cast(x, stash)
        numbers = signal if plain else _numbers(signal)
        framed = backend.take(numbers, (slice(None), frames))
        if window is not None:
            framed = framed * backend.cast(window, stash)
        found = fft.rfft(framed, n=length) if onesided else fft.fft(framed + 0j, n=length)
        return backend.cast(_parts(backend, found), dtype)

    return run


_COSINES = {"HannWindow": (0.5, 0.5, 0.0), "HammingWindow": (25 / 46, 21 / 46, 0.0),
            "BlackmanWindow": (0.42, 0.5, 0.08)}
"""Factors of 1, -cos(t) and cos(2 t)."""


@semantics(*_COSINES, host=(0,))
def _window(call: OpCall, backend: Backend) -> Runner:
    kind = call.out()
    period = kind.shape[0] if call.integer("periodic", 1) else kind.shape[0] - 1
    angle = 2 * pi * np.arange(kind.shape[0]) / max(period, 1)
    flat, once, twice = _COSINES[call.node.op_type]
    values = flat - once * np.cos(angle) + twice * np.cos(2 * angle)
    return fixed(backend, values.astype(numpy_dtype(kind.dtype)))


@semantics("MelWeightMatrix", host=(0, 1, 2, 3, 4))
def _mel_weights(call: OpCall, backend: Backend) -> Runner:
    """Triangles between neighbouring mel bins (ONNX operator reference, MelWeightMatrix)."""
    bins, length, rate = (int(call.host_number(slot)) for slot in range(3))
    low, high = (2595 * np.log1p(call.host_number(slot) / 700) / log(10) for slot in (3, 4))
    edges = low + np.arange(bins + 2) * ((high - low) / (bins + 2))
    hertz = 700 * np.expm1(edges / 2595 * log(10))
    corners = ((length + 1) * hertz // rate).astype(np.int64)
    left, middle, right = corners[:-2], corners[1:-1], corners[2:]
    at = np.arange(length // 2 + 1)[:, None]
    rising = np.where(middle > left, (at - left) / np.maximum(middle - left, 1), at == middle)
    falling = (right - at) / np.maximum(right - middle, 1)
    weights = np.where((at >= left) & (at <= middle), rising, 0.0)
    weights = np.where((at >= middle) & (at < right), falling, weights)
    return fixed(backend, weights.astype(numpy_dtype(call.out().dtype)))
