import asyncio
import datetime
import errno
import ipaddress
import itertools
import os
import threading
from concurrent.futures import Future
from random import Random

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from broker.rpc import blob_service
from broker.rpc.blob_service import SENT_BYTES, BlobService
from homespun.blobs import store as store_module
from homespun.blobs import transfer
from homespun.blobs.store import BlobStore, digest_of
from homespun.errors import Code, HomespunError
from homespun.rpc_errors import error_of
from homespun.v1 import blobs_pb2, blobs_pb2_grpc

DATA = Random(11).randbytes(3_500_000)
DIGEST = digest_of(DATA)


@pytest.fixture(scope="session")
def certificate():
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    built = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name)
        .public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption())
    return private, built.public_bytes(serialization.Encoding.PEM)


class Faults:
    """Breaks the connection after so many chunks, again and again; written by the test's thread."""

    def __init__(self):
        self.break_after = []
        self.refuse = None

    def may(self, identity, action, digest, size_bytes):
        return self.refuse(identity, action, digest) if self.refuse else None


class BreakableService(BlobService):
    """The real service whose streams can be cut after a given number of chunks."""

    def __init__(self, faults, *arguments, **options):
        super().__init__(*arguments, **options)
        self._faults = faults

    async def Upload(self, requests, context):  # noqa: N802
        if not self._faults.break_after:
            return await super().Upload(requests, context)
        left = self._faults.break_after.pop(0)

        async def some():
            count = 0
            async for request in requests:
                if count == left:
                    return
                count += 1
                yield request

        await super().Upload(some(), context)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "cut")

    async def Download(self, request, context):  # noqa: N802
        if not self._faults.break_after:
            return await super().Download(request, context)
        left = self._faults.break_after.pop(0)
        await super().Download(request, _BrokenContext(context, left))


class _BrokenContext:
    def __init__(self, context, left):
        self._context = context
        self._left = left

    def __getattr__(self, name):
        return getattr(self._context, name)

    async def write(self, message):
        if self._left == 0:
            await self._context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
        self._left -= 1
        await self._context.write(message)


class Broker:
    def __init__(self, root, certificate):
        self.store = BlobStore(root)
        self.faults = Faults()
        self.certificate = certificate
        self._started = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        self._loop, self._stop, port = self._started.result(30)
        self.target = f"127.0.0.1:{port}"

    async def _run(self):
        server = grpc.aio.server()
        service = BreakableService(
            self.faults, self.store, lambda _: "client_1", self.faults.may,
            max_blob_bytes=10_000_000)
        blobs_pb2_grpc.add_BlobServiceServicer_to_server(service, server)
        port = server.add_secure_port(
            "127.0.0.1:0", grpc.ssl_server_credentials([self.certificate]))
        await server.start()
        stop = asyncio.Event()
        self._started.set_result((asyncio.get_running_loop(), stop, port))
        await stop.wait()
        await server.stop(None)

    def close(self):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture
def broker(tmp_path, certificate, monkeypatch):
    monkeypatch.setattr(transfer, "FIRST_BACKOFF_S", 0.01)
    running = Broker(tmp_path / "broker", certificate)
    yield running
    running.close()


@pytest.fixture
def stub(broker):
    credentials = grpc.ssl_channel_credentials(broker.certificate[1])
    with grpc.secure_channel(broker.target, credentials) as channel:
        yield blobs_pb2_grpc.BlobServiceStub(channel)


@pytest.fixture
def local(tmp_path):
    return BlobStore(tmp_path / "peer")


def test_there_and_back(broker, stub, local, tmp_path):
    seen = []
    transfer.upload(stub, DIGEST, DATA, lambda done, total: seen.append((done, total)))
    assert broker.store.path(DIGEST).read_bytes() == DATA
    assert seen[-1] == (len(DATA), len(DATA))
    assert seen == sorted(seen)
    path = transfer.download(stub, DIGEST, len(DATA), local)
    assert path.read_bytes() == DATA
    assert transfer.download(stub, DIGEST, len(DATA), local) == path


