"""Which frames a segment exchanges with whom: the rules that arriving frames are held against.

Pure. A neighbour is a stranger's machine: a frame is accepted only if the plan says that this peer
sends this tensor here, with this many bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from homespun.errors import Code, HomespunError
from ir.graph import ITEM_BYTES
from ir.segment import LEAD, BoundaryKind, BoundaryTensor, Segment, are_partners
from peer.core.events import Member
from peer.frames import Frame, Kind

NUMBERS_BYTES_MAX = 16 * 2**20
"""Largest payload of norms: about 200,000 parameters."""

_FORWARD = {Kind.ACTIVATION: BoundaryKind.ACTIVATION, Kind.PARAMETER: BoundaryKind.PARAMETER}
_BACKWARD = {
    Kind.GRADIENT: BoundaryKind.ACTIVATION,
    Kind.ACKNOWLEDGE: BoundaryKind.ACTIVATION,
    Kind.PARAMETER_GRADIENT: BoundaryKind.PARAMETER,
}


@dataclass(frozen=True, slots=True)
class Routes:
    """The members of a job as one of its segments sees them."""

    segment: Segment
    members: tuple[Member, ...]

    def peer_of(self, segment: int) -> str:
        """Who holds a segment.

        Raises:
            HomespunError: INTERNAL for a segment that is not a member.
        """
        for member in self.members:
            if member.segment == segment:
                return member.peer_id
        raise HomespunError(Code.INTERNAL, f"segment {segment} has no member")

    def neighbours(self, *, with_lead: bool) -> tuple[Member, ...]:
        """Members that this segment exchanges frames with, in segment order.

        Args:
            with_lead: whether sums over segments are needed: then the lead knows everybody.
        """
        return tuple(member for member in self.members
                     if are_partners(self.segment, member.segment, with_lead=with_lead))

    def payload_limit(self, sender: str, frame: Frame) -> int:
        """Most payload bytes to accept for a header from `sender`; 0 where none are due.

        Decides before a byte of the payload is read or room made for it.

        Raises:
            HomespunError: NOT_ALLOWED if the plan does not say that `sender` sends this here;
                INVALID_ARGUMENT if it has another type than the plan says.
        """
        if frame.target != self.segment.index:
            raise self._refusal(sender, frame)
        if frame.kind in (Kind.NORMS, Kind.SCALE):
            self._check_lead(sender, frame)
            return NUMBERS_BYTES_MAX
        tensor = self._tensor(sender, frame)
        if frame.kind is Kind.ACKNOWLEDGE:
            return 0
        self._check_type(sender, frame, tensor)
        return frame.payload_bytes

    def _tensor(self, sender: str, frame: Frame) -> BoundaryTensor:
        wanted = _FORWARD.get(frame.kind) or _BACKWARD.get(frame.kind)
        tensors = self.segment.incoming if frame.kind in _FORWARD else self.segment.outgoing
        for tensor in tensors:
            if tensor.edge == frame.edge and tensor.kind is wanted:
                other = tensor.source if frame.kind in _FORWARD else tensor.target
                if frame.source == other and self.peer_of(other) == sender:
                    return tensor
        raise self._refusal(sender, frame)

    def _check_type(self, sender: str, frame: Frame, tensor: BoundaryTensor) -> None:
        shape = tensor.type.shape
        if frame.kind in _BACKWARD and tensor.contributions > 1:
            shape = (tensor.contributions, *shape)
        size_bytes = prod(shape) * ITEM_BYTES[tensor.type.dtype]
        if (frame.dtype, frame.shape, frame.payload_bytes) != (
            tensor.type.dtype, shape, size_bytes
        ):
            raise HomespunError(
                Code.INVALID_ARGUMENT,
                f"{sender} sent a {frame.title()} of {frame.dtype} {frame.shape}; the plan says "
                f"{tensor.type.dtype} {shape}",
            )

    def _check_lead(self, sender: str, frame: Frame) -> None:
        from_lead = frame.kind is Kind.SCALE and frame.source == LEAD
        to_lead = frame.kind is Kind.NORMS and self.segment.index == LEAD
        if not (from_lead or to_lead) or self.peer_of(frame.source) != sender:
            raise self._refusal(sender, frame)

    def _refusal(self, sender: str, frame: Frame) -> HomespunError:
        return HomespunError(
            Code.NOT_ALLOWED,
            f"{sender} sent a {frame.title()} from segment {frame.source} to segment "
            f"{frame.target}; the plan of segment {self.segment.index} has no such tensor",
        )
