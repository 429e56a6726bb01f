"""A daemon's settings, which its owner may change while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import structlog

from homespun.errors import HomespunError
from peer.settings import PeerDirectory, PeerSettings

log = structlog.get_logger(__name__)


class LiveSettings:
    """What holds now: the file, and over it what the daemon was started with."""

    def __init__(
        self, directory: PeerDirectory, settings: PeerSettings, overrides: Mapping[str, Any],
        on_change: Callable[[PeerSettings, PeerSettings], None] = lambda before, after: None,
    ) -> None:
        """Begin.

        Args:
            directory: with the file.
            settings: that were read of it, `overrides` included.
            overrides: fields that flags have set, whatever the file says.
            on_change: told the settings before and after each change.
        """
        self._directory = directory
        self._overrides = dict(overrides)
        self._on_change = on_change
        self._seen = self._signature()
        self.current = settings

    @property
    def overrides(self) -> Mapping[str, Any]:
        """Fields that flags have set, with their values."""
        return self._overrides

    def look(self) -> bool:
        """Whether the file has brought other settings; one that cannot be read brings none."""
        signature = self._signature()
        if signature in (None, self._seen):
            return False
        self._seen = signature
        try:
            found = replace(self._directory.load_settings(), **self._overrides)
        except HomespunError as error:
            log.warning("settings_not_read", reason=error.message)
            return False
        before, self.current = self.current, found
        if found == before:
            return False
        self._on_change(before, found)
        return True

    def _signature(self) -> tuple[int, int] | None:
        try:
            found = self._directory.settings.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns
