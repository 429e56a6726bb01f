"""Who is signed in to the console: one-time links, sessions, and the tokens of their forms.

No passwords. An operator makes a link over its mutual-TLS connection; the link's secret works once
and for a short time, and is exchanged for a session's cookie. Secrets and cookies are kept as
hashes, in memory only: a restart of the broker signs everybody out.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from broker.core.events import ConsoleAccessed
from broker.driver import Driver
from broker.operator_actions import only_one
from homespun.errors import Code, HomespunError

LINK_LIFETIME_MS_MAX = 86_400_000
LINKS_MAX = 100
SESSIONS_MAX = 1_000
"""Of links and of sessions the oldest makes room."""
IDLE_END_S = 2 * 3_600
"""A session ends so long after its last click; updates that a page gets by itself do not count."""
ABSOLUTE_END_S = 24 * 3_600
SECRET_BYTES = 32
SECRET_CHARACTERS_MAX = 100

T = TypeVar("T")


class ConsoleRole(StrEnum):
    """What a session may do. A viewer sees everything and changes nothing."""

    VIEWER = "viewer"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One signed-in browser.

    Attributes:
        session_id: names it in the audit log; no secret.
        by: the operator whose link it came from, and in whose name it acts.
        role: what it may do.
        begun_ns: when it began, by the steady clock.
        used_ns: when its user last did something, by the same.
    """

    session_id: str
    by: str
    role: ConsoleRole
    begun_ns: int
    used_ns: int


@dataclass(frozen=True, slots=True)
class _Link:
    by: str
    role: ConsoleRole
    ends_ns: int


