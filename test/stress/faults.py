"""Faults: what a server, its operators and its clients' machines do to it.

When they happen is the business of schedule.py, and how they are carried out
that of injection.py; here is what they are.
"""

import os
import random
import signal
import time
from typing import Callable

import psycopg2

import history
import instance
from dba import Operator, first_column
from global_evidence import FAR
from injection import NOTICE_TIME, Engine, Finding, NotRun, Planned
from schedule import SLOW
from waits import Watch

# What leases the worker has written, and how many seconds that may take.
STORED_LEASES = """
SELECT c.relname, l.id, extract(epoch FROM l.deadline)::float8
  FROM queue.lease l JOIN pg_class c ON c.oid = l.queue
 WHERE l.deadline > clock_timestamp()
"""
STORED_PATIENCE = 1

# Versions of messages that no transaction holds.
FREE = """
SELECT id, xmin::text FROM {0}
 WHERE id NOT IN (SELECT id FROM queue.in_flight
                   WHERE queue = '{0}'::regclass AND pid IS NOT NULL)
"""

# A purge that finds none of so many was not merely unlucky: clients cannot
# have held all of them just when it came by.
MANY_FREE = 100

# The queues that faults act on; the others have their peace.
QUEUES = ("orders", "parts", "stream", "tickets", "reminders", "offers",
          "devices")

# Maintenance is done on these as well.
TOPICS = ("news", "wire", "mail", "ticker")


def between(low: float, high: float, fraction: float) -> float:
    return low + (high - low) * fraction


def pick(choices, fraction: float):
    """Return the element of a sequence that a fraction is for.

    The schedule rounds fractions, so it may be 1.
    """
    return choices[min(int(fraction * len(choices)), len(choices) - 1)]


