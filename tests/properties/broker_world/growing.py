"""A world in which one long job at a time runs, and peers come and go: it is cut anew often."""

from __future__ import annotations

from broker.core import events as ev
from tests.properties.broker_world.chaos import Chaos
from tests.properties.broker_world.parts import OWNERS, make_spec


class Growing(Chaos):
    """As `Chaos`, with calmer owners and without jobs that wait for each other's peers."""

    def next_event(self) -> ev.AnyEvent:
        makers = [self.deliver, self.plan, self.heartbeats, self.connect, self.submit, self.fault,
                  self.hostile]
        maker = self.random.choices(makers, weights=[300, 40, 40, 5, 3, 0.5, 0.2])[0]
        return maker()

    def submit(self) -> ev.AnyEvent:
        if self.broker.state.unfinished:
            return self.deliver()
        r = self.random
        spec = make_spec(steps=r.randint(60, 120), clip=r.choice([0.0, 1.0]))
        return ev.JobSubmitted(at_ns=0, request_id="r", owner_id=r.choice(OWNERS),
                               submission_id=f"x{self.count}", spec=spec)
