"""Bind the open axes of a model from the columns that it will read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from homespun.errors import Code, HomespunError
from homespun.tensor_file import Array

if TYPE_CHECKING:
    from ir.frontends.imported import Imported
    from ir.frontends.symbolic import SymbolicModel


def rows_of(model: SymbolicModel) -> int | None:
    """How many rows at a time a model was exported for; None if that is open, or inputs differ."""
    extents = {axes[:1] for axes in model.inputs.values()}
    rows = extents.pop() if len(extents) == 1 else ()
    return rows[0] if rows and isinstance(rows[0], int) else None


def bind_columns(model: SymbolicModel, columns: Mapping[str, Array], rows: int) -> Imported:
    """The graph of a model for so many rows of these columns at a time.

    Args:
        model: its inputs are columns; axis 0 of each is the rows, the others are the column's own.
        columns: name -> all rows; only shapes are looked at.
        rows: of one microbatch, >= 1.

    Raises:
        HomespunError: INVALID_ARGUMENT for a column that is missing, or whose shape contradicts
            the model or another column, naming input, axis and both extents; and what importing
            raises.
    """
    for name in model.inputs:
        if name not in columns:
            raise HomespunError(
                Code.INVALID_ARGUMENT,
                f"The model needs a column {name!r}; the dataset has "
                f"{', '.join(sorted(columns))}.", column=name)
    return model.bind_shapes({
        name: (rows, *columns[name].shape[1:]) for name in model.inputs})
