"""Registrations as events: what an executor declares, and what old and hostile peers send."""

import pytest

from broker.core.limits import MAX_DTYPES, MAX_OPERATORS, MAX_SLOTS
from broker.rpc.session_codec import connected
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


def register(support=None, rates=None):
    hardware = session_pb2.Hardware(
        device="cpu", device_name="x", memory_bytes=1 << 30, matmul_flops_per_s=1e9,
        attention_flops_per_s=1e9, memory_bytes_per_s=1e9, executor="onnxruntime", threads=1,
        support=support, rates=rates)
    return session_pb2.Register(
        protocol_version=1, name="a", tensor_address="127.0.0.1:9", hardware=hardware)


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
