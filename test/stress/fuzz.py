"""The fuzzer: random calls of everything in schema queue, and DDL between.

    fuzz.py --dir DIR [--statements N] [--seed N] [--sessions N] [--short]

Several sessions send statements that make no sense: every function, procedure,
table and view that the catalog has in schema queue, with arguments of all
kinds, in all places of a statement, by several roles, while queues are made,
changed, dropped and locked, and sessions cancelled and ended.  In one of two
databases they also ruin what belongs to the extension, and drop it and create
it.  Beside all that a queue is used as it should be.

What must not happen is in fuzzer/judge.py.  The seed decides what is sent; it
is printed, and with the same seed, number of statements and number of sessions
each session sends the same again.  Which session is faster is up to the
machine, and receipts are those that were given out.

The exit status is that of stress.py.  See docs/testing.md.
"""

import argparse
import os
import sys
import time

import psycopg2

import program
from checker import table
from fuzzer import judge
from fuzzer.bystander import Bystander
from fuzzer.catalog import Catalog, read_catalog
from fuzzer.session import Pool, Session
from fuzzer.statements import Script
from instance import DATABASE, PATIENCE, Server, wait_until

HERE = os.path.dirname(os.path.abspath(__file__))

STATEMENTS = 40000
SHORT_STATEMENTS = 6000
SESSIONS = 8
SHORT_SESSIONS = 5

# In the one nothing happens that a role of the database's users could not do;
# in the other everything.
FUZZED = "fuzz"
RUINED = "ruin"

SETTINGS = {
    "max_connections": "60",
    "max_prepared_transactions": "20",
    "max_worker_processes": "16",
    "deadlock_timeout": "50ms",
    "restart_after_crash": "off",
    "autovacuum_naptime": "1s",
    "max_wal_size": "256MB",
    "queue.lease_write_delay": "20ms",
    "queue.resolve_interval": "100ms",
    "queue.vacuum_threshold": "100",
    "log_checkpoints": "off",
    "log_autovacuum_min_duration": "-1",
    "log_min_error_statement": "panic",
    "log_line_prefix": "%m [%p] %b %e %q%a %d ",
    "debug_discard_caches": "0",
}

# With every other seed memory has room for little.
SMALL = {
    "queue.max_in_flight": "200",
    "queue.max_queues": "16",
    "queue.max_databases": "3",
}

ROLES = """
CREATE ROLE fuzz_owner; CREATE ROLE fuzz_sender; CREATE ROLE fuzz_consumer;
CREATE ROLE fuzz_nobody; CREATE ROLE near; CREATE ROLE hub;
"""

# A statement is cancelled after so many seconds, and hangs after so many more.
CANCEL_AFTER = 3.0
HANGS_AFTER = 120.0

TABLES = ("SELECT c.oid::bigint FROM pg_class c JOIN pg_namespace n"
          " ON n.oid = c.relnamespace"
          " WHERE n.nspname IN ('fuzz', 'other') AND c.relkind = 'r'")

# In the end, of what a queue is and what shared memory knows of it.
DROP_ALL = """
SET session_replication_role = origin;
DROP PUBLICATION IF EXISTS p;
DROP SCHEMA IF EXISTS fuzz, other, public CASCADE;
CREATE SCHEMA public;
"""
LEFT = {
    "queue.queue": "SELECT queue::text FROM queue.queue"
                   " WHERE queue::text !~ '^calm'",
    "queue.in_flight": "SELECT i::text FROM queue.in_flight i",
    "queue.cover": "SELECT c::text FROM queue.cover c"
                   " WHERE queue::text !~ '^calm'",
    "queue_internal.prepared()": "SELECT p::text FROM queue_internal.prepared() p",
    "pg_prepared_xacts": "SELECT gid FROM pg_prepared_xacts",
}
ANEW = """
DROP EXTENSION IF EXISTS queue CASCADE;
DROP SCHEMA IF EXISTS queue, queue_2, calm CASCADE;
CREATE EXTENSION queue;
"""

