"""What people install: the source distribution is complete, and the wheel made of it works alone.

The wheel goes into an environment that has nothing else of this repository. Its dependencies are
those of the environment that the tests run in; `tests/e2e/test_newcomer.py` installs them anew too.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"broker", "dag", "homespun", "ir", "peer", "sim"}
PROGRAMS = ("homespun", "broker", "peer")
CONSOLE = Path("broker/console")
BUILD = """
import sys
from setuptools import build_meta
print(getattr(build_meta, sys.argv[1])(sys.argv[2]))
"""


def run(*command: str, cwd: Path) -> str:
    """Output of a command that must succeed, in an environment without our paths."""
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True,
                          timeout=280, check=False)
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-4_000:]
    return done.stdout


def build(what: str, source: Path, target: Path) -> Path:
    """Run the build backend in `source`; the file that it made in `target`."""
    target.mkdir(exist_ok=True)
    printed = run(sys.executable, "-c", BUILD, what, str(target), cwd=source)
    return target / printed.splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, built from a copy: builds leave things behind."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("which files belong to the project is known only in a git checkout")
    place = tmp_path_factory.mktemp("sdist")
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (place / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / "source" / name)
    return build("build_sdist", place / "source", place / "dist")


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from what the source distribution holds."""
    place = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(place, filter="data")
    (source,) = [path for path in place.iterdir() if path.is_dir()]
    return build("build_wheel", source, place / "dist")


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel in it; where its programs are."""
    place = tmp_path_factory.mktemp("environment") / "env"
    venv.create(place, with_pip=False)
    programs = place / ("Scripts" if os.name == "nt" else "bin")
    python = programs / Path(sys.executable).name
    site = Path(run(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))",
                    cwd=place).strip())
    run(sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index",
        "--ignore-installed", "--quiet", str(wheel), cwd=place)
    own = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    borrowed = [path for path in sys.path if path in own or path.endswith("site-packages")]
    (site / "dependencies.pth").write_text("\n".join(borrowed) + "\n", encoding="utf-8")
    return programs


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_source_distribution_has_what_belongs_to_the_project(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for folder, pattern in (("proto", "*.proto"), ("docs/schemas", "*.json"), ("deploy", "*")):
        wanted = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob(pattern)}
        assert wanted
        assert wanted <= names
    assert {"constraints.txt", "Makefile", "scripts/newcomer.sh", "docs/conf.py"} <= names
    assert not [name for name in names if name.startswith((".venv", "build/", "demo-run/"))]


def test_the_wheel_holds_our_packages_and_nothing_else(wheel: Path) -> None:
    top = {name.partition("/")[0] for name in names_in(wheel)}
    (information,) = [name for name in top if name.endswith(".dist-info")]
    assert top - {information} == PACKAGES


def test_the_wheel_has_every_module_and_the_data(wheel: Path) -> None:
    wanted = {path.relative_to(ROOT).as_posix()
              for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    wanted |= {path.relative_to(ROOT).as_posix() for folder in ("templates", "assets")
               for path in (ROOT / CONSOLE / folder).iterdir() if path.is_file()}
    assert not wanted - names_in(wheel)
    assert [name for name in wanted if name.endswith((".html", ".css", ".js"))]


def test_what_the_containerfile_copies_makes_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    first_stage = (ROOT / "Containerfile").read_text(encoding="utf-8").split("\nFROM ")[1]
    names = [name for line in first_stage.splitlines() if line.startswith("COPY ")
             for name in line.split()[1:-1]]
    for name in names:
        source, target = ROOT / name, tmp_path / "source" / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(exist_ok=True)
            shutil.copy2(source, target)
    again = build("build_wheel", tmp_path / "source", tmp_path / "dist")
    assert names_in(again) == names_in(wheel)


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_installed_command_answers(installed: Path, program: str, tmp_path: Path) -> None:
    printed = run(str(installed / program), "--help", cwd=tmp_path)
    assert printed.startswith(f"Usage: {program} ")


def test_what_runs_is_what_was_installed(installed: Path, tmp_path: Path) -> None:
    """All packages come from the new environment, and the package's data with them."""
    script = (f"import importlib, json; from importlib.resources import files; "
              f"where = {{name: importlib.import_module(name).__file__ for name in {PACKAGES!r}}}; "
              f"data = [each.name for part in ('templates', 'assets') "
              f"for each in (files('broker.console') / part).iterdir()]; "
              f"print(json.dumps([where, data]))")
    where, data = json.loads(run(str(installed / Path(sys.executable).name), "-c", script,
                                 cwd=tmp_path))
    home = installed.parent.resolve()
    assert all(Path(path).resolve().is_relative_to(home) for path in where.values()), where
    assert {"console.css", "console.js", "layout.html"} <= set(data)


def test_an_installed_broker_makes_a_network(installed: Path, tmp_path: Path) -> None:
    printed = run(str(installed / "broker"), "init", str(tmp_path / "network"), "--listen",
                  "127.0.0.1:7700", "--no-announce", "--json", cwd=tmp_path)
    assert json.loads(printed)["schema"] == "network"
    assert (tmp_path / "network" / "broker.json").is_file()
