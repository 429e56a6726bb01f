"""What a segment predicts, written to a file while it is computed: memory stays bounded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from homespun.tensor_file import TensorFileWriter, map_tensors
from ir.graph import TensorType
from ir.segment import ResultTensor
from peer.executor.base import Array
from peer.executor.state import check_types


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
        self._path, self._rows, self._size = path, rows, microbatch_size
        self._per_row = {result.name: self._is_per_row(result.type) for result in results}
        microbatches = -(-rows // microbatch_size)
        self._types = {
            result.name: TensorType(
                result.type.dtype,
                (rows, *result.type.shape[1:]) if self._per_row[result.name]
                else (microbatches, *result.type.shape))
            for result in results}
        self._writer = TensorFileWriter(path, self._types)

    def put(self, microbatch: int, results: Mapping[str, Array]) -> None:
        """Write what one microbatch gave."""
        first = microbatch * self._size
        for name, array in results.items():
            if self._per_row[name]:
                self._writer.write(name, first, array[: self._rows - first])
            else:
                self._writer.write(name, microbatch, array[None])

    def until(self, position: int) -> dict[str, Array]:
        """What the first `position` microbatches gave: mapped from the file, not copied.

        It stays as it is while later microbatches are put.
        """
        self._writer.flush()
        return {name: array[: self._entries(name, position)]
                for name, array in map_tensors(self._path).items()}

    def put_back(self, entries: Mapping[str, Array], position: int) -> None:
        """Write what `until` gave, of a file of the same segment.

        Raises:
            HomespunError: INVALID_ARGUMENT if a result is missing, too much, or of another type.
        """
        check_types(entries, {
            name: TensorType(type_.dtype, (self._entries(name, position), *type_.shape[1:]))
            for name, type_ in self._types.items()})
        for name, array in entries.items():
            self._writer.write(name, 0, array)

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()

    def _entries(self, name: str, position: int) -> int:
        """Entries along axis 0 that the first `position` microbatches give."""
        return min(position * self._size, self._rows) if self._per_row[name] else position

    def _is_per_row(self, type_: TensorType) -> bool:
        return type_.shape[:1] == (self._size,)