# A message that fails until the worker moves it to the dead letters.
LIFE = (
    ("CREATE SCHEMA after", None),
    ("SELECT queue.create_queue('after.q', lease => '50 ms',"
     " max_attempts => 2, retry_delay => '0')::text", "after.q"),
    ("SELECT queue.enqueue_batch('after.q', '{1,2}')::text", "{1,2}"),
    ("SELECT payload::text FROM queue.dequeue('after.q', wait => '20 s')",
     "1"),
    ("SELECT queue.nack(receipt)::text FROM queue.receive('after.q',"
     " wait => '20 s')", ""),
    ("SELECT attempt::text FROM queue.receive('after.q', wait => '20 s')",
     "2"),
    ("SELECT payload::text FROM queue.dequeue('after.q_dead',"
     " wait => '20 s')", "2"),
    ("DROP SCHEMA after CASCADE", None))


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Fuzzer for SQL; see docs/testing.md.")
    parser.add_argument("--dir", required=True,
                        help="where the server and the statements go")
    parser.add_argument("--wal-dir", help=argparse.SUPPRESS)
    parser.add_argument("--statements", type=int,
                        help="how many all sessions send together")
    parser.add_argument("--sessions", type=int, help="how many at a time")
    parser.add_argument("--short", action="store_true",
                        help="a run of some seconds")
    arguments = program.parse_options(parser)
    short = arguments.short
    if arguments.statements is None:
        arguments.statements = SHORT_STATEMENTS if short else STATEMENTS
    if arguments.sessions is None:
        arguments.sessions = SHORT_SESSIONS if short else SESSIONS
    if arguments.sessions < 2 or arguments.statements < arguments.sessions:
        parser.error("there are at least two sessions, of a statement each")
    return arguments


def megabytes(pid: int) -> int | None:
    """Return the memory that a process has for itself."""
    try:
        with open("/proc/%d/status" % pid, encoding="ascii") as file:
            for line in file:
                if line.startswith("RssAnon:"):
                    return int(line.split()[1]) // 1024
    except OSError:
        pass
    return None


