"""Links work once and for a while, sessions end, tokens belong to one cookie."""

from __future__ import annotations

import itertools

import pytest

from broker.console import sign_in as module
from broker.console.sign_in import ConsoleRole, SignIn

MINUTE_MS = 60_000


class Steady:
    def __init__(self):
        self.now_ns = 5

    def __call__(self):
        return self.now_ns

    def pass_s(self, seconds):
        self.now_ns += round(seconds * 1e9)


@pytest.fixture
def steady():
    return Steady()


@pytest.fixture
def sign_in(steady):
    numbers = itertools.count(1)
    return SignIn(steady, lambda count: next(numbers).to_bytes(count, "big"))


def enter(sign_in, role=ConsoleRole.OPERATOR):
    return sign_in.exchange(sign_in.make_link("operator_1", role, MINUTE_MS))


@pytest.mark.parametrize("role", list(ConsoleRole))
def test_a_link_gives_a_session_of_its_role_once(sign_in, role):
    secret = sign_in.make_link("operator_1", role, MINUTE_MS)
    cookie, session = sign_in.exchange(secret)
    assert (session.role, session.by) == (role, "operator_1")
    assert sign_in.session(cookie, is_use=True).session_id == session.session_id
    assert sign_in.exchange(secret) is None


def test_a_link_that_is_over_gives_none(sign_in, steady):
    secret = sign_in.make_link("operator_1", ConsoleRole.VIEWER, MINUTE_MS)
    steady.pass_s(60)
    assert sign_in.exchange(secret) is None


@pytest.mark.parametrize("secret", ["", "0", "x" * 100_000, "\ud800", "é"])
def test_a_secret_that_is_none_gives_none(sign_in, secret):
    sign_in.make_link("operator_1", ConsoleRole.OPERATOR, MINUTE_MS)
    assert sign_in.exchange(secret) is None
    assert sign_in.session(secret, is_use=True) is None


def test_a_session_ends_when_nobody_clicks_though_its_page_updates(sign_in, steady):
    cookie, _ = enter(sign_in)
    for _ in range(4):
        steady.pass_s(module.IDLE_END_S / 4)
        last = sign_in.session(cookie, is_use=False)
    assert last is None


def test_a_session_ends_though_somebody_clicks(sign_in, steady):
    cookie, _ = enter(sign_in)
    clicks = 0
    while sign_in.session(cookie, is_use=True):
        steady.pass_s(module.IDLE_END_S / 2)
        clicks += 1
    assert clicks == module.ABSOLUTE_END_S / (module.IDLE_END_S / 2)


def test_a_session_ends_by_signing_out_and_no_other_does(sign_in):
    first, _ = enter(sign_in)
    other, _ = enter(sign_in)
    assert sign_in.sign_out(first).by == "operator_1"
    assert sign_in.sign_out(first) is None
    assert sign_in.session(first, is_use=True) is None
    assert sign_in.session(other, is_use=True) is not None


def test_neither_secrets_nor_cookies_are_kept(sign_in):
    secret = sign_in.make_link("operator_1", ConsoleRole.VIEWER, MINUTE_MS)
    cookie, _ = enter(sign_in)
    kept = repr((sign_in._links, sign_in._sessions))
    assert "operator_1" in kept
    assert secret not in kept
    assert cookie not in kept


def test_a_token_is_of_one_cookie(sign_in):
    first, other = sign_in.new_cookie(), sign_in.new_cookie()
    token = sign_in.form_token(first)
    assert sign_in.is_form_token(first, token)
    for cookie, wrong in ((other, token), (first, ""), (first, token[:-1]), (first, "é")):
        assert not sign_in.is_form_token(cookie, wrong)


def test_the_oldest_makes_room(sign_in, monkeypatch):
    monkeypatch.setattr(module, "SESSIONS_MAX", 2)
    monkeypatch.setattr(module, "LINKS_MAX", 2)
    cookies = [enter(sign_in)[0] for _ in range(3)]
    assert [sign_in.session(cookie, is_use=True) is None for cookie in cookies] == [
        True, False, False]
    links = [sign_in.make_link("o", ConsoleRole.VIEWER, MINUTE_MS) for _ in range(3)]
    assert [sign_in.exchange(link) is None for link in links] == [True, False, False]
