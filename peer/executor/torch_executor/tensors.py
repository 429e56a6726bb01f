"""Numpy arrays to torch tensors and back. Received arrays are copied into torch's own memory."""

from __future__ import annotations

from collections.abc import Mapping

import ml_dtypes
import numpy as np
import torch
from torch import Tensor

from peer.executor.base import Array

DTYPES: Mapping[str, torch.dtype] = {
    "float64": torch.float64, "float32": torch.float32, "float16": torch.float16,
    "bfloat16": torch.bfloat16, "int64": torch.int64, "int32": torch.int32,
    "int16": torch.int16, "int8": torch.int8, "uint64": torch.uint64, "uint32": torch.uint32,
    "uint16": torch.uint16, "uint8": torch.uint8, "bool": torch.bool,
}
"""`ir.graph.TensorType.dtype` -> torch dtype."""

_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def to_torch(array: Array, device: torch.device) -> Tensor:
    """Copy an array to the device.

    Always a copy: torch's memory is 64-byte aligned, and some kernels round differently on less
    aligned memory, so a received tensor must look like one computed here.
    """
    if array.dtype == _BFLOAT16:
        return to_torch(array.view(np.uint16), device).view(torch.bfloat16)
    tensor = torch.empty(array.shape, dtype=DTYPES[array.dtype.name])
    np.copyto(tensor.numpy(), array)
    return tensor.to(device)


def to_numpy(tensor: Tensor) -> Array:
    """Row-major array of the tensor's values; shares its memory if it is dense and on the CPU.

    Views are copied: they may share memory with a parameter that the next update overwrites.
    """
    plain = tensor.detach()
    plain = plain.clone(memory_format=torch.contiguous_format) if _is_view(tensor) else plain.cpu()
    plain = plain.contiguous().cpu()
    if plain.dtype == torch.bfloat16:
        return plain.view(torch.uint16).numpy().view(_BFLOAT16)
    return plain.numpy()


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
