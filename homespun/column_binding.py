"""Bind the open axes of a model from the columns that it will read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from homespun.errors import Code, HomespunError
from homespun.tensor_file import Array

if TYPE_CHECKING:
    from ir.frontends.imported import Imported
    from ir.frontends.symbolic import SymbolicModel

    Readable = bytes | Path | str | Imported | SymbolicModel
    """ONNX bytes or file, or what a front end in `ir.frontends` has given."""


def read_model(
    graph: Readable, loss_output: str | None = None, loss: str | None = None, target: str = "target"
) -> Imported | SymbolicModel:
    """The model that somebody submits; a file is read.

    Args:
        graph: what was given.
        loss_output: as in `read_onnx`, for a file.
        loss: as in `read_onnx`, for a file.
        target: as in `read_onnx`, for a file.

    Raises:
        HomespunError: INVALID_ARGUMENT for a loss beside a model that was imported already; and
            what reading a file raises.
    """
    from ir.frontends.onnx_file import read_onnx

    if isinstance(graph, bytes | Path | str):
        return read_onnx(graph, loss_output, loss=loss, target=target)
    if loss is not None or loss_output is not None:
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            "This model is imported already; give its loss to the front end that imported it.")
    return graph


def rows_of(model: SymbolicModel | Imported) -> int | None:
    """How many rows at a time a model was exported for; None if that is open, or inputs differ."""
    from ir.frontends.imported import Imported

    if isinstance(model, Imported):
        graph = model.graph
        extents: set[tuple[int | str, ...]] = {
            graph.types[name].shape[:1] for name in graph.inputs}
    else:
        extents = {axes[:1] for axes in model.inputs.values()}
    rows = extents.pop() if len(extents) == 1 else ()
    return rows[0] if rows and isinstance(rows[0], int) else None


def bind_columns(
    model: SymbolicModel | Imported, columns: Mapping[str, Array], rows: int
) -> Imported:
    """The graph of a model for so many rows of these columns at a time.

    Args:
        model: its inputs are columns; axis 0 of each is the rows, the others are the column's own.
            One that is bound already stays as it is.
        columns: name -> all rows; only shapes are looked at.
        rows: of one microbatch, >= 1.

    Raises:
        HomespunError: INVALID_ARGUMENT for a column that is missing, or whose shape contradicts
            the model or another column, naming input, axis and both extents; and what importing
            raises.
    """
    from ir.frontends.imported import Imported

    if isinstance(model, Imported):
        return model
    for name in model.inputs:
        if name not in columns:
            raise HomespunError(
                Code.INVALID_ARGUMENT,
                f"The model needs a column {name!r}; the dataset has "
                f"{', '.join(sorted(columns))}.", column=name)
    return model.bind_shapes({
        name: (rows, *columns[name].shape[1:]) for name in model.inputs})
