"""Measure what a device really does: the rates that the planner divides by.

The executor's framework is imported only in a child process (`python -m peer.hardware`), so that
the daemon stays small and a broken driver cannot take it down; the child also says what the
executor can run. Answers are cached by everything that could change them. What the device is, and
how much memory it has, is asked of psutil and NVML.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
import structlog

from dag.cluster import PeerRates, problem_with_rates
from dag.support import ExecutorSupport
from homespun.errors import Code, HomespunError
from homespun.version import SOFTWARE_VERSION
from ir.operators import OPERATORS
from peer import devices
from peer.executor.installed import check_installed, has_cuda, versions

log = structlog.get_logger(__name__)

MEASURE_TIMEOUT_S = 120.0
"""For the child, import of torch included; measuring itself takes about 10 s."""
CPU_MEMORY_SHARE = 0.5
GPU_MEMORY_SHARE = 0.9
CACHE_BYTES_MAX = 256 * 1024
_DEVICE = re.compile(r"cpu|cuda:\d{1,2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareReport:
    """One device, as measured.

    Attributes:
        device: `cpu` or `cuda:N`.
        device_name: the hardware's own name.
        memory_bytes: memory offered by default: half of the RAM, 90 % of a GPU's memory.
        rates: measured speeds.
        platform: operating system and processor architecture.
        threads: CPU threads that computed.
        executor: name of the executor that was measured.
        support: what it can run.
        measured_unix_s: when.
        refined_unix_s: when real tasks last corrected it; 0 for never.
    """

    device: str
    device_name: str
    memory_bytes: int
    rates: PeerRates
    platform: str
    threads: int
    executor: str
    support: ExecutorSupport
    measured_unix_s: int
    refined_unix_s: int = 0


def resolve_device(device: str, executor: str = "torch") -> str:
    """The device that a setting means: `auto` is the first GPU that can be used, else `cpu`.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        executor: whose installed build has to be able to use a GPU.

    Raises:
        HomespunError: BAD_CONFIGURATION for text that names no kind of device.
    """
    if device == "auto":
        return "cuda:0" if has_cuda(executor) and devices.gpu_names() else "cpu"
    if device == "cuda":
        return "cuda:0"
    if _DEVICE.fullmatch(device) is None:
        raise HomespunError(
            Code.BAD_CONFIGURATION,
            f"Device {device[:40]!r} is not known: `auto`, `cpu` or `cuda:N` expected.")
    return device


def resolve_threads(threads: int) -> int:
    """CPU threads that a setting means: 0 is half of the physical cores, and one at least."""
    import psutil

    return threads if threads > 0 else max(1, (psutil.cpu_count(logical=False) or 1) // 2)


def hardware_report(
    device: str, threads: int, cache: Path, executor: str = "torch", *, fresh: bool = False
) -> HardwareReport:
    """The report from the cache, or a new one if hardware, driver, framework or settings changed.

    Args:
        device: as in `resolve_device`.
        threads: as in `resolve_threads`.
        cache: JSON file to keep the report in. An unreadable one is as good as none.
        executor: name of the executor to measure.
        fresh: whether to measure whatever the cache has.

    Raises:
        HomespunError: as `measure`; BAD_CONFIGURATION if the executor is not installed.
    """
    check_installed(executor)
    found, threads = resolve_device(device, executor), resolve_threads(threads)
    key = cache_key(found, threads, executor)
    if not fresh and (known := _cached(cache, key)) is not None:
        return known
    try:
        report = measure(found, threads, executor)
    except HomespunError as error:
        if device != "auto" or found == "cpu" or error.code != Code.BAD_CONFIGURATION:
            raise
        # A driver too old for this framework: nobody asked for the GPU, so do without it.
        report = measure("cpu", threads, executor)
    _keep(cache, key, report)
    return report


def remember(report: HardwareReport, cache: Path) -> None:
    """Keep what tasks have taught about a device for the next start; a full disk costs only that.

    Args:
        report: with the newest corrections.
        cache: as in `hardware_report`.
    """
    try:
        _keep(cache, cache_key(report.device, report.threads, report.executor), report)
    except OSError as error:
        log.warning("hardware_not_kept", path=str(cache), reason=str(error))


def _keep(cache: Path, key: dict[str, str], report: HardwareReport) -> None:
    """Replace the cache in one step."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    partial = cache.with_name(cache.name + ".new")
    partial.write_text(json.dumps({"key": key, "report": asdict(report)}), encoding="utf-8")
    os.replace(partial, cache)


