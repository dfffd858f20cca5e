"""How faults are carried out, whatever they are.

One thread does one thing at a time: two server crashes do not meet, and each
fault is noted with the truth about when it began, when it was over, and
whether shared memory was lost by it.  A fault that lasts (a stopped process,
an open snapshot) is begun by the schedule and undone by a list of things to
undo, while other faults go on.  Those that may have to wait for locks have a
thread of their own, in which at most one of them is under way.
"""

import heapq
import json
import os
import threading
import time
from collections import Counter
from typing import Callable, NamedTuple

import psycopg2

import instance
from dba import connect

# Faults that are late, because one before took its time, keep this distance.
LATE_GAP = 0.2

# Within this time the postmaster notices that a process died.
NOTICE_TIME = 5


class Planned(NamedTuple):
    """A fault that is to happen: one line of a schedule."""

    at: float
    name: str
    params: dict[str, float]


class NotRun(Exception):
    """The fault cannot happen here; the reason."""


class FaultError(Exception):
    """The fault went wrong, other than by an error of the server."""


class Finding(FaultError):
    """The queue did not do to its administrator what it should."""


class Undo(NamedTuple):
    """Something that must be done at some time to end a fault."""

    at: float
    number: int
    action: Callable[[], None]


class Engine(threading.Thread):
    """Carries out a schedule; what each fault is comes with a subclass.

    cluster and shared are those of the run.  After stop(), counts tells for
    each fault how often it was done, failed, or did not run.
    """

    # Faults that get a thread of their own.
    slow_kinds: frozenset[str] = frozenset()

    def __init__(self, run_dir: str, cluster, shared, faults: list[Planned]):
        super().__init__(name="faults", daemon=True)
        self.run_dir = run_dir
        self.cluster = cluster
        self.shared = shared
        self.faults = list(faults)
        # Threads that carry out faults note them side by side.
        self.notes = threading.Lock()
        self.slow: threading.Thread | None = None
        self.counts: dict[str, Counter] = {}
        # Why faults did not run or failed: the last reason of each.
        self.reasons: dict[str, str] = {}
        # What ended the injector before its time.
        self.error: Exception | None = None
        self.is_stopping = threading.Event()
        self.undos: list[Undo] = []
        self.undo_number = 0
        # How far the logs were read, and when that was.
        self.log_seen: dict[str, int] = {}
        self.looked_at = time.monotonic()
        self.log = open(os.path.join(run_dir, "faults.jsonl"), "a",
                        encoding="utf-8")

    # The thread

    def run(self) -> None:
        """Carry out the schedule until its end or stop()."""
        start = time.monotonic()
        try:
            for fault in self.faults:
                late = time.monotonic() > start + fault.at
                until = (time.monotonic() + LATE_GAP if late
                         else start + fault.at)
                self.wait(until)
                if self.is_stopping.is_set():
                    self.count(fault.name, "not run")
                    continue
                self.look_for_crash()
                if fault.name in self.slow_kinds:
                    self.start_slow(fault)
                else:
                    self.inject(fault)
        except Exception as error:
            # stop() passes it on to the thread that waits for it.
            self.error = error

    def start_slow(self, fault: Planned) -> None:
        """Carry out a slow fault in another thread, one at a time."""
        self.await_slow()
        self.slow = threading.Thread(target=self.inject, args=(fault,),
                                     name=fault.name, daemon=True)
        self.slow.start()

    def await_slow(self) -> None:
        """Wait for the slow fault that is under way, if there is one."""
        while self.slow is not None and self.slow.is_alive():
            self.undo_due()
            self.slow.join(0.05)

    def wait(self, until: float) -> None:
        """Sleep, and undo meanwhile what is due to be undone."""
        while not self.is_stopping.is_set():
            self.undo_due()
            now = time.monotonic()
            if now >= until:
                return
            wake = min([until] + [undo.at for undo in self.undos[:1]])
            self.is_stopping.wait(max(0.0, wake - now))

    def stop(self) -> None:
        """End the faults; return when all of them are undone.

        The server is up then, and is as it was made.
        """
        self.is_stopping.set()
        if self.is_alive():
            self.join()
        self.await_slow()
        self.undo_all()
        self.clear_way()
        if self.error is None:
            self.bring_up()
            self.look_for_crash()
            self.restore()
        self.log.close()
        if self.error is not None:
            raise self.error

    def clear_way(self) -> None:
        """Remove what keeps the server from coming up, or clients from work.

        When faults are over; the server may be down.
        """

    def restore(self) -> None:
        """Make everything what it was, when the server is up."""

    def inject(self, fault: Planned) -> None:
        """Carry out one fault, whatever comes of it."""
        action = getattr(self, fault.name)
        began = time.monotonic()
        try:
            detail = action(**fault.params)
            outcome = "done"
        except NotRun as reason:
            outcome = "not run"
            detail = {"reason": str(reason)}
        except (FaultError, psycopg2.Error) as error:
            outcome = "failed"
            detail = {"reason": str(error).strip().split("\n")[0],
                      "sqlstate": getattr(error, "pgcode", None)}
            if isinstance(error, Finding):
                detail["finding"] = detail["reason"]
        self.count(fault.name, outcome)
        if outcome != "done":
            self.reasons[fault.name] = detail["reason"]
        if outcome != "not run" and detail is not None:
            if outcome == "failed":
                detail["failed"] = True
            # What was done before the blow does not belong to a crash.
            self.note(detail.pop("blow", began), fault.name, detail)

    def count(self, name: str, outcome: str) -> None:
        with self.notes:
            self.counts.setdefault(name, Counter())[outcome] += 1

    def note(self, began: float, name: str, detail: dict) -> None:
        """Write down a fault that is over now."""
        line = json.dumps(["fault", round(began, 6),
                           round(time.monotonic(), 6), name, detail])
        with self.notes:
            self.log.write(line + "\n")
            self.log.flush()

    # Undoing

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Have something undone after so many seconds."""
        self.undo_number += 1
        heapq.heappush(self.undos, Undo(time.monotonic() + seconds,
                                        self.undo_number, action))

    def lasting(self, seconds: float, name: str, detail: dict,
                action: Callable[[], None]) -> None:
        """End the fault that began now, and note it, after a while."""
        began = time.monotonic()

        def end() -> None:
            action()
            self.note(began, name, detail)

        self.later(seconds, end)

    def undo_due(self) -> None:
        """Undo what is due."""
        while self.undos and self.undos[0].at <= time.monotonic():
            heapq.heappop(self.undos).action()

    def undo_all(self) -> None:
        """Undo everything now."""
        while self.undos:
            heapq.heappop(self.undos).action()

    # The server

    def bring_up(self) -> None:
        """See to it that the server accepts connections.

        It may be on its way down or up, or be gone.
        """
        deadline = time.monotonic() + instance.PATIENCE
        while time.monotonic() < deadline:
            if self.cluster.postmaster_pid() is None:
                self.cluster.start()
            if self.cluster.server.is_ready():
                # It keeps its port unless somebody took it.
                self.shared.port = self.cluster.port
                return
            time.sleep(0.05)
        raise self.cluster.server.trouble("the server does not come back")

    def look_for_crash(self) -> None:
        """Note crashes that were none of ours; they excuse what they do.

        That they are not explained is for the end of the run to judge, from
        the same log.
        """
        before = self.looked_at
        self.looked_at = time.monotonic()
        text = self.unread_log()
        victims = self.cluster.server.victims
        for crash in instance.CRASH.finditer(text):
            if int(crash.group(1)) not in victims:
                self.bring_up()
                self.note(before, "unexplained_crash",
                          {"crash": True, "pid": int(crash.group(1))})
                self.count("unexplained_crash", "done")

    def unread_log(self) -> str:
        """Return what the server's log got since it was read last."""
        running = self.cluster.server
        start = self.log_seen.get(running.log, 0)
        end = running.log_size()
        self.log_seen[running.log] = end
        return running.log_text(start, end)

    def execute(self, sql: str, parameters=None) -> list:
        """Execute one statement on a connection of its own."""
        connection = connect(self.cluster)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, parameters)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def sessions(self, busy: bool) -> list[tuple[int, str]]:
        """Return clients' sessions: process id and name of the client."""
        found = self.execute(
            "SELECT pid, application_name, state FROM pg_stat_activity"
            " WHERE usename = 'stress' AND backend_type = 'client backend'"
            " ORDER BY application_name, pid")
        busy_ones = [row for row in found if row[2] != "idle"]
        if busy and busy_ones:
            found = busy_ones
        if not found:
            raise NotRun("no client is connected")
        return [(pid, name) for pid, name, _ in found]

    def process_of(self, backend_type: str) -> int:
        """Return a process of the extension, which may be just starting."""
        deadline = time.monotonic() + NOTICE_TIME
        while time.monotonic() < deadline:
            found = self.execute(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = %s"
                " AND (datname = current_database() OR datname IS NULL)",
                (backend_type,))
            if found:
                return found[0][0]
            time.sleep(0.1)
        raise FaultError("there is no %s" % backend_type)

    def send_signal(self, pid: int, number: int) -> None:
        """Send a signal to a process of the server, if it still is one."""
        if pid in self.cluster.server.processes():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
