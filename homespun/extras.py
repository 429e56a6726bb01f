"""Libraries that are needed for one thing only and installed with an extra."""

from __future__ import annotations

import importlib
from typing import Any

from homespun.errors import Code, HomespunError


def load_extra(module: str, extra: str, purpose: str) -> Any:
    """Import a module that may not be installed.

    Args:
        module: its full name.
        extra: of this distribution, which installs it.
        purpose: what needs it, as the beginning of a sentence.

    Raises:
        HomespunError: BAD_CONFIGURATION, with what to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = error.name or module
        raise HomespunError(
            Code.BAD_CONFIGURATION,
            f"{purpose} needs {missing.partition('.')[0]}, which cannot be imported here "
            f"({error}); run: pip install 'homespun[{extra}]'.", module=module, extra=extra,
        ) from error
