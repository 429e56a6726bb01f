"""Callbacks that fail, lag or hang: the others are told everything, and nobody waits for long."""

import logging
import threading
import time

import pytest

from homespun.callbacks import Callback
from homespun.callbacks.delivery import Delivery, Reporter, check_callbacks
from homespun.callbacks.events import Ending
from homespun.errors import Code, HomespunError

SOON_S = 0.05
PATIENCE_S = 60.0
"""Only so that a defect ends the test; nothing depends on the value."""


@pytest.fixture(autouse=True)
def _warnings(caplog):
    caplog.set_level(logging.WARNING, "homespun.callbacks")


class Failing(Callback):
    def __init__(self, error):
        self._error = error

    def on_step(self, metric):
        raise self._error

    on_end = on_step


@pytest.mark.parametrize("error", [OSError("the disk is full"), SystemExit(3)])
def test_a_failing_callback_is_named_once_and_harms_nobody(lab, caplog, error):
    good = lab.Recorder()
    lab.tell(Reporter([Failing(error), good], end_s=PATIENCE_S))
    assert good.calls == lab.calls
    first, summary = (record.getMessage() for record in caplog.records)
    assert "Failing failed" in first
    assert str(error) in first
    assert "Failing has failed 4 times and missed 0 events" in summary


def test_it_goes_on_after_a_failure(lab, caplog):
    def fail_once(call):
        if call == ("step", (0, 3.0)):
            raise ConnectionError("the server is away")

    callback = lab.Recorder(fail_once)
    lab.tell(Reporter([callback], end_s=PATIENCE_S))
    assert callback.calls == [call for call in lab.calls if call != ("step", (0, 3.0))]
    assert len(caplog.records) == 1


def test_a_slow_callback_loses_events_and_nobody_waits_for_it(lab, caplog):
    go_on, begun = threading.Event(), threading.Event()

    def wait(call):
        begun.set()
        assert go_on.wait(PATIENCE_S)

    slow = lab.Recorder(wait)
    delivery = Delivery(slow, capacity=3)
    for event in range(2):
        delivery.tell(lab.update(steps=[(event, 1.0)]).steps[0])
        assert begun.wait(PATIENCE_S)  # the first one is with the callback; the rest waits
    for step in range(2, 10):
        delivery.tell(lab.update(steps=[(step, 1.0)]).steps[0])
    assert delivery.dropped == 6
    delivery.end(Ending(status=lab.update("succeeded").status))
    go_on.set()
    delivery.wait(time.monotonic() + PATIENCE_S)
    assert delivery.dropped == 7  # the last event has taken the place of the oldest one
    assert "Recorder has failed 0 times and missed 7 events" in caplog.text


def test_a_hanging_callback_is_left_alone(lab, caplog):
    release = threading.Event()
    hanging, good = lab.Recorder(lambda call: release.wait(PATIENCE_S)), lab.Recorder()
    reporter = Reporter([hanging, good], end_s=SOON_S)
    try:
        lab.tell(reporter)
        assert not hanging.calls
        assert "Recorder is still busy" in caplog.text
    finally:
        release.set()
    reporter.deliveries[1].wait(time.monotonic() + PATIENCE_S)
    assert good.calls == lab.calls


def test_watching_that_ends_before_the_job_says_so(lab):
    seen = []

    class Last(Callback):
        def on_end(self, status):
            seen.append((status.state, status.is_final))

    with Reporter([Last()], end_s=PATIENCE_S) as report:
        report(lab.update("running"))
    assert seen == [("running", False)]


def test_without_an_update_nothing_begins(lab):
    callback = lab.Recorder()
    with Reporter([callback]) as reporter:
        pass
    assert (callback.calls, reporter.deliveries) == ([], ())


@pytest.mark.parametrize("given", [[Callback, 1], Callback, [print], None])
def test_what_is_no_callback_is_refused(given):
    with pytest.raises(HomespunError, match=r"homespun\.callbacks\.Callback") as caught:
        check_callbacks(given)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_one_callback_needs_no_list(lab):
    callback = lab.Recorder()
    assert check_callbacks(callback) == check_callbacks([callback]) == (callback,)
