from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from homespun.dataset import Dataset, read_dataset, type_of
from homespun.errors import Code, HomespunError
from ir.graph import TensorType


def tokens(rows: int = 4, width: int = 3) -> np.ndarray:
    return np.arange(rows * width, dtype=np.int64).reshape(rows, width)


def refusal(data: object, validation: object = None) -> str:
    with pytest.raises(HomespunError) as caught:
        read_dataset(data, validation)
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value.message


def test_columns_alone_are_the_training_split() -> None:
    dataset = read_dataset({"tokens": tokens()})
    assert list(dataset.train) == ["tokens"]
    assert dataset.rows == 4
    assert list(dataset.splits()) == ["train"]


def test_validation_may_come_either_way() -> None:
    first = read_dataset({"tokens": tokens()}, {"tokens": tokens(2)})
    second = read_dataset({"train": {"tokens": tokens()}, "validation": {"tokens": tokens(2)}})
    for dataset in (first, second):
        assert {name: len(columns["tokens"]) for name, columns in dataset.splits().items()} == {
            "train": 4, "validation": 2}


def test_dtypes_stay_as_they_are_and_bytes_become_native() -> None:
    swapped = np.arange(6, dtype=">i4")
    column = read_dataset({"x": swapped}).train["x"]
    assert type_of(column) == TensorType("int32", (6,))
    assert column.dtype.isnative
    assert column.tolist() == swapped.tolist()


def test_a_strided_view_becomes_dense() -> None:
    wide = np.arange(12, dtype=np.float32).reshape(3, 4)
    column = read_dataset({"x": wide.T}).train["x"]
    assert column.flags.c_contiguous
    assert np.array_equal(column, wide.T)


def test_torch_tensors_are_read() -> None:
    torch = pytest.importorskip("torch")
    values = torch.tensor([[0.5, -1.25], [3.0, 100.0]])
    dataset = read_dataset({"a": values.requires_grad_(), "b": values.detach().bfloat16()})
    assert dataset.train["a"].tolist() == values.tolist()
    assert dataset.train["b"].dtype == ml_dtypes.bfloat16
    assert dataset.train["b"].astype(np.float32).tolist() == values.tolist()


def test_a_sample_repeats_when_rows_are_few() -> None:
    assert read_dataset({"x": np.arange(2)}).sample(5)["x"].tolist() == [0, 1, 0, 1, 0]


@pytest.mark.parametrize("data", [None, [], {}, np.zeros(3), "tokens"])
def test_what_is_no_dataset(data: object) -> None:
    assert "must be a dict of columns" in refusal(data)


def test_refusals_name_split_column_and_problem() -> None:
    assert "different length (x: 2, y: 3 rows)" in refusal({"x": tokens(2), "y": tokens(3)})
    assert "split 'test'" in refusal({"train": {"x": tokens()}, "test": {"x": tokens()}})
    assert "training rows" in refusal({"validation": {"x": tokens()}})
    assert "given twice" in refusal(
        {"train": {"x": tokens()}, "validation": {"x": tokens()}}, {"x": tokens()})
    assert "column named 'a b'" in refusal({"a b": tokens()})
    assert "column 'x' must be a numpy array" in refusal({"x": [1, 2, 3]})
    assert "dtype object" in refusal({"x": np.array([None])})
    assert "dtype complex64" in refusal({"x": np.zeros(2, np.complex64)})
    assert "no rows" in refusal({"x": np.zeros((0, 3), np.float32)})
    assert "no rows" in refusal({"x": np.array(1.0)})
    assert "train has ['x']" in refusal({"x": tokens()}, {"y": tokens()})
    assert "int64[4] per row; the training one is int64[3]" in refusal(
        {"x": tokens()}, {"x": tokens(width=4)})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_values_that_are_not_finite_are_found(bad: float, dtype: type) -> None:
    column = np.zeros((5, 2), np.float32)
    column[3, 1] = bad
    assert "row 3" in refusal({"x": column.astype(dtype)})


def test_a_dataset_has_its_rows_counted_once() -> None:
    dataset = Dataset({"x": tokens(7)}, {})
    assert dataset.rows == 7
    assert dataset.splits().keys() == {"train"}
