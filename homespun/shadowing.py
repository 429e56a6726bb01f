"""Make sure that `dag`, `ir`, `peer` and `broker` are ours before anything imports them.

These folders are top-level packages, so a user's own `dag.py` beside a notebook would win over
ours and fail much later with a riddle. Looking is cheap: nothing is imported here.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

from homespun.errors import Code, HomespunError

OWN_PACKAGES = ("dag", "ir", "peer", "broker")
_ROOT = Path(__file__).resolve().parent.parent


def check_own_packages() -> None:
    """Check that each of `OWN_PACKAGES` would be imported from where `homespun` itself lives.

    Raises:
        HomespunError: SHADOWED_MODULE, with the file that hides a package and the way out.
    """
    for name in OWN_PACKAGES:
        found = _location(name)
        if found is not None and found != _ROOT / name:
            raise _shadowed(name, found)


def _location(name: str) -> Path | None:
    """The file or folder that `import name` would load; None when there is no such module."""
    spec = _spec(name)
    if spec is None:
        return None
    if spec.origin is not None and spec.has_location:
        path = Path(spec.origin).resolve()
        return path.parent if path.stem == "__init__" else path
    places = list(spec.submodule_search_locations or [])
    return Path(places[0]).resolve() if places else None


def _spec(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except ValueError:  # a module without a spec is loaded under this name: look where it is from
        path = getattr(sys.modules[name], "__file__", None)
        return ModuleSpec(name, None, origin=path) if path is None else (
            importlib.util.spec_from_file_location(name, path))


def _shadowed(name: str, found: Path) -> HomespunError:
    kind = "folder" if found.is_dir() else "file"
    imported = name in sys.modules
    suggestion = found.with_name(f"my_{found.name}")
    return HomespunError(
        Code.SHADOWED_MODULE,
        f"Your {kind} {str(found)!r} hides Homespun's package {name!r}, because Python looks in "
        f"{str(found.parent)!r} first. Rename it (for example to {suggestion.name!r}), or run "
        f"Python from another directory, or with `python -P` so that the script's own directory "
        f"is not searched."
        + (" It is already imported: restart Python afterwards." if imported else ""),
        package=name, hidden_by=found, expected=_ROOT / name,
    )
