"""A signal that comes where Python lets no exception out: it stops the command all the same, a moment later."""

from __future__ import annotations

import signal
import sys
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from anomaly_core import stoppable


class _Thing:
    pass


class _Destructor:
    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work

    def __del__(self) -> None:
        self._work()


def in_a_destructor(work: Callable[[], None]) -> None:
    _Destructor(work)


def in_a_callback(work: Callable[[], None]) -> None:
    """As concurrent.futures has one, at the end of each pool of threads."""
    thing = _Thing()
    reference = weakref.ref(thing, lambda _: work())
    del thing
    assert reference() is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("place", [in_a_destructor, in_a_callback])
@pytest.mark.reliability("fault")
def test_a_signal_that_is_lost_comes_again(place: Callable[..., None], number: int, capsys: pytest.CaptureFixture[str]) -> None:
    reached = []

    def caught() -> None:
        reached.append(True)
        signal.raise_signal(number)
        reached.append(False)

    start = time.monotonic()
    with pytest.raises((KeyboardInterrupt, SystemExit)) as stopped, stoppable():
        place(caught)
        assert reached == [True], "the signal interrupts what it comes in"
        time.sleep(10)
    assert time.monotonic() - start < 5
    assert isinstance(stopped.value, KeyboardInterrupt if number == signal.SIGINT else SystemExit)
    assert stopped.value.args == (() if number == signal.SIGINT else (128 + number,))
    assert capsys.readouterr().err == "", "it is no fault that a user should read of"


def test_after_the_command_nothing_comes_again_and_other_faults_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)
    fault = ValueError("a destructor's own")

    def fail() -> None:
        raise fault

    with stoppable():
        in_a_destructor(fail)
        in_a_destructor(lambda: signal.raise_signal(signal.SIGINT))
    time.sleep(0.2)  # four times as long as it takes to come again
    assert [report.exc_value for report in reported] == [fault]
    in_a_destructor(fail)
    assert len(reported) == 2, "the hook is given back"
