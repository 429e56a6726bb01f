"""Taking secrets and names out of text. Pure.

What is left has the same shape, so that a reader still sees that there was a key, an address or a
name, and that two are the same one: each gets a number of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\Z)", re.DOTALL)
_JOIN_KEY = re.compile(r"\bhsk[0-9]+_[A-Za-z0-9_\-=.]+")
_NAMED_SECRET = re.compile(
    r"(?i)((?:password|passwd|secret|token|api[_-]?key|authorization)[\"']?\s*[:=]\s*[\"']?)"
    r"(?!\[)([^\s\"',}]{4,})")
_BEARER = re.compile(r"(?i)\bbearer\s+[A-Za-z0-9._~+/\-]+=*")
_BASE64 = re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{60,}={0,2}(?![A-Za-z0-9+/])")
_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
_IPV6 = re.compile(r"(?<![0-9A-Fa-f:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![0-9A-Fa-f:])")
_MAC = re.compile(r"(?<![0-9A-Fa-f:])(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}(?![0-9A-Fa-f:])")
_EMAIL = re.compile(r"\b[\w.+-]+@[\w-]+\.[\w.-]+\b")
_KEPT_ADDRESSES = frozenset({"127.0.0.1", "0.0.0.0", "::1", "::"})
_TIME = re.compile(r"\d{1,2}:\d{2}(?::\d{2})?")
NAME_LENGTH_MIN = 3
"""Shorter names are parts of too many words."""


class Redaction:
    """Replaces what must not leave the machine; the same thing always by the same word."""

    def __init__(self, names: Iterable[tuple[str, str]]) -> None:
        """Begin.

        Args:
            names: (what is known of this machine and its owner, what to call it), such as
                (`/home/ada`, `HOME`). Longer ones go first.
        """
        known = {text: word for text, word in names if len(text) >= NAME_LENGTH_MIN}
        self._names = [
            (re.compile(_whole(text), re.IGNORECASE), word)
            for text, word in sorted(known.items(), key=lambda each: (-len(each[0]), each[0]))]
        self._numbers: dict[str, dict[str, int]] = {}

    def of(self, text: str) -> str:
        """The text without them."""
        text = _PEM.sub("[PEM]", text)
        text = _JOIN_KEY.sub("[JOIN KEY]", text)
        text = _BEARER.sub("[TOKEN]", text)
        text = _NAMED_SECRET.sub(lambda found: f"{found[1]}[SECRET]", text)
        text = _BASE64.sub("[LONG]", text)
        text = _EMAIL.sub(lambda found: self._numbered("EMAIL", found[0]), text)
        for pattern, word in self._names:
            text = pattern.sub(f"[{word}]", text)
        text = _MAC.sub(lambda found: self._numbered("MAC", found[0]), text)
        text = _IPV4.sub(lambda found: self._address(found[0]), text)
        return _IPV6.sub(lambda found: self._address(found[0]), text)

    def _address(self, text: str) -> str:
        if text in _KEPT_ADDRESSES or _TIME.fullmatch(text):
            return text
        return self._numbered("IP", text)

    def _numbered(self, kind: str, text: str) -> str:
        numbers = self._numbers.setdefault(kind, {})
        return f"[{kind} {numbers.setdefault(text.lower(), len(numbers) + 1)}]"


def _whole(text: str) -> str:
    """A pattern for a name as a word of its own; a path may go on."""
    before = r"(?<!\w)" if text[0].isalnum() else ""
    after = r"(?!\w)" if text[-1].isalnum() else ""
    return before + re.escape(text) + after
