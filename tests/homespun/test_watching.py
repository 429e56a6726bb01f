"""Where a job is followed: a terminal, a notebook's cell, or lines; and what Ctrl-C leaves."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest

from homespun.job import Job
from homespun.notebook import in_notebook
from homespun.status import JobUpdate, StepMetric
from homespun.watching import show
from tests.homespun.html_check import words_of
from tests.homespun.test_reprs import connection, status


class Followed(Job):
    """A job whose updates are given."""

    def __init__(self, *updates, ends_with=None, **more):
        super().__init__(connection(**more), "job_000004")
        self._updates, self._ends_with = updates, ends_with

    def updates(self, from_step=0, *, timeout_s=None, notice=None, reconnect_s=0.0):
        for update in self._updates:
            if isinstance(update, str):
                notice(update)
            else:
                yield update
        if self._ends_with is not None:
            raise self._ends_with


class Terminal(io.StringIO):
    def isatty(self):
        return True


def update(step, state="running", **more):
    steps = (StepMetric(step=step, loss=1.0, unix_ms=1_000 * step),)
    found = status(state=state, steps_done=step, error_message="", name="tiny", **more)
    return JobUpdate(status=found, steps=steps, evaluations=())


@pytest.mark.parametrize("private", [False, True])
def test_ctrl_c_leaves_the_job_and_says_how_to_come_back(private):
    said = io.StringIO()
    job = Followed(update(1), ends_with=KeyboardInterrupt(), is_private=private)
    with pytest.raises(KeyboardInterrupt):
        show(job, stream=said)
    assert said.getvalue().endswith(job.way_back() + "\n")


def test_a_terminal_is_redrawn_and_a_dumb_one_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    live, dumb = Terminal(), Terminal()
    assert show(Followed(update(1), update(6, "succeeded")), stream=live).state == "succeeded"
    assert "\x1b[" in live.getvalue()
    monkeypatch.setenv("TERM", "dumb")
    show(Followed(update(1), update(6, "succeeded")), stream=dumb)
    assert "\x1b" not in dumb.getvalue()
    assert "succeeded, step 6/6" in dumb.getvalue()


class Cell:
    """A notebook's IPython, as far as it is used: it keeps the pictures that a cell shows."""

    def __init__(self):
        self.pictures = []
        self.IPython = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
        self.display_module = SimpleNamespace(HTML=str, display=self.display)

    def display(self, html, *, display_id):
        assert display_id is True
        self.pictures.append(html)
        return SimpleNamespace(update=self.pictures.append)


@pytest.fixture
def cell(monkeypatch):
    cell = Cell()
    monkeypatch.setitem(sys.modules, "IPython", cell.IPython)
    monkeypatch.setitem(sys.modules, "IPython.display", cell.display_module)
    return cell


def test_a_notebook_shows_pictures_of_the_newest_state(cell, capsys):
    assert in_notebook()
    job = Followed(update(1), "Lost the broker.", update(6, "succeeded"))
    assert show(job).state == "succeeded"
    words = [words_of(picture) for picture in cell.pictures]
    assert "waiting for the broker" in words[0]
    assert any("Lost the broker." in text for text in words)
    assert "succeeded, step 6/6" in words[-1]
    assert capsys.readouterr() == ("", "")


def test_a_cell_is_not_redrawn_for_each_of_many_steps(cell):
    show(Followed(*(update(step, steps_total=10_000) for step in range(2_000)),
                  update(10_000, "succeeded", steps_total=10_000)))
    assert len(cell.pictures) < 200


def test_an_interrupted_cell_says_how_to_come_back(cell, capsys):
    job = Followed(update(1), ends_with=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        show(job)
    assert "homespun watch job_000004" in capsys.readouterr().err


@pytest.mark.parametrize("shell", [None, SimpleNamespace()])
def test_ipython_in_a_terminal_is_no_notebook(monkeypatch, shell):
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert not in_notebook()


def test_a_program_without_ipython_is_no_notebook(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not in_notebook()
