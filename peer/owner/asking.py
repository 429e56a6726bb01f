"""The commands' side: say what the owner wants, and wait until it is so."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from homespun.errors import Code, HomespunError
from homespun.units import format_duration
from peer.core.events import Availability
from peer.core.state import LeasePhase
from peer.memory_use import MemoryUse, computing, lives, memory_use
from peer.owner.core.wish import Wish
from peer.owner.wish_file import write_wish
from peer.settings import PeerDirectory
from peer.status_note import daemon_of, read_status

if TYPE_CHECKING:
    import psutil

LOOK_S = 0.1


@dataclass(slots=True)
class Answer:
    """What became of a wish.

    Attributes:
        name: of the peer.
        is_running: whether there was a daemon to tell.
        held: what the daemon still holds, in words.
        ended: ids of the processes that computed when the wish was made and are gone now.
        seconds: that it took.
        memory_before: of the processes and the device, when the wish was made.
        memory_now: the same, when this was answered.
    """

    name: str
    is_running: bool
    held: list[str] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    seconds: float = 0.0
    memory_before: MemoryUse = field(default_factory=MemoryUse)
    memory_now: MemoryUse = field(default_factory=MemoryUse)


class Asking:
    """One wish, from its telling to its end."""

    def __init__(self, directory: PeerDirectory, name: str) -> None:
        self._directory = directory
        self._began_s = time.monotonic()
        self._status = read_status(directory)
        self._daemon = daemon_of(self._status)
        self._executors: dict[int, psutil.Process] = {}
        self._wish_id = ""
        self._name = name
        self._look()
        self._memory_before = self._memory()

    @property
    def is_running(self) -> bool:
        """Whether there is a daemon to tell."""
        return self._daemon is not None

    def tell(
        self, availability: Availability, deadline_ms: int = 0, until_unix_ms: int = 0
    ) -> None:
        """Leave the wish for the daemon, and for every later start; fields as of `Wish`.

        Raises:
            HomespunError: BAD_CONFIGURATION when it cannot be written.
        """
        self._wish_id = secrets.token_hex(8)
        write_wish(self._directory, Wish(
            id=self._wish_id, availability=availability, deadline_ms=deadline_ms,
            until_unix_ms=until_unix_ms))

    def is_heard(self) -> bool:
        """The daemon has taken the wish into account, or has ended since."""
        return not self._is_alive() or self._status.get("wish_id") == self._wish_id

    def is_free(self) -> bool:
        """The wish was heard, nothing is held, and no process computes any more."""
        return self.is_heard() and not self._held() and not self._computing()

    def is_gone(self) -> bool:
        """The daemon has ended, and all that computed for it."""
        return not self._is_alive() and not self._computing()

    def wait(self, is_so: Callable[[], bool], what: str, timeout_s: float) -> Answer:
        """Look again and again until it is so.

        Args:
            is_so: one of this object's questions.
            what: the state waited for, for the message: `paused`.
            timeout_s: how long.

        Raises:
            HomespunError: TIMED_OUT, and what is still held; the wish stands.
        """
        while not is_so():
            if time.monotonic() - self._began_s > timeout_s:
                raise self._too_late(what)
            time.sleep(LOOK_S)
            self._look()
        return self.answer()

    def answer(self) -> Answer:
        """How things are."""
        return Answer(
            name=self._name, is_running=self.is_running, held=self._held(),
            ended=sorted(pid for pid, process in self._executors.items() if not lives(process)),
            seconds=time.monotonic() - self._began_s,
            memory_before=self._memory_before, memory_now=self._memory())

    # --- parts ---------------------------------------------------------------------------------

    def _look(self) -> None:
        """Read the newest note, and remember every process that has computed since."""
        self._status = read_status(self._directory) or self._status
        self._executors.update(computing(self._daemon))

    def _memory(self) -> MemoryUse:
        if self._daemon is None:
            return MemoryUse()
        return memory_use(self._executors.values(), str(self._status.get("gpu", "")))

    def _is_alive(self) -> bool:
        return self._daemon is not None and lives(self._daemon)

    def _computing(self) -> list[int]:
        return [pid for pid, process in self._executors.items() if lives(process)]

    def _held(self) -> list[str]:
        if not self._is_alive():
            return []
        return held_in_words(self._status)

    def _too_late(self, what: str) -> HomespunError:
        waited = format_duration(time.monotonic() - self._began_s)
        if not self.is_heard():
            reason = "its daemon does not answer"
        elif held := self._held():
            reason = f"it still holds {', '.join(held)}"
        elif computing := self._computing():
            reason = f"processes {', '.join(map(str, computing))} have not ended"
        else:
            reason = "its daemon has not ended"
        return HomespunError(
            Code.TIMED_OUT, f"{self._name} is not {what} after {waited}: {reason}. The wish "
            "stands; look with `peer status`.", held="; ".join(self._held()))


def held_in_words(status: Mapping[str, Any]) -> list[str]:
    """What a status note says is held: `segment 1 of job_000003 (running)`.

    A finished segment is not: all that is left of it is what others may want to read again.
    """
    held = [
        f"segment {lease['segment']} of {lease['job_id']} ({_phase_in_words(lease)})"
        for lease in status.get("leases", []) if lease["phase"] != LeasePhase.FINISHED]
    return held + [
        f"a standby for segment {standby['segment']} of {standby['job_id']}"
        for standby in status.get("standbys", [])]


def _phase_in_words(lease: Mapping[str, Any]) -> str:
    waits = wait_in_words(lease)
    return f"{lease['phase']}, waits for {waits}" if waits else str(lease["phase"])


def wait_in_words(lease: Mapping[str, Any]) -> str:
    """What a lease in a status note waits for, from whom and for how long; "" if it does not."""
    if not lease["waiting_for"]:
        return ""
    owner = lease["waiting_from"] or "nobody yet"
    return f"{lease['waiting_for']} from {owner} for {format_duration(lease['waiting_s'])}"
