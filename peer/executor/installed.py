"""What is installed of each executor's framework, found out without importing it."""

from __future__ import annotations

import importlib.metadata
import math
import os
from collections.abc import Mapping

from homespun.errors import Code, HomespunError

NAMES = ("torch", "jax", "onnxruntime", "null")
"""Executors that `peer.executor.registry` can make."""

_DISTRIBUTIONS: Mapping[str, tuple[str, ...]] = {
    "torch": ("torch",), "jax": ("jax", "jaxlib"),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"), "null": (),
}
"""Executor -> packages that its speed and its operators depend on."""
_REQUIREMENTS: Mapping[str, str] = {
    "torch": "torch", "jax": "'homespun[jax]'", "onnxruntime": "'homespun[onnxruntime]'",
}
"""Executor -> what pip is to install; those in brackets are extras of pyproject.toml."""

PACE_VARIABLE = "HOMESPUN_NULL_PACE"
"""Speed of the null executor, as a share of its rates; unset: it takes no time."""


def versions(executor: str) -> str:
    """What an executor's speed depends on besides the machine, for a cache key.

    Installed versions of its packages, "" if there are none; of the null executor its pace.
    """
    if executor == "null":
        return f"pace {pace_asked_for()}"
    found = ((name, _version(name)) for name in _DISTRIBUTIONS[executor])
    return " ".join(f"{name} {version}" for name, version in found if version)


def pace_asked_for() -> float | None:
    """The pace that the environment names.

    Raises:
        HomespunError: BAD_CONFIGURATION if it is not a number above 0.
    """
    text = os.environ.get(PACE_VARIABLE, "")
    if not text:
        return None
    try:
        pace = float(text)
    except ValueError:
        pace = math.nan
    if not 0 < pace < math.inf:
        raise HomespunError(
            Code.BAD_CONFIGURATION,
            f"{PACE_VARIABLE} is {text[:40]!r}; expected a number above 0, such as 0.05.")
    return pace


def check_installed(executor: str) -> None:
    """Refuse an executor that cannot be used here.

    Raises:
        HomespunError: BAD_CONFIGURATION, with what to install.
    """
    if executor not in NAMES:
        raise HomespunError(
            Code.BAD_CONFIGURATION,
            f"Unknown executor '{executor[:40]}'; use one of {', '.join(NAMES)}.",
            executor=executor[:40])
    if _DISTRIBUTIONS[executor] and not versions(executor):
        raise HomespunError(
            Code.BAD_CONFIGURATION,
            f"Executor '{executor}' is not installed here; run: pip install "
            f"{_REQUIREMENTS[executor]}.", executor=executor)


def has_cuda(executor: str) -> bool:
    """Whether the installed build of an executor's framework can use a CUDA device."""
    if executor == "torch":
        version = _version("torch")
        return bool(version) and not version.endswith("+cpu")
    plugins = {"onnxruntime": ("onnxruntime-gpu",),
               "jax": ("jax-cuda12-plugin", "jax-cuda13-plugin")}
    return any(_version(name) for name in plugins.get(executor, ()))


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
