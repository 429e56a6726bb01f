"""What this peer sends and receives: counted for its owner, and held to the owner's rates.

One limiter for each direction, whoever sends: tensors and probes first, snapshots and blobs with at
least an eighth of the rate. Heartbeats and reports to the broker, a few hundred bytes a second, are
neither counted nor held.
"""

from peer.metering.meter import UNMETERED, Meter, Moved, Rates, Route, route_of
from peer.metering.turns import Urgency

__all__ = ["UNMETERED", "Meter", "Moved", "Rates", "Route", "Urgency", "route_of"]
