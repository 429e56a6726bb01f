import pytest

from peer.core.events import TaskKind
from peer.time_sheet import TimeSheet

FORWARD, BACKWARD, UPDATE = TaskKind.FORWARD, TaskKind.BACKWARD, TaskKind.UPDATE


def play(sheet, tasks, now_s):
    """Run (kind, idle before, compute, handover) tasks; returns the time and what `end` said."""
    ended = []
    for kind, idle_s, compute_s, handover_s in tasks:
        now_s += idle_s
        sheet.begin(kind, now_s)
        now_s += compute_s + handover_s
        ended.append(sheet.end(kind, compute_s, compute_s / 2, now_s))
    return now_s, ended


def test_only_the_steps_after_the_first_are_counted():
    sheet = TimeSheet()
    step = [(FORWARD, 1.0, 2.0, 0.5), (BACKWARD, 4.0, 8.0, 0.25), (UPDATE, 0.125, 1.0, 0.25)]
    now_s, ended = play(sheet, step, 100.0)
    assert ended == [False, False, True]
    now_s, ended = play(sheet, step, now_s)
    assert ended == [False, False, False]
    play(sheet, step, now_s)
    assert sheet.summary() == {
        "first_step_s": 16.125,  # from the first task on: the wait before it is no step's
        "steps": 2,
        "compute_s": {"forward": 4.0, "backward": 16.0, "update": 2.0},
        "executor_cpu_s": 11.0,
        "handover_s": 2.0,
        "idle_s": {"forward": 2.0, "backward": 8.0, "update": 0.25},
    }


def test_every_moment_after_the_first_step_is_counted_once():
    sheet = TimeSheet()
    began_s, _ = play(sheet, [(FORWARD, 0.0, 1.0, 0.5), (UPDATE, 0.5, 1.0, 0.0)], 0.0)
    ended_s, _ = play(sheet, [(FORWARD, 3.0, 1.0, 0.5), (UPDATE, 0.5, 1.0, 0.25)] * 3, began_s)
    said = sheet.summary()
    counted = sum(said["compute_s"].values()) + sum(said["idle_s"].values()) + said["handover_s"]
    assert counted == pytest.approx(ended_s - began_s)


def test_a_lease_that_never_ran_has_an_empty_sheet():
    assert TimeSheet().summary() == {
        "first_step_s": None, "steps": 0, "compute_s": {}, "executor_cpu_s": 0.0,
        "handover_s": 0.0, "idle_s": {}}


def test_a_typical_microbatch_is_a_median_after_the_first_step():
    sheet = TimeSheet()
    assert sheet.typical_s() == {}
    now_s, _ = play(sheet, [(FORWARD, 0.0, 9.0, 0.0)] * 6 + [(UPDATE, 0.0, 1.0, 0.0)], 0.0)
    assert sheet.typical_s() == {}
    now_s, _ = play(sheet, [(FORWARD, 0.0, time_s, 0.0) for time_s in (1, 1, 1)], now_s)
    assert sheet.typical_s() == {}  # three are too few
    play(sheet, [(FORWARD, 0.0, 50.0, 0.0)], now_s)  # interrupted by other work
    assert sheet.typical_s() == {"forward": 1}


def test_weight_gradients_that_were_left_for_later_are_a_part_of_backward():
    sheet = TimeSheet()
    play(sheet, [(BACKWARD, 0.0, 2.0, 0.0), (TaskKind.ACCUMULATE, 0.0, 0.5, 0.0)] * 5, 0.0)
    assert sheet.typical_s() == {"backward": 2.5}


def pace(sheet, now_s):
    return sheet.pace_s(now_s, is_training=True)


def test_the_pace_is_told_when_it_is_known_and_when_it_has_changed():
    sheet = TimeSheet()
    step = [(FORWARD, 0.0, 1.0, 0.0), (BACKWARD, 0.0, 2.0, 0.0)] * 4 + [(UPDATE, 0.0, 0.5, 0.0)]
    now_s, _ = play(sheet, step, 0.0)
    assert pace(sheet, now_s) is None  # the first step is no measure
    now_s, _ = play(sheet, step, now_s)
    assert pace(sheet, now_s) == 3.0
    now_s, _ = play(sheet, step, now_s)
    assert pace(sheet, now_s) is None
    slow = [(kind, idle_s, 3 * compute_s, 0.0) for kind, idle_s, compute_s, _ in step]
    now_s, _ = play(sheet, slow * 4, now_s)
    assert pace(sheet, now_s) == 9.0
    now_s, _ = play(sheet, [(FORWARD, 0.0, 0.01, 0.0)] * 16, now_s)
    assert pace(sheet, now_s) is None  # so soon it is no news
    assert pace(sheet, now_s + 5.0) == 6.01


def test_the_pace_of_inference_is_a_forward():
    sheet = TimeSheet()
    now_s, _ = play(sheet, [(FORWARD, 0.0, 1.5, 0.0)] * 4, 0.0)
    assert sheet.pace_s(now_s, is_training=True) is None
    assert sheet.pace_s(now_s, is_training=False) == 1.5


def test_a_device_that_rests_half_of_the_time_has_half_the_pace():
    sheet = TimeSheet()
    now_s, _ = play(sheet, [(FORWARD, 0.0, 1.5, 0.0)] * 4, 0.0)
    assert sheet.pace_s(now_s, is_training=False, duty=0.5) == 3.0


def test_a_device_that_is_stopped_again_and_again_is_as_slow_as_it_is_on_average():
    sheet = TimeSheet()
    throttled = [(FORWARD, 0.0, time_s, 0.0) for time_s in (0.25, 0.25, 0.25, 3.25)]
    now_s, _ = play(sheet, throttled * 6, 0.0)
    assert sheet.pace_s(now_s, is_training=False) == 1.0


def test_a_moment_s_standstill_is_not_the_pace():
    tasks = [(FORWARD, 0.0, 0.25, 0.0)] * 24
    for at in range(24):
        stopped = [*tasks[:at], (FORWARD, 0.0, 60.0, 0.0), *tasks[at + 1:]]
        sheet = TimeSheet()
        now_s, _ = play(sheet, stopped, 0.0)
        assert sheet.pace_s(now_s, is_training=False) == 0.25
