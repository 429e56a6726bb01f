import dataclasses
import random

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homespun.errors import Code, HomespunError
from ir.graph import ITEM_BYTES
from peer.core.phases import Mode
from peer.frames import (
    FIXED_BYTES,
    MAX_AXES,
    MAX_HEADER_BYTES,
    OPAQUE,
    Codec,
    Frame,
    Kind,
    array_of,
    decode_header,
    digest_of,
    encode_header,
    opaque_frame,
    tensor_frame,
    with_digest,
)

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
LIMIT = 1 << 40


@st.composite
def frames(draw):
    dtype = draw(st.sampled_from([OPAQUE, *ITEM_BYTES]))
    shape = () if dtype == OPAQUE else tuple(draw(st.lists(st.integers(0, 3), max_size=MAX_AXES)))
    size = draw(st.integers(0, 50)) if dtype == OPAQUE else int(np.prod(shape)) * ITEM_BYTES[dtype]
    return with_digest(Frame(
        kind=draw(st.sampled_from(Kind)), mode=draw(st.sampled_from(Mode)), edge=draw(U32),
        source=draw(U32), target=draw(U32), step=draw(U64), microbatch=draw(U32),
        sequence=draw(U64), dtype=dtype, shape=shape, codec=draw(st.sampled_from(Codec)),
        payload_bytes=size, payload=random.Random(size).randbytes(min(size, 1000))))


@settings(max_examples=300, deadline=None)
@given(frames())
def test_a_header_survives_the_wire(frame):
    header = encode_header(frame)
    assert len(header) == FIXED_BYTES + 8 * len(frame.shape) <= MAX_HEADER_BYTES
    decoded, header_bytes = decode_header(header + b"anything", LIMIT)
    assert header_bytes == len(header)
    assert decoded == dataclasses.replace(frame, payload=b"")


def test_golden_bytes():
    frame = Frame(
        kind=Kind.GRADIENT, mode=Mode.EVALUATE, edge=1, source=2, target=3, microbatch=4, step=5,
        sequence=6, dtype="float32", shape=(2, 1), payload_bytes=8, digest=bytes(range(16)))
    assert encode_header(frame).hex() == (
        "4846" "01" "01" "01" "02" "00" "02"
        "01000000" "02000000" "03000000" "04000000"
        "0500000000000000" "0600000000000000" "0800000000000000"
        "000102030405060708090a0b0c0d0e0f"
        "0200000000000000" "0100000000000000")


def test_wire_numbers_never_change():
    # A new kind or dtype goes to the end; anything else makes releases misread each other.
    assert [decode_header(encode_header(opaque_frame(kind)), 0)[0].kind for kind in Kind] == [
        "activation", "gradient", "parameter", "parameter_gradient", "norms", "scale",
        "acknowledge", "link_hello", "link_ack", "link_close", "probe", "control"]
    assert [encode_header(opaque_frame(kind))[3] for kind in Kind] == list(range(len(Kind)))
    dtypes = [OPAQUE, "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16",
              "int8", "uint64", "uint32", "uint16", "uint8", "bool",
              "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz",
              "float8_e8m0fnu", "float4_e2m1fn", "int4", "uint4", "int2", "uint2"]
    assert set(dtypes[1:]) == set(ITEM_BYTES)
    for number, dtype in enumerate(dtypes):
        size = ITEM_BYTES.get(dtype, 0)
        assert encode_header(
            Frame(kind=Kind.SCALE, dtype=dtype, payload_bytes=size))[5] == number


def decode_or_refuse(buffer):
    """Anything but an INVALID_ARGUMENT or LIMIT_EXCEEDED is a failure of the test."""
    try:
        frame, header_bytes = decode_header(buffer, 1 << 20)
    except HomespunError as refusal:
        code = refusal.code
    else:
        code = None
    if code is not None:
        assert code in (Code.INVALID_ARGUMENT, Code.LIMIT_EXCEEDED)
        return None
    assert header_bytes <= len(buffer)
    assert frame.payload_bytes <= 1 << 20
    assert encode_header(frame) == bytes(buffer[:header_bytes])
    return frame


@settings(max_examples=2000, deadline=None)
@given(st.binary(max_size=MAX_HEADER_BYTES + 8))
def test_any_bytes_are_a_frame_or_refused(buffer):
    decode_or_refuse(buffer)
    decode_or_refuse(b"HF\x01" + buffer)


