"""Commands answer `--help` at once: no framework, no wire library is loaded for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.command_start import PROGRAMS, commands

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "jax", "onnxruntime", "transformers", "grpc", "onnx", "onnx_ir", "onnxscript",
         "numpy", "scipy", "numba", "safetensors", "msgspec", "rich", "sqlalchemy", "starlette",
         "uvicorn", "jinja2", "prometheus_client", "psutil", "zeroconf", "platformdirs", "asyncio",
         "google.protobuf", "cryptography", "networkx", "structlog")
_PROBE = """
import json, sys
from {program}.cli import main
try:
    main({arguments!r})
except SystemExit as stop:
    status = stop.code
else:
    status = 0
sys.stdout.flush()
print("\\n" + json.dumps([status, [*sys.modules]]))
"""


def start(program: str, arguments: list[str]) -> tuple[int, set[str], str]:
    """Run a command in a fresh interpreter: exit code, loaded modules, what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", _PROBE.format(program=program, arguments=arguments)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )
    assert done.returncode == 0, done.stderr
    printed, _, last = done.stdout.rstrip().rpartition("\n")
    status, modules = json.loads(last)
    return status or 0, set(modules), printed


CASES = [(program, arguments) for program in PROGRAMS for arguments in commands(program)]


@pytest.mark.parametrize(
    ("program", "arguments"), CASES, ids=[" ".join([p, *a]) for p, a in CASES]
)
def test_help_is_light(program: str, arguments: list[str]) -> None:
    status, modules, printed = start(program, [*arguments, "--help"])
    assert status == 0
    assert "Usage:" in printed
    assert not modules & set(HEAVY)


def test_all_programs_are_seen() -> None:
    assert {program for program, _ in CASES} == set(PROGRAMS)
