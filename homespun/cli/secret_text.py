"""Secrets on the command line: from a file or standard input, so that `ps` does not show them."""

from __future__ import annotations

import sys
from pathlib import Path

from homespun.errors import Code, HomespunError

MAX_SECRET_CHARACTERS = 4_096


def read_secret(text: str) -> str:
    """The secret that an option names: `file:PATH`, `-` for standard input, or the text itself.

    Raises:
        HomespunError: NOT_FOUND or INVALID_ARGUMENT when there is no such secret.
    """
    if text == "-":
        secret = sys.stdin.read(MAX_SECRET_CHARACTERS + 1)
    elif text.startswith("file:"):
        path = Path(text.removeprefix("file:"))
        try:
            with path.open(encoding="utf-8") as file:
                secret = file.read(MAX_SECRET_CHARACTERS + 1)
        except FileNotFoundError as error:
            raise HomespunError(Code.NOT_FOUND, f"There is no file {path}.") from error
        except UnicodeDecodeError as error:
            raise HomespunError(
                Code.INVALID_ARGUMENT, f"{path} is not a text file: it holds no key.") from error
    else:
        secret = text
    if not secret.strip() or len(secret) > MAX_SECRET_CHARACTERS:
        raise HomespunError(
            Code.INVALID_ARGUMENT,
            f"A key of 1 to {MAX_SECRET_CHARACTERS} characters was expected.")
    return secret.strip()
