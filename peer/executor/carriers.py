"""Dtypes of fewer than 8 bits, which frameworks do not hold with one element per byte."""

from __future__ import annotations

from collections.abc import Mapping

CARRIERS: Mapping[str, str] = {
    "float4_e2m1fn": "float8_e4m3fn", "int4": "int8", "uint4": "uint8", "int2": "int8",
    "uint2": "uint8"}
"""Dtype -> one that holds all its numbers and carries it to and from a device."""
