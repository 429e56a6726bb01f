"""Registrations as events: what an executor declares, and what old and hostile peers send."""

import pytest

from broker.core import events as ev
from broker.core.limits import (
    DRAIN_MAX_MS,
    MAX_DTYPES,
    MAX_HELD_SNAPSHOTS,
    MAX_HELD_STANDBYS,
    MAX_OPERATORS,
    MAX_SEGMENTS,
    MAX_SERIALS,
    MAX_SHARDS,
    MAX_SLOTS,
)
from broker.rpc.session_codec import availability_changed, connected
from dag.cluster import Correction, DenseRates, PeerRates
from dag.support import ALL_DTYPES, FIRST_RELEASE, DtypeSet, ExecutorSupport, grouped
from homespun.errors import Code, HomespunError
from homespun.v1 import session_pb2
from homespun.wire import to_message
from ir.operators import OpClass

SUPPORT = ExecutorSupport(
    trainable=False, opset_min=23, opset_max=24, operators=grouped({
        "MatMul": ((ALL_DTYPES,), (ALL_DTYPES,)),
        "Gather": ((ALL_DTYPES, DtypeSet(dtypes=("int64",))), (ALL_DTYPES,))}))


RATES = PeerRates(
    matmul_flops_per_s=2e9, attention_flops_per_s=3e9, memory_bytes_per_s=4e9,
    convolution_flops_per_s=5e9, forward_overhead_s=2e-5, backward_overhead_s=3e-5,
    is_asynchronous=True,
    narrow=(DenseRates(dtype="bfloat16", matmul_flops_per_s=6e9, attention_flops_per_s=7e9,
                       convolution_flops_per_s=8e9),),
    corrections=(Correction(direction="forward", op_class=OpClass.MATMUL, factor=1.5),))


STANDBY = {"job_id": "job_000001", "segment": 1, "token": 3, "level": "warm"}
SNAPSHOT = {"job_id": "job_000001", "segment": 1, "position": 40, "digest": "ab" * 32,
            "size_bytes": 4096, "shard": 2, "data_shards": 3}


def register(support=None, rates=None, **held):
    hardware = session_pb2.Hardware(
        device="cpu", device_name="x", memory_bytes=1 << 30, matmul_flops_per_s=1e9,
        attention_flops_per_s=1e9, memory_bytes_per_s=1e9, executor="onnxruntime", threads=1,
        support=support, rates=rates)
    return session_pb2.Register(
        protocol_version=1, name="a", tensor_address="127.0.0.1:9", hardware=hardware, **held)


def standby(**changes):
    return session_pb2.HeldStandby(**(STANDBY | changes))


def snapshot(**changes):
    return session_pb2.HeldSnapshot(**(SNAPSHOT | changes))


def availability(text="paused", deadline_ms=30_000):
    return session_pb2.Availability(availability=text, deadline_ms=deadline_ms)


def test_support_arrives_as_it_was_declared():
    message = to_message(SUPPORT, session_pb2.ExecutorSupport)
    event = connected("peer_a", "s1", register(message))
    assert event.hardware.support == SUPPORT
    assert event.hardware.executor == "onnxruntime"


def test_a_peer_of_the_first_release_runs_what_torch_ran_then():
    assert connected("peer_a", "s1", register()).hardware.support == FIRST_RELEASE


def test_rates_arrive_as_they_were_measured():
    message = register(rates=to_message(RATES, session_pb2.Rates))
    assert connected("peer_a", "s1", message).hardware.rates == RATES


def test_a_peer_of_the_first_release_has_three_rates():
    assert connected("peer_a", "s1", register()).hardware.rates == PeerRates(
        matmul_flops_per_s=1e9, attention_flops_per_s=1e9, memory_bytes_per_s=1e9)


@pytest.mark.parametrize("changes", [
    {"narrow": [session_pb2.DenseRates(dtype="float16")] * 9},
    {"corrections": [session_pb2.Correction(direction="forward", op_class="matmul")] * 33}])
def test_too_many_rates_are_refused(changes):
    with pytest.raises(HomespunError) as caught:
        connected("peer_a", "s1", register(rates=session_pb2.Rates(**changes)))
    assert caught.value.code == Code.LIMIT_EXCEEDED


def slots(count, dtypes=("float32",)):
    return [session_pb2.DtypeSet(dtypes=dtypes)] * count


