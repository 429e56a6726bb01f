"""Operators on signals in time and frequency."""

from __future__ import annotations

from collections.abc import Mapping

from ir.operators.info import OpClass, OperatorInfo, op


def _window(description: str) -> OperatorInfo:
    return op(f"{description} window", op_class=OpClass.HOST, gradient=False,
              optional="output_datatype periodic")


SIGNAL: Mapping[str, OperatorInfo] = {
    "BlackmanWindow": _window("Blackman"),
    "DFT": op("discrete Fourier transform along an axis", (1, 3), optional="inverse onesided"),
    "HammingWindow": _window("Hamming"),
    "HannWindow": _window("Hann"),
    "MelWeightMatrix": op("frequencies to mel bins", 5, op_class=OpClass.HOST, gradient=False,
                          optional="output_datatype"),
    "STFT": op("Fourier transforms of successive frames", (2, 4), optional="onesided"),
}
