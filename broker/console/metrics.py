"""`/metrics` for Prometheus: counts that are read from the core when somebody asks.

No label names a job, a peer or a person: their number would have no bound, and the page asks for no
session.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from broker.core import operator_views
from broker.core.operator_views import Counts
from broker.driver import Driver

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]


class Metrics:
    """What is counted, as a Prometheus collector."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def exposition(self) -> bytes:
        """The page. Cost: linear in peers and jobs."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """All metrics (Prometheus' client calls this)."""
        return metrics_of(operator_views.counts(self._driver.core))


def metrics_of(counts: Counts) -> Iterable[Metric]:
    """Counts as metrics, in the order of the page."""
    yield InfoMetricFamily("broker", "This broker.", value={"version": version("homespun")})
    yield _gauge("broker_peers", "Peers by state.", ("state",), counts.peers)
    yield _gauge("broker_jobs", "Jobs by kind and state.", ("kind", "state"), counts.jobs)
    yield _gauge("broker_backup_peers", "Standbys by level reached; none for not yet.",
                 ("level",), counts.standbys)
    yield _gauge("broker_segments", "Segments of started jobs, by whether they are covered.",
                 ("covered",), counts.segments)
    yield CounterMetricFamily("broker_replacements", "Segments that another peer took over.",
                              value=counts.takeovers)
    yield CounterMetricFamily("broker_event_log_records", "Lines of the event log.",
                              value=counts.events)


def _gauge(
    name: str, text: str, labels: tuple[str, ...], counts: Iterable[tuple[tuple[str, ...], int]]
) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, count in counts:
        family.add_metric(values, count)
    return family
