"""One training step's forward pass as a module: columns in, scalar loss out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from homespun.errors import Code, HomespunError
from ir.frontends.torch_gradients import check_gradient

Loss: TypeAlias = "torch.nn.Module | Callable[..., torch.Tensor]"


class TrainStep(torch.nn.Module):  # type: ignore[misc]
    """The module that is traced.

    Attributes:
        model: the user's.
        loss: as for `torch_module.import_module`; None: the model computes its own.
        columns: names of the tensors that `forward` takes, in order.
    """

    def __init__(self, model: torch.nn.Module, loss: Loss | None, columns: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.columns = columns

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        """The loss of one microbatch.

        Raises:
            HomespunError: INVALID_ARGUMENT if it is not a floating-point scalar; what
                `check_gradient` raises.
        """
        if self.loss is None:
            result = own_loss(self.model, dict(zip(self.columns, tensors, strict=True)))
        elif compares_predictions(self.loss):
            result = self.loss(self.model(*tensors[:-1]), tensors[-1])
        else:
            result = self.loss(self.model, dict(zip(self.columns, tensors, strict=True)))
        _check_scalar(result)
        check_gradient(result, self.model)
        return result


@dataclass(slots=True)
class OutputNames:
    """What a traced model calls its outputs. An object, because the tracer puts lists back."""

    names: tuple[str, ...] = ()


class Prediction(torch.nn.Module):  # type: ignore[misc]
    """The module that is traced for inference: columns in, the model's outputs out.

    Attributes:
        outputs: their names, once it was traced.
    """

    def __init__(self, model: torch.nn.Module, columns: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.columns = columns
        self.outputs = OutputNames()

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute the outputs of one microbatch."""
        batch = dict(zip(self.columns, tensors, strict=True))
        by_name = batch.keys() <= inspect.signature(self.model.forward).parameters.keys()
        outputs = named_outputs(self.model(**batch) if by_name else self.model(*tensors))
        self.outputs.names = tuple(outputs)
        return tuple(outputs.values())


def named_outputs(result: Any) -> dict[str, torch.Tensor]:
    """What a model returned as named tensors."""
    items = {f"output_{n}": item for n, item in enumerate(result)} if _is_list(result) else result
    named = dict(_flattened("", items if isinstance(items, Mapping) else {"output_0": items}))
    if named and all(isinstance(value, torch.Tensor) for value in named.values()):
        return named
    found = {name: type(value).__name__ for name, value in named.items()} or type(result).__name__
    raise HomespunError(
        Code.INVALID_ARGUMENT,
        "A model to run must return a tensor, or a tuple, list or dict of tensors; it returned "
        f"{found}. Wrap it in a module that returns the tensors you want.",
    )


def _flattened(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The leaves of nested lists and dicts, called after their way: `states.0`; None is none."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flattened(f"{prefix}.{key}" if prefix else str(key), item)
    elif _is_list(value):
        yield from _flattened(prefix, dict(enumerate(value)))
    elif value is not None:
        yield prefix, value


def _is_list(value: Any) -> bool:
    return isinstance(value, tuple | list)


def own_loss(model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The loss that the model computes itself, as those of `transformers` do.

    Args:
        model: called with the columns as keyword arguments, and with `return_loss=True` where its
            `forward` has such a parameter.
        batch: column name -> tensor.

    Returns:
        `loss` of the model's output, be it an attribute or an item.

    Raises:
        HomespunError: INVALID_ARGUMENT if the model takes no argument of a column's name, or if
            its output has no loss.
    """
    accepted = inspect.signature(model.forward).parameters
    if not any(p.kind == inspect.Parameter.VAR_KEYWORD for p in accepted.values()):
        unknown = sorted(batch.keys() - accepted.keys())
        if unknown:
            raise HomespunError(
                Code.INVALID_ARGUMENT,
                f"{type(model).__name__} takes no argument {unknown[0]!r}. Columns are its "
                f"arguments ({', '.join(accepted)}) unless you give a loss=.")
    extra = {"return_loss": True} if "return_loss" in accepted else {}
    output = model(**batch, **extra)
    result = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if result is None:
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"{type(model).__name__} computed no loss of its own from the columns "
            f"{', '.join(batch)}. Add what it needs for that (such as 'labels'), or give a loss=.")
    return result


def compares_predictions(loss: Loss | None) -> bool:
    """Whether the loss takes (predictions, targets) and not (model, batch)."""
    named = getattr(torch.nn.functional, getattr(loss, "__name__", ""), None)
    return isinstance(loss, torch.nn.Module) or (named is not None and named is loss)


def _check_scalar(loss: Any) -> None:
    found = type(loss).__name__
    if isinstance(loss, torch.Tensor):
        if loss.ndim == 0 and loss.is_floating_point():
            return
        found = f"a {loss.dtype} of shape {tuple(loss.shape)}"
    raise HomespunError(
        Code.INVALID_ARGUMENT,
        f"The loss must return one floating-point scalar, it returned {found}; "
        "take the mean over the microbatch.",
    )
