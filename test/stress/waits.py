"""Who waits for whom: takers and senders must not wait for each other.

A look at the server every now and then finds sessions of clients that have
waited for the end of somebody's transaction for longer than a lock inside the
queue may ever be held.  No business table has a constraint that could be the
reason.  Administrators and the worker may be waited for: what they do to
tables is their affair, and the worker may be one that was stopped.
"""

import json
import os
import threading
import time

import psycopg2

# Seconds between two looks.
PAUSE = 0.3

# How long a look may take, in seconds, and a new connection.
PATIENCE = 2

# A blocker of process id 0 is a prepared transaction, and those are made by
# clients.
WAITS = """
SELECT a.pid, l.waitstart::text, a.application_name, left(a.query, 300),
       b.blockers
  FROM pg_locks l
  JOIN pg_stat_activity a ON a.pid = l.pid AND a.usename = 'stress'
   AND a.datname = current_database()
 CROSS JOIN LATERAL (
       SELECT bool_and(p.pid = 0 OR s.usename IS NOT DISTINCT FROM 'stress')
                  AS are_clients,
              jsonb_agg(jsonb_build_array(
                  coalesce(s.application_name, 'prepared transaction'),
                  left(s.query, 300))) AS blockers
         FROM unnest(pg_blocking_pids(l.pid)) AS p(pid)
         LEFT JOIN pg_stat_activity s ON s.pid = p.pid) b
 WHERE NOT l.granted
   AND l.locktype IN ('transactionid', 'tuple')
   AND l.waitstart < clock_timestamp() - interval '0.5 s'
   AND b.are_clients
"""


class Watch(threading.Thread):
    """Writes to waits.jsonl which clients wait for clients.

    A line is ["wait", time, pid, client, query, [[name, query] of each who is
    in the way]]; the last one is ["samples", how often it looked].
    """

    def __init__(self, run_dir: str, cluster):
        super().__init__(name="waits", daemon=True)
        self.path = os.path.join(run_dir, "waits.jsonl")
        self.cluster = cluster
        self.is_stopping = threading.Event()
        self.connection = None
        self.samples = 0
        # Each wait is noted once: process and when it began.
        self.seen: set[tuple[int, str]] = set()

    def run(self) -> None:
        """Look until stop(), whatever becomes of the server."""
        with open(self.path, "w", encoding="utf-8") as file:
            while not self.is_stopping.wait(PAUSE):
                try:
                    waits = self.look()
                except psycopg2.Error:
                    self.disconnect()
                    continue
                for wait in waits:
                    file.write(json.dumps(["wait", *wait]) + "\n")
            file.write(json.dumps(["samples", self.samples]) + "\n")
        self.disconnect()

    def look(self) -> list[tuple]:
        """Return the waits that were not seen before."""
        if self.connection is None:
            self.connection = self.cluster.connect(PATIENCE)
            with self.connection.cursor() as cursor:
                cursor.execute("SET statement_timeout = %s",
                               (PATIENCE * 1000,))
        with self.connection.cursor() as cursor:
            cursor.execute(WAITS)
            found = cursor.fetchall()
        self.samples += 1
        now = round(time.monotonic(), 6)
        waits = []
        for pid, since, *who in found:
            if (pid, since) not in self.seen:
                self.seen.add((pid, since))
                waits.append((now, pid, *who))
        return waits

    def disconnect(self) -> None:
        """Give the connection up; the next look makes another."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def stop(self) -> None:
        """End the watch; the file is complete when this returns."""
        self.is_stopping.set()
        if self.is_alive():
            self.join()
