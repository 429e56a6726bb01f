"""Every number that a link depends on, with its reason."""

from __future__ import annotations

from dataclasses import dataclass

from homespun.errors import Code, HomespunError

PROTOCOL_VERSION = 1
MESSAGE_LIMIT_BYTES = 4 << 20
"""gRPC's own default limit on a received message; a chunk and its header stay below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """How one end of a link behaves. The two ends need not agree."""

    chunk_bytes: int = 256 << 10
    """Payload bytes per gRPC message, at most; on a slow line fewer (`homespun.pieces`). 1 MiB
    measured a little faster at gigabytes per second (docs/adr/0009-tensor-stream.md), but the
    system's buffers hide a slow line at first: a message must arrive within `silence_timeout_s` at
    70 kbit/s, and an acknowledgement overtakes a large tensor after one."""
    window_bytes: int = 64 << 20
    """Frames held for the other side to accept, and frames held here until the consumer takes
    them. One frame may be larger when it is alone. Lets three 16 MiB tensors
    overlap sending, receiving and acknowledging; covers 1 Gbit/s at 500 ms."""
    window_frames: int = 4096
    """The same bound, in frames, for streams of small ones."""
    ack_every_frames: int = 16
    """Accepted frames after which an acknowledgement is sent at once; also after a quarter of
    the window."""
    ack_every_s: float = 0.005
    """Longest time that an accepted frame waits for its acknowledgement."""
    heartbeat_s: float = 2.0
    """An idle stream carries an acknowledgement this often, so that silence means a dead path."""
    silence_timeout_s: float = 30.0
    """A stream that brought nothing for so long is given up. One message may take as long."""
    hello_timeout_s: float = 10.0
    """From opening a stream to the other side's hello, TLS included."""
    send_timeout_s: float = 600.0
    """Longest time that `send` waits for room while nothing moves."""
    close_timeout_s: float = 2.0
    """Longest time that `close` waits for the stream itself to end, after draining."""
    broken_timeout_s: float = 30.0
    """A link without a stream for so long is reported as broken."""
    backoff_min_s: float = 0.05
    """First wait before dialling again; doubles, with full jitter."""
    backoff_max_s: float = 3.0
    """Longest wait before dialling again."""
    backoff_reset_s: float = 1.0
    """A stream that lived so long starts the backoff anew."""

    def __post_init__(self) -> None:
        if not 1 <= self.chunk_bytes <= MESSAGE_LIMIT_BYTES - 4096:
            raise HomespunError(
                Code.BAD_CONFIGURATION,
                f"chunk_bytes is {self.chunk_bytes}; expected 1 to {MESSAGE_LIMIT_BYTES - 4096}.")
        for name in ("window_bytes", "window_frames", "ack_every_frames", "ack_every_s",
                     "heartbeat_s", "silence_timeout_s", "hello_timeout_s", "send_timeout_s",
                     "close_timeout_s", "broken_timeout_s", "backoff_min_s", "backoff_max_s"):
            if getattr(self, name) <= 0:
                raise HomespunError(
                    Code.BAD_CONFIGURATION, f"{name} is {getattr(self, name)}; expected above 0.")
