"""One tensor stream between two processes, beside a raw TLS socket with the same certificates.

    python benchmarks/wire.py [--json] [--repetitions 7] [--scale 1.0]

Both sides run with mutual TLS over loopback. The link numbers, hashes, acknowledges and hands over
every tensor; the raw socket only moves the bytes (`sendall`, `recv_into`). The two alternate, so
that other work on the machine falls on both; figures are medians, ratios are medians of the ratio
within one repetition.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import multiprocessing
import os
import platform
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import numpy as np

from broker.identity.authority import create_authority
from homespun.errors import HomespunError
from homespun.identity.certificates import new_private_key, private_key_pem, signing_request
from homespun.identity.channels import SERVER_OPTIONS, open_aio_channel, server_credentials
from homespun.identity.directory import Credentials
from homespun.ids import JobId, PeerId
from peer.frames import Frame, Kind, tensor_frame
from peer.links import Link, LinkServer, LinkSettings, dial

JOB = JobId("job_1")
SENDER, RECEIVER = PeerId("peer_a"), PeerId("peer_b")
SIZES = {65_536: 256 << 20, 1 << 20: 512 << 20, 16 << 20: 1 << 30}
"""Tensor bytes -> bytes moved in one measurement."""
_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement."""

    gb_per_s: float
    cpu_s_per_gb: float
    """Both processes, all threads."""


def make_network(directory: Path) -> dict[str, Credentials]:
    """An authority, and what it issued to the two peers."""
    now = datetime.now(UTC)
    authority = create_authority(directory, broker_address="127.0.0.1:1", now=now)
    network = {}
    for peer_id in (SENDER, RECEIVER):
        key = new_private_key()
        issued = authority.issue(signing_request(key), peer_id, "peer", now)
        network[peer_id] = Credentials(
            broker_address="127.0.0.1:1", name=peer_id, key_pem=private_key_pem(key),
            chain_pem=issued.chain_pem, root_pem=authority.root_pem)
    return network


def tls_context(credentials: Credentials, *, server: bool) -> ssl.SSLContext:
    """Mutual TLS for the raw socket."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=credentials.root_pem.decode())
    with tempfile.TemporaryDirectory() as directory:
        chain, key = Path(directory, "chain.pem"), Path(directory, "key.pem")
        chain.write_bytes(credentials.chain_pem)
        key.write_bytes(credentials.key_pem)
        context.load_cert_chain(chain, key)
    return context


# The receiving process.


def receive(pipe: Connection, fields: dict[str, Any]) -> None:
    """Serve measurements until the pipe closes."""
    credentials = Credentials(**fields)
    with contextlib.suppress(EOFError):
        while True:
            name, size, count, settings = pipe.recv()
            if name == "tls":
                _receive_tls(pipe, credentials, size, count)
            else:
                asyncio.run(_receive_link(pipe, credentials, count, settings))


def _receive_tls(pipe: Connection, credentials: Credentials, size: int, count: int) -> None:
    context = tls_context(credentials, server=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(_TIMEOUT_S)
        pipe.send(listener.getsockname()[1])
        raw, _ = listener.accept()
        raw.settimeout(_TIMEOUT_S)
        with context.wrap_socket(raw, server_side=True) as connection:
            tensor = memoryview(bytearray(size))
            began_s = time.process_time()
            for _ in range(count):
                filled = 0
                while filled < size:
                    filled += connection.recv_into(tensor[filled:])
            connection.sendall(b"k")
            pipe.send(time.process_time() - began_s)
            connection.recv(1)


async def _receive_link(
    pipe: Connection, credentials: Credentials, count: int, settings: LinkSettings
) -> None:
    done = asyncio.Event()
    taken = 0
    began_s = 0.0

    async def take(frame: Frame) -> None:
        nonlocal taken, began_s
        if taken == 0:
            began_s = time.process_time()
        taken += 1
        if taken == count + 1:
            done.set()

    link = Link(JOB, RECEIVER, SENDER, on_frame=take, on_broken=_report,
                payload_limit=lambda frame: 1 << 30, settings=settings)
    server = grpc.aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers((LinkServer(lambda job, peer, token: link).handler(),))
    pipe.send(server.add_secure_port("127.0.0.1:0", server_credentials(credentials)))
    await server.start()
    async with asyncio.timeout(_TIMEOUT_S):
        await done.wait()
    await asyncio.sleep(0.01)  # the last acknowledgement belongs to the measurement
    pipe.send(time.process_time() - began_s)
    await link.close()
    await server.stop(1)


# The sending process.


def measure_tls(pipe: Connection, credentials: Credentials, size: int, count: int) -> Sample:
    """Move `count` tensors of `size` bytes through a raw TLS socket."""
    pipe.send(("tls", size, count, None))
    port = pipe.recv()
    tensor = os.urandom(size)
    context = tls_context(credentials, server=False)
    with (socket.create_connection(("127.0.0.1", port), _TIMEOUT_S) as raw,
          context.wrap_socket(raw) as connection):
        began_s, cpu_s = time.perf_counter(), time.process_time()
        for _ in range(count):
            connection.sendall(tensor)
        connection.recv(1)
        took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
        connection.sendall(b"k")
    return _sample(size * count, took_s, cpu_s + pipe.recv())


async def measure_link(
    pipe: Connection, credentials: Credentials, size: int, count: int, settings: LinkSettings
) -> Sample:
    """Move `count` tensors of `size` bytes through a link; the last is accepted at the end."""
    pipe.send(("link", size, count, settings))
    port = pipe.recv()
    array = np.frombuffer(os.urandom(size), np.float32)

    async def take(frame: Frame) -> None:
        return None

    link = Link(JOB, SENDER, RECEIVER, on_frame=take, on_broken=_report,
                payload_limit=lambda frame: 0, settings=settings)
    dial(link, lambda: open_aio_channel(credentials, f"127.0.0.1:{port}", RECEIVER))
    await link.send(tensor_frame(Kind.ACTIVATION, array[:1]))
    await _accepted(link)
    began_s, cpu_s = time.perf_counter(), time.process_time()
    for microbatch in range(count):
        await link.send(tensor_frame(Kind.ACTIVATION, array, microbatch=microbatch))
    await _accepted(link)
    took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    left = await link.close(10)
    assert left == 0, f"{left} frames were not accepted"
    return _sample(size * count, took_s, cpu_s + await asyncio.to_thread(pipe.recv))


async def _accepted(link: Link) -> None:
    left = await link.drain(_TIMEOUT_S)
    assert left == 0, f"{left} frames were not accepted within {_TIMEOUT_S} s"


def _report(error: HomespunError) -> None:
    print(f"the link broke: {error}", flush=True)


def _sample(size_bytes: int, took_s: float, cpu_s: float) -> Sample:
    return Sample(size_bytes / took_s / 1e9, cpu_s / (size_bytes / 1e9))


# The table.


@contextlib.contextmanager
def receiver() -> Iterator[tuple[Connection, Credentials]]:
    """The other process, and this one's credentials."""
    with tempfile.TemporaryDirectory() as directory:
        network = make_network(Path(directory))
    # Parsed certificates cannot be pickled; the fields can.
    fields = {field.name: getattr(network[RECEIVER], field.name)
              for field in dataclasses.fields(Credentials)}
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=receive, args=(there, fields), daemon=True)
    process.start()
    there.close()
    try:
        yield here, network[SENDER]
    finally:
        here.close()
        process.join(10)


