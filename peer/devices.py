"""What devices a machine has, as its operating system and NVML say; no framework is imported."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Callable
from typing import Any


def device_name(device: str) -> str:
    """The hardware's own name for a device."""
    if device == "cpu":
        return _processor_name()
    names, number = gpu_names(), int(device.partition(":")[2])
    return names[number] if number < len(names) else device


def _processor_name() -> str:
    if sys.platform == "linux":
        try:
            with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
                found = re.search(r"^model name\s*:\s*(.+)$", file.read(65536), re.MULTILINE)
        except OSError:
            found = None
        if found:
            return found.group(1).strip()
    return platform.processor() or platform.machine() or "cpu"


def gpu_names() -> list[str]:
    """Names of the NVIDIA devices; none without a driver."""
    return _ask_nvml(lambda nvml: [
        _text(nvml.nvmlDeviceGetName(nvml.nvmlDeviceGetHandleByIndex(number)))
        for number in range(nvml.nvmlDeviceGetCount())]) or []


def device_memory_bytes(device: str) -> int:
    """Memory of `cuda:N` in total, as the driver says; 0 if it does not."""
    name = nvml_name(device)
    return _ask_nvml(lambda nvml: int(
        nvml.nvmlDeviceGetMemoryInfo(nvml_handle(nvml, name)).total)) or 0


def used_memory_bytes(name: str) -> int | None:
    """Memory of a GPU that all programs together use; None if the driver does not say.

    Args:
        name: as of `nvml_name`.
    """
    used = _ask_nvml(lambda nvml: int(nvml.nvmlDeviceGetMemoryInfo(nvml_handle(nvml, name)).used))
    return None if used is None else int(used)


def nvml_name(device: str, visible: str | None = None) -> str:
    """What NVML calls `cuda:N`: its index, or its UUID where that is what was made visible.

    Args:
        device: as the frameworks count.
        visible: the variable that says what they see; None for this process's.
    """
    if visible is None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    number = int(device.partition(":")[2])
    names = [name.strip() for name in visible.split(",") if name.strip()]
    return names[number] if number < len(names) else str(number)


def nvml_handle(nvml: Any, name: str) -> Any:
    """NVML's handle of a device by its name."""
    if name.isdigit():
        return nvml.nvmlDeviceGetHandleByIndex(int(name))
    return nvml.nvmlDeviceGetHandleByUUID(name)


def driver_version() -> str:
    """Version of the NVIDIA driver; empty without one."""
    return _ask_nvml(lambda nvml: _text(nvml.nvmlSystemGetDriverVersion())) or ""


def _ask_nvml(question: Callable[[Any], Any]) -> Any:
    """Ask the driver; None if there is none or it does not answer."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return question(pynvml)
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def _text(name: str | bytes) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else name