def measure(device: str, threads: int, executor: str = "torch") -> HardwareReport:
    """Measure a device in a child process. Takes a few seconds.

    Raises:
        HomespunError: BAD_CONFIGURATION if the executor cannot use the device; EXECUTOR_DIED if the
            child failed, with its last words; TIMED_OUT after `MEASURE_TIMEOUT_S`.
    """
    device, threads = resolve_device(device, executor), resolve_threads(threads)
    command = [
        # -P: the folder that the daemon was started in must not hide our packages.
        sys.executable, "-P", "-m", "peer.hardware", "--executor", executor, "--device", device,
        "--threads", str(threads)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    try:
        child = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=MEASURE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise HomespunError(
            Code.TIMED_OUT,
            f"Measuring {device} took longer than {MEASURE_TIMEOUT_S:.0f} s. Is it in use?",
        ) from error
    except OSError as error:
        raise HomespunError(
            Code.EXECUTOR_DIED, f"Measuring {device} could not start: {error}.") from error
    return _answer_of(child, device)


def cache_key(device: str, threads: int, executor: str = "torch") -> dict[str, str]:
    """Everything that the report depends on, found out without the framework."""
    return {
        "device": device,
        "device_name": devices.device_name(device),
        "driver": devices.driver_version() if device != "cpu" else "",
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES", "") if device != "cpu" else "",
        "executor": executor,
        "versions": versions(executor),
        "homespun": f"{SOFTWARE_VERSION}, {len(OPERATORS)} operators",
        "threads": str(threads),
    }


def measure_here(device: str, threads: int, executor: str) -> HardwareReport:
    """Measure in this process, which imports the framework and is set up as for a job.

    Raises:
        HomespunError: BAD_CONFIGURATION if the executor cannot use the device.
    """
    from peer.executor.registry import create

    runtime = create(executor, device, threads)
    capability, rates = runtime.capability(), runtime.measured_rates()
    share = CPU_MEMORY_SHARE if device == "cpu" else GPU_MEMORY_SHARE
    return HardwareReport(
        device=device,
        device_name=devices.device_name("cpu") if device == "cpu" else capability.device_name,
        memory_bytes=int(share * capability.memory_bytes),
        rates=rates, platform=f"{platform.system()} {platform.machine()}", threads=threads,
        executor=executor, support=capability.support, measured_unix_s=int(time.time()))


def _answer_of(child: subprocess.CompletedProcess[str], device: str) -> HardwareReport:
    lines = child.stdout.strip().splitlines()
    try:
        answer = json.loads(lines[-1])
        if "code" in answer:
            raise HomespunError(Code(answer["code"]), str(answer["message"]))
        return _report_from(answer)
    except (IndexError, ValueError, KeyError, TypeError) as error:
        last_words = child.stderr.strip().splitlines()[-1:] or ["nothing"]
        raise HomespunError(
            Code.EXECUTOR_DIED,
            f"Measuring {device} ended with code {child.returncode} and said: "
            f"{last_words[0][:500]}.") from error


def _report_from(fields: object) -> HardwareReport:
    """A report from untyped data; ValueError if it is not one."""
    report = msgspec.convert(fields, HardwareReport)
    if report.memory_bytes <= 0 or report.threads <= 0:
        raise ValueError("a field has a senseless value")
    if problem := problem_with_rates(report.rates):
        raise ValueError(problem)
    return report


def _cached(cache: Path, key: dict[str, str]) -> HardwareReport | None:
    """What was measured before, if nothing that it depends on has changed."""
    try:
        with cache.open("rb") as file:
            data = file.read(CACHE_BYTES_MAX + 1)
        if len(data) > CACHE_BYTES_MAX:
            raise ValueError(f"it is larger than {CACHE_BYTES_MAX} bytes")
        kept = json.loads(data)
        return _report_from(kept["report"]) if kept["key"] == key else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        log.warning("hardware_cache_unusable", path=str(cache), reason=repr(error)[:300])
        return None


def main(arguments: list[str]) -> None:
    """Print one line of JSON: the report, or `code` and `message` of an error."""
    import argparse

    parser = argparse.ArgumentParser(prog="peer.hardware")
    parser.add_argument("--executor", required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args(arguments)
    try:
        device = resolve_device(options.device, options.executor)
        report = measure_here(device, resolve_threads(options.threads), options.executor)
        print(json.dumps(asdict(report)), flush=True)
    except HomespunError as error:
        print(json.dumps({"code": error.code, "message": error.message}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
