"""From the updates of a job to what callbacks are told."""

from homespun.callbacks.events import EventReader, Recovery
from homespun.status import StepMetric


def losses(reader, *updates):
    return [(event.step, event.loss) for update in updates for event in reader.read(update, 0)
            if isinstance(event, StepMetric)]


def test_one_loss_for_several_steps_is_their_mean_and_none_is_lost(lab):
    steps = [(step, float(step)) for step in range(8)]
    given = (lab.update(steps=steps[:2]), lab.update(steps=steps[2:7]),
             lab.update("succeeded", steps=steps[7:]))
    assert losses(EventReader(3), *given) == [(2, 1.0), (5, 4.0), (7, 6.5)]
    assert losses(EventReader(1), *given) == steps


def test_a_recovery_is_told_once_however_often_its_reason_changes(lab):
    reader = EventReader()
    events = [event for number, (state, reason) in enumerate([
        ("running", ""), ("recovering", "lost"), ("recovering", "loads"), ("running", ""),
        ("recovering", "lost again"), ("succeeded", "")])
        for event in reader.read(lab.update(state, reason=reason, done=number), 7)]
    assert events == [Recovery(step=1, reason="lost", unix_ms=7),
                      Recovery(step=4, reason="lost again", unix_ms=7)]


def test_a_validation_loss_comes_before_the_step_that_follows_it(lab):
    events = EventReader().read(
        lab.update(steps=[(4, 2.0), (5, 1.0)], evaluations=[(5, 1.5)]), 0)
    assert [(type(event).__name__, event.step) for event in events] == [
        ("StepMetric", 4), ("EvaluationMetric", 5), ("StepMetric", 5)]