def test_twenty_thousand_mutated_headers_are_frames_or_refused():
    seed = 20260
    rng = random.Random(seed)
    array = np.zeros((4, 3, 2), np.float32)
    header = encode_header(with_digest(tensor_frame(Kind.ACTIVATION, array, edge=7, step=9)))
    accepted = 0
    for _ in range(20_000):
        mutated = bytearray(header)
        for _ in range(rng.randint(1, 4)):
            what = rng.random()
            if what < 0.6 and mutated:
                mutated[rng.randrange(len(mutated))] = rng.choice((0, 1, 127, rng.getrandbits(8)))
            elif what < 0.8:
                del mutated[rng.randint(0, len(mutated)):]
            else:
                mutated += rng.randbytes(rng.randint(1, 16))
        frame = decode_or_refuse(mutated)
        accepted += frame is not None
        if frame is not None and frame.dtype != OPAQUE:
            payload = bytes(frame.payload_bytes)
            array_of(dataclasses.replace(frame, payload=payload))
    print(f"seed {seed}: {accepted} of 20000 accepted")
    assert 0 < accepted < 20_000


@pytest.mark.parametrize("change", [
    {"payload_bytes": 23}, {"shape": (7,)}, {"dtype": OPAQUE},
    {"shape": (2**63, 2**63, 0), "payload_bytes": 0}, {"shape": (0, 2**60), "payload_bytes": 0},
])
def test_a_header_that_contradicts_itself_is_refused(change):
    frame = Frame(kind=Kind.GRADIENT, dtype="float32", shape=(6,), payload_bytes=24)
    decode_header(encode_header(frame), 24)
    with pytest.raises(HomespunError) as caught:
        decode_header(encode_header(dataclasses.replace(frame, **change)), 2**63)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_a_payload_over_the_limit_is_refused_before_anything_is_allocated():
    frame = opaque_frame(Kind.NORMS, b"12345678")
    with pytest.raises(HomespunError, match="8 bytes is announced; at most 7") as caught:
        decode_header(encode_header(frame), 7)
    assert caught.value.code is Code.LIMIT_EXCEEDED


@pytest.mark.parametrize("change", [
    {"edge": -1}, {"edge": 2**32}, {"step": 2**64}, {"shape": (1,) * 17}, {"shape": (-1,)},
    {"digest": b"short"}, {"digest": b"x" * 17}, {"dtype": "complex64"}, {"edge": "3"},
])
def test_fields_out_of_range_are_refused(change):
    with pytest.raises(HomespunError) as caught:
        encode_header(dataclasses.replace(opaque_frame(Kind.SCALE), **change))
    assert caught.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("array", [
    np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.array(2.5), np.zeros((0, 5), np.int64),
    np.arange(6).reshape(2, 3).T, np.ones((3, 2), ml_dtypes.bfloat16), np.array([True, False]),
    np.arange(9, dtype=np.float16)[::2],
], ids=str)
def test_arrays_survive_the_wire(array):
    frame = with_digest(tensor_frame(Kind.PARAMETER, array, edge=2, mode=Mode.TRAIN))
    decoded, _ = decode_header(encode_header(frame), LIMIT)
    payload = bytes(frame.payload)
    assert decoded.digest == digest_of(payload)
    received = array_of(dataclasses.replace(decoded, payload=payload))
    assert received.dtype == array.dtype
    assert received.shape == array.shape
    np.testing.assert_array_equal(received, array)


def test_a_contiguous_array_is_not_copied():
    array = np.zeros(4, np.float32)
    frame = tensor_frame(Kind.ACTIVATION, array)
    array[0] = 1
    assert bytes(frame.payload) == array.tobytes()


@pytest.mark.parametrize("array", [
    np.zeros(2, np.complex64), np.zeros(2, ">f4"), np.zeros((1,) * 17),
], ids=["complex", "big-endian", "17 axes"])
def test_arrays_that_cannot_be_sent_are_refused(array):
    with pytest.raises(HomespunError) as caught:
        tensor_frame(Kind.ACTIVATION, array)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_a_frame_without_its_payload_is_no_array():
    frame = tensor_frame(Kind.ACTIVATION, np.zeros(4, np.float32))
    for bad in (dataclasses.replace(frame, payload=b"123"), opaque_frame(Kind.NORMS, b"1234")):
        with pytest.raises(HomespunError) as caught:
            array_of(bad)
        assert caught.value.code is Code.INVALID_ARGUMENT
