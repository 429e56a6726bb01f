"""Tensor files that are written piece by piece."""

import ml_dtypes
import numpy as np
import pytest

from homespun.errors import Code, HomespunError
from homespun.tensor_file import TensorFileWriter, map_tensor, names_in, pack, unpack
from ir.graph import ITEM_BYTES, STORED_FLOATS, STORED_INTEGERS, TensorType


def tensors():
    draws = np.random.default_rng(0)
    shapes = [(5, 3), (7,), (4, 2, 2), (0, 3), (6, 0), (3,), (5,), (9, 1)]
    names = [name for name in ITEM_BYTES if name not in STORED_FLOATS | STORED_INTEGERS]
    dtypes = [np.dtype(getattr(ml_dtypes, name, name)) for name in names]
    drawn = [draws.integers(0, 2, shapes[i % len(shapes)]) for i in range(len(dtypes))]
    return {
        f"{dtype.name} {position}": array.astype(dtype)
        for position, (dtype, array) in enumerate(zip(dtypes, drawn, strict=True))}


def test_rows_in_any_order_give_the_tensors(tmp_path):
    path, wanted = tmp_path / "file", tensors()
    writer = TensorFileWriter(path, {
        name: TensorType(array.dtype.name, array.shape) for name, array in wanted.items()})
    for name, array in wanted.items():
        for first in reversed(range(0, len(array), 2)):
            writer.write(name, first, array[first:first + 2])
    writer.close()
    assert set(names_in(path)) == wanted.keys()
    found = unpack(path.read_bytes(), "the file")
    for name, array in wanted.items():
        mapped = map_tensor(path, name)
        assert mapped.offset % array.dtype.itemsize == 0 if mapped.size else True
        for other in (found[name], mapped):
            assert (other.dtype, other.shape) == (array.dtype, array.shape)
            assert other.tobytes() == array.tobytes()


def test_it_is_the_file_that_the_library_writes(tmp_path):
    array = np.arange(12, dtype=np.float32).reshape(4, 3)
    writer = TensorFileWriter(tmp_path / "file", {"y": TensorType("float32", (4, 3))})
    writer.write("y", 0, array)
    writer.close()
    assert (tmp_path / "file").read_bytes() == pack({"y": array})


def test_a_file_without_tensors(tmp_path):
    TensorFileWriter(tmp_path / "file", {}).close()
    assert names_in(tmp_path / "file") == ()
    assert unpack((tmp_path / "file").read_bytes(), "the file") == {}


@pytest.mark.parametrize(("first", "rows"), [
    (3, np.zeros((2, 3), np.float32)), (0, np.zeros((1, 4), np.float32)),
    (0, np.zeros((1, 3), np.float64))])
def test_what_does_not_fit_is_a_defect(tmp_path, first, rows):
    writer = TensorFileWriter(tmp_path / "file", {"y": TensorType("float32", (4, 3))})
    with pytest.raises(HomespunError) as caught:
        writer.write("y", first, rows)
    assert caught.value.code is Code.INTERNAL
    writer.close()


@pytest.mark.parametrize("data", [b"", b"\xff" * 8, (4).to_bytes(8, "little") + b"[{}]", b"1"])
def test_names_of_no_tensor_file(tmp_path, data):
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(HomespunError) as caught:
        names_in(tmp_path / "file")
    assert caught.value.code is Code.DIGEST_MISMATCH
