from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from caloray.errors import InterruptedRunError
from caloray.interrupt import StopRequest, watch_signals

NUMBERS = (signal.SIGTERM, signal.SIGINT)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_becomes_a_request_and_the_handlers_come_back(number: int) -> None:
    before = [signal.getsignal(one) for one in (*NUMBERS, signal.SIGALRM)]
    with watch_signals() as stop:
        stop.check("work")
        os.kill(os.getpid(), number)
        assert stop.requested
        assert stop.signal == number
        with pytest.raises(InterruptedRunError, match="work stopped by SIG") as caught:
            stop.check("work")
    assert caught.value.context["signal"] == number
    assert [signal.getsignal(one) for one in (*NUMBERS, signal.SIGALRM)] == before


def test_a_second_signal_has_its_usual_effect() -> None:
    with watch_signals():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_work_that_does_not_look_is_interrupted_after_the_grace() -> None:
    def sleep() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)

    begin = time.monotonic()
    with (
        watch_signals(grace=0.1, what="sleep"),
        pytest.raises(InterruptedRunError, match="sleep stopped by SIGTERM"),
    ):
        sleep()
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize("slow", [False, True])
def test_the_grace_does_not_interrupt_the_cleaning_up_unless_it_hangs(slow: bool) -> None:
    cleaned: list[str] = []

    def work(stop: StopRequest) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            stop.check("work")
        finally:
            stop.told -= 60.0 if slow else 0.0
            signal.raise_signal(signal.SIGALRM)
            cleaned.append("all")

    with (
        watch_signals(grace=60.0, what="rest") as stop,
        pytest.raises(InterruptedRunError, match="rest" if slow else "work"),
    ):
        work(stop)
    assert cleaned == ([] if slow else ["all"])


def test_no_alarm_is_left_behind() -> None:
    with watch_signals(grace=60.0):
        os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getitimer(signal.ITIMER_REAL) > (0.0, 0.0)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_other_threads_get_a_request_that_no_signal_reaches() -> None:
    seen: list[StopRequest] = []

    def work() -> None:
        with watch_signals(grace=1.0) as stop:
            seen.append(stop)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not seen[0].requested
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_request_can_be_made_by_hand() -> None:
    stop = StopRequest()
    stop.request()
    assert stop.error("work").context["signal"] == signal.SIGTERM
