"""What is installed of each executor's framework, found out without importing it."""

from __future__ import annotations

import importlib.metadata
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


def versions(executor: str) -> str:
    """Installed versions of an executor's packages, for a cache key; "" if there are none."""
    found = ((name, _version(name)) for name in _DISTRIBUTIONS[executor])
    return " ".join(f"{name} {version}" for name, version in found if version)


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
