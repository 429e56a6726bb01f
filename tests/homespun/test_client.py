"""The client over a real gRPC connection, against a broker that follows a script.

The whole system with a real broker is tested elsewhere; here the broker misbehaves on demand.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest

import homespun
from homespun.blobs.store import BlobStore
from homespun.cli.jobs import print_jobs
from homespun.client import Client
from homespun.connection import Connection
from homespun.errors import Code, HomespunError
from homespun.job import Job
from homespun.progress import Progress
from homespun.rpc_errors import status_name, trailing_metadata
from homespun.status import JobStatus, JobUpdate
from homespun.tensor_file import pack, unpack
from homespun.v1 import (
    blobs_pb2,
    blobs_pb2_grpc,
    job_pb2,
    jobs_pb2,
    jobs_pb2_grpc,
    operator_pb2,
)
from homespun.wire import from_message


def refuse(context: grpc.ServicerContext, error: HomespunError) -> None:
    context.set_trailing_metadata(trailing_metadata(error))
    context.abort(grpc.StatusCode[status_name(error)], error.message)


class ScriptedBroker(
    jobs_pb2_grpc.JobServiceServicer, blobs_pb2_grpc.BlobServiceServicer
):
    """Keeps blobs for real; answers about jobs what the test has put into it."""

    def __init__(self, folder: Path) -> None:
        self.store = BlobStore(folder)
        self.submitted: list[jobs_pb2.SubmitRequest] = []
        self.lost_answers = 0
        self.status = jobs_pb2.JobStatus(job_id="job_1", state="running", steps_total=6)
        self.watches: list[list[jobs_pb2.JobUpdate | HomespunError]] = []
        self.watched_from: list[int] = []
        self.result = jobs_pb2.JobResult(job_id="job_1")

    def Submit(self, request, context):  # noqa: N802
        self.submitted.append(request)
        if self.lost_answers:
            self.lost_answers -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        return jobs_pb2.SubmitResponse(job_id="job_1")

    def GetJob(self, request, context):  # noqa: N802
        if not self.status.job_id.startswith(request.job_id):
            refuse(context, HomespunError(Code.NOT_FOUND, f"No job {request.job_id}."))
        return self.status

    def ListJobs(self, request, context):  # noqa: N802
        return jobs_pb2.ListJobsResponse(jobs=[self.status])

    def WatchJob(self, request, context):  # noqa: N802
        self.watched_from.append(request.from_step)
        for item in self.watches.pop(0):
            if isinstance(item, HomespunError):
                refuse(context, item)
            else:
                yield item

    def GetResult(self, request, context):  # noqa: N802
        return self.result

    def GetTimeline(self, request, context):  # noqa: N802
        return operator_pb2.Timeline(job_id=request.job, state="running", submitted_unix_ms=5)

    def GetFleet(self, request, context):  # noqa: N802
        yield jobs_pb2.FleetPart()

    def Stat(self, request, context):  # noqa: N802
        states = [(digest, self.store.stat(digest)) for digest in request.digests]
        return blobs_pb2.StatBlobResponse(blobs=[
            blobs_pb2.BlobState(digest=digest, complete=state.complete,
                                stored_bytes=state.stored_bytes) for digest, state in states])

    def Upload(self, request_iterator, context):  # noqa: N802
        digest, size, state = "", 0, None
        for request in request_iterator:
            digest, size = request.digest or digest, request.size_bytes or size
            state = self.store.append(digest, size, request.offset, request.data)
        return blobs_pb2.UploadBlobResponse(
            stored_bytes=state.stored_bytes, complete=state.complete)

    def Download(self, request, context):  # noqa: N802
        with self.store.open_read(request.digest, request.offset) as file:
            size = self.store.stat(request.digest).stored_bytes
            yield blobs_pb2.DownloadBlobResponse(size_bytes=size, data=file.read())

    def put(self, **tensors: np.ndarray) -> tuple[str, int]:
        data = pack({name.replace("__", "."): array for name, array in tensors.items()})
        return self.store.put(data), len(data)


@pytest.fixture
def broker(tmp_path: Path) -> ScriptedBroker:
    return ScriptedBroker(tmp_path / "blobs")


@pytest.fixture
def connection(broker: ScriptedBroker) -> Iterator[Connection]:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    jobs_pb2_grpc.add_JobServiceServicer_to_server(broker, server)
    blobs_pb2_grpc.add_BlobServiceServicer_to_server(broker, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    connection = Connection(
        channel, address=f"127.0.0.1:{port}", owner_id="client_1", timeout_s=10)
    yield connection
    connection.close()
    server.stop(None).wait()


def update(state: str, *losses: float, first: int = 0, evaluated: int = -1) -> jobs_pb2.JobUpdate:
    steps = [jobs_pb2.StepMetric(step=first + n, loss=loss, unix_ms=1000 * (first + n))
             for n, loss in enumerate(losses)]
    evaluations = [jobs_pb2.EvaluationMetric(step=evaluated, loss=9.0)] if evaluated >= 0 else []
    status = jobs_pb2.JobStatus(job_id="job_1", state=state, steps_total=6, batch_size=8,
                                steps_done=first + len(losses))
    return jobs_pb2.JobUpdate(status=status, steps=steps, evaluations=evaluations)


LOST = HomespunError(Code.UNREACHABLE, "The broker is restarting.")


def test_a_watch_survives_the_broker_and_repeats_nothing(
    broker: ScriptedBroker, connection: Connection
) -> None:
    broker.watches = [
        [update("running", 3.0, 2.0, evaluated=0), LOST],
        [LOST],
        [update("running", 2.0, 1.0, first=1, evaluated=0),
         update("succeeded", 0.5, first=3, evaluated=6)],
    ]
    notices: list[str] = []
    seen = list(Job(connection, "job_1").updates(notice=notices.append))
    assert broker.watched_from == [0, 2, 2]
    assert [step.step for item in seen for step in item.steps] == [0, 1, 2, 3]
    assert [item.step for update in seen for item in update.evaluations] == [0, 6]
    assert seen[-1].status.state == "succeeded"
    assert [notice.split()[0] for notice in notices] == ["Lost", "The"]


def test_a_watch_gives_up_after_its_patience(
    broker: ScriptedBroker, connection: Connection
) -> None:
    broker.watches = [[LOST] for _ in range(20)]
    with pytest.raises(HomespunError) as caught:
        list(Job(connection, "job_1").updates(reconnect_s=0.5))
    assert caught.value.code is Code.UNREACHABLE


def test_a_watch_ends_at_once_when_the_broker_refuses(
    broker: ScriptedBroker, connection: Connection
) -> None:
    broker.watches = [[HomespunError(Code.NOT_ALLOWED, "That job is somebody else's.")]]
    with pytest.raises(HomespunError) as caught:
        list(Job(connection, "job_1").updates())
    assert caught.value.code is Code.NOT_ALLOWED


def test_a_watch_ends_with_its_client(broker: ScriptedBroker, connection: Connection) -> None:
    broker.watches = [[update("running")] for _ in range(20)]
    updates = Job(connection, "job_1").updates()
    next(updates)
    connection.close()
    with pytest.raises(HomespunError, match="closed") as caught:
        list(updates)
    assert caught.value.code is Code.CONFLICT


def test_waiting_has_a_deadline(broker: ScriptedBroker, connection: Connection) -> None:
    broker.watches = [[update("running")] for _ in range(20)]
    with pytest.raises(HomespunError) as caught:
        Job(connection, "job_1").wait(timeout_s=0.5)
    assert caught.value.code is Code.TIMED_OUT


def test_plain_progress_says_what_happens(
    broker: ScriptedBroker, connection: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    first = update("running", 3.0, 2.0, evaluated=0)
    first.status.segments.add(segment=0, peer_id="peer_1", peer_name="attic\x1b[31m", nodes=12,
                              token=1, parameter_bytes=2048, memory_bytes=1 << 20)
    first.status.idle.add(subject="peer_2", rule="slower", text="It would slow the job.")
    final = update("failed", first=2)
    final.status.error_code, final.status.error_message = "PEER_LOST", "peer_1 is gone."
    broker.watches = [[first, final]]
    status = Job(connection, "job_1").watch()
    printed = capsys.readouterr().err
    assert status.state == "failed"
    assert "segment 0 on attic?[31m: 12 nodes, 2.00 KiB of parameters" in printed
    assert "peer_2 stays idle: It would slow the job." in printed
    assert "validation loss 9.0000 after 0 steps" in printed
    assert "running, step 2/6, 8.0 samples/s" in printed
    assert "peer_1 is gone. [PEER_LOST]" in printed


MOVES = "segment 2 moves to attic (peer_2)"
WAITS = "segment 2 waits for a peer: none of 3 live peers is free"


def recovering(reason: str) -> jobs_pb2.JobUpdate:
    found = update("recovering", first=2)
    found.status.error_message = reason
    return found


def test_a_job_that_recovers_goes_on_and_says_what_it_waits_for(
    broker: ScriptedBroker, connection: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    broker.watches = [[
        update("running", 3.0, 2.0), recovering(WAITS), recovering(WAITS), recovering(MOVES),
        update("running", 1.0, first=2), update("succeeded", 0.5, first=3)]]
    status = Job(connection, "job_1").watch()
    assert status.state == "succeeded"
    printed = capsys.readouterr().err
    told = [line for line in printed.splitlines() if line.startswith("recovering")]
    assert told == [f"recovering, {WAITS}, step 2/6", f"recovering, {MOVES}, step 2/6"]


def test_a_wait_that_ends_says_why_the_job_has_not(
    broker: ScriptedBroker, connection: Connection
) -> None:
    broker.watches = [[recovering(WAITS)] for _ in range(20)]
    with pytest.raises(HomespunError) as caught:
        Job(connection, "job_1").wait(timeout_s=0.5)
    assert caught.value.code is Code.TIMED_OUT
    assert f"it goes on (recovering: {WAITS})." in caught.value.message


def test_a_job_that_recovers_has_no_result_yet(
    broker: ScriptedBroker, connection: Connection
) -> None:
    broker.status = recovering(MOVES).status
    job = Job(connection, "job_1")
    assert not job.status().is_final
    assert job.status().error() is None
    assert job.status().reason == MOVES
    with pytest.raises(HomespunError) as caught:
        job.result()
    assert caught.value.code is Code.CONFLICT
    assert MOVES in caught.value.message


def test_what_has_ended_waits_for_nothing() -> None:
    message = update("failed").status
    message.error_message = "peer_1 is gone."
    assert from_message(message, JobStatus).reason == ""


def test_a_list_of_jobs_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    failed = update("failed").status
    failed.error_code = "PEER_LOST"
    found = [recovering(MOVES).status, recovering("x" * 500).status, update("running").status,
             failed]
    print_jobs([from_message(status, JobStatus) for status in found], as_json=False)
    heading, moves, long, running, lost = capsys.readouterr().out.splitlines()
    assert heading.endswith("why")
    assert moves.endswith(MOVES)
    assert long.endswith(" " + "x" * 77 + "...")
    assert running.endswith("-")
    assert lost.endswith("PEER_LOST")


def small_model():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    model[0].bias.requires_grad_(False)
    return model


def small_job(model) -> dict[str, object]:
    torch = pytest.importorskip("torch")
    rows = np.random.default_rng(0)
    return {
        "model": model, "loss": torch.nn.CrossEntropyLoss(),
        "data": {"x": rows.standard_normal((32, 4)).astype(np.float32),
                 "y": rows.integers(0, 2, 32)},
        "optimizer": homespun.AdamW(lr=1e-2), "steps": 6, "batch_size": 8,
    }


def test_training_sends_a_complete_description_once(
    broker: ScriptedBroker, connection: Connection
) -> None:
    model = small_model()
    broker.lost_answers = 2
    notes: list[str] = []
    client = Client(connection, notes.append)
    job = client.train(**small_job(model), name="tiny")
    assert job.id == "job_1"
    # Two answers were lost: three tries, one request id, so the broker makes one job of them.
    assert len(broker.submitted) == 3
    assert len({request.request_id for request in broker.submitted}) == 1
    spec = broker.submitted[0].spec
    assert (spec.name, spec.training.microbatches, spec.training.batch_size) == ("tiny", 4, 8)
    assert {ref.name: ref.trainable for ref in spec.parameters} == {
        "0.weight": True, "0.bias": False, "2.weight": True, "2.bias": True}
    assert [(ref.name, ref.split, list(ref.type.shape)) for ref in spec.columns] == [
        ("x", "train", [32, 4]), ("y", "train", [32])]
    for ref in spec.parameters:
        blob = broker.store.path(ref.digest).read_bytes()
        assert len(blob) == ref.blob_bytes
        stored = unpack(blob, ref.name)[ref.name]
        assert np.array_equal(stored, model.state_dict()[ref.name].numpy())
    assert broker.store.stat(spec.graph_digest).stored_bytes == spec.graph_bytes
    assert any(note.startswith("Stored 7 blobs") for note in notes)


@pytest.mark.parametrize(("changed", "named"), [
    ({"steps": 0}, "steps"), ({"batch_size": 7, "microbatches": 2}, "multiple of microbatches"),
    ({"optimizer": "adam"}, "optimizer"), ({"precision": "float16"}, "precision"),
    ({"seed": -1}, "seed"), ({"clip_norm": float("nan")}, "clip_norm"),
    ({"evaluate_every": 2}, "validation split"), ({"schedule": 3}, "schedule"),
    ({"name": "x" * 101}, "name"), ({"peers": -1}, "peers"), ({"steps": True}, "steps"),
])
def test_a_wrong_argument_is_named_and_nothing_is_submitted(
    broker: ScriptedBroker, connection: Connection, changed: dict[str, object], named: str
) -> None:
    with pytest.raises(HomespunError) as caught:
        Client(connection).train(**{**small_job(small_model()), **changed})
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert named in caught.value.message
    assert not broker.submitted


def reference(
    name: str, array: np.ndarray, blob: tuple[str, int], *aliases: str
) -> job_pb2.ParameterRef:
    return job_pb2.ParameterRef(
        name=name, aliases=aliases, digest=blob[0], blob_bytes=blob[1],
        type=job_pb2.TensorType(dtype=array.dtype.name, shape=array.shape))


def finished(broker: ScriptedBroker, head: np.ndarray) -> None:
    """Two trained parts, one tied weight, and a buffer that no segment used."""
    body, unused = np.ones((2, 3), np.float32), np.arange(4)
    broker.status.state = "succeeded"
    first, second = broker.put(embed__weight=body), broker.put(head__bias=head)
    broker.result.parts.add(segment=0, digest=first[0], blob_bytes=first[1])
    broker.result.parts.add(segment=1, digest=second[0], blob_bytes=second[1])
    broker.result.parameters.extend([
        reference("embed.weight", body, first, "head.weight"),
        reference("head.bias", np.zeros(3, np.float32), second),
        reference("positions", unused, broker.put(positions=unused)),
    ])


def test_a_result_has_every_original_name(
    broker: ScriptedBroker, connection: Connection, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    finished(broker, np.full(3, 0.5, np.float32))
    result = Client(connection).job("job_1").result(tmp_path / "out.safetensors")
    state = result.state_dict()
    assert sorted(state) == ["embed.weight", "head.bias", "head.weight", "positions"]
    assert state["head.weight"].data_ptr() == state["embed.weight"].data_ptr()
    assert state["head.bias"].tolist() == [0.5, 0.5, 0.5]
    assert state["positions"].tolist() == [0, 1, 2, 3]
    # The blobs on the way are gone; only the file stays.
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    folder = Client(connection).job("job_1").result(tmp_path)
    assert folder.path == tmp_path / "job_1.safetensors"


def test_a_result_that_is_not_the_model_is_refused(
    broker: ScriptedBroker, connection: Connection, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    finished(broker, np.full(5, 0.5, np.float32))
    path = tmp_path / "out.safetensors"
    with pytest.raises(HomespunError) as caught:
        Job(connection, "job_1").result(path)
    assert caught.value.code is Code.DIGEST_MISMATCH
    assert "'head.bias'" in caught.value.message
    assert not path.exists()


def test_a_result_of_a_job_without_one(broker: ScriptedBroker, connection: Connection) -> None:
    job = Job(connection, "job_1")
    for state, code in (("running", Code.CONFLICT), ("cancelled", Code.CANCELLED),
                        ("failed", Code.STALLED)):
        broker.status.state, broker.status.error_code = state, "STALLED"
        with pytest.raises(HomespunError) as caught:
            job.result()
        assert caught.value.code is code


def test_jobs_are_found_again(broker: ScriptedBroker, connection: Connection) -> None:
    client = Client(connection)
    assert [status.job_id for status in client.jobs()] == ["job_1"]
    assert client.job("job").id == "job_1"
    assert isinstance(client.job("job_1").status(), JobStatus)
    with pytest.raises(HomespunError) as caught:
        client.job("job_9")
    assert caught.value.code is Code.NOT_FOUND


def test_a_job_remembers_what_it_was_told_last(
    broker: ScriptedBroker, connection: Connection
) -> None:
    broker.watches = [[update("running", 3.0, 2.0), update("succeeded", 1.0, first=2)]]
    job = Client(connection).job("job")
    assert repr(job) == "Job('job_1', running, step 0/6, when last asked)"
    job.wait()
    assert repr(job).startswith("Job('job_1', succeeded, step 3/6")


def test_a_timeline_is_asked_for(broker: ScriptedBroker, connection: Connection) -> None:
    assert Client(connection).job("job_1").timeline().begin_unix_ms == 5


def test_the_fleet_is_asked_for(broker: ScriptedBroker, connection: Connection) -> None:
    assert Client(connection).fleet().peers == ()


# --- inference -----------------------------------------------------------------------------------


def rows_to_predict() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(0).standard_normal((10, 4)).astype(np.float32)}


def test_an_inference_job_is_described_by_its_rows(
    broker: ScriptedBroker, connection: Connection
) -> None:
    Client(connection).infer(small_model(), rows_to_predict(), batch_size=4, name="predict")
    (request,) = broker.submitted
    spec = request.spec
    assert (spec.kind, spec.name, spec.peers) == ("infer", "predict", 0)
    assert (spec.training.steps, spec.training.batch_size, spec.training.microbatches) == (3, 4, 1)
    assert [(ref.name, ref.split, list(ref.type.shape)) for ref in spec.columns] == [
        ("x", "predict", [10, 4])]
    assert {ref.name for ref in spec.parameters} == {"0.weight", "0.bias", "2.weight", "2.bias"}


@pytest.mark.parametrize(("changed", "named"), [
    ({"batch_size": 0}, "batch_size"), ({"precision": "int8"}, "precision"),
    ({"peers": -1}, "peers"), ({"data": {}}, "no columns"), ({"data": [1]}, "dict of columns"),
    ({"data": {"x": np.zeros((0, 4), np.float32)}}, "no rows"),
    ({"data": {"train": rows_to_predict()}}, "train"),
])
def test_a_wrong_argument_of_inference_is_named(
    broker: ScriptedBroker, connection: Connection, changed: dict[str, object], named: str
) -> None:
    given = {"model": small_model(), "data": rows_to_predict(), "batch_size": 4} | changed
    with pytest.raises(HomespunError) as caught:
        Client(connection).infer(**given)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert named in caught.value.message
    assert not broker.submitted


def predicted(broker: ScriptedBroker) -> dict[str, np.ndarray]:
    """Three outputs in two parts, and a part without any."""
    outputs = {"output_10": np.arange(5.0), "output_2": np.ones((5, 2), np.float32),
               "mean": np.zeros(2, np.float32)}
    broker.status.state, broker.status.kind = "succeeded", "infer"
    names = (("output_2",), (), ("output_10", "mean"))
    for segment, part in enumerate(names):
        digest, size = broker.put(**{name: outputs[name] for name in part})
        broker.result.parts.add(segment=segment, digest=digest, blob_bytes=size)
    for name, array in outputs.items():
        broker.result.outputs.add(name=name, type=job_pb2.TensorType(dtype=array.dtype.name))
    return outputs


def test_outputs_of_all_parts_come_by_name(
    broker: ScriptedBroker, connection: Connection, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("homespun.result.COPY_BYTES", 16)
    wanted = predicted(broker)
    found = Job(connection, "job_1").outputs()
    assert list(found) == ["mean", "output_2", "output_10"]
    for name, array in wanted.items():
        assert (found[name].dtype, found[name].tolist()) == (array.dtype, array.tolist())
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_an_output_that_is_missing_is_noticed(
    broker: ScriptedBroker, connection: Connection, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    predicted(broker)
    del broker.result.parts[0]
    with pytest.raises(HomespunError) as caught:
        Job(connection, "job_1").result(tmp_path / "out")
    assert caught.value.code is Code.DIGEST_MISMATCH
    assert not (tmp_path / "out").exists()


def test_a_training_job_has_no_outputs(
    broker: ScriptedBroker, connection: Connection, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    finished(broker, np.full(3, 0.5, np.float32))
    with pytest.raises(HomespunError) as caught:
        Job(connection, "job_1").outputs()
    assert caught.value.code is Code.CONFLICT


def test_progress_of_inference_is_told_in_rows() -> None:
    progress = Progress()
    for now_s, done in ((0.0, 0), (2.0, 40), (4.0, 60)):
        message = jobs_pb2.JobStatus(
            job_id="job_1", state="running", kind="infer", batch_size=8, steps_done=done // 8,
            steps_total=13, samples_done=done, samples_total=99, predicted_step_s=0.5,
            algorithm="split")
        status = from_message(message, JobStatus)
        progress.see(JobUpdate(status=status, steps=(), evaluations=()), now_s)
    assert progress.headline() == "running, row 60/99, 15.0 rows/s, about 2.6s left"
    assert progress.step_line().startswith("predicted 500ms a microbatch (split)")
    assert "after 60 of 99 rows" in str(replace(status, state="failed", error_code="X").error())
