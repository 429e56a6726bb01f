"""A bundle helps and tells nothing: secrets are planted everywhere, and looked for in it."""

import getpass
import io
import json
import socket
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from homespun.identity import directory as identity_directory
from peer.bundle.contents import FILE_BYTES_MAX, gather
from peer.bundle.redaction import Redaction
from peer.cli import cli as peer
from peer.preflight.finding import Finding, Verdict
from peer.settings import PeerDirectory, PeerSettings

JOIN_KEY = "hsk1_" + "Ab3-_x9" * 9
PEM = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\nAgEGCCqG\n-----END PRIVATE KEY-----\n"
HALF_PEM = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIIGCCqGSM49"
TOKEN = "s3cr3t-T0ken-value"
PUBLIC, PRIVATE, IPV6 = "203.0.113.77", "192.168.17.23", "2001:db8:85a3::8a2e:370:7334"
MAC, EMAIL = "52:54:00:ab:cd:ef", "ada.byron@example.org"
BASE64 = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5eg=="
PLANTED = {
    "join key": JOIN_KEY, "key": "MIGHAgEAMBMGByqGSM49", "half a key": "MHcCAQEEIIGCCqGSM49",
    "token": TOKEN, "public address": PUBLIC, "private address": PRIVATE, "IPv6 address": IPV6,
    "MAC": MAC, "e-mail": EMAIL, "long text": BASE64, "peer name": "attic-of-ada"}
LOG = f"""
joined with {JOIN_KEY} from {PUBLIC}:7700 and [{IPV6}]:443, MAC {MAC}
{PEM}
Authorization: Bearer {TOKEN}
{{"password": "{TOKEN}", "api_key": '{TOKEN}', "nested": "token={TOKEN}"}}
at 12:30:45 a peer at {PRIVATE} wrote to {EMAIL}: {BASE64}
attic-of-ada listens on 0.0.0.0 and 127.0.0.1
"""


@pytest.fixture
def place(tmp_path, peer_network):
    place = PeerDirectory(tmp_path / "peer")
    place.save_settings(PeerSettings(name="attic-of-ada", advertise=f"{PUBLIC}:7000"))
    identity_directory.save(place.identity, peer_network.member("peer", "peer_1"))
    place.status.write_text(json.dumps({"broker": f"{PRIVATE}:7700", "said": JOIN_KEY}))
    (place.root / "service.log").write_text(LOG + HALF_PEM)
    place.blobs.mkdir()
    (place.blobs / ("ab" * 32)).write_bytes(b"weights of somebody")
    return place


def contents(place, log=None):
    findings = [Finding(id="broker", verdict=Verdict.FAIL, actual=f"{PRIVATE}:1 is silent",
                        required="answers")]
    return gather(place, findings, log)


def test_nothing_that_was_planted_is_in_it(place, tmp_path):
    log = tmp_path / "mine.log"
    log.write_text(LOG)
    made = contents(place, log)
    everything = b"\n".join(made.files.values()).decode()
    assert [name for name, text in PLANTED.items() if text in everything] == []
    key = (place.identity / "key.pem").read_text().splitlines()[1]
    assert key not in everything
    assert str(Path.home()) not in everything or str(Path.home()) == "/root"
    assert str(place.root) not in everything
    assert "ab" * 32 not in everything, "digests tell which jobs ran"
    assert "weights of somebody" not in everything
    with zipfile.ZipFile(io.BytesIO(made.archive())) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == made.files


def test_what_helps_is_in_it(place, tmp_path):
    log = tmp_path / "mine.log"
    log.write_text(LOG)
    files = contents(place, log).files
    assert {"system.json", "checks.json", "ledger.json", "files.json", "settings.json",
            "status.json", "service.log", "log.txt"} == set(files)
    assert json.loads(files["system.json"])["packages"]["grpcio"]
    assert json.loads(files["files.json"])["blobs"] == {"files": 1, "bytes": 19}
    said = files["log.txt"].decode()
    assert "at 12:30:45 a peer at [IP" in said, "times stay"
    assert "listens on 0.0.0.0 and 127.0.0.1" in said
    assert "[PEER NAME]" in said


def test_the_same_thing_has_the_same_word():
    redaction = Redaction([("attic", "PEER NAME"), ("/home/ada", "HOME"), ("ab", "SHORT")])
    assert redaction.of("10.1.2.3 then 10.1.2.4 then 10.1.2.3") == "[IP 1] then [IP 2] then [IP 1]"
    assert redaction.of("/home/ada/peer of Attic, atticism, about") == (
        "[HOME]/peer of [PEER NAME], atticism, about")


@pytest.mark.parametrize("text", [
    "opset 23.1.0.2026 versions", "at 2026-11-27T12:30:45Z", "12:30:45.123", "::",
    "1.2.3", "job_000001", "tokens: 512", "peer::owner"])
def test_what_looks_like_a_secret_and_is_none(text):
    assert Redaction([]).of(text) in (text, text.replace("23.1.0.2026", "[IP 1]"))


def test_only_the_end_of_a_long_file_is_taken(place, tmp_path):
    log = tmp_path / "long.log"
    log.write_bytes(b"x" * (2 * FILE_BYTES_MAX) + b" the end")
    said = contents(place, log).files["log.txt"]
    assert len(said) <= FILE_BYTES_MAX
    assert said.endswith(b"the end")


def test_the_command_shows_before_it_writes(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--dir", str(place.root)]
    shown = CliRunner().invoke(peer, ["bundle", "--show", *options])
    assert shown.exit_code == 0, shown.output
    assert "--- system.json" in shown.stdout
    assert not Path("peer-bundle.zip").exists()
    assert [name for name, text in PLANTED.items() if text in shown.output] == []
    done = CliRunner().invoke(peer, ["bundle", "--yes", "--json", *options])
    said = json.loads(done.stdout)
    assert said["bytes"] == Path("peer-bundle.zip").stat().st_size
    raw = Path("peer-bundle.zip").read_bytes()
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        text = b"".join(archive.read(name) for name in archive.namelist()).decode()
    assert [name for name, planted in PLANTED.items() if planted in text] == []
    for name in {getpass.getuser(), socket.gethostname()} - {"root", "localhost"}:
        assert len(name) < 3 or f" {name} " not in text
