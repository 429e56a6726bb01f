"""The lock against a second process, and against one that dies."""

import subprocess
import sys

import pytest

from homespun.directory_lock import locked
from homespun.errors import Code, HomespunError

HOLDER = """
import sys, time
from pathlib import Path
from homespun.directory_lock import locked
with locked(Path(sys.argv[1]), "peer run"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path):
    directory = tmp_path / "new" / "peer"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory)], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline().strip() == b"held"
        with pytest.raises(HomespunError) as caught, locked(directory, "peer run"):
            pass
        holder.kill()
    assert caught.value.code is Code.BAD_CONFIGURATION
    assert str(directory) in caught.value.message
    with locked(directory, "peer run"):
        pass


def test_a_directory_that_cannot_be_made_is_said_so(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(HomespunError) as caught, locked(tmp_path / "file", "peer run"):
        pass
    assert caught.value.code is Code.BAD_CONFIGURATION
