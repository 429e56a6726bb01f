"""The chaos proxy does to a connection what it was told, and nothing else."""

import socket
import threading
import time
from contextlib import closing, suppress

import pytest

from tests.chaos.proxy import FINE, HELD, REFUSED, ChaosProxy, Condition

TIMEOUT_S = 20.0
BYTES = bytes(range(256)) * 400


class Echo:
    """A server that sends back what it gets."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection:
            try:
                while data := connection.recv(65_536):
                    connection.sendall(data)
            except OSError:
                pass

    def close(self):
        self._listener.close()


@pytest.fixture
def proxy():
    with ChaosProxy(lambda port: "client", seed=3) as proxy:
        yield proxy


@pytest.fixture
def dial(proxy):
    """Connects to an echo behind the proxy, as `client` to `echo`."""
    with closing(Echo()) as echo:
        host, _, port = proxy.front("echo", echo.address).partition(":")
        opened = []

        def connect():
            opened.append(socket.create_connection((host, int(port)), TIMEOUT_S))
            return opened[-1]

        yield connect
        for each in opened:
            each.close()


def send(connection, data):
    with suppress(OSError):  # whoever reads notices
        connection.sendall(data)


def echoed(connection, data):
    """What comes back for `data`; it must be as long."""
    sender = threading.Thread(target=send, args=(connection, data))
    sender.start()
    found = bytearray()
    while len(found) < len(data):
        part = connection.recv(65_536)
        if not part:
            raise ConnectionResetError("the connection ended early")
        found += part
    sender.join()
    return bytes(found)


def test_nothing_changes_without_a_condition(proxy, dial):
    assert echoed(dial(), BYTES) == BYTES
    for pair in (("client", "echo"), ("echo", "client")):
        assert proxy.wait_until(lambda pair=pair: proxy.moved(*pair) == len(BYTES), TIMEOUT_S)
    assert proxy.dialled("client", "echo") == 1


def test_slices_and_jitter_keep_every_byte_in_order(proxy, dial):
    proxy.between("client", "echo", Condition(slice_bytes=97, latency_s=0.001, jitter_s=0.004))
    assert echoed(dial(), BYTES) == BYTES


def test_latency_of_one_direction(proxy, dial):
    proxy.impose("echo", "client", Condition(latency_s=0.3))
    connection, began_s = dial(), time.monotonic()
    assert echoed(connection, b"x") == b"x"
    assert time.monotonic() - began_s >= 0.3


def test_a_rate_holds_for_all_connections_of_a_pair(proxy, dial):
    proxy.impose("client", "echo", Condition(bytes_per_s=2 * len(BYTES)))
    connections, began_s = [dial(), dial()], time.monotonic()
    threads = [threading.Thread(target=echoed, args=(each, BYTES)) for each in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert time.monotonic() - began_s >= 0.9


def test_a_held_direction_says_nothing_until_it_is_lifted(proxy, dial):
    connection = dial()
    assert echoed(connection, b"before") == b"before"
    proxy.impose("echo", "client", HELD)
    connection.sendall(b"held")
    assert proxy.wait_until(
        lambda: proxy.moved("client", "echo") == len(b"before" + b"held"), TIMEOUT_S)
    connection.settimeout(0.2)
    with pytest.raises(TimeoutError):
        connection.recv(1)
    proxy.impose("echo", "client", FINE)
    connection.settimeout(TIMEOUT_S)
    assert connection.recv(100) == b"held"


def test_a_held_pair_hides_the_end_of_a_connection(proxy, dial):
    connection = dial()
    assert echoed(connection, b"x") == b"x"
    proxy.between("client", "echo", HELD)
    connection.shutdown(socket.SHUT_WR)
    connection.settimeout(0.2)
    with pytest.raises(TimeoutError):
        connection.recv(1)
    proxy.heal()
    connection.settimeout(TIMEOUT_S)
    assert connection.recv(1) == b""


def test_a_cut_resets_what_is_open_and_nothing_else(proxy, dial):
    connection = dial()
    assert echoed(connection, b"x") == b"x"
    proxy.cut("echo", "client")
    with pytest.raises(ConnectionResetError):
        connection.recv(1)
    assert echoed(dial(), b"y") == b"y"


def test_a_refused_pair_stays_cut(proxy, dial):
    connection = dial()
    assert echoed(connection, b"x") == b"x"
    proxy.impose("client", "echo", REFUSED)
    with pytest.raises(ConnectionResetError):
        connection.recv(1)
    with pytest.raises(ConnectionResetError):
        echoed(dial(), b"y")
    proxy.heal()
    assert echoed(dial(), b"z") == b"z"


def test_a_condition_holds_for_its_pair_alone(proxy, dial):
    proxy.between("somebody", "echo", HELD)
    assert echoed(dial(), b"x") == b"x"


def test_a_flipped_bit(proxy, dial):
    proxy.impose("client", "echo", Condition(corrupt_share=1.0))
    found = echoed(dial(), b"\0" * 1000)
    assert sum(byte.bit_count() for byte in found) == proxy.corrupted("client", "echo") >= 1


def test_nobody_behind_the_front_is_a_reset(proxy):
    with closing(socket.create_server(("127.0.0.1", 0))) as unused:
        port = unused.getsockname()[1]
    host, _, front = proxy.front("nobody", f"127.0.0.1:{port}").partition(":")
    with closing(socket.create_connection((host, int(front)), TIMEOUT_S)) as connection, \
            pytest.raises(ConnectionResetError):
        connection.recv(1)
