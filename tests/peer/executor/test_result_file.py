"""Predictions of microbatches become those of the rows."""

import numpy as np
import pytest

from homespun.sampling import inference_rows
from homespun.tensor_file import unpack
from ir.graph import TensorType
from ir.segment import ResultTensor
from peer.executor.result_file import ResultFile

RESULTS = (
    ResultTensor(name="double", type=TensorType("float32", (4, 2))),
    ResultTensor(name="index", type=TensorType("int64", (4,))),
    ResultTensor(name="sum", type=TensorType("float32", ())),
    ResultTensor(name="table", type=TensorType("float32", (3, 2))),
)


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 11, 12])
def test_rows_keep_their_order_and_filling_up_leaves_no_trace(tmp_path, rows):
    data = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
    file = ResultFile(tmp_path / "file", RESULTS, rows, 4)
    microbatches = -(-rows // 4)
    filled = [inference_rows(microbatch, 4, rows) for microbatch in range(microbatches)]
    for microbatch, index in enumerate(filled):
        assert index.max() < rows
        part = data[index]
        file.put(microbatch, {
            "double": 2 * part, "index": index, "sum": np.float32(part.sum()),
            "table": np.full((3, 2), microbatch, np.float32)})
    file.close()
    found = unpack((tmp_path / "file").read_bytes(), "the file")
    assert (found["double"] == 2 * data).all()
    assert found["index"].tolist() == list(range(rows))
    assert found["sum"].tolist() == [data[index].sum() for index in filled]
    assert found["table"].shape == (microbatches, 3, 2)
    assert found["table"][:, 0, 0].tolist() == list(range(microbatches))
