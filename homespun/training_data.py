"""What people hold their training rows in, as the columns of a job's dataset.

A dict of arrays, a `datasets.Dataset` of Hugging Face, or anything with a length and rows by number
such as a map-style `torch.utils.data.Dataset`. None of these libraries is imported here.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from homespun.dataset import array_from_torch
from homespun.errors import Code, HomespunError
from homespun.tensor_file import Array

LABELS = "labels"
_LABEL_NAMES = ("label", "label_ids")
"""What a model of `transformers` calls `labels`; its own collator renames them, too."""


def columns_of(data: object, argument: str) -> dict[str, Any]:
    """The columns that a dataset has.

    Args:
        data: see above. Rows by number are dicts, tuples or single values; of a tuple the last one
            is called `label` and the others `input_0`, `input_1`, ... (one alone `input`).
        argument: what the user calls it, for messages.

    Returns:
        Name -> values, rows first: numpy arrays, or of a dict what it has.

    Raises:
        HomespunError: INVALID_ARGUMENT, with the row and column where that is known, for anything
            that has no rows by number, rows that differ in shape, text, and what reading a row
            raises.

    Cost: every row is read once, and all are held in memory.
    """
    if isinstance(data, Mapping):
        if hasattr(data, "num_rows"):  # a DatasetDict of Hugging Face
            raise _refused(
                argument, f"holds several splits ({', '.join(map(str, data))}); pass one of them, "
                f"such as datasets[{next(iter(data), 'train')!r}]")
        return dict(data)
    if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
        raise _refused(
            argument, f"must be a dict of arrays, a datasets.Dataset, or a map-style torch Dataset "
            f"(with a length, and rows by number); it is a {type(data).__name__}. {_hint(data)}")
    if len(data) == 0:
        raise _refused(argument, "has no rows")
    if hasattr(data, "with_format") and hasattr(data, "column_names"):
        columns = data.with_format("numpy")[:]
        return {name: _checked(columns[name], name, argument) for name in data.column_names}
    return _stacked(data, argument)


def model_columns(
    columns: Mapping[str, Any], model: object, argument: str
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The columns that a model's own loss is computed from, as `transformers` chooses them.

    Args:
        columns: name -> values.
        model: those that its `forward` names stay; `label` and `label_ids` become `labels`.
        argument: what the user calls the dataset, for messages.

    Returns:
        The columns that stay, and the names of the others.

    Raises:
        HomespunError: INVALID_ARGUMENT when `forward` takes none of them.
    """
    accepted = inspect.signature(getattr(model, "forward", model)).parameters  # type: ignore[arg-type]
    renamed = {}
    for name, values in columns.items():
        is_label = (name in _LABEL_NAMES and name not in accepted
                    and LABELS in accepted and LABELS not in columns)
        renamed[LABELS if is_label else name] = values
    kept = {name: values for name, values in renamed.items() if name in accepted}
    if not kept:
        raise _refused(
            argument, f"has the columns {', '.join(columns)}, and the model's forward takes none "
            f"of them: it takes {', '.join(accepted)}. Rename them, or give a loss")
    return kept, tuple(name for name in renamed if name not in kept)


def _stacked(data: Any, argument: str) -> dict[str, Array]:
    """Rows by number as columns."""
    first = _row(data, 0, argument)
    cells: dict[str, list[Array]] = {name: [] for name in first}
    for index in range(len(data)):
        row = first if index == 0 else _row(data, index, argument)
        if row.keys() != first.keys():
            raise _refused(argument, f"has the columns {', '.join(row)} in row {index}, and "
                                     f"{', '.join(first)} in row 0")
        for name, value in row.items():
            cells[name].append(_cell(value))
    return {name: _stack(column, name, argument) for name, column in cells.items()}


def _row(data: Any, index: int, argument: str) -> dict[str, Any]:
    try:
        row = data[index]
    except Exception as error:  # the user's own code
        raise _refused(
            argument, f"raised {type(error).__name__} for row {index}: {error}") from error
    if isinstance(row, Mapping):
        return dict(row)
    if not isinstance(row, tuple | list):
        return {"input": row}
    names = ["input"] if len(row) <= 2 else [f"input_{number}" for number in range(len(row) - 1)]
    return dict(zip([*names, "label"][:len(row)], row, strict=True))


def _cell(value: Any) -> Array:
    """One value of a row. Python's own numbers become what torch makes of them."""
    if hasattr(value, "detach"):
        return array_from_torch(value)
    array: Array = np.asarray(value)
    is_own = isinstance(value, float | list | tuple) and not isinstance(value, np.generic)
    return array.astype(np.float32) if is_own and array.dtype == np.float64 else array


def _stack(cells: Sequence[Array], name: str, argument: str) -> Array:
    for index, cell in enumerate(cells):
        if cell.shape != cells[0].shape:
            raise _uneven(name, argument, f"row {index} has the shape {list(cell.shape)}, row 0 "
                                          f"{list(cells[0].shape)}")
    return _checked(np.stack(cells), name, argument)


def _checked(column: Any, name: str, argument: str) -> Array:
    """A column that is numbers; raises for the two things that people meet."""
    if getattr(column, "dtype", None) is not None and column.dtype.kind not in "OUS":
        return np.asarray(column)
    if isinstance(column, Iterable) and any(isinstance(value, str | bytes) for value in column):
        raise _refused(
            argument, f"has text in the column {name!r}. Turn it into numbers first (a tokenizer "
            "with padding='max_length' does), and remove the column")
    raise _uneven(name, argument, "its rows are of different shapes or no numbers")


def _uneven(name: str, argument: str, problem: str) -> HomespunError:
    return _refused(
        argument, f"cannot be stacked in the column {name!r}: {problem}. A job has static shapes: "
        "pad or cut all rows to one shape (a tokenizer with padding='max_length', "
        "truncation=True does)")


def _hint(data: object) -> str:
    if hasattr(data, "dataset"):  # a DataLoader
        return "Pass the loader's dataset: batches are made from the arguments"
    return "What is streamed has no rows by number: collect those that you need in a list"


def _refused(argument: str, problem: str) -> HomespunError:
    return HomespunError(Code.INVALID_ARGUMENT, f"{argument} {problem}.", argument=argument)
