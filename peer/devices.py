"""What devices a machine has, as its operating system and NVML say; no framework is imported."""

from __future__ import annotations

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
    number = int(device.partition(":")[2])
    return _ask_nvml(lambda nvml: int(
        nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByIndex(number)).total)) or 0


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
