"""The dashboard and the alert rules speak of metrics, labels and values that the broker exports."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from broker.console.metrics import metrics_of
from broker.core.machine import Broker
from broker.core.operator_views import counts
from broker.core.readiness import LEVELS
from broker.core.state import JobState, PeerState
from ir.graph import INFER, TRAIN

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
VALUES: dict[str, dict[str, set[str]]] = {
    "broker_peers": {"state": {"pending", "banned", *map(str, PeerState)}},
    "broker_jobs": {"kind": {TRAIN, INFER}, "state": set(map(str, JobState))},
    "broker_backup_peers": {"level": {"none", *LEVELS[1:]}},
    "broker_segments": {"covered": {"yes", "no"}},
    "broker_info": {"version": set()},
}
"""Labels of each metric that has some, with their values; none given for those without bound."""

_WORD = re.compile(r"[a-z_]+")
_SELECTOR = re.compile(r"([a-z_]+)\{([^}]*)\}")
_MATCHER = re.compile(r'([a-z_]+)\s*(=~|=|!=)\s*"([^"]*)"')
_FUNCTIONS = {"sum", "by", "rate", "increase", "delta", "clamp_min", "min_over_time"}


def exported() -> dict[str, dict[str, set[str]]]:
    """Name of each sample that a new broker's page has -> its labels, with their values."""
    found: dict[str, dict[str, set[str]]] = {}
    for metric in metrics_of(counts(Broker())):
        for sample in metric.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


def dashboard() -> dict[str, Any]:
    board: dict[str, Any] = json.loads((DEPLOY / "grafana-dashboard.json").read_text("utf-8"))
    return board


def rules() -> list[dict[str, Any]]:
    read = yaml.safe_load((DEPLOY / "prometheus-alerts.yaml").read_text("utf-8"))
    return [rule for group in read["groups"] for rule in group["rules"]]


def expressions() -> Iterator[tuple[str, str]]:
    """Where it stands, and the query."""
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for rule in rules():
        yield rule["alert"], rule["expr"]


EXPRESSIONS = list(expressions())


def faults(query: str) -> list[str]:
    """What in a query is no function, exported metric, label of it, or value of that."""
    known, found = exported(), []
    bare = re.sub(r'"[^"]*"|\[[^\]]*\]', "", re.sub(r"\{[^}]*\}", "", query))
    grouped = {label for inside in re.findall(r"by \(([^)]*)\)", bare)
               for label in _WORD.findall(inside)}
    metrics = set(_WORD.findall(re.sub(r"by \([^)]*\)", "", bare))) - _FUNCTIONS - {"up"}
    found += [f"no metric {name}" for name in sorted(metrics - known.keys())]
    found += [f"no label {label}" for label in sorted(grouped)
              if not all(label in known[name] for name in metrics & known.keys())]
    for name, inside in _SELECTOR.findall(query):
        for label, _, value in _MATCHER.findall(inside):
            if name == "up":
                continue
            allowed = VALUES.get(name, {}).get(label)
            if allowed is None:
                found.append(f"{name} has no label {label}")
            else:
                found += [f"{name} has no {label} {each}" for each in value.split("|")
                          if each not in allowed]
    return found


@pytest.mark.parametrize(("place", "query"), EXPRESSIONS, ids=[name for name, _ in EXPRESSIONS])
def test_a_query_asks_for_what_is_exported(place: str, query: str) -> None:
    assert not faults(query)


@pytest.mark.parametrize(("query", "fault"), [
    ("broker_pears", "no metric broker_pears"),
    ("rate(broker_replacements[5m])", "no metric broker_replacements"),
    ('broker_peers{status="live"}', "broker_peers has no label status"),
    ('sum(broker_jobs{state=~"running|done"})', "broker_jobs has no state done"),
    ("sum by (peer) (broker_peers)", "no label peer"),
])
def test_a_fault_is_seen(query: str, fault: str) -> None:
    assert faults(query) == [fault]


def test_what_there_is_none_of_is_exported_too() -> None:
    """Else Prometheus would see no rise when the first one comes."""
    (version,) = exported()["broker_info"]["version"]
    assert {name: labels for name, labels in exported().items() if labels} == {
        **VALUES, "broker_info": {"version": {version}}}


def test_every_metric_is_on_the_dashboard_and_described() -> None:
    shown = " ".join(target["expr"] for panel in dashboard()["panels"]
                     for target in panel["targets"])
    page = (ROOT / "docs" / "how-to" / "monitor.md").read_text("utf-8")
    for name in exported():
        assert re.search(rf"\b{name}\b", shown), name
        assert f"`{name}`" in page, name


def test_every_alert_has_a_section_in_the_runbook() -> None:
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    sections = {heading.lower() for heading in re.findall(r"^### (\w+)$", page, re.MULTILINE)}
    for rule in rules():
        name = rule["alert"].lower()
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{name}"
        assert name in sections


def test_the_dashboard_asks_for_its_data_source() -> None:
    board = dashboard()
    (variable,) = board["templating"]["list"]
    assert (variable["type"], variable["query"]) == ("datasource", "prometheus")
    sources = [part["datasource"] for panel in board["panels"]
               for part in [panel, *panel["targets"]]]
    assert {source["uid"] for source in sources} == {f"${{{variable['name']}}}"}
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    cells = [(x, y) for panel in board["panels"] for place in [panel["gridPos"]]
             for x in range(place["x"], place["x"] + place["w"])
             for y in range(place["y"], place["y"] + place["h"])]
    assert len(cells) == len(set(cells)), "panels overlap"
    assert max(x for x, _ in cells) < 24


def test_prometheus_reads_where_the_console_listens() -> None:
    from broker.settings import CONSOLE_LISTEN

    read = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text("utf-8"))
    (scrape,) = read["scrape_configs"]
    assert scrape["static_configs"][0]["targets"] == [CONSOLE_LISTEN]
    assert scrape["metrics_path"] == "/metrics"
    assert all((DEPLOY / name).is_file() for name in read["rule_files"])
    named = {value for rule in rules() for name, inside in _SELECTOR.findall(rule["expr"])
             if name == "up" for _, _, value in _MATCHER.findall(inside)}
    assert named == {scrape["job_name"]}
