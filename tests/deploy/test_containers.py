"""Container files: what can be held without a container runtime.

The commands exist and take their options, nothing runs as root, state lies in volumes, the broker's
health is asked where it is served, and nothing secret can get into the image.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from broker.settings import CONSOLE_LISTEN
from peer.settings import PeerSettings
from tests.documented import command_lines, own_command, parse

ROOT = Path(__file__).resolve().parents[2]
CONTAINERFILE = (ROOT / "Containerfile").read_text(encoding="utf-8")
KEYS = {
    "image", "build", "user", "network_mode", "restart", "init", "cap_drop", "security_opt",
    "logging", "command", "stop_grace_period", "depends_on", "healthcheck", "volumes"}
"""Of a service, as the Compose Specification has them; those that are used here."""
HEALTH_KEYS = {"test", "interval", "timeout", "retries", "start_period"}


def compose() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    return read


def instructions() -> list[tuple[str, str]]:
    """The Containerfile's instructions, continuation lines joined."""
    joined = CONTAINERFILE.replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def last(instruction: str) -> str:
    return [rest for word, rest in instructions() if word == instruction][-1]


def environment() -> dict[str, str]:
    return dict(re.findall(r"(\w+)=(\S+)", last("ENV")))


SERVICES = sorted(compose()["services"])


def seconds(text: str) -> int:
    found = re.fullmatch(r"(\d+)s", text)
    assert found, text
    return int(found[1])


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_runs_a_command_that_exists(name: str) -> None:
    parse(compose()["services"][name]["command"])


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_says_only_what_compose_knows(name: str) -> None:
    service = compose()["services"][name]
    assert set(service) <= KEYS
    assert set(service["healthcheck"]) <= HEALTH_KEYS
    assert set(service.get("depends_on", ())) <= set(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_no_privileges(name: str) -> None:
    service = compose()["services"][name]
    assert service["user"] == last("USER") == "10001:10001"
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_every_service_keeps_its_state_in_a_volume_of_its_own() -> None:
    read, used = compose(), []
    for name in SERVICES:
        (volume,) = read["services"][name]["volumes"]
        source, target = volume.split(":")
        variable = "HOMESPUN_BROKER_DIR" if name == "broker" else "HOMESPUN_PEER_DIR"
        assert target == environment()[variable]
        used.append(source)
    assert sorted(used) == sorted(read["volumes"])
    assert len(set(used)) == len(used)


def test_volumes_belong_to_the_account_that_runs() -> None:
    """A named volume takes owner and mode of the folder in the image that it is laid over."""
    made = next(rest for word, rest in instructions() if word == "RUN" and "install -d" in rest)
    assert "useradd --uid 10001 " in made
    assert "install -d -o homespun -g homespun -m 700" in made
    for place in ("BROKER_DIR", "PEER_DIR", "CREDENTIALS"):
        assert f" {environment()[f'HOMESPUN_{place}']}" in made


def test_the_brokers_health_is_asked_where_it_is_served() -> None:
    check = compose()["services"]["broker"]["healthcheck"]["test"]
    assert check[:3] == ["CMD", "python", "-c"]
    assert f"http://{CONSOLE_LISTEN}/readyz" in check[3]
    compile(check[3], "healthcheck", "exec")


def test_a_peers_health_is_what_its_status_says() -> None:
    kind, line = compose()["services"]["peer-1"]["healthcheck"]["test"]
    command, _, filtered = line.partition(" | ")
    assert kind == "CMD-SHELL"
    parse(own_command(command))
    assert filtered == """grep -q '"connected": true'"""


def test_a_peer_may_hand_over_before_it_is_killed() -> None:
    service = compose()["services"]["peer-1"]
    grace = service["command"][service["command"].index("--grace") + 1]
    assert PeerSettings(name="x").grace_s <= seconds(grace) < seconds(service["stop_grace_period"])
    assert last("STOPSIGNAL") == "SIGTERM"


def test_the_image_gets_packages_and_nothing_else() -> None:
    copied = {word for kind, rest in instructions() if kind == "COPY" and "--from" not in rest
              for word in rest.split()[:-1]}
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[1] == "*", "first everything is left out"
    assert {line[1:] for line in ignored if line.startswith("!")} == copied
    assert all((ROOT / name).exists() for name in copied)
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"examples"}
    assert packages <= copied
    assert not re.search(r"hsk1_|PRIVATE KEY|--key", CONTAINERFILE)


def test_the_image_listens_where_a_broker_does() -> None:
    assert last("EXPOSE").split() == ["7700", "7701"]


def test_a_gpu_goes_to_a_peer_that_exists() -> None:
    more = yaml.safe_load((ROOT / "deploy" / "compose.gpu.yaml").read_text(encoding="utf-8"))
    for name, service in more["services"].items():
        assert name in SERVICES
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}


COMPOSE_LINES = [line.text for line in command_lines()
                 if line.text.startswith("docker compose") and line.page.startswith("docs/")]


@pytest.mark.parametrize("line", COMPOSE_LINES)
def test_a_documented_compose_line_names_services_and_commands(line: str) -> None:
    words = line.split()[2:]
    while words[0] == "-f":
        assert (ROOT / words[1]).is_file()
        words = words[2:]
    verb, *rest = words
    assert verb in {"build", "run", "up", "exec"}
    rest = [word for word in rest if word not in {"--rm", "-T", "--detach"}]
    if rest[:1] == ["--build-arg"]:
        name, _, _ = rest[1].partition("=")
        assert ("ARG", name) in instructions()
    elif rest:
        assert rest[0] in SERVICES
    if verb in {"run", "exec"}:
        parse(rest[1:])


def test_compose_lines_are_found() -> None:
    assert len(COMPOSE_LINES) >= 8


def test_what_a_client_types_in_a_container_exists() -> None:
    lines = [line.text for line in command_lines()
             if line.page.endswith("/containers.md") and line.text.startswith("client ")]
    for line in lines:
        parse(["homespun", *line.split()[1:]])
    assert len(lines) >= 4
