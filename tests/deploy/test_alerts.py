"""The alert rules, tried by Prometheus' own `promtool` on series of a value per minute.

Every rule has a story in which it fires: not a minute too early, and when it should.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "prometheus-alerts.yaml"
CONFIGURATION = ROOT / "deploy" / "prometheus.yaml"
QUIET_MINUTES = 120
"""In which a story where nothing is wrong has to stay silent."""

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="there is no promtool here")


@dataclass(frozen=True, slots=True)
class Story:
    """What Prometheus has read, and which alert it gives.

    Attributes:
        alert: the rule's name.
        series: its selector -> values, one a minute, as promtool writes them.
        fires_min: the first minute in which it fires; None if it never does.
        labels: those of the alert beside its name and severity.
    """

    alert: str
    series: dict[str, str]
    fires_min: int | None
    labels: str = ""


LIVE, SUSPECT, PENDING = (f'broker_peers{{state="{name}"}}'
                          for name in ("live", "suspect", "pending"))
FAILED, FAILED_TOO = (f'broker_jobs{{kind="{kind}",state="failed"}}' for kind in ("train", "infer"))
MOVED = "broker_replacements_total"

STORIES = {
    "the broker goes away": Story(
        "BrokerDown", {'up{job="homespun"}': "1+0x4 0+0x9"}, 7, 'job="homespun"'),
    "something else goes away": Story("BrokerDown", {'up{job="other"}': "0+0x130"}, None),
    "the last peer goes": Story(
        "NoLivePeers", {LIVE: "1+0x4 0+0x19"}, 15, 'state="live"'),
    "a machine restarts": Story("NoLivePeers", {LIVE: "1+0x4 0+0x8 1+0x120"}, None),
    "half are silent": Story(
        "PeersSilent", {LIVE: "4+0x4 2+0x9", SUSPECT: "0+0x4 2+0x9"}, 7),
    "one of four is silent": Story("PeersSilent", {LIVE: "3+0x130", SUSPECT: "1+0x130"}, None),
    "the only one is silent": Story("PeersSilent", {LIVE: "0+0x9", SUSPECT: "1+0x9"}, 2),
    "there are no peers": Story("PeersSilent", {LIVE: "0+0x130", SUSPECT: "0+0x130"}, None),
    "somebody waits to be let in": Story(
        "PeersPending", {PENDING: "0 1+0x70"}, 61, 'state="pending"'),
    "nobody could take over": Story(
        "SegmentsUncovered", {'broker_segments{covered="no"}': "0 1+0x19"}, 11, 'covered="no"'),
    "a job stands still": Story(
        "JobsRecovering", {'broker_jobs{kind="train",state="recovering"}': "0 1+0x29"}, 16),
    "a job waits, first for a plan, then for peers": Story(
        "JobsWaiting", {'broker_jobs{kind="train",state="planning"}': "0 1+0x14 0+0x30",
                        'broker_jobs{kind="train",state="preparing"}': "0+0x15 1+0x30"}, 31),
    "four fail, the first ones ever": Story(
        "JobsFailing", {FAILED: "0+0x4 2+0x60", FAILED_TOO: "0+0x9 2+0x60"}, 10),
    "three fail": Story("JobsFailing", {FAILED: "0+0x4 3+0x130", FAILED_TOO: "0+0x130"}, None),
    "one fails every half hour": Story(
        "JobsFailing", {FAILED: "7+0x29 8+0x29 9+0x29 10+0x29 11+0x29"}, None),
    "segments move": Story("TakeoversFrequent", {MOVED: "3+0x4 15+0x60"}, 5),
    "five move": Story("TakeoversFrequent", {MOVED: "3+0x4 8+0x130"}, None),
}


def rules() -> dict[str, dict[str, Any]]:
    read = yaml.safe_load(RULES.read_text("utf-8"))
    return {rule["alert"]: rule for group in read["groups"] for rule in group["rules"]}


def as_promtool_has_it(name: str, story: Story) -> dict[str, Any]:
    """A story as a group of tests: what fires just before and at its minute."""
    firing = f'ALERTS{{alertname="{story.alert}",alertstate="firing"}}'
    severity = rules()[story.alert]["labels"]["severity"]
    labels = f'severity="{severity}"' + (f",{story.labels}" if story.labels else "")
    sample = {"labels": f"{firing[:-1]},{labels}}}", "value": 1}
    quiet = range(QUIET_MINUTES) if story.fires_min is None else range(story.fires_min)
    tests = [{"expr": firing, "eval_time": f"{minute}m"} for minute in quiet]
    if story.fires_min is not None:
        tests.append(
            {"expr": firing, "eval_time": f"{story.fires_min}m", "exp_samples": [sample]})
    return {"name": name, "interval": "1m", "promql_expr_test": tests,
            "input_series": [{"series": selector, "values": values}
                             for selector, values in story.series.items()]}


def promtool(*words: str) -> None:
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, timeout=120,
                          check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_has_a_story_in_which_it_fires() -> None:
    firing = {story.alert for story in STORIES.values() if story.fires_min is not None}
    assert firing == set(rules())


@needs_promtool
@pytest.mark.parametrize("name", STORIES)
def test_an_alert_fires_when_it_should(name: str, tmp_path: Path) -> None:
    tests = tmp_path / "alerts.test.yaml"
    tests.write_text(yaml.safe_dump({
        "rule_files": [str(RULES)], "evaluation_interval": "1m",
        "tests": [as_promtool_has_it(name, STORIES[name])]}), encoding="utf-8")
    promtool("test", "rules", str(tests))


@needs_promtool
def test_prometheus_accepts_configuration_and_rules() -> None:
    promtool("check", "config", str(CONFIGURATION))
