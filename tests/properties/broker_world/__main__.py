"""Repeat a history from its seed and its number of events."""

from __future__ import annotations

import sys

from broker.core.digest import state_digest
from tests.properties.broker_world.chaos import Chaos

result = Chaos(int(sys.argv[1])).run(int(sys.argv[2]))
print(result.hash.hexdigest(), state_digest(result.broker))