class Injector(Engine):
    """Carries out a schedule: a method for each fault, named like it.

    A fault returns what is to be noted of it, or None if it notes itself.
    """

    slow_kinds = SLOW

    def __init__(self, run_dir: str, cluster, shared, faults: list[Planned],
                 client_pids: list[int]):
        super().__init__(run_dir, cluster, shared, faults)
        self.client_pids = list(client_pids)
        self.stopped_workers: list[int] = []
        self.operator = Operator(run_dir)
        self.watch = Watch(run_dir, cluster)
        self.settings = self.read_settings()

    def run(self) -> None:
        """Carry out the schedule, and look for those who wait."""
        self.watch.start()
        super().run()

    def clear_way(self) -> None:
        """Remove what keeps the server down, or clients from work."""
        self.watch.stop()
        self.set_timeouts(0, 0)
        self.remove_ballast()
        self.operator.close()

    def restore(self) -> None:
        """Make the queues what they were when they were created."""
        deadline = time.monotonic() + instance.PATIENCE
        while True:
            try:
                for queue in QUEUES:
                    self.alter(queue, 1, 1, 1)
                    self.execute("SELECT queue.resume(%s)", (table(queue),))
                self.drop_invalid_indexes()
                return
            except psycopg2.Error:
                # Some client may have a table locked for a while.
                if time.monotonic() > deadline:
                    raise

    # Sessions

    def terminate_backend(self, which, how, **_) -> dict:
        """End the session of a client."""
        return self.signal_session("pg_terminate_backend", which, how)

    def cancel_backend(self, which, how, **_) -> dict:
        """Cancel what a client's session is doing."""
        return self.signal_session("pg_cancel_backend", which, how)

    def signal_session(self, function: str, which: float,
                       how: float) -> dict:
        sessions = self.sessions(busy=how < 0.7)
        if not sessions:
            raise NotRun("no client is at work")
        pid, client = pick(sessions, which)
        self.execute("SELECT %s(%%s)" % function, (pid,))
        return {"pid": pid, "client": client}

    def terminate_burst(self, which, how, **_) -> dict:
        """End many sessions at once."""
        return self.signal_many("pg_terminate_backend", which, how)

    def cancel_burst(self, which, how, how_long, **_) -> dict:
        """Cancel what many sessions do, several times in a row."""
        number = 0
        for _ in range(int(between(2, 12, how_long))):
            number += self.signal_many("pg_cancel_backend", which,
                                       how)["number"]
            time.sleep(0.02)
        return {"number": number}

    def signal_many(self, function: str, which: float, how: float) -> dict:
        sessions = self.sessions(busy=False)
        share = between(0.3, 1, how)
        rng = random.Random(which)
        pids = [pid for pid, _ in sessions if rng.random() < share]
        self.execute("SELECT %s(pid) FROM unnest(%%s::int[]) pid" % function,
                     (pids,))
        return {"number": len(pids)}

    def statement_timeout(self, how, how_long, **_) -> None:
        """Let statements of clients last for some ms at the most."""
        self.set_timeouts(int(between(1, 15, how * how)), 0)
        self.lasting(between(0.3, 1.5, how_long), "statement_timeout",
                     {"ms": self.shared.statement_timeout_ms},
                     lambda: self.set_timeouts(0, 0))

    def lock_timeout(self, how, how_long, **_) -> None:
        """Let clients wait for a lock for some ms at the most."""
        self.set_timeouts(0, int(between(1, 10, how)))
        self.lasting(between(0.5, 2, how_long), "lock_timeout",
                     {"ms": self.shared.lock_timeout_ms},
                     lambda: self.set_timeouts(0, 0))

    def set_timeouts(self, statement: int, lock: int) -> None:
        self.shared.statement_timeout_ms = statement
        self.shared.lock_timeout_ms = lock

    def pause_client(self, which, how_long, **_) -> None:
        """Stop a client process for longer than its lease."""
        if not self.client_pids:
            raise NotRun("there are no clients")
        pid = pick(self.client_pids, which)
        signal_client(pid, signal.SIGSTOP)
        self.lasting(between(0.8, 4, how_long), "pause_client", {"pid": pid},
                     lambda: signal_client(pid, signal.SIGCONT))

    def snapshot(self, how_long, **_) -> None:
        """Hold an old snapshot open, so that nothing is vacuumed."""
        connection = self.cluster.connect()
        with connection.cursor() as cursor:
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT count(*) FROM stress.sent")
        self.lasting(between(1, 8, how_long), "snapshot", {},
                     connection.close)

    # Processes of the extension

    def terminate_worker(self, **_) -> dict:
        """End the worker; the leader starts another."""
        pid = self.process_of("queue worker")
        self.execute("SELECT pg_terminate_backend(%s)", (pid,))
        return {"pid": pid, "worker": True}

    def terminate_leader(self, **_) -> dict:
        """End the leader; the postmaster starts another."""
        pid = self.process_of("queue leader")
        self.execute("SELECT pg_terminate_backend(%s)", (pid,))
        return {"pid": pid, "worker": True}

    def terminate_resolver(self, which, **_) -> dict:
        """End a resolver; the worker of its database calls another."""
        pid = self.resolver(which)
        self.execute("SELECT pg_terminate_backend(%s)", (pid,))
        return {"pid": pid, "worker": True}

    def resolver(self, which: float) -> int:
        """Return a resolver; there is none while nothing is in doubt."""
        found = self.execute(
            "SELECT pid FROM pg_stat_activity"
            " WHERE backend_type = 'queue resolver' ORDER BY datname")
        if not found:
            raise NotRun("nothing is in doubt")
        return pick(found, which)[0]

    def close_hub(self, how_long, **_) -> None:
        """Put the deciding database out of the reach of a participant."""
        self.execute("ALTER ROLE %s NOLOGIN" % FAR)
        self.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                     " WHERE usename = %s", (FAR,))
        self.lasting(between(0.5, 4, how_long), "close_hub", {},
                     self.open_hub)

    def open_hub(self) -> None:
        """Bring it back within reach."""
        self.bring_up()
        self.cluster.open_hub()

    def pause_worker(self, how_long, **_) -> None:
        """Stop the worker for a while, whatever it is doing."""
        pid = self.process_of("queue worker")
        self.send_signal(pid, signal.SIGSTOP)
        self.stopped_workers.append(pid)
        self.lasting(between(0.3, 3, how_long), "pause_worker",
                     {"pid": pid, "worker": True},
                     lambda: self.send_signal(pid, signal.SIGCONT))

    def continue_workers(self) -> None:
        """Let stopped workers go on, before the server goes down.

        A process that is stopped does not notice that; the postmaster would
        wait for it, and so would we.
        """
        for pid in self.stopped_workers:
            self.send_signal(pid, signal.SIGCONT)
        self.stopped_workers.clear()

    # What administrators do to tables

    def vacuum(self, which, how, **_) -> dict:
        """VACUUM a table, sometimes freezing everything."""
        options = "(FREEZE) " if how < 0.3 else ""
        return self.maintain("VACUUM %s{table}" % options, which)

    def vacuum_full(self, which, **_) -> dict:
        """VACUUM FULL a table: it gets a new file, its rows new places."""
        return self.maintain("VACUUM FULL {table}", which)

    def analyze(self, which, **_) -> dict:
        """ANALYZE a table."""
        return self.maintain("ANALYZE {table}", which)

    def reindex(self, which, **_) -> dict:
        """REINDEX a table."""
        return self.maintain("REINDEX TABLE {table}", which)

    def reindex_concurrently(self, which, **_) -> dict:
        """REINDEX a table CONCURRENTLY, which may leave an index behind.

        The next one removes it, so that queues are used with such an index
        for a while.
        """
        self.drop_invalid_indexes()
        return self.maintain("REINDEX TABLE CONCURRENTLY {table}", which)

    def cluster_table(self, which, **_) -> dict:
        """CLUSTER a queue on its primary key."""
        name = table(pick(QUEUES, which))
        self.execute("CLUSTER %s USING %s_pkey"
                     % (name, name.split(".")[1]))
        return {"table": name}

    def fillfactor(self, which, how, **_) -> dict:
        """Set the fillfactor, which a queue table may have."""
        percent = int(between(50, 100, how))
        return self.maintain("ALTER TABLE {table} SET (fillfactor = %d)"
                             % percent, which, QUEUES)

    def use_up_ids(self, how, **_) -> dict:
        """Use up transaction ids, so that autovacuum must freeze tables."""
        number = int(between(50000, 120000, how))
        self.execute("DO $$ BEGIN FOR i IN 1 .. %d LOOP"
                     " PERFORM pg_current_xact_id(); COMMIT;"
                     " END LOOP; END $$" % number)
        return {"number": number}

    def maintain(self, command: str, which: float,
                 tables: tuple[str, ...] = ()) -> dict:
        """Run a command on a queue or topic, on dead letters or leases."""
        if not tables:
            tables = QUEUES + ("orders_dead", "reminders_dead", "lease_log",
                               *TOPICS)
        name = table(pick(tables, which))
        self.execute(command.format(table=name))
        return {"table": name}

    def drop_invalid_indexes(self) -> None:
        """Remove what a REINDEX CONCURRENTLY that failed left behind."""
        for index, in self.execute(
                "SELECT indexrelid::regclass::text FROM pg_index"
                " WHERE NOT indisvalid"):
            self.execute("DROP INDEX IF EXISTS %s" % index)

    # What administrators do to queues

    def alter_queue(self, which, how, how_long, more, **_) -> dict:
        """Change settings of a queue under traffic."""
        queue = pick(QUEUES, which)
        factors = [round(between(0.5, 2, fraction), 2)
                   for fraction in (how, how_long, more)]
        self.alter(queue, *factors)
        return {"queue": queue, "factors": factors}

    def alter(self, queue: str, lease: float, delay: float,
              max_delay: float) -> None:
        """Give a queue so many times the settings that it began with."""
        settings = self.settings[queue]
        self.execute(
            "SELECT queue.alter_queue(%s, lease => %s * %s,"
            " retry_delay => %s * %s, retry_max_delay => %s * %s)",
            (table(queue), settings[0], lease, settings[1], delay,
             settings[2], max_delay))

    def read_settings(self) -> dict[str, tuple]:
        """Return the settings of the queues as they were created."""
        return {name: tuple(settings) for name, *settings in self.execute(
            "SELECT c.relname, lease, retry_delay, retry_max_delay"
            "  FROM queue.queue q JOIN pg_class c ON c.oid = q.queue")}

    def pause_queue(self, which, how, how_long, **_) -> dict:
        """Close one end of a queue, or both, for a moment."""
        name = table(pick(QUEUES, which))
        self.execute("SELECT queue.pause(%s, enqueue => %s, dequeue => %s)",
                     (name, how < 0.7, how > 0.3))
        time.sleep(between(0.02, 0.3, how_long))
        self.execute("SELECT queue.resume(%s)", (name,))
        return {"queue": name}

    def purge(self, which, **_) -> dict:
        """Purge a queue, and note in the ledger what is gone.

        In one snapshot, which tells the messages that this transaction
        deleted from those that somebody else did meanwhile.
        """
        queue = pick(QUEUES, which)
        operator = self.operator
        content = "SELECT payload ->> 'v' FROM %s" % table(queue)
        try:
            operator.begin(self.cluster, "REPEATABLE READ")
            free: set[tuple[int, str]] = set()
            gone: list[str] = []
            said_gone: list[int] = []

            def what_is_there(cursor) -> list[str]:
                there = first_column(cursor)
                cursor.execute(FREE.format(table(queue)))
                free.update(cursor.fetchall())
                return there

            before = operator.call("business", content, read=what_is_there)

            def what_is_gone(cursor) -> list[str]:
                said = cursor.fetchone()[0]
                cursor.execute(content)
                left = set(first_column(cursor))
                gone.extend(v for v in before if v not in left)
                said_gone.append(said)
                return gone

            operator.call("remove", "SELECT queue.purge(%s)", (table(queue),),
                          queue, "purge", what_is_gone)
            self.note_in_ledger(queue, gone, "purged")
            if said_gone != [len(gone)]:
                operator.end("rollback")
                raise Finding("purge of %s says %d, but %d are gone"
                              % (queue, said_gone[0], len(gone)))
            operator.end("commit")
        finally:
            operator.close()
        if not gone:
            free.intersection_update(self.execute(FREE.format(table(queue))))
            if len(free) >= MANY_FREE:
                raise Finding("purge of %s leaves %d that nobody held"
                              % (queue, len(free)))
        return {"queue": queue, "number": len(gone)}

    def delete(self, which, how, how_long, more, **_) -> dict:
        """Delete some messages with a plain DELETE, as owners may."""
        queue = pick(QUEUES, which)
        operator = self.operator
        try:
            operator.begin(self.cluster, "READ COMMITTED")
            gone = operator.call(
                "remove",
                "DELETE FROM {0} WHERE id IN"
                " (SELECT id FROM {0} ORDER BY id OFFSET %s LIMIT %s"
                " FOR UPDATE SKIP LOCKED) RETURNING payload ->> 'v'"
                .format(table(queue)),
                (int(between(0, 30, more)), int(between(1, 8, how))),
                queue, "delete", first_column)
            self.note_in_ledger(queue, gone, "deleted")
            operator.end("rollback" if how_long < 0.2 else "commit")
        finally:
            operator.close()
        return {"queue": queue, "number": len(gone)}

    def put_back(self, which, how, how_long, more, **_) -> dict:
        """Put other messages into the place of some, under their ids."""
        queue = pick(QUEUES, which)
        operator = self.operator
        try:
            operator.begin(self.cluster, "READ COMMITTED")
            ids: list[int] = []

            def what_is_gone(cursor) -> list[str]:
                rows = cursor.fetchall()
                ids.extend(row[0] for row in rows)
                return [row[1] for row in rows]

            gone = operator.call(
                "remove",
                "DELETE FROM {0} WHERE id IN"
                " (SELECT id FROM {0} ORDER BY id OFFSET %s LIMIT %s"
                " FOR UPDATE SKIP LOCKED) RETURNING id, payload ->> 'v'"
                .format(table(queue)),
                (int(between(0, 30, more)), int(between(1, 8, how))),
                queue, "delete", what_is_gone)
            self.note_in_ledger(queue, gone, "deleted")
            values = ["%s.%d" % (operator.txn, id) for id in ids]
            operator.call(
                "business",
                "INSERT INTO stress.sent SELECT %s, unnest(%s::text[]), %s",
                (queue, values, operator.txn))
            operator.call(
                "enqueue",
                "INSERT INTO {0} (id, payload)"
                " SELECT * FROM unnest(%s::bigint[], %s::jsonb[])"
                " RETURNING id".format(table(queue)),
                (ids, [history.encode(history.payload(value))
                       for value in values]),
                queue, {"values": values, "how": "by_hand", "group": None},
                first_column)
            operator.end("rollback" if how_long < 0.2 else "commit")
        finally:
            operator.close()
        return {"queue": queue, "number": len(ids)}

    def restart_ids(self, which, how, **_) -> dict:
        """Empty a queue by TRUNCATE, after which its ids start over."""
        queue = pick(QUEUES, which)
        operator = self.operator
        try:
            operator.begin(self.cluster, "READ COMMITTED")
            operator.call("lock", "LOCK TABLE " + table(queue))
            gone = operator.call(
                "business", "SELECT payload ->> 'v' FROM " + table(queue),
                read=first_column)
            operator.call("remove",
                          "TRUNCATE %s RESTART IDENTITY" % table(queue),
                          None, queue, "truncate", lambda cursor: gone)
            self.note_in_ledger(queue, gone, "purged")
            value = operator.txn + ".1"
            operator.call("business",
                          "INSERT INTO stress.sent VALUES (%s, %s, %s)",
                          (queue, value, operator.txn))
            operator.call("enqueue", "SELECT queue.enqueue(%s, %s)",
                          (table(queue),
                           history.encode(history.payload(value))),
                          queue,
                          {"values": [value], "how": "enqueue",
                           "group": None}, first_column)
            operator.end("rollback" if how < 0.4 else "commit")
        finally:
            operator.close()
        return {"queue": queue, "number": len(gone)}

    def note_in_ledger(self, queue: str, values: list[str],
                       effect: str) -> None:
        operator = self.operator
        operator.call(
            "effect",
            "INSERT INTO stress.ledger SELECT %s, v, %s, %s"
            " FROM unnest(%s::text[]) v",
            (queue, operator.txn, effect, values),
            arg=[[queue, value, effect] for value in values])

    # The server

    def kill_backend(self, which, how, **_) -> dict:
        """Kill a client's backend by kill -9: the server restarts itself."""
        sessions = self.sessions(busy=how < 0.7)
        if not sessions:
            raise NotRun("no client is at work")
        pid, client = pick(sessions, which)
        return {"pid": pid, "client": client, **self.kill(pid)}

    def kill_worker(self, **_) -> dict:
        """Kill the worker by kill -9, which is just as bad."""
        pid = self.process_of("queue worker")
        return {"pid": pid, "worker": True, **self.kill(pid)}

    def kill_resolver(self, which, **_) -> dict:
        """Kill a resolver by kill -9."""
        pid = self.resolver(which)
        return {"pid": pid, "worker": True, **self.kill(pid)}

    def kill(self, pid: int) -> dict:
        """Kill a process, and wait until the server has come back."""
        self.continue_workers()
        running = self.cluster.server
        offset = running.log_size()
        running.victims.add(pid)
        stored = self.stored_leases()
        blow = time.monotonic()
        self.send_signal(pid, signal.SIGKILL)
        # The process may have ended a moment ago.
        crashed = running.wait_crash(offset, NOTICE_TIME)
        self.bring_up()
        return {"blow": blow, "crash": crashed, **stored}

    def stop_immediate(self, how_long, **_) -> dict:
        """Stop the server at once, and start it."""
        return self.go_down(lambda: self.cluster.stop("immediate"), how_long)

    def kill_postmaster(self, how_long, **_) -> dict:
        """Kill the postmaster by kill -9, and start the server."""
        return self.go_down(self.cluster.kill_postmaster, how_long)

    def go_down(self, action: Callable[[], None], how_long: float) -> dict:
        self.continue_workers()
        stored = self.stored_leases()
        blow = time.monotonic()
        action()
        time.sleep(between(0, 0.5, how_long))
        self.bring_up()
        return {"blow": blow, "crash": True, **stored}

    def stored_leases(self) -> dict:
        """Return the leases that the next crash must leave alone.

        They are on disk, for they can be seen; what becomes of them between
        this look and the blow is in the history.  Nothing is said of them if
        the server has no answer at once.
        """
        try:
            connection = self.cluster.connect(STORED_PATIENCE)
            try:
                with connection.cursor() as cursor:
                    cursor.execute("SET statement_timeout = %s",
                                   (STORED_PATIENCE * 1000,))
                    cursor.execute(STORED_LEASES)
                    return {"stored": cursor.fetchall()}
            finally:
                connection.close()
        except psycopg2.Error:
            return {}

    def full_disk(self, how_long, **_) -> dict:
        """Leave no room for WAL; servers do not survive that."""
        if self.cluster.wal_disk() is None:
            raise NotRun("WAL has no small file system of its own")
        self.continue_workers()
        running = self.cluster.server
        offset = running.log_size()
        blow = time.monotonic()
        with running.full_disk():
            self.fill_disk()
            self.use_up_wal(time.monotonic() + between(1, 3, how_long))
            self.remove_ballast()
            # A process may just be dying of it.
            crashed = running.wait_crash(offset, 1)
            self.bring_up()
        self.unread_log()
        return {"blow": blow, "crash": crashed, "worker": True}

    def ballast(self) -> str:
        return os.path.join(self.cluster.wal_disk(), "ballast")

    def fill_disk(self) -> None:
        """Take all the room, to the last kB."""
        with open(self.ballast(), "wb", buffering=0) as file:
            for size in (1 << 20, 1 << 10):
                block = bytes(size)
                try:
                    while file.write(block) == size:
                        pass
                except OSError:
                    pass

    def use_up_wal(self, until: float) -> None:
        """Go on to new WAL segments, as more traffic would."""
        while time.monotonic() < until:
            try:
                self.execute("SELECT pg_switch_wal()")
            except psycopg2.Error:
                pass
            self.is_stopping.wait(0.1)

    def remove_ballast(self) -> None:
        if self.cluster.wal_disk() is not None:
            try:
                os.remove(self.ballast())
            except FileNotFoundError:
                pass

    # Standby

    def backup(self, **_) -> dict:
        """Take a base backup in the place of the first."""
        if self.cluster.backup_end is None:
            raise NotRun("nobody wants a base backup")
        self.cluster.base_backup()
        return {}

    def standby(self, **_) -> dict:
        """Add a standby."""
        self.await_slow()
        self.cluster.add_standby()
        return {}

    def promotion(self, how, how_long, **_) -> dict | None:
        """Make the standby synchronous, and then let it take over.

        A commit that waits for the standby and is cancelled is answered like
        one that has been replicated, with no more than a warning.  So nothing
        cancels anybody while commits wait, nor is there anybody left then who
        was told to cancel himself.
        """
        if self.cluster.standby is None:
            raise NotRun("there is no standby")
        began = time.monotonic()
        self.await_slow()
        self.undo_all()
        self.set_timeouts(0, 0)
        self.await_transactions()
        self.cluster.start_synchronous()
        self.is_stopping.wait(between(1, 4, how_long))
        self.note(began, "synchronous", {})
        kill = how < 0.5
        stored = self.stored_leases()
        began = time.monotonic()
        self.cluster.promote_standby(kill)
        self.shared.port = self.cluster.port
        self.note(began, "promotion", {
            "crash": True, "worker": True, "kill": kill, **stored,
            "switch": instance.lsn_text(self.cluster.promotions[-1])})
        return None

    def await_transactions(self) -> None:
        """Wait for transactions that may have a timeout set, or end them."""
        began = self.execute("SELECT clock_timestamp()")[0][0]
        older = (" FROM pg_stat_activity WHERE usename = 'stress'"
                 " AND backend_type = 'client backend'"
                 " AND xact_start < %s + interval '0.2 s'")

        def none_left() -> bool:
            return not self.execute("SELECT pid" + older, (began,))

        time.sleep(0.3)
        if not instance.wait_until(none_left, 2, 0.1):
            self.execute("SELECT pg_terminate_backend(pid)" + older,
                         (began,))


def signal_client(pid: int, number: int) -> None:
    """Send a signal to the process of a client, which may have ended."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def table(name: str) -> str:
    """Return the name of a table with its schema."""
    return ("queue." if name == "lease_log" else "stress.") + name
