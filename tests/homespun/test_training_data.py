"""Datasets as people have them, as columns; and what cannot be a column says why."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from homespun.errors import Code, HomespunError
from homespun.training_data import columns_of, model_columns


class Rows(Dataset):
    """A map-style dataset over a list."""

    def __init__(self, *rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def refusal(data):
    with pytest.raises(HomespunError) as caught:
        columns_of(data, "train_dataset")
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message.startswith("train_dataset ")
    return caught.value.message


def types(columns):
    return {name: (column.dtype.name, column.shape) for name, column in columns.items()}


def test_a_dict_stays_as_it_is():
    given = {"x": np.zeros((3, 2)), "y": torch.zeros(3)}
    assert columns_of(given, "train_dataset") == given


def test_tuples_of_tensors():
    data = TensorDataset(torch.rand(5, 1, 8, 8), torch.arange(5))
    got = columns_of(data, "train_dataset")
    assert types(got) == {"input": ("float32", (5, 1, 8, 8)), "label": ("int64", (5,))}
    np.testing.assert_array_equal(got["input"], data.tensors[0].numpy())
    part = columns_of(Subset(data, [3, 1]), "train_dataset")
    np.testing.assert_array_equal(part["label"], [3, 1])


def test_rows_of_other_kinds():
    assert types(columns_of([(1, 2.5, True)] * 2, "d")) == {
        "input_0": ("int64", (2,)), "input_1": ("float32", (2,)), "label": ("bool", (2,))}
    assert types(columns_of(Rows(torch.zeros(3), torch.zeros(3)), "d")) == {
        "input": ("float32", (2, 3))}
    rows = Rows({"a": [1, 2], "b": np.float64(1)}, {"a": (3, 4), "b": np.float64(2)})
    assert types(columns_of(rows, "d")) == {"a": ("int64", (2, 2)), "b": ("float64", (2,))}
    assert types(columns_of(Rows((torch.ones(2, dtype=torch.bfloat16),)), "d")) == {
        "input": ("bfloat16", (1, 2))}


def test_each_row_is_read_once():
    read = []

    class Counting(Rows):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    columns_of(Counting(*[{"x": 1.0}] * 4), "d")
    assert read == [0, 1, 2, 3]


def test_what_has_no_rows_by_number():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter([{"x": 1}])

    assert "collect those that you need in a list" in refusal(Stream())
    assert "Pass the loader's dataset" in refusal(DataLoader(Rows({"x": 1.0})))
    assert "it is a int" in refusal(3)
    assert "has no rows" in refusal([])


def test_rows_that_do_not_fit_each_other():
    message = refusal(Rows({"ids": [1, 2]}, {"ids": [1, 2, 3]}))
    assert "row 1 has the shape [3], row 0 [2]" in message
    assert "pad" in message
    assert "in row 1, and ids in row 0" in refusal(Rows({"ids": 1}, {"id": 1}))


def test_text_is_no_number():
    message = refusal(Rows({"text": "one", "label": 0}))
    assert "text in the column 'text'" in message
    assert "tokenizer" in message


def test_what_reading_a_row_raises():
    class Broken(Rows):
        def __getitem__(self, index):
            raise FileNotFoundError("7.png")

    assert "raised FileNotFoundError for row 0: 7.png" in refusal(Broken(1))


def test_columns_that_a_model_takes():
    class Model(torch.nn.Module):
        def forward(self, input_ids=None, labels=None, **others):
            return None

    kept, others = model_columns(
        {"input_ids": [1], "label": [2], "idx": [3]}, Model(), "train_dataset")
    assert (kept, others) == ({"input_ids": [1], "labels": [2]}, ("idx",))
    both = {"labels": [1], "label": [2]}
    assert model_columns(both, Model(), "d") == ({"labels": [1]}, ("label",))
    with pytest.raises(HomespunError, match="takes none of them: it takes input_ids, labels"):
        model_columns({"text": [1]}, Model(), "train_dataset")


def test_hugging_face_datasets():
    datasets = pytest.importorskip("datasets", reason="the extra `datasets`")
    data = datasets.Dataset.from_dict({
        "input_ids": [[1, 2], [3, 4], [5, 6]], "score": [0.5, 1.5, 2.5], "label": [0, 1, 0]})
    got = columns_of(data, "train_dataset")
    assert types(got) == {"input_ids": ("int64", (3, 2)), "score": ("float32", (3,)),
                          "label": ("int64", (3,))}
    np.testing.assert_array_equal(columns_of(data.select([2, 0]), "d")["input_ids"],
                                  [[5, 6], [1, 2]])
    assert "several splits (train, test)" in refusal(
        datasets.DatasetDict({"train": data, "test": data}))
    assert "no rows by number" in refusal(data.to_iterable_dataset())
    assert "text in the column 'text'" in refusal(
        datasets.Dataset.from_dict({"text": ["one", "two"]}))
    ragged = datasets.Dataset.from_dict({"ids": [[1], [2, 3]]})
    assert "cannot be stacked in the column 'ids'" in refusal(ragged)
    assert types(columns_of(data.with_format("torch"), "d")) == types(got)
