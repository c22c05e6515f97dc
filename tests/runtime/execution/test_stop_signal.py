"""Signals that stop a run: each sets the stop signal with its name, and the handlers before are there again."""

from __future__ import annotations

import os
import signal

import pytest

from gridloom.runtime.execution.stop_signal import StopFlag, stop_on_signals


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2"])
def test_a_signal_of_terminal_system_or_batch_system_stops_a_run(name: str) -> None:
    """Slurm's signal of submitit, SIGUSR2, reaches the run itself where Slurm tracks processes by their parents."""
    number = signal.Signals[name]
    before = signal.getsignal(number)
    signal.signal(number, signal.SIG_IGN)  # without the feature the signal would end the tests
    try:
        with stop_on_signals(StopFlag()) as stop:
            os.kill(os.getpid(), number)
        assert stop.reason == name
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)
