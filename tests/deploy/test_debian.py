"""The installation in a clean Debian types what the page says: what needs no Debian for that."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "debian_install.sh"
TEXT = SCRIPT.read_text(encoding="utf-8")


def typed() -> str:
    """What the script finds on the page, with the function that it finds it with."""
    found = re.search(r"^block\(\) \{.*?^\}$", TEXT, re.DOTALL | re.MULTILINE)
    called = re.search(r"\$\((block how-to/install\.md .*?)\)\"", TEXT)
    assert found is not None
    assert called is not None
    bash = shutil.which("bash")
    if bash is None or shutil.which("awk") is None:
        pytest.skip("there is no bash or awk here")
    done = subprocess.run(
        [bash, "-euc", f"SOURCE='{ROOT}'\n{found[0]}\n{called[1]}"], capture_output=True, text=True,
        timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_it_types_the_block_of_the_page() -> None:
    lines = typed().splitlines()
    page = (ROOT / "docs" / "how-to" / "install.md").read_text(encoding="utf-8")
    section = page.split("\n## Debian and Ubuntu\n")[1]
    assert section.split("```")[1].strip().splitlines() == lines
    assert lines[0] == "sudo apt-get install python3-venv"


def test_what_it_tries_is_where_the_page_puts_it() -> None:
    (place,) = re.findall(r"INSTALLED=(\S+)", TEXT)
    assert f"python3 -m venv {place}\n" in typed()
    unit = (ROOT / "deploy" / "homespun-broker.service").read_text(encoding="utf-8")
    assert f"ExecStart={place}/bin/broker " in unit
