"""A signal of a queue stops work as Ctrl-C does, at once or where its state is saved, with a code of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest
from workshop import run

import floemap
from floemap.stopping import Stopped, asked, saves_first, spared_from_ctrl_c, stop_if_asked, stopped_by_signals


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


def test_ctrl_c_does_not_reach_processes_while_they_start() -> None:
    """The child has SIGINT blocked from its first instruction, and the parent as before."""
    program = "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('alive')"
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with spared_from_ctrl_c():
        spared = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert spared.communicate(timeout=60) == ("alive\n", None)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever an earlier test has left
    try:
        with pytest.raises(KeyboardInterrupt), spared_from_ctrl_c():
            os.kill(os.getpid(), signal.SIGINT)  # it waits until the process has started
    finally:
        signal.signal(signal.SIGINT, handler)


def test_all_processes_are_started_so() -> None:
    """Whatever starts a process that waits for work spares it from ctrl-C, but for those of dask."""
    for path in Path(floemap.__file__).parent.rglob("*.py"):
        text = path.read_text()
        starts = len(
            re.findall(r"subprocess\.Popen\(|_process\.start\(\)|iter\(self\._loader\)|pool\.submit\(_month", text)
        )
        assert text.count("with spared_from_ctrl_c()") == starts, path
