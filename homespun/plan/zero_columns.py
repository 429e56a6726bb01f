"""Columns of the right shapes for a model whose data is not at hand: planning looks at no value."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from homespun.errors import Code, HomespunError
from homespun.tensor_file import Array
from ir.frontends.symbolic import SymbolicModel
from ir.tensor_proto import DTYPES

MAX_ROWS = 1 << 40


def zero_columns(
    model: SymbolicModel, rows: int, axes: Mapping[str, int]
) -> dict[str, Array]:
    """A column for each input of a model; all rows are one zero in memory.

    Args:
        model: axis 0 of each input is the rows.
        rows: of every column, >= 1.
        axes: name -> extent of the other open axes.

    Raises:
        HomespunError: INVALID_ARGUMENT for an axis that is open and not given, or unknown.
    """
    if not 1 <= rows <= MAX_ROWS:
        raise _refused(f"rows must be a whole number from 1 to {MAX_ROWS}; it is {rows}.")
    named = dict.fromkeys(axis for extents in model.inputs.values() for axis in extents[1:]
                          if isinstance(axis, str))
    if unknown := sorted(set(axes) - set(named)):
        raise _refused(
            f"The model has no open axis '{unknown[0]}' besides the rows; it has "
            f"{', '.join(named) or 'none'}. Correct --axis.")
    types = _types(model)
    columns = {}
    for name, extents in model.inputs.items():
        shape = [rows]
        for place, extent in enumerate(extents[1:], start=1):
            if isinstance(extent, str) and extent not in axes:
                raise _refused(
                    f"Axis {place} ('{extent}') of input '{name}' is open. Give its extent with "
                    f"--axis {extent}=N, or columns with --data FILE.")
            shape.append(axes[extent] if isinstance(extent, str) else extent)
        columns[name] = np.broadcast_to(np.zeros((), dtype=types[name]), shape)
    return columns


def _types(model: SymbolicModel) -> dict[str, np.dtype[np.generic]]:
    """Element type of each input, by the names of `SymbolicModel.inputs`."""
    return {
        model.names.get(value.name, value.name): np.dtype(
            DTYPES.get(value.type.tensor_type.elem_type, "float32"))  # importing refuses others
        for value in model.model.graph.input}


def _refused(message: str) -> HomespunError:
    return HomespunError(Code.INVALID_ARGUMENT, message)
