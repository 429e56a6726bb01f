"""One check's answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from homespun.errors import HomespunError


class Verdict(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARN = "warn"
    """It works, and not as well as it could."""
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found.

    Attributes:
        id: stable name.
        verdict: how it came out.
        actual: what is.
        required: what should be.
        remedy: what to do; "" when nothing is to be done.
    """

    id: str
    verdict: Verdict
    actual: str
    required: str
    remedy: str = ""


Check = Callable[[], Iterator[Finding]]


def found_by(checks: Iterable[tuple[str, Check]]) -> list[Finding]:
    """Run checks in order; one that cannot be made has failed, with the reason.

    Args:
        checks: (id, check). A check may yield several findings.
    """
    findings: list[Finding] = []
    for name, check in checks:
        try:
            findings.extend(check())
        except HomespunError as error:
            findings.append(Finding(
                id=name, verdict=Verdict.FAIL, actual=error.message, required="no error",
                remedy=error.remedy))
        except OSError as error:
            findings.append(Finding(
                id=name, verdict=Verdict.FAIL, actual=str(error), required="no error",
                remedy="Correct what the system says."))
    return findings
