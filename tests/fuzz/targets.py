"""What is fuzzed: parsers of bytes from outside. Each may refuse, and nothing else.

A target returns on sound bytes, raises `HomespunError` on others, and checks what must hold of what
it read. Any other exception, a hang, or memory without bound is a finding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

from homespun.errors import HomespunError

Target = Callable[[bytes], None]

FRAME_BYTES_MAX = 2**20


def graph(data: bytes) -> None:
    """A job's graph, as the broker admits it: what was admitted survives another trip."""
    from ir.admission import admit
    from ir.serde import dump, load

    with contextlib.suppress(HomespunError):
        found = admit(data)
        assert dump(load(dump(found))) == dump(found)


def frame(data: bytes) -> None:
    """The header of a tensor frame: it packs to the bytes that it was read from."""
    from peer.frames import decode_header, encode_header

    with contextlib.suppress(HomespunError):
        found, size = decode_header(data, FRAME_BYTES_MAX)
        assert encode_header(found) == data[:size]
        assert found.payload_bytes <= FRAME_BYTES_MAX


def tensors(data: bytes) -> None:
    """A blob of tensors: as many bytes as the header says."""
    from homespun.tensor_file import unpack

    with contextlib.suppress(HomespunError):
        assert sum(array.nbytes for array in unpack(data, "blob").values()) <= len(data)


def join_key(data: bytes) -> None:
    """A join key that somebody typed: what is read is written the same."""
    from homespun.identity.join_key import parse

    with contextlib.suppress(HomespunError):
        text = parse(data.decode("utf-8", "replace")).text
        assert parse(text).text == text


TARGETS: Mapping[str, Target] = {
    function.__name__: function for function in (graph, frame, tensors, join_key)}