def test_empty_blob_from_a_file(broker, stub, local, tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    digest = digest_of(b"")
    transfer.upload(stub, digest, tmp_path / "empty")
    assert broker.store.stat(digest).complete
    assert transfer.download(stub, digest, 0, local).read_bytes() == b""


def test_upload_resumes_where_the_stream_broke(broker, stub):
    broker.faults.break_after = [2, 1]
    sent = []
    transfer.upload(stub, DIGEST, DATA, lambda done, total: sent.append(done))
    assert broker.faults.break_after == []
    assert broker.store.path(DIGEST).read_bytes() == DATA


def test_download_resumes_where_the_stream_broke(broker, stub, local):
    broker.store.put(DATA)
    broker.faults.break_after = [2, 1]
    reached = []
    transfer.download(stub, DIGEST, len(DATA), local, lambda done, total: reached.append(done))
    # Each byte once, although the stream broke twice.
    assert reached[-1] == len(DATA)
    assert all(0 < later - earlier <= SENT_BYTES
               for earlier, later in itertools.pairwise([0, *reached[:-1]]))
    assert local.path(DIGEST).read_bytes() == DATA


def test_a_dead_link_is_given_up(broker, stub, local):
    broker.store.put(DATA)
    broker.faults.break_after = [0] * 20
    with pytest.raises(HomespunError) as caught:
        transfer.download(stub, DIGEST, len(DATA), local)
    assert caught.value.code == Code.UNREACHABLE
    assert len(broker.faults.break_after) == 20 - transfer.MAX_FAILURES


def test_resume_after_the_receiver_restarted_with_a_truncated_part(broker, stub, local, tmp_path):
    broker.store.put(DATA)
    local.append(DIGEST, len(DATA), 0, DATA[:2_000_000])
    with next((tmp_path / "peer").glob("??/*.part")).open("r+b") as part:
        part.truncate(1_234_567)
    restarted = BlobStore(tmp_path / "peer")
    assert transfer.download(stub, DIGEST, len(DATA), restarted).read_bytes() == DATA


def test_spoiled_part_is_fetched_again_from_the_start(broker, stub, local):
    broker.store.put(DATA)
    local.append(DIGEST, len(DATA), 0, b"\0" * 1000)
    assert transfer.download(stub, DIGEST, len(DATA), local).read_bytes() == DATA


def test_spoiled_part_at_the_broker_is_sent_again_from_the_start(broker, stub):
    broker.store.append(DIGEST, len(DATA), 0, b"\0" * 1000)
    transfer.upload(stub, DIGEST, DATA)
    assert broker.store.path(DIGEST).read_bytes() == DATA


def test_wrong_digest_is_refused_and_nothing_stored(broker, stub):
    with pytest.raises(HomespunError) as caught:
        transfer.upload(stub, digest_of(b"other"), DATA)
    assert caught.value.code == Code.DIGEST_MISMATCH
    assert broker.store.used_bytes == 0


def test_wrong_size_is_refused(broker, stub, local):
    broker.store.put(DATA)
    with pytest.raises(HomespunError) as caught:
        transfer.download(stub, DIGEST, len(DATA) - 1, local)
    assert caught.value.code == Code.DIGEST_MISMATCH
    assert local.used_bytes == 0


def test_blob_over_the_limit_is_refused_at_once(broker, stub):
    big = bytes(10_000_001)
    with pytest.raises(HomespunError) as caught:
        transfer.upload(stub, digest_of(big), big)
    assert caught.value.code == Code.LIMIT_EXCEEDED
    assert caught.value.details["limit"] == "max_blob_bytes"
    assert broker.store.used_bytes == 0


def test_more_bytes_than_announced(broker, stub):
    def requests():
        yield blobs_pb2.UploadBlobRequest(digest=DIGEST, size_bytes=10, data=b"12345")
        yield blobs_pb2.UploadBlobRequest(data=b"678901")

    with pytest.raises(grpc.RpcError) as caught:
        stub.Upload(requests(), timeout=30)
    assert error_of(caught.value, "upload").code == Code.LIMIT_EXCEEDED
    assert broker.store.stat(DIGEST).stored_bytes == 5


def test_chunk_over_a_mebibyte(broker, stub):
    request = blobs_pb2.UploadBlobRequest(
        digest=DIGEST, size_bytes=len(DATA), data=DATA[:(1 << 20) + 1])
    with pytest.raises(grpc.RpcError) as caught:
        stub.Upload(iter([request]), timeout=30)
    assert error_of(caught.value, "upload").code == Code.LIMIT_EXCEEDED


def test_full_disk_at_the_broker_reaches_the_client(broker, stub, monkeypatch):
    broker.store.put(b"kept")
    broker.store.append(DIGEST, len(DATA), 0, DATA[:500])

    def full(handle, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "_write_all", full)
        with pytest.raises(HomespunError) as caught:
            transfer.upload(stub, DIGEST, DATA)
    assert caught.value.code == Code.DISK_FULL
    assert broker.store.stat(DIGEST).stored_bytes == 500
    transfer.upload(stub, DIGEST, DATA)
    assert broker.store.stat(DIGEST).complete
    assert broker.store.stat(digest_of(b"kept")).complete


def test_who_may_not_is_told_why(broker, stub, local):
    broker.store.put(DATA)

    def only_stat(identity, action, digest):
        if action == "stat":
            return None
        return HomespunError(Code.NOT_ALLOWED, f"{identity} may not {action}.", digest=digest)

    broker.faults.refuse = only_stat
    with pytest.raises(HomespunError) as caught:
        transfer.download(stub, DIGEST, len(DATA), local)
    assert caught.value.code == Code.NOT_ALLOWED
    assert caught.value.message == "client_1 may not read."
    assert caught.value.details == {"digest": DIGEST}
    other = b"another blob"
    with pytest.raises(HomespunError) as caught:
        transfer.upload(stub, digest_of(other), other)
    assert caught.value.message == "client_1 may not write."


@pytest.mark.parametrize("digest", ["", "../x", "Z" * 64])
def test_bad_digests_are_refused_everywhere(broker, stub, digest):
    calls = (
        lambda: stub.Stat(blobs_pb2.StatBlobRequest(digests=[digest]), timeout=30),
        lambda: stub.Upload(
            iter([blobs_pb2.UploadBlobRequest(digest=digest, size_bytes=1)]), timeout=30),
        lambda: list(stub.Download(blobs_pb2.DownloadBlobRequest(digest=digest), timeout=30)),
    )
    for call in calls:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert error_of(caught.value, "call").code == Code.INVALID_ARGUMENT


def test_too_many_questions(broker, stub):
    with pytest.raises(grpc.RpcError) as caught:
        stub.Stat(blobs_pb2.StatBlobRequest(digests=[DIGEST] * 10_001), timeout=30)
    assert error_of(caught.value, "stat").code == Code.LIMIT_EXCEEDED


def test_unknown_blob_and_empty_upload(broker, stub, local):
    with pytest.raises(HomespunError) as caught:
        transfer.download(stub, DIGEST, len(DATA), local)
    assert caught.value.code == Code.NOT_FOUND
    with pytest.raises(grpc.RpcError) as raised:
        stub.Upload(iter(()), timeout=30)
    assert error_of(raised.value, "upload").code == Code.INVALID_ARGUMENT


def test_a_silent_uploader_is_cut_off(broker, stub, monkeypatch):
    monkeypatch.setattr(blob_service, "IDLE_TIMEOUT_S", 0.1)
    done = threading.Event()

    def requests():
        yield blobs_pb2.UploadBlobRequest(digest=DIGEST, size_bytes=len(DATA), data=b"1")
        done.wait(30)

    with pytest.raises(grpc.RpcError) as caught:
        stub.Upload(requests(), timeout=30)
    done.set()
    assert error_of(caught.value, "upload").code == Code.TIMED_OUT


def test_aio_variants_resume_too(broker, local, tmp_path):
    (tmp_path / "source").write_bytes(DATA)

    async def run():
        credentials = grpc.ssl_channel_credentials(broker.certificate[1])
        async with grpc.aio.secure_channel(broker.target, credentials) as channel:
            stub = blobs_pb2_grpc.BlobServiceStub(channel)
            broker.faults.break_after = [2]
            await transfer.upload_aio(stub, DIGEST, tmp_path / "source")
            assert broker.store.stat(DIGEST).complete
            broker.faults.break_after = [1, 0, 1]
            path = await transfer.download_aio(stub, DIGEST, len(DATA), local)
            assert path.read_bytes() == DATA
            with pytest.raises(HomespunError) as caught:
                await transfer.download_aio(stub, digest_of(b"?"), 1, local)
            assert caught.value.code == Code.NOT_FOUND

    asyncio.run(asyncio.wait_for(run(), 60))
    assert broker.faults.break_after == []
