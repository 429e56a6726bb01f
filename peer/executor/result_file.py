"""What a segment predicts, written to a file while it is computed: memory stays bounded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from homespun.tensor_file import TensorFileWriter
from ir.graph import TensorType
from ir.segment import ResultTensor
from peer.executor.base import Array


class ResultFile:
    """A safetensors file with the results of all rows, in order.

    A result whose axis 0 has as many entries as the microbatch has rows holds one entry per row:
    the microbatches follow each other, and what stands for rows that were only filled up is cut
    off. Any other result (a mean, a table) is given once per microbatch, stacked along a new axis
    0.
    """

    def __init__(
        self, path: Path, results: tuple[ResultTensor, ...], rows: int, microbatch_size: int
    ) -> None:
        """Create the file.

        Args:
            path: of the file.
            results: what each microbatch gives.
            rows: of the whole split, >= 1.
            microbatch_size: rows of a microbatch, >= 1.
        """
        self._rows, self._size = rows, microbatch_size
        self._per_row = {result.name: self._is_per_row(result.type) for result in results}
        microbatches = -(-rows // microbatch_size)
        self._writer = TensorFileWriter(path, {
            result.name: TensorType(
                result.type.dtype,
                (rows, *result.type.shape[1:]) if self._per_row[result.name]
                else (microbatches, *result.type.shape))
            for result in results})

    def put(self, microbatch: int, results: Mapping[str, Array]) -> None:
        """Write what one microbatch gave."""
        first = microbatch * self._size
        for name, array in results.items():
            if self._per_row[name]:
                self._writer.write(name, first, array[: self._rows - first])
            else:
                self._writer.write(name, microbatch, array[None])

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()

    def _is_per_row(self, type_: TensorType) -> bool:
        return type_.shape[:1] == (self._size,)
