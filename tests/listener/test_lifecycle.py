"""Stopping: a signal may come at any moment, also while the main thread holds the very lock that stopping needs."""

from __future__ import annotations

import signal
import threading

from datastore_dumper.lifecycle import Supervisor, stop_signals


def test_a_signal_while_its_own_event_is_locked() -> None:
    supervisor, second = Supervisor(), threading.Event()
    with stop_signals(supervisor.shut_down, second.set):
        with supervisor.stop._cond:  # as between two steps of `stop.wait()`
            signal.raise_signal(signal.SIGTERM)
            assert not supervisor.stop._flag
        assert supervisor.stop.wait(5)
        assert not second.is_set()
        signal.raise_signal(signal.SIGINT)
        assert second.wait(5)
