"""What PgQ has besides producers: a ticker and one consumer.

A consumer of PgQ gets every event of the queue, batch after batch, so a second
one would get them all again rather than share the work.  It is a session of
the benchmark's own that reads all rows of a batch and finishes it; another one
ticks, fifty times a second.  Both count as the server's work.
"""

import threading
import time

import psycopg2

import cluster
import runs

TICK = 0.02


class Service:
    """The ticker and the consumer of a run, each in a thread."""

    def __init__(self, server: cluster.Cluster):
        self.server = server
        self.ids: list[int] = []
        self.stopping = threading.Event()
        self.trouble: list[str] = []
        self.threads = [threading.Thread(target=self.guarded, args=(what,))
                        for what in (self.tick, self.consume)]
        for thread in self.threads:
            thread.start()

    def guarded(self, what) -> None:
        """Carry out one of the two with a session of its own."""
        connection = self.server.session()
        try:
            with connection.cursor() as cursor:
                what(cursor)
        except psycopg2.Error as error:
            self.trouble.append("PgQ: %s" % error)
        finally:
            connection.close()

    def tick(self, cursor) -> None:
        """Make a batch of what has come, again and again."""
        while not self.stopping.wait(TICK):
            cursor.execute("SELECT pgq.ticker('bench')")

    def consume(self, cursor) -> None:
        """Read batch after batch; at the end, until there is none."""
        empty = 0
        while empty < 3:
            cursor.execute("SELECT pgq.next_batch('bench', 'bench')")
            batch = cursor.fetchone()[0]
            if batch is None:
                if self.stopping.is_set():
                    # The last events may wait for a tick.
                    cursor.execute("SELECT pgq.force_tick('bench')")
                    cursor.execute("SELECT pgq.ticker('bench')")
                    empty += 1
                time.sleep(TICK / 2)
                continue
            cursor.execute("SELECT ev_id, ev_data"
                           " FROM pgq.get_batch_events(%s)", (batch,))
            self.ids.extend(row[0] for row in cursor.fetchall())
            cursor.execute("SELECT pgq.finish_batch(%s)", (batch,))

    def stop(self) -> None:
        """Let the consumer read what is left, and end."""
        self.stopping.set()
        for thread in self.threads:
            thread.join()


def produce(server, run, script, length):
    """Run the producers; return what pgbench says, and the ids consumed."""
    service = Service(server)
    try:
        done = runs.Pgbench(server, script, run.clients, length,
                            runs.PAYLOADS[run.payload]).result()
        in_time = len(service.ids)
    finally:
        service.stop()
    server.wait_for_sessions()
    run.trouble.extend(service.trouble)
    if done["failed"]:
        run.trouble.append("%d transactions failed" % done["failed"])
    return done, service.ids, in_time


def carry_out(workload, server, run, length, verify_length) -> None:
    """Verify and measure, as runs.py does with the others."""
    done, ids, _ = produce(server, run, workload.verify, verify_length)
    server.execute("CREATE TABLE bench.pgq_left (id bigint)")
    with server.session() as connection, connection.cursor() as cursor:
        for start in range(0, len(ids), 10000):
            cursor.execute("INSERT INTO bench.taken SELECT unnest(%s)",
                           (ids[start:start + 10000],))
    connection.close()
    runs.complain_of_ids("bench.pgq_left", server, run,
                         done["runs"] * workload.size)
    server.execute("DROP TABLE bench.pgq_left")

    server.checkpoint()
    checkpoints = server.checkpoints()
    start = server.wal_position()
    cpu = server.cpu()
    done, ids, in_time = produce(server, run, workload.script, length)
    cpu = server.cpu() - cpu
    wal = server.wal_bytes(start, server.wal_position())
    run.checkpoints = server.checkpoints() - checkpoints
    run.sent = done["runs"] * workload.size
    run.consumed = len(ids)
    run.left = run.sent - in_time
    run.seconds = done["runs"] / done["rate"]
    # What its consumer had read when the producers ended.
    run.rate = in_time / run.seconds
    run.latency = done["latency"]
    if ids:
        run.cpu = cpu * 1e6 / len(ids)
        run.wal = wal / len(ids)
    if len(ids) != run.sent:
        run.trouble.append("%d sent, %d delivered" % (run.sent, len(ids)))
    if len(set(ids)) != len(ids):
        run.trouble.append("%d delivered twice" % (len(ids) - len(set(ids))))