class Run:
    """One run of the fuzzer."""

    def __init__(self, arguments: argparse.Namespace, bindir: str):
        self.arguments = arguments
        self.seed = arguments.seed
        self.directory = os.path.join(arguments.dir, "run")
        self.started = time.monotonic()
        self.is_small = self.seed % 2 == 1
        os.makedirs(self.directory)
        self.server = Server(self.directory, bindir, {
            **SETTINGS, **(SMALL if self.is_small else {})})
        self.catalog: Catalog | None = None
        self.sessions: list[Session] = []
        self.pools = {FUZZED: Pool(), RUINED: Pool()}
        self.bystander: Bystander | None = None
        self.shown_at = self.started
        # What the judge asks for.
        self.hanging: list[str] = []
        self.memory: list[tuple[str, int | None, int]] = []
        self.left: dict[str, list[str]] = {}
        self.afterwards: dict[str, str] = {}

    # The parts of a run

    def carry_out(self) -> None:
        """Go through all parts; leave no server behind."""
        try:
            self.set_up()
            self.fuzz()
            if not self.hanging and self.server.postmaster_pid() is not None:
                self.measure()
                self.close()
                self.clean_up()
                self.server.stop()
        finally:
            self.server.stop("immediate")

    def set_up(self) -> None:
        """Start the server, and make databases and sessions."""
        self.server.initdb()
        self.server.start()
        self.execute(DATABASE, ROLES)
        with open(os.path.join(HERE, "fuzz.sql"), encoding="utf-8") as file:
            schema = file.read()
        for database in (FUZZED, RUINED):
            self.execute(DATABASE, "CREATE DATABASE " + database)
            self.execute(database, schema)
        connection = self.server.connect(database=FUZZED)
        with connection.cursor() as cursor:
            self.catalog = read_catalog(cursor)
        connection.close()
        self.bystander = Bystander(FUZZED, self.server.port, self.seed,
                                   self.is_small)
        count = self.arguments.sessions
        ruining = max(1, count // 4)
        for number in range(count):
            is_ruining = number < ruining
            here = number if is_ruining else number - ruining
            names = (RUINED, FUZZED) if is_ruining else (FUZZED, RUINED)
            self.sessions.append(Session(
                "fuzz %d" % here, names[0], self.server.port,
                Script(self.seed, number, self.catalog, is_ruining, here == 0,
                       (ruining if is_ruining else count - ruining) - 1),
                self.arguments.statements // count
                + (number < self.arguments.statements % count),
                (self.pools[names[0]], self.pools[names[1]]),
                os.path.join(self.directory, names[0])))
            os.makedirs(os.path.join(self.directory, names[0]), exist_ok=True)

    def fuzz(self) -> None:
        """Let the sessions loose, and watch them."""
        self.say("%d statements in %d sessions%s" % (
            self.arguments.statements, len(self.sessions),
            ", with little memory" if self.is_small else ""))
        self.bystander.start()
        for session in self.sessions:
            session.start()
        self.young: dict[int, int | None] = {}
        try:
            self.watch_all()
        finally:
            for session in self.sessions:
                session.must_stop.set()
            if self.hanging:
                self.server.kill_postmaster()
            for session in self.sessions:
                session.join(HANGS_AFTER)
            self.bystander.end(PATIENCE if not self.hanging else 1)

    def watch_all(self) -> None:
        """Watch until all have ended, or something is wrong.

        On a busy machine it may take long to connect.
        """
        connection = None
        well = time.monotonic()
        while (any(session.is_alive() for session in self.sessions)
               and not self.hanging
               and self.server.postmaster_pid() is not None):
            time.sleep(0.1)
            try:
                if connection is None or connection.closed:
                    connection = self.server.connect()
                self.watch(connection)
                well = time.monotonic()
            except psycopg2.Error as error:
                if time.monotonic() - well > HANGS_AFTER:
                    self.hanging.append("the server: %s" % error)

    def watch(self, connection) -> None:
        """Cancel what takes long, and notice what hangs."""
        now = time.monotonic()
        for session in [*self.sessions, *self.bystander.parties]:
            since = session.since
            if since is None or now - since < CANCEL_AFTER:
                continue
            if now - since > HANGS_AFTER:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT a::text FROM pg_stat_activity a"
                                   " WHERE pid = %s", (session.pid,))
                    self.hanging.append("%s: %s" % (session.name,
                                                    cursor.fetchall()))
            elif isinstance(session, Session):
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_cancel_backend(%s)",
                                   (session.pid,))
        if now - self.shown_at < 5:
            return
        self.shown_at = now
        for database, pool in self.pools.items():
            known = set(pool.oids)
            pool.oids += [oid for oid, in self.server.query(
                TABLES, database=database) if oid not in known]
            del pool.oids[:-1000]
        sent = self.sent()
        self.say("{:,} statements, {:,} errors, {:,} messages of the bystander"
                 .format(sent, self.errors(),
                         len(self.bystander.sender.sent)))
        for session in self.sessions:
            # After a fifth of its statements caches are filled.
            if session.pid not in self.young and \
                    session.sent > session.statements / 5:
                self.young[session.pid] = megabytes(session.pid)

    def measure(self) -> None:
        """Note what sessions and processes of the extension have."""
        processes = self.server.query(
            "SELECT pid, backend_type || coalesce(' ' || datname, '')"
            " FROM pg_stat_activity WHERE backend_type LIKE 'queue%'")
        for pid, name in [(session.pid, "%s of %s" % (session.name,
                                                      session.database))
                          for session in self.sessions] + processes:
            size = megabytes(pid)
            if size is not None:
                self.memory.append((name, self.young.get(pid), size))

    def close(self) -> None:
        """End all sessions."""
        for session in self.sessions:
            session.close()
        wait_until(lambda: self.server.query(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE application_name LIKE 'fuzz %'") == [(0,)], PATIENCE)

    def clean_up(self) -> None:
        """Undo what is there, and look what remains of it."""
        for gid, database in self.server.query(
                "SELECT gid, database FROM pg_prepared_xacts"):
            self.execute(database, "ROLLBACK PREPARED '%s'" % gid)
        self.execute(FUZZED, DROP_ALL)
        self.execute(RUINED, DROP_ALL + ANEW)
        for name, query in LEFT.items():
            wait_until(lambda: not self.server.query(query, database=FUZZED),
                       20)
            self.left[name] = [text for text, in
                               self.server.query(query, database=FUZZED)]
        for database in (FUZZED, RUINED):
            self.afterwards[database] = self.live(database)

    def live(self, database: str) -> str:
        """Let a queue live in a database; return what is wrong with it."""
        connection = self.server.connect(database=database)
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET statement_timeout = '60s'")
                for sql, expected in LIFE:
                    cursor.execute(sql)
                    if expected is None:
                        continue
                    rows = cursor.fetchall()
                    if rows != [(expected,)]:
                        return "%s: %s" % (sql, rows)
            return ""
        except psycopg2.Error as error:
            return str(error)
        finally:
            connection.close()

    # Little helpers

    def execute(self, database: str, sql: str) -> None:
        """Run statements as the superuser."""
        connection = self.server.connect(database=database)
        try:
            with connection.cursor() as cursor:
                # Not in one transaction: some cannot be.
                for statement in sql.split(";\n"):
                    if statement.strip():
                        cursor.execute(statement)
        finally:
            connection.close()

    def sent(self) -> int:
        """How many statements were sent."""
        return sum(session.sent for session in self.sessions)

    def errors(self) -> int:
        """How many of them failed."""
        return sum(sum(session.states.values()) for session in self.sessions)

    def names(self) -> list[str]:
        """What was to be called, by the names of kinds of statements."""
        return ([routine.signature for routine in self.catalog.routines]
                + ["queue." + relation.name
                   for relation in self.catalog.relations])

    def log_lines(self) -> list[str]:
        """Return the log."""
        return self.server.log_text().splitlines()

    def say(self, text: str) -> None:
        """Print a line of progress."""
        print("%5.0f s  %s" % (time.monotonic() - self.started, text))

    # The end

    def report(self) -> bool:
        """Print what happened; return whether all is well."""
        called = [(sum(s.called[name] for s in self.sessions),
                   sum(s.succeeded[name] for s in self.sessions), name)
                  for name in self.names()]
        print("\n%d routines and relations; called least: %s %d times" % (
            len(called), min(called)[2], min(called)[0]))
        never = [name for count, succeeded, name in called if not succeeded]
        if never:
            print("never succeeded: " + ", ".join(never))
        states: dict[str, int] = {}
        for session in self.sessions:
            for state, count in session.states.items():
                states[state] = states.get(state, 0) + count
        print("errors: " + ", ".join(
            "%s %d" % (state, count) for state, count in
            sorted(states.items(), key=lambda item: -item[1])))
        print("memory: " + ", ".join(
            "%s %d MB" % (name, old) for name, _, old in self.memory) + "\n")
        results = judge.judge(self)
        print(table(results))
        program.write_results(self.directory, self.seed, results, [])
        seconds = time.monotonic() - self.started
        print("\n{:,} statements, {:,} errors, {:,} s".format(
            self.sent(), self.errors(), int(seconds)))
        print("Repeat it with: make stress FUZZ=%d SEED=%d%s" % (
            self.arguments.statements, self.seed,
            " SHORT=1" if self.arguments.short else ""))
        failed, unchecked = program.count(results)
        return failed == 0 and unchecked == 0


if __name__ == "__main__":
    sys.exit(program.carry_out(options(), Run))