@pytest.mark.parametrize("entries", [
    [session_pb2.OperatorSupport()] * (MAX_OPERATORS + 1),
    [session_pb2.OperatorSupport(operators=["Add"] * MAX_OPERATORS)] * 2,
    [session_pb2.OperatorSupport(inputs=slots(MAX_SLOTS + 1))],
    [session_pb2.OperatorSupport(outputs=slots(MAX_SLOTS + 1))],
    [session_pb2.OperatorSupport(inputs=slots(1, ["float32"] * (MAX_DTYPES + 1)))],
])
def test_too_much_is_refused(entries):
    with pytest.raises(HomespunError) as caught:
        connected("peer_a", "s1", register(session_pb2.ExecutorSupport(operators=entries)))
    assert caught.value.code == Code.LIMIT_EXCEEDED


@pytest.mark.parametrize("entry", [
    session_pb2.OperatorSupport(operators=["A" * 301]),
    session_pb2.OperatorSupport(operators=["Add\n"]),
    session_pb2.OperatorSupport(inputs=slots(1, ["float32\x07"])),
])
def test_texts_that_no_executor_would_send_are_refused(entry):
    with pytest.raises(HomespunError) as caught:
        connected("peer_a", "s1", register(session_pb2.ExecutorSupport(operators=[entry])))
    assert caught.value.code == Code.INVALID_ARGUMENT


def test_what_a_peer_keeps_for_others_arrives_as_it_was_told():
    event = connected("peer_a", "s1", register(
        standbys=[standby(), standby(segment=2, level="")],
        snapshots=[snapshot(), snapshot(segment=MAX_SEGMENTS)]))
    assert event.standbys == (
        ev.HeldStandby(**STANDBY), ev.HeldStandby(**(STANDBY | {"segment": 2, "level": ""})))
    of_a_later_cut = ev.HeldSnapshot(**(SNAPSHOT | {"segment": MAX_SEGMENTS}))
    assert event.snapshots == (ev.HeldSnapshot(**SNAPSHOT), of_a_later_cut)


def test_a_peer_of_before_does_not_put_a_state_together():
    assert not connected("peer_a", "s1", register()).joins_parts
    assert connected("peer_a", "s1", register(joins_parts=True)).joins_parts


def test_a_peer_that_says_nothing_of_availability_is_open():
    event = connected("peer_a", "s1", register())
    assert (event.availability, event.drain_ms) == ("open", 0)
    assert (event.standbys, event.snapshots) == ((), ())


@pytest.mark.parametrize("text", ["open", "finishing", "paused", "leaving"])
def test_an_availability_arrives(text):
    event = connected("peer_a", "s1", register(availability=availability(text)))
    assert (event.availability, event.drain_ms) == (text, 30_000)
    assert availability_changed("peer_a", availability(text)) == ev.AvailabilityChanged(
        at_ns=0, peer_id="peer_a", availability=text, deadline_ms=30_000)


def test_a_deadline_in_years_is_as_good_as_the_longest():
    said = availability(deadline_ms=1 << 62)
    assert availability_changed("peer_a", said).deadline_ms == DRAIN_MAX_MS
    assert connected("peer_a", "s1", register(availability=said)).drain_ms == DRAIN_MAX_MS


@pytest.mark.parametrize("held", [
    {"standbys": [standby()] * (MAX_HELD_STANDBYS + 1)},
    {"snapshots": [snapshot()] * (MAX_HELD_SNAPSHOTS + 1)},
])
def test_too_much_kept_is_refused(held):
    with pytest.raises(HomespunError) as caught:
        connected("peer_a", "s1", register(**held))
    assert caught.value.code is Code.LIMIT_EXCEEDED


@pytest.mark.parametrize("held", [
    {"standbys": [standby(job_id="j" * 301)]},
    {"standbys": [standby(segment=-1)]},
    {"standbys": [standby(segment=MAX_SEGMENTS)]},
    {"standbys": [standby(level="boiling")]},
    {"snapshots": [snapshot(job_id="a\nb")]},
    {"snapshots": [snapshot(segment=MAX_SERIALS)]},
    {"snapshots": [snapshot(position=0)]},
    {"snapshots": [snapshot(digest="x" * 64)]},
    {"snapshots": [snapshot(size_bytes=-1)]},
    {"snapshots": [snapshot(shard=-1)]},
    {"snapshots": [snapshot(data_shards=MAX_SHARDS + 1)]},
    {"availability": availability("")},
    {"availability": availability("asleep")},
    {"availability": availability(deadline_ms=-1)},
], ids=repr)
def test_what_no_honest_peer_keeps_is_refused(held):
    with pytest.raises(HomespunError) as caught:
        connected("peer_a", "s1", register(**held))
    assert caught.value.code is Code.INVALID_ARGUMENT
