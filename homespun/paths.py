"""Where the client keeps things on this machine, by the platform's conventions."""

from __future__ import annotations

import os
from pathlib import Path

CREDENTIALS_VARIABLE = "HOMESPUN_CREDENTIALS"


def credentials_directory(chosen: Path | str | None = None) -> Path:
    """Directory of the submitter's identity: as given, else $HOMESPUN_CREDENTIALS, else default."""
    import platformdirs

    if chosen is not None:
        return Path(chosen)
    if from_environment := os.environ.get(CREDENTIALS_VARIABLE):
        return Path(from_environment)
    return Path(platformdirs.user_config_path("homespun", appauthor=False)) / "client"


def cache_directory() -> Path:
    """Directory of what can be fetched again: blobs on their way to a result."""
    import platformdirs

    return Path(platformdirs.user_cache_path("homespun", appauthor=False))
