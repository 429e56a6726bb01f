"""What comes out of a failed call, whatever the other side put in."""

from __future__ import annotations

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homespun.errors import CATALOG, Code, HomespunError
from homespun.rpc_errors import error_of, status_name, trailing_metadata


class Failed(grpc.RpcError):
    """A failed call as gRPC raises it."""

    def __init__(self, status, details="", metadata=()):
        super().__init__()
        self._parts = status, details, metadata

    def code(self):
        return self._parts[0]

    def details(self):
        return self._parts[1]

    def trailing_metadata(self):
        return self._parts[2]


def sent(error):
    status = grpc.StatusCode[status_name(error)]
    return error_of(Failed(status, "x", trailing_metadata(error)), "the broker")


def test_every_code_has_a_status_of_grpc():
    for code in CATALOG:
        assert grpc.StatusCode[status_name(HomespunError(code, "x"))]


texts = st.text(st.characters(codec="utf-8"), max_size=60)


@given(st.sampled_from(Code), texts, st.dictionaries(texts, texts, max_size=4))
def test_an_error_arrives_as_it_was_sent(code, message, details):
    error = HomespunError(code, message)
    error.details = details
    arrived = sent(error)

    def visible(text):
        return "".join(c for c in text if c.isprintable() or c == "\n")

    assert (arrived.code, arrived.message) == (code, visible(message))
    assert arrived.details == {visible(k): visible(v) for k, v in details.items()}


@given(st.text(max_size=6_000), st.dictionaries(texts, st.text(max_size=3_000), max_size=3))
def test_any_error_fits_into_the_metadata(message, details):
    error = HomespunError(Code.INTERNAL, message)
    error.details = details
    entries = trailing_metadata(error)
    assert sum(len(key) + len(value) * 4 / 3 for key, value in entries) < 7_000
    assert sent(error).code is Code.INTERNAL


garbage = st.lists(st.tuples(
    st.sampled_from(["homespun-code", "homespun-message-bin", "homespun-details-bin", "other"]),
    st.one_of(st.text(max_size=20), st.binary(max_size=4_000), st.sampled_from(list(Code)),
              st.just(b"[" * 1_990), st.just(b'{"a": {"b": []}}'), st.just(b"null"))))


@given(st.sampled_from(grpc.StatusCode), st.text(max_size=600), garbage)
def test_whatever_comes_in_is_an_error_and_bounded(status, details, metadata):
    error = error_of(Failed(status, details, metadata), "the broker")
    assert isinstance(error, HomespunError)
    assert isinstance(error.code, Code)
    assert len(str(error)) < 4_000
    assert "\x1b" not in str(error) + str(error.details)


def test_a_code_of_a_later_release_keeps_its_message():
    metadata = (("homespun-code", "TOO_NEW"), ("homespun-message-bin", b"Something new."))
    error = error_of(Failed(grpc.StatusCode.NOT_FOUND, "", metadata), "the broker")
    assert (error.code, error.message) == (Code.NOT_FOUND, "Something new. (TOO_NEW)")


def test_a_bare_error_of_grpc():
    assert error_of(grpc.RpcError(), "the broker").code is Code.INTERNAL


@pytest.mark.parametrize(("details", "expected", "code"), [
    ("Connection refused", "broker", Code.UNREACHABLE),
    ("CERTIFICATE_VERIFY_FAILED: self signed", "broker", Code.UNTRUSTED_BROKER),
    ("CERTIFICATE_VERIFY_FAILED: self signed", "peer_1", Code.UNREACHABLE),
    ("CERTIFICATE_VERIFY_FAILED: certificate has expired", "broker", Code.CERTIFICATE_EXPIRED),
    ("Hostname Verification Check failed.", "broker", Code.UNTRUSTED_BROKER),
    ("TLSV1_ALERT_UNKNOWN_CA", "broker", Code.NOT_AUTHENTICATED),
])
def test_reasons_of_unavailable(details, expected, code):
    failed = Failed(grpc.StatusCode.UNAVAILABLE, details)
    assert error_of(failed, "the broker", expected=expected).code is code


def test_deadline():
    assert error_of(Failed(grpc.StatusCode.DEADLINE_EXCEEDED), "x").code is Code.TIMED_OUT