class SignIn:
    """Links and sessions. All methods are quick and need no lock: one event loop calls them."""

    def __init__(
        self,
        steady_ns: Callable[[], int],
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """Start with nobody signed in.

        Args:
            steady_ns: nanoseconds since any moment; never jumps.
            random_bytes: unguessable bytes, so many.
        """
        self._steady_ns = steady_ns
        self._random_bytes = random_bytes
        self._token_key = random_bytes(SECRET_BYTES)
        self._links: OrderedDict[str, _Link] = OrderedDict()
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def make_link(self, by: str, role: ConsoleRole, lifetime_ms: int) -> str:
        """The secret of a new one-time link."""
        secret = self._random_bytes(SECRET_BYTES).hex()
        ends_ns = self._steady_ns() + lifetime_ms * 1_000_000
        _keep(self._links, _hash(secret), _Link(by, role, ends_ns), LINKS_MAX)
        return secret

    def exchange(self, secret: str) -> tuple[str, Session] | None:
        """Begin a session with a link's secret, which is used up.

        Returns:
            The session's cookie and the session; None for a secret that is unknown, used or over.
        """
        link = self._links.pop(_hash(secret[:SECRET_CHARACTERS_MAX]), None)
        now_ns = self._steady_ns()
        if link is None or link.ends_ns <= now_ns:
            return None
        cookie = self.new_cookie()
        session = Session(
            session_id=f"session_{self._random_bytes(6).hex()}", by=link.by, role=link.role,
            begun_ns=now_ns, used_ns=now_ns)
        _keep(self._sessions, _hash(cookie), session, SESSIONS_MAX)
        return cookie, session

    def session(self, cookie: str, *, is_use: bool) -> Session | None:
        """The session of a cookie, if it has not ended.

        Args:
            cookie: what the browser sent.
            is_use: whether its user has done something, which puts off the idle end.
        """
        key = _hash(cookie[:SECRET_CHARACTERS_MAX])
        session = self._sessions.get(key)
        if session is None:
            return None
        now_ns = self._steady_ns()
        idle_s = (now_ns - session.used_ns) / 1e9
        if idle_s >= IDLE_END_S or (now_ns - session.begun_ns) / 1e9 >= ABSOLUTE_END_S:
            del self._sessions[key]
            return None
        if is_use:
            session = self._sessions[key] = replace(session, used_ns=now_ns)
        return session

    def sign_out(self, cookie: str) -> Session | None:
        """End a session; which it was."""
        return self._sessions.pop(_hash(cookie[:SECRET_CHARACTERS_MAX]), None)

    def matching_sessions(self, text: str) -> tuple[str, ...]:
        """Ids of the sessions that begin so, one that is exactly so alone."""
        known = [session.session_id for session in self._sessions.values()]
        if text in known:
            return (text,)
        return tuple(each for each in known if text and each.startswith(text))

    def end(self, session_id: str) -> Session | None:
        """End a session by its id; which it was."""
        key = next((key for key, session in self._sessions.items()
                    if session.session_id == session_id), "")
        return self._sessions.pop(key, None)

    def new_cookie(self) -> str:
        """A visitor's cookie: it stands for no session yet, but forms can be bound to it."""
        return self._random_bytes(SECRET_BYTES).hex()

    def form_token(self, cookie: str) -> str:
        """What every form sent with this cookie must carry: no other site can know it."""
        return hmac.new(self._token_key, cookie.encode(), hashlib.sha256).hexdigest()

    def is_form_token(self, cookie: str, token: str) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(self.form_token(cookie).encode(), token.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleLink:
    """A one-time URL and when it ends, Unix time."""

    url: str
    expires_at_ns: int


class Door:
    """Lets people into the console, and has the journal know of it."""

    def __init__(self, driver: Driver, sign_in: SignIn, origin: str) -> None:
        """Stand before the console at `origin`, such as `http://127.0.0.1:7702`."""
        self._driver = driver
        self.sign_in = sign_in
        self.origin = origin

    async def make_link(self, by: str, role: str, lifetime_ms: int) -> ConsoleLink:
        """Make a one-time link. The secret is in its fragment, which no browser sends or logs.

        Raises:
            HomespunError: INVALID_ARGUMENT for a role or lifetime that is none.
        """
        if role not in set(ConsoleRole):
            raise HomespunError(
                Code.INVALID_ARGUMENT, f"a session's role is viewer or operator, not {role[:40]!r}")
        if not 0 < lifetime_ms <= LINK_LIFETIME_MS_MAX:
            raise HomespunError(
                Code.INVALID_ARGUMENT,
                f"a link lives 1 ms to 1 day; {lifetime_ms} ms were asked for")
        await self._note(by, "link made", role)
        secret = self.sign_in.make_link(by, ConsoleRole(role), lifetime_ms)
        expires_at_ns = self._driver.now_ns() + lifetime_ms * 1_000_000
        return ConsoleLink(url=f"{self.origin}/sign-in#{secret}", expires_at_ns=expires_at_ns)

    async def enter(self, secret: str, old_cookie: str) -> str | None:
        """Exchange a secret for a session; a session that the browser had before ends.

        Returns:
            The new cookie, never the old one; None for a secret that does not work.
        """
        entered = self.sign_in.exchange(secret)
        if entered is None:
            return None
        self.sign_in.sign_out(old_cookie)
        cookie, session = entered
        await self._note(session.by, "signed in", session.role, session.session_id)
        return cookie

    async def leave(self, cookie: str) -> None:
        """End a browser's session."""
        session = self.sign_in.sign_out(cookie)
        if session is not None:
            await self._note(session.by, "signed out", session.role, session.session_id)

    async def end(self, by: str, session: str) -> str:
        """End the session whose id begins so, in the name of the operator `by`; its id.

        Raises:
            HomespunError: NOT_FOUND, or CONFLICT where several begin so.
        """
        session_id = only_one(
            self.sign_in.matching_sessions(session), session, "session", "broker audit")
        ended = self.sign_in.end(session_id)
        assert ended is not None, "no other has ended it meanwhile: nothing was waited for"
        await self._note(by, "signed out", ended.role, session_id)
        return session_id

    async def _note(self, by: str, action: str, role: str, session_id: str = "") -> None:
        await self._driver.post(ConsoleAccessed(
            at_ns=0, by=by, action=action, role=role, session_id=session_id))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _keep(known: OrderedDict[str, T], key: str, value: T, most: int) -> None:
    known[key] = value
    while len(known) > most:
        known.popitem(last=False)
