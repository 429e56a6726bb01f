"""The state of a PyTorch module: every tensor once, under all of its names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import ml_dtypes
import torch

from homespun.errors import Code, HomespunError
from ir.frontends.imported import ImportedParameter
from ir.graph import ITEM_BYTES


@dataclass(frozen=True, slots=True, eq=False)
class StateEntry:
    """One tensor of the state.

    Attributes:
        names: its `state_dict` names, in order; more than one for tied weights.
        tensor: the module's own tensor.
    """

    names: tuple[str, ...]
    tensor: torch.Tensor

    def parameter(self) -> ImportedParameter:
        """The value as numpy, sharing memory with a model on the CPU."""
        tensor = self.tensor.detach().cpu().contiguous()
        value = (
            tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
            if tensor.dtype == torch.bfloat16 else tensor.numpy()
        )
        return ImportedParameter(
            name=self.names[0], aliases=self.names[1:], value=value,
            trainable=self.tensor.requires_grad,
        )


def state_of(model: torch.nn.Module) -> tuple[StateEntry, ...]:
    """The tensors of `state_dict`, in order.

    Raises:
        HomespunError: INVALID_ARGUMENT for a tensor without dense data or with a dtype that no
            executor has, and for parameters that share memory without being tied.
    """
    names: dict[int, list[str]] = {}
    tensors: dict[int, torch.Tensor] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if isinstance(tensor, torch.Tensor):
            names.setdefault(id(tensor), []).append(name)
            tensors[id(tensor)] = tensor
    for key, tensor in tensors.items():
        check_tensor(f"parameter {names[key][0]!r}", tensor)
    _check_overlap(names, tensors)
    return tuple(StateEntry(tuple(names[key]), tensors[key]) for key in names)


def check_tensor(what: str, tensor: torch.Tensor) -> None:
    """Refuse tensors that cannot be stored as a dense numpy array.

    Raises:
        HomespunError: INVALID_ARGUMENT, naming `what`.
    """
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in ITEM_BYTES:
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"The {what} has dtype {dtype}; accepted are {', '.join(ITEM_BYTES)}.",
        )
    if tensor.is_meta or tensor.layout != torch.strided:
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"The {what} has no dense data (device {tensor.device}, layout {tensor.layout}).",
        )


def _check_overlap(names: Mapping[int, list[str]], tensors: Mapping[int, torch.Tensor]) -> None:
    """Refuse parameters that share memory without being one: they would come apart in training."""
    owner: dict[int, int] = {}
    for key, tensor in tensors.items():
        if not tensor.numel():
            continue
        other = owner.setdefault(tensor.data_ptr(), key)
        if other != key and (tensor.requires_grad or tensors[other].requires_grad):
            raise HomespunError(
                Code.INVALID_ARGUMENT,
                f"{names[other][0]!r} and {names[key][0]!r} share memory but are two parameters. "
                "Tie weights by assigning the same Parameter object to both.",
            )
