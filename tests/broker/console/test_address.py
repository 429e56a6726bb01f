"""Where the console may listen, and what browsers may call it."""

from __future__ import annotations

import pytest

from broker.console.address import ConsoleAddress
from broker.settings import BrokerSettings
from homespun.errors import Code, HomespunError


def address(**changes):
    return ConsoleAddress.of(BrokerSettings(
        listen="0.0.0.0:7700", enrolment_port=7701, address="nas.local:7700", **changes))


def test_it_is_on_loopback_unless_told_otherwise():
    found = address()
    assert (found.host, found.port, found.origin) == ("127.0.0.1", 7702, "http://127.0.0.1:7702")
    assert set(found.origins()) == {"127.0.0.1:7702", "localhost:7702", "[::1]:7702"}
    assert address(console_listen="") is None


def test_a_proxy_has_its_own_name():
    found = address(console_origin="https://broker.home.arpa")
    assert found.origin == "https://broker.home.arpa"
    assert found.origins()["broker.home.arpa"] == "https://broker.home.arpa"
    assert found.origins()["localhost:7702"] == "http://localhost:7702"


def test_with_tls_it_may_be_anywhere():
    found = address(
        console_listen="0.0.0.0:443", console_certificate="c.pem", console_key="k.pem",
        console_origin="https://nas.local")
    assert found.origins() == {
        "127.0.0.1": "https://127.0.0.1", "localhost": "https://localhost",
        "[::1]": "https://[::1]", "nas.local": "https://nas.local"}


@pytest.mark.parametrize("changes", [
    {"console_listen": "0.0.0.0:7702"},
    {"console_listen": "192.168.1.5:7702"},
    {"console_listen": "nas.local:7702"},
    {"console_listen": "[::]:7702"},
    {"console_certificate": "c.pem"},
    {"console_key": "k.pem"},
    {"console_origin": "broker.home.arpa"},
    {"console_origin": "ftp://broker.home.arpa"},
    {"console_origin": "https://broker.home.arpa/"},
    {"console_origin": "https://"},
], ids=repr)
def test_what_would_be_open_or_means_nothing_is_refused(changes):
    with pytest.raises(HomespunError) as caught:
        address(**changes)
    assert caught.value.code is Code.BAD_CONFIGURATION
