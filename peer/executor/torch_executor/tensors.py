"""Numpy arrays to torch tensors and back. Received arrays are copied into torch's own memory."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ir.tensor_proto import numpy_dtype
from peer.executor.base import Array
from peer.executor.carriers import CARRIERS

DTYPES: Mapping[str, torch.dtype] = {
    "float64": torch.float64, "float32": torch.float32, "float16": torch.float16,
    "bfloat16": torch.bfloat16, "int64": torch.int64, "int32": torch.int32,
    "int16": torch.int16, "int8": torch.int8, "uint64": torch.uint64, "uint32": torch.uint32,
    "uint16": torch.uint16, "uint8": torch.uint8, "bool": torch.bool,
    "float8_e4m3fn": torch.float8_e4m3fn, "float8_e5m2": torch.float8_e5m2,
    "float8_e4m3fnuz": torch.float8_e4m3fnuz, "float8_e5m2fnuz": torch.float8_e5m2fnuz,
    "float8_e8m0fnu": torch.float8_e8m0fnu, "float4_e2m1fn": torch.float8_e4m3fn,
    "int4": torch.int8, "uint4": torch.uint8, "int2": torch.int8, "uint2": torch.uint8,
}
"""`ir.graph.TensorType.dtype` -> torch dtype. Where torch has no such dtype with one element per
byte, one that holds all its numbers carries it."""

_SAME_BITS: Mapping[str, type[np.generic]] = {
    "bfloat16": np.uint16, "float8_e4m3fn": np.uint8, "float8_e5m2": np.uint8,
    "float8_e4m3fnuz": np.uint8, "float8_e5m2fnuz": np.uint8, "float8_e8m0fnu": np.uint8}
"""Dtypes of `ml_dtypes` that torch has -> numpy's dtype of their width, through which they pass."""


def to_torch(array: Array, device: torch.device) -> Tensor:
    """Copy an array to the device.

    Always a copy: torch's memory is 64-byte aligned, and some kernels round differently on less
    aligned memory, so a received tensor must look like one computed here.
    """
    name = array.dtype.name
    if name in CARRIERS:
        return to_torch(array.astype(numpy_dtype(CARRIERS[name])), device)
    if name in _SAME_BITS:
        return to_torch(array.view(_SAME_BITS[name]), device).view(DTYPES[name])
    tensor = torch.empty(array.shape, dtype=DTYPES[name])
    np.copyto(tensor.numpy(), array)
    return tensor.to(device)


def to_numpy(tensor: Tensor, dtype: str | None = None) -> Array:
    """Row-major array of the tensor's values; shares its memory if it is dense and on the CPU.

    Args:
        tensor: on any device.
        dtype: the graph's dtype of it, which the tensor's own does not tell if it is one that
            torch lacks; None for floats that carry a gradient.

    Views are copied: they may share memory with a parameter that the next update overwrites.
    """
    plain = tensor.detach()
    plain = plain.clone(memory_format=torch.contiguous_format) if _is_view(tensor) else plain.cpu()
    plain = plain.contiguous().cpu()
    name = str(plain.dtype).removeprefix("torch.")
    if name in _SAME_BITS:
        bits = plain.view(torch.uint16 if plain.itemsize == 2 else torch.uint8).numpy()
        found: Array = bits.view(numpy_dtype(name))
    else:
        found = plain.numpy()
    return found.astype(numpy_dtype(dtype)) if dtype in CARRIERS else found


def to_host(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies in the host's memory, page-locked if they come from a GPU: then it copies at once."""
    hosts = {name: torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
             for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        hosts[name].copy_(tensor.detach(), non_blocking=True)
    for device in {tensor.device for tensor in tensors.values() if tensor.is_cuda}:
        torch.cuda.synchronize(device)
    return hosts


def row_major(tensor: Tensor) -> Tensor:
    """The tensor itself if it is row-major and 64-byte aligned, else a copy that is.

    Matrix kernels choose their path by layout and alignment; this makes the path, and so the
    rounding, the same whether a value was computed here or received (docs/adr/0008).
    """
    if not tensor.is_contiguous():
        return tensor.contiguous()
    return tensor if tensor.data_ptr() % 64 == 0 else tensor.clone()


def _is_view(tensor: Tensor) -> bool:
    return bool(tensor._is_view())
