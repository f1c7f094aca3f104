"""A signal of a queue stops work as Ctrl-C does, at once or where its state is saved, with a code of its own."""

from __future__ import annotations

import os
import signal
from typing import Any, NoReturn

import pytest
from workshop import run

from floemap.stopping import Stopped, asked, saves_first, stop_if_asked, stopped_by_signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_stops_at_once_or_where_work_is_saved(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Stopped, match=number.name), stopped_by_signals():
        os.kill(os.getpid(), number)
    with pytest.raises(Stopped, match=rf"{number.name}: it is kept"), stopped_by_signals(), saves_first():
        stop_if_asked("not asked yet")
        os.kill(os.getpid(), number)
        assert asked() == number.name
        stop_if_asked("it is kept")
    assert signal.getsignal(number) is before and asked() is None


def test_a_command_that_is_stopped_has_the_code_of_try_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    def work(*_: Any, **__: Any) -> NoReturn:
        os.kill(os.getpid(), signal.SIGUSR1)
        raise AssertionError("it went on")

    monkeypatch.setattr("floemap.study.spread.gather_comparison", work)
    done = run("gather", "--out", tmp_path)
    assert done.exit_code == 75  # EX_TEMPFAIL of sysexits.h
    assert "stopped by SIGUSR1; repeat the command to resume" in done.stderr