def measure_all(repetitions: int, scale: float, settings: LinkSettings) -> dict[str, object]:
    """Every size, `repetitions` times, the two transports by turns."""
    rows: dict[str, object] = {}
    with receiver() as (pipe, credentials):
        for size, total in SIZES.items():
            count = max(int(total * scale) // size, 4)
            pairs = []
            for _ in range(repetitions):
                tls = measure_tls(pipe, credentials, size, count)
                link = asyncio.run(measure_link(pipe, credentials, size, count, settings))
                pairs.append((link, tls))
            rows[str(size)] = _row(pairs)
    return rows


def _row(pairs: list[tuple[Sample, Sample]]) -> dict[str, float]:
    ratios = [link.gb_per_s / tls.gb_per_s for link, tls in pairs]
    return {
        "ratio_tls": round(median(ratios), 3),
        "ratio_tls_min": round(min(ratios), 3),
        "ratio_tls_max": round(max(ratios), 3),
        "gb_per_s": round(median(link.gb_per_s for link, _ in pairs), 3),
        "tls_gb_per_s": round(median(tls.gb_per_s for _, tls in pairs), 3),
        "cpu_s_per_gb": round(median(link.cpu_s_per_gb for link, _ in pairs), 3),
        "tls_cpu_s_per_gb": round(median(tls.cpu_s_per_gb for _, tls in pairs), 3),
    }


def _print_table(rows: dict[str, dict[str, float]]) -> None:
    columns = ("gb_per_s", "tls_gb_per_s", "ratio_tls", "ratio_tls_min", "ratio_tls_max",
               "cpu_s_per_gb", "tls_cpu_s_per_gb")
    print(f"{'bytes':>10}" + "".join(f"{column:>18}" for column in columns))
    for size, row in rows.items():
        print(f"{size:>10}" + "".join(f"{row[column]:>18.3f}" for column in columns))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="end with one JSON object on a line")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the bytes to move")
    parser.add_argument("--chunk-bytes", type=int, default=LinkSettings().chunk_bytes)
    parser.add_argument("--window-bytes", type=int, default=LinkSettings().window_bytes)
    arguments = parser.parse_args()
    settings = LinkSettings(
        chunk_bytes=arguments.chunk_bytes, window_bytes=arguments.window_bytes)
    rows = measure_all(arguments.repetitions, arguments.scale, settings)
    _print_table(rows)
    if arguments.json:
        config = {
            "repetitions": arguments.repetitions, "scale": arguments.scale,
            "chunk_bytes": settings.chunk_bytes, "window_bytes": settings.window_bytes,
            "grpc": grpc.__version__, "python": platform.python_version(),
            "openssl": ssl.OPENSSL_VERSION, "machine": platform.machine(), "cpus": os.cpu_count(),
        }
        print(json.dumps({**rows, "config": config}))


if __name__ == "__main__":
    main()
