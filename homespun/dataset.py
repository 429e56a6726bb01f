"""The dataset of a job: named columns of equal length, checked before anything is uploaded.

Columns are numpy arrays or torch tensors, rows first. Their names are the names of the model's
inputs. torch is not imported here: its tensors are recognised by what they can do.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from dag.job import PREDICT
from homespun.errors import Code, HomespunError
from homespun.tensor_file import Array
from ir.graph import FLOATS, ITEM_BYTES, TensorType

SPLITS = ("train", "validation")
MAX_COLUMNS = 64
MAX_NAME_CHARACTERS = 100


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Checked columns.

    Attributes:
        train: column name -> array, rows first; all with the same number of rows, >= 1.
        validation: the same columns with other rows; empty when there is no such split.
        predict: what an inference job has instead of the two.
    """

    train: Mapping[str, Array]
    validation: Mapping[str, Array]
    predict: Mapping[str, Array] = field(default_factory=dict)

    @property
    def columns(self) -> Mapping[str, Array]:
        """The split that the model is made for: `train` or `predict`."""
        return self.train or self.predict

    @property
    def rows(self) -> int:
        """Rows of that split."""
        return len(next(iter(self.columns.values())))

    def splits(self) -> Mapping[str, Mapping[str, Array]]:
        """The splits that have rows, by name."""
        named = {"train": self.train, "validation": self.validation, PREDICT: self.predict}
        return {name: columns for name, columns in named.items() if columns}

    def sample(self, rows: int) -> dict[str, Array]:
        """The first `rows` rows of every column, repeated if there are fewer."""
        picked = np.arange(rows) % self.rows
        return {name: column[picked] for name, column in self.columns.items()}


def read_dataset(data: object, validation: object = None) -> Dataset:
    """Check what a user passed as `data` and make it a `Dataset`.

    Args:
        data: `{"tokens": array}`, or `{"train": {"tokens": array}, "validation": {...}}`.
        validation: columns of the validation split, when `data` holds columns.

    Raises:
        HomespunError: INVALID_ARGUMENT, naming the split, the column and what is wrong with it.

    Cost: linear in the bytes of floating-point columns (they are searched for NaN and infinity).
    """
    if not isinstance(data, Mapping) or not data:
        raise _refused("data", f"must be a dict of columns; it is {type(data).__name__}")
    if all(isinstance(value, Mapping) for value in data.values()):
        splits = _named_splits(data, validation)
    else:
        splits = {"train": data, "validation": validation or {}}
    dataset = Dataset(*(_columns(splits.get(name, {}), name) for name in SPLITS))
    if not dataset.train:
        raise _refused("data", "has no training rows; give it a 'train' split")
    _check_same_columns(dataset)
    return dataset


def read_columns(data: object) -> Dataset:
    """Check the columns of an inference job and make them a `Dataset`; raises as `read_dataset`."""
    columns = _columns(data, "data")
    if not columns:
        raise _refused("data", "has no columns; give it at least one")
    return Dataset({}, {}, columns)


def type_of(column: Array) -> TensorType:
    """Dtype and shape of a column as the wire names them."""
    return TensorType(column.dtype.name, column.shape)


def _named_splits(
    data: Mapping[object, object], validation: object
) -> Mapping[object, object]:
    unknown = [name for name in data if name not in SPLITS]
    if unknown:
        raise _refused("data", f"has the split {unknown[0]!r}; known are {', '.join(SPLITS)}")
    if validation is not None and "validation" in data:
        raise _refused("validation", "is given twice: as an argument and inside data")
    return data if validation is None else {**data, "validation": validation}


def _columns(columns: object, split: str) -> dict[str, Array]:
    if not isinstance(columns, Mapping):
        raise _refused(split, f"must be a dict of columns; it is {type(columns).__name__}")
    if len(columns) > MAX_COLUMNS:
        raise _refused(split, f"has {len(columns)} columns; at most {MAX_COLUMNS} are accepted")
    arrays = {_column_name(name, split): _array(value, f"{split} column {name!r}")
              for name, value in columns.items()}
    rows = {name: len(array) for name, array in arrays.items()}
    if len(set(rows.values())) > 1:
        listed = ", ".join(f"{name}: {count}" for name, count in rows.items())
        raise _refused(split, f"has columns of different length ({listed} rows)")
    return arrays


def _column_name(name: object, split: str) -> str:
    if not isinstance(name, str) or not name.isidentifier() or len(name) > MAX_NAME_CHARACTERS:
        raise _refused(
            split, f"has a column named {name!r}; names are Python identifiers of at most "
                   f"{MAX_NAME_CHARACTERS} characters, like the model's inputs")
    return name


def _array(value: object, subject: str) -> Array:
    array = array_from_torch(value) if hasattr(value, "detach") else value
    if not isinstance(array, np.ndarray):
        raise _refused(subject, f"must be a numpy array or a torch tensor; it is a "
                                f"{type(value).__name__}")
    if array.dtype.name not in ITEM_BYTES:
        raise _refused(subject, f"has dtype {array.dtype}; accepted are "
                                f"{', '.join(sorted(ITEM_BYTES))}")
    if array.ndim == 0 or len(array) == 0:
        raise _refused(subject, f"has no rows (shape {array.shape}); rows come first")
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    _check_finite(array, subject)
    return array


def array_from_torch(tensor: Any) -> Array:
    """A tensor's values as a numpy array; they are shared where the tensor is on the CPU."""
    tensor = tensor.detach().cpu()
    if str(tensor.dtype) == "torch.bfloat16":
        # torch gives no numpy view of bfloat16, but the bits of one are those of an int16.
        bits = tensor.contiguous().view(sys.modules["torch"].int16)
        return bits.numpy().view(ml_dtypes.bfloat16)  # type: ignore[no-any-return]
    return tensor.numpy()  # type: ignore[no-any-return]


def _check_finite(array: Array, subject: str) -> None:
    if array.dtype.name not in FLOATS:
        return
    bad = ~np.isfinite(array)
    if bad.any():
        row = int(np.argwhere(bad)[0][0])
        raise _refused(subject, f"has a NaN or infinite value in row {row}")


def _check_same_columns(dataset: Dataset) -> None:
    if not dataset.validation:
        return
    if dataset.validation.keys() != dataset.train.keys():
        raise _refused("validation", f"has the columns {sorted(dataset.validation)}; train has "
                                     f"{sorted(dataset.train)}")
    for name, column in dataset.train.items():
        other = dataset.validation[name]
        if (column.dtype, column.shape[1:]) != (other.dtype, other.shape[1:]):
            raise _refused(
                f"validation column {name!r}",
                f"is {other.dtype}{list(other.shape[1:])} per row; the training one is "
                f"{column.dtype}{list(column.shape[1:])}")


def _refused(subject: str, problem: str) -> HomespunError:
    return HomespunError(Code.INVALID_ARGUMENT, f"The dataset's {subject} {problem}."
                         if subject not in ("data", "validation") else f"{subject} {problem}.",
                         subject=subject)
