"""Measures how long a call sleeps on after there is what it waits for."""

import threading
import time
from typing import Any, Callable, Optional

from probes import FORGOTTEN, Probe, StallWatch
from session import Failed

# How long somebody who is to wait has to fall asleep, in seconds, and how
# often a measurement that is void is made again.
ASLEEP = 0.1
TRIES = 3

# A call that waits, and returns true if it got what it waited for.
Sleep = Callable[[Probe], bool]

# Something that wakes; it may tell the time, on the clock of this process, at
# which that will be.
Wake = Callable[[], Any]


class Sleeper(threading.Thread):
    """Makes one call, and notes when it has returned."""

    def __init__(self, probe: Probe, sleep: Sleep):
        super().__init__(daemon=True)
        self._probe = probe
        self._sleep = sleep
        self.woke_at: Optional[float] = None

    def run(self) -> None:
        """Make the call."""
        if self._probe.attempt(self._sleep, self._probe):
            self.woke_at = time.monotonic()


class Bench:
    """Where one sleeps, and another one wakes it."""

    def __init__(self, probe: Probe, sleeper: Probe):
        self.probe = probe
        self.sleeper = sleeper
        self.watch = StallWatch()
        self.watch.start()

    def close(self) -> None:
        """End in good order."""
        self.watch.stop()
        self.sleeper.close()
        self.probe.close()

    def measure(self, queue: str, sleep: Sleep, prepare: Callable[[], Wake]
                ) -> None:
        """One measurement, again if it was void.

        prepare() is called before somebody sleeps, and returns what wakes.
        """
        for _ in range(TRIES):
            wake = self.probe.attempt(prepare)
            if wake is None:
                return
            thread = Sleeper(self.sleeper, sleep)
            thread.start()
            time.sleep(ASLEEP)
            begin = time.monotonic()
            try:
                due = wake()
            except Failed:
                self.probe.recover()
                thread.join()
                continue
            if not isinstance(due, float):
                due = time.monotonic()
            thread.join(FORGOTTEN)
            woke_at = thread.woke_at
            thread.join()
            if self.watch.has_stalled(begin):
                continue
            late = FORGOTTEN if woke_at is None else max(0.0, woke_at - due)
            log = self.probe.history
            n = log.before("wake", self.probe.next_txn(), queue,
                           {"way": prepare.__name__})
            log.after(n, "ok", {"late_ms": round(1000 * late, 3)})
            return
