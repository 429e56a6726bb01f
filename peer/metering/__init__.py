"""What this peer sends and receives: counted for its owner, and held to the owner's rates.

One limiter for each direction, whoever sends: tensors, snapshots, blobs and probes. Heartbeats and
reports to the broker, a few hundred bytes a second, are neither counted nor held.
"""

from peer.metering.meter import UNMETERED, Meter, Moved, Rates, Route, route_of

__all__ = ["UNMETERED", "Meter", "Moved", "Rates", "Route", "route_of"]
