"""Keeps the C library from handing the memory of every chunk back to the system.

Each chunk of a tensor is allocated and freed a few times on its way through gRPC and TLS. glibc
gives the end of its heap back whenever more than 128 KiB are free there, and asks for it again for
the next chunk: the page faults cost more than encryption (docs/adr/0009-tensor-stream.md). Its
threshold adapts: freeing one large block raises it to twice the block's size.
Source: mallopt(3), "dynamic mmap threshold".
"""

from __future__ import annotations

from functools import cache

_LARGEST_BLOCK_BYTES = (32 << 20) - (64 << 10)
"""Just below the largest block that glibc adapts to (`DEFAULT_MMAP_THRESHOLD_MAX`, 32 MiB)."""


@cache
def keep_freed_memory() -> None:
    """Let the process keep up to 64 MiB of freed memory. Works once; no effect outside glibc.

    The block is never written, so it occupies no memory while it exists.
    """
    bytearray(_LARGEST_BLOCK_BYTES)
