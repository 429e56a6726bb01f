"""What a stored snapshot is: its key, and the record that says what its file must contain."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from homespun.errors import Code, HomespunError
from homespun.ids import Digest, is_digest, is_id

CHUNK_BYTES = 1 << 20
DIGEST_BYTES = 32
CHUNKS_MAX = 1 << 16
"""Chunks of one file: a list of their digests is at most 2 MiB, a file 64 GiB."""
SHARDS_MAX = 255
_COUNT_MAX = 1 << 53
_PEER = re.compile(r"|peer_[0-9a-z]{1,40}")


@dataclass(frozen=True, slots=True, order=True)
class SnapshotKey:
    """Names one file of a store.

    Attributes:
        job_id, segment: whose state it is; `segment` counts on over the job's cuts.
        position: the state at the beginning of this step (of inference: microbatch).
        shard: which shard; 0 where the file is the whole.
        data_shards: how many different shards give the whole; 1: the file is the whole.
    """

    job_id: str
    segment: int
    position: int
    shard: int = 0
    data_shards: int = 1

    @property
    def file_name(self) -> str:
        """Where it lies: text from outside reaches the file system only through `checked`."""
        whole = f"{self.job_id}-{self.segment}-{self.position}"
        return whole if self.data_shards == 1 else f"{whole}-s{self.shard}of{self.data_shards}"

    @property
    def title(self) -> str:
        """For messages."""
        shard = "" if self.data_shards == 1 else f"shard {self.shard} of "
        return (f"{shard}the snapshot of {self.job_id}, segment {self.segment}, position "
                f"{self.position}")

    def checked(self) -> SnapshotKey:
        """This key, if it can be one.

        Raises:
            HomespunError: INVALID_ARGUMENT.
        """
        if not (is_id(self.job_id, "job") and 0 <= self.segment < _COUNT_MAX
                and 0 <= self.position < _COUNT_MAX and 1 <= self.data_shards <= SHARDS_MAX
                and 0 <= self.shard <= SHARDS_MAX and (self.data_shards > 1 or self.shard == 0)):
            raise HomespunError(Code.INVALID_ARGUMENT, f"No snapshot can be named {self!r:.200}.")
        return self


@dataclass(frozen=True, slots=True)
class SnapshotRecord:
    """What the file of a key contains.

    Attributes:
        key: which file.
        digest, size_bytes: of the whole snapshot.
        content_digest, content_bytes: of the file; equal to those of the whole where it is that.
        chunk_digests: of the file's chunks of `CHUNK_BYTES`, `DIGEST_BYTES` each, joined.
        source: the peer that put it here; "" for this peer's own.
    """

    key: SnapshotKey
    digest: str
    size_bytes: int
    content_digest: str
    content_bytes: int
    chunk_digests: bytes
    source: str = ""

    @property
    def is_passing(self) -> bool:
        """Whether it is a shard on its way out or in, and goes when that is done."""
        return self.key.data_shards > 1 and not self.source

    def chunks(self) -> tuple[bytes, ...]:
        """Digest of each chunk. Cost: linear in their number."""
        step = DIGEST_BYTES
        return tuple(
            self.chunk_digests[at:at + step] for at in range(0, len(self.chunk_digests), step))

    def chunk_at(self, index: int) -> bytes:
        """Digest of one chunk."""
        return self.chunk_digests[index * DIGEST_BYTES:(index + 1) * DIGEST_BYTES]

    def chunk_length(self, index: int) -> int:
        """Bytes of a chunk."""
        return min(CHUNK_BYTES, self.content_bytes - index * CHUNK_BYTES)

    def checked(self) -> SnapshotRecord:
        """This record, if its parts fit together.

        Raises:
            HomespunError: INVALID_ARGUMENT, or LIMIT_EXCEEDED for a file of too many chunks.
        """
        self.key.checked()
        if self.content_bytes > CHUNKS_MAX * CHUNK_BYTES:
            raise HomespunError(
                Code.LIMIT_EXCEEDED, f"{self.key.title} has {self.content_bytes} bytes; a file of "
                f"a snapshot may have {CHUNKS_MAX * CHUNK_BYTES}: cut the model into more segments "
                "or shards.")
        is_whole = self.key.data_shards == 1
        if not (is_digest(self.digest) and is_digest(self.content_digest)
                and 0 <= self.size_bytes < _COUNT_MAX
                and self.content_bytes == file_bytes(self.size_bytes, self.key.data_shards)
                and len(self.chunk_digests) == DIGEST_BYTES * chunk_count(self.content_bytes)
                and (not is_whole or self.digest == self.content_digest)
                and _PEER.fullmatch(self.source) is not None):
            raise HomespunError(
                Code.INVALID_ARGUMENT, f"What is said of {self.key.title} contradicts itself.")
        return self


def file_bytes(size_bytes: int, data_shards: int) -> int:
    """Bytes of each shard of a snapshot; the last data shard is filled up with zeros."""
    return -(-size_bytes // data_shards)


def chunk_count(content_bytes: int) -> int:
    """How many chunks a file has."""
    return -(-content_bytes // CHUNK_BYTES)


def chunk_digest(data: bytes) -> bytes:
    """BLAKE3 of one chunk."""
    return blake3(data).digest()


@dataclass(frozen=True, slots=True)
class Content:
    """Digest, size and chunk digests of a file."""

    digest: Digest
    size_bytes: int
    chunk_digests: bytes


def scan(path: Path) -> Content:
    """Read a file and tell its digests. Cost: linear in its bytes.

    Raises:
        OSError: when it cannot be read.
    """
    whole, chunks, size = blake3(), bytearray(), 0
    with path.open("rb") as file:
        while data := file.read(CHUNK_BYTES):
            whole.update(data)
            chunks += chunk_digest(data)
            size += len(data)
    return Content(Digest(whole.hexdigest()), size, bytes(chunks))
