"""Reliable, ordered tensor streams between two peers of a job, over one gRPC stream each.

`Link` is one end; `dial` keeps its stream up from one side and `LinkServer` accepts it on the
other. `windows`, `chunks` and `control` are pure; `docs/protocol.md` describes the bytes.
"""

from peer.links.dialer import dial
from peer.links.link import Link, LinkState, Traffic
from peer.links.probe import Measurement, measure
from peer.links.server import LinkServer
from peer.links.settings import LinkSettings

__all__ = [
    "Link", "LinkServer", "LinkSettings", "LinkState", "Measurement", "Traffic", "dial", "measure",
]
