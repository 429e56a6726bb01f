"""The broker's clock against machines whose clock jumps."""

from broker.clock import Clock


class Machine:
    def __init__(self, wall=1_000, steady=50):
        self.wall, self.steady = wall, steady

    def pass_by(self, time_ns, wall_jump=0):
        self.steady += time_ns
        self.wall += time_ns + wall_jump


def clock_on(machine, last_ns=0):
    return Clock(last_ns, wall=lambda: machine.wall, steady=lambda: machine.steady)


def test_it_follows_the_wall():
    machine = Machine()
    clock = clock_on(machine)
    assert clock.now_ns() == 1_001
    machine.pass_by(10_000)
    assert clock.now_ns() == 11_001


def test_it_follows_a_wall_that_jumps_ahead_slowly():
    """No deadline of the core comes early by more than a twentieth."""
    machine = Machine(wall=1_000)
    clock = clock_on(machine)
    machine.pass_by(20_000, wall_jump=3_000)
    assert clock.now_ns() == 1_000 + 20_000 + 1_000
    machine.pass_by(20_000)
    assert clock.now_ns() == 1_000 + 40_000 + 2_000
    machine.pass_by(60_000)
    assert clock.now_ns() == machine.wall


def test_time_goes_on_at_its_pace_when_the_machine_is_set_back():
    machine = Machine(wall=10_000)
    clock = clock_on(machine)
    before = clock.now_ns()
    machine.pass_by(500, wall_jump=-9_000)
    assert clock.now_ns() == before + 500
    machine.pass_by(700)
    assert clock.now_ns() == before + 1_200


def test_a_restart_goes_on_after_the_journal_and_does_not_stand_still():
    machine = Machine(wall=1_000)
    clock = clock_on(machine, last_ns=50_000)
    first = clock.now_ns()
    assert first > 50_000
    machine.pass_by(2_000)
    assert clock.now_ns() == first + 2_000


def test_every_call_gives_a_later_time():
    clock = clock_on(Machine())
    times = [clock.now_ns() for _ in range(100)]
    assert times == sorted(set(times))
