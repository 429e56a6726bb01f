"""What a user can catch: a few classes, found by the code."""

from __future__ import annotations

import pytest

import homespun
from homespun.errors import CATALOG, CLASSES, Code, HomespunError, JobFailed


@pytest.mark.parametrize("code", Code)
def test_each_code_gives_its_class(code):
    error = HomespunError(code, "Something happened.", peer="attic")
    assert type(error) is CLASSES.get(code, HomespunError)
    assert (error.code, error.message, error.details) == (
        code, "Something happened.", {"peer": "attic"})
    assert str(error).endswith(CATALOG[code].remedy)


@pytest.mark.parametrize("code", Code)
def test_whatever_ends_a_job_is_a_failed_job(code):
    error = JobFailed(code, "The job failed.")
    assert isinstance(error, JobFailed)
    assert error.code is code
    assert isinstance(error, homespun.CannotPlace) == (code is Code.CANNOT_PLACE)


def test_all_classes_are_public_and_say_what_to_do():
    for found in {*CLASSES.values(), JobFailed}:
        assert getattr(homespun, found.__name__) is found
        assert found.__doc__.count(".") >= 2


def test_a_class_is_caught_as_the_general_error():
    with pytest.raises(HomespunError):
        raise homespun.Unreachable(Code.UNREACHABLE, "The broker at nas:7700 is away.")
