"""`chaos-report.json`: a row for each fault, `{fault, n, p50_s, p99_s, violations}` and more.

Rows of other faults stay, so the file can be filled one test at a time.
"""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PATH_VARIABLE = "CHAOS_REPORT"


def path() -> Path:
    """Where the report is kept."""
    return Path(os.environ.get(PATH_VARIABLE, "chaos-report.json"))


def quantile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that so large a share is not above; None of nothing."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def row(
    fault: str, seconds: Sequence[float], violations: Sequence[str], *, n: int | None = None,
    **more: Any,
) -> dict[str, Any]:
    """One row.

    Args:
        fault: its number in the fault matrix, and a variant: `F7 latency`.
        seconds: what each injection took until all was well; empty where no time is asked for.
        violations: of invariants, in words.
        n: how often the fault was injected, if not once per time.
        more: other figures, by name.
    """
    p50, p99 = (quantile(seconds, share) for share in (0.5, 0.99))
    return {
        "fault": fault, "n": len(seconds) if n is None else n,
        "p50_s": None if p50 is None else round(p50, 3),
        "p99_s": None if p99 is None else round(p99, 3),
        "violations": len(violations), "what": list(violations), **more}


def write(fault_row: dict[str, Any]) -> None:
    """Put a row into the report, in place of an older one of the same fault."""
    place = path()
    report = json.loads(place.read_text("utf-8")) if place.is_file() else {}
    rows = {each["fault"]: each for each in report.get("rows", ())}
    rows[fault_row["fault"]] = fault_row
    report = {
        "machine": {"cores": os.cpu_count(), "platform": platform.platform()},
        "rows": [rows[fault] for fault in sorted(rows, key=_order)]}
    partial = place.with_name(f".{place.name}.{os.getpid()}")
    partial.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    os.replace(partial, place)
    print(json.dumps(fault_row))


def _order(fault: str) -> tuple[int, str]:
    number, _, variant = fault.removeprefix("F").partition(" ")
    return int(number), variant
