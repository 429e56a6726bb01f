"""What one lease sends to another: a log for each target, and links that read it in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from peer.core.events import Member, TensorKind
from peer.core.phases import Mode

Deliver = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Frame:
    """Something on its way.

    Attributes:
        source, target: segments.
        event_class, fields: what the core of the target will be told.
        value: of a tensor.
    """

    source: int
    target: int
    event_class: type
    fields: dict[str, Any]
    value: str = ""

    @property
    def position(self) -> int:
        """Of inference the microbatch, else the step."""
        is_infer = self.fields.get("mode") is Mode.INFER
        return int(self.fields["microbatch" if is_infer else "step"])

    @property
    def is_tensor(self) -> bool:
        """Whether the executor gets it."""
        return self.fields.get("kind", TensorKind.ACKNOWLEDGE) is not TensorKind.ACKNOWLEDGE


@dataclass(slots=True)
class Log:
    """What was sent to one segment, from the complete position on."""

    frames: deque[Frame] = field(default_factory=deque)

    def append(self, frame: Frame) -> None:
        """Add what is sent now; positions never go down."""
        if self.frames and self.frames[-1].position > frame.position:
            raise AssertionError(f"{frame} is sent after {self.frames[-1]}")
        self.frames.append(frame)

    def since(self, position: int) -> list[Frame]:
        """What a holder needs that goes on at a position."""
        return [frame for frame in self.frames if frame.position >= position]

    def forget_before(self, position: int) -> None:
        """Nobody goes back behind it."""
        while self.frames and self.frames[0].position < position:
            self.frames.popleft()


@dataclass(slots=True)
class Inbox:
    """What has arrived from one lease. The next one is shown when this one was judged.

    Attributes:
        member: who sends.
        frames: not shown yet.
        is_waiting: one was shown, and not judged.
    """

    member: tuple[int, int]
    frames: deque[Frame] = field(default_factory=deque)
    is_waiting: bool = False


@dataclass(slots=True)
class Outlet:
    """The sending end of a link to a member, until it is cut."""

    member: Member
    is_cut: bool = False
