"""The server that is measured, and what it cost.

CPU is that of all of the server's processes: the postmaster, its children, and
those of them that have ended, which the kernel adds up in the postmaster's
times when it has waited for them.  So nothing is sampled and nothing is
missed, but a figure is complete only when the sessions in question have ended,
which cpu() waits for.

WAL is what pg_waldump counts between two positions, without full-page images:
those depend on when the last checkpoint was.
"""

import copy
import os
import re
import subprocess
import time

import psycopg2
import psycopg2.extensions

DATABASE = "bench"

# The one beside it, for what is to be compared at the same time.
BESIDE = DATABASE + "_beside"

# Of the server.  Checkpoints are to happen between the runs, where the
# benchmark asks for them, not in them; autovacuum is PostgreSQL's own, but
# looks every ten seconds since runs are short.
SETTINGS = [
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("shared_buffers", "1GB"),
    ("max_connections", "1100"),
    ("max_wal_size", "8GB"),
    ("min_wal_size", "2GB"),
    ("checkpoint_timeout", "1h"),
    ("autovacuum_naptime", "10s"),
    ("max_prepared_transactions", "20"),
]

# Of the sessions, for all workloads alike.  A queue's table is empty whenever
# it is analyzed, so the planner would read all of it now and then, and all of
# the dead rows; a queue written by hand is spared that here.
SESSION = [
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_sort", "off"),
    ("jit", "off"),
]

HERE = os.path.dirname(os.path.abspath(__file__))
SERVER_SH = os.path.join(HERE, "..", "server.sh")
PATIENCE = 60.0


class ClusterError(Exception):
    """The server does not do what it should."""


class Cluster:
    """A scratch server in a directory."""

    def __init__(self, directory: str, bindir: str):
        self.directory = directory
        self.bindir = bindir
        self.environment = dict(os.environ)
        self.environment["PG_CONFIG"] = os.path.join(bindir, "pg_config")
        self.database = DATABASE
        self.admin: psycopg2.extensions.connection = None
        self.postmaster = 0
        self.ticks = os.sysconf("SC_CLK_TCK")

    # Its life

    def start(self) -> None:
        """Make it and start it, with a database that has the extension."""
        extra = self.directory + ".conf"
        with open(extra, "w", encoding="ascii") as file:
            for name, value in SETTINGS:
                file.write("%s = '%s'\n" % (name, value))
        self._start(extra)
        self._create_database()
        if self.ask("SHOW debug_assertions") != "off":
            raise ClusterError("the server was built with assertions")

    def _create_database(self) -> None:
        self._execute_outside(
            "CREATE DATABASE " + self.database,
            *("ALTER DATABASE %s SET %s = '%s'"
              % (self.database, name, value) for name, value in SESSION))
        self.environment["PGDATABASE"] = self.database
        self.admin = self.connect()
        self.execute("CREATE EXTENSION queue")

    def _execute_outside(self, *statements: str) -> None:
        connection = self.connect("postgres")
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
        connection.close()

    def beside(self) -> "Cluster":
        """Return the same server with another database, which is made."""
        other = copy.copy(self)
        other.database = BESIDE
        other.environment = dict(self.environment)
        other._create_database()
        return other

    def drop_database(self) -> None:
        """Drop that other database."""
        self.admin.close()
        self._execute_outside("DROP DATABASE %s WITH (FORCE)" % self.database)

    def _start(self, *extra: str) -> None:
        settings = self._server_sh("start", self.directory, *extra)
        for name, value in re.findall(r"(PG\w+)=(\S+)", settings):
            self.environment[name] = value
        with open(os.path.join(self.directory, "data", "postmaster.pid"),
                  encoding="ascii") as file:
            self.postmaster = int(file.readline())

    def restart(self, how: str) -> float:
        """Stop it ("stop") or let it crash ("crash"), and start it again.

        Return the seconds from the start until it accepts connections.
        """
        self.admin.close()
        self._server_sh(how, self.directory)
        return self._start_again()

    def _start_again(self) -> float:
        began = time.monotonic()
        self._start()
        took = time.monotonic() - began
        self.environment["PGDATABASE"] = self.database
        self.admin = self.connect()
        return took

    def shared_memory(self) -> int:
        """Return the megabytes of shared memory that the extension takes.

        A server that does not run tells what it would take, so it is
        restarted.
        """
        self.admin.close()
        self._server_sh("stop", self.directory)
        sizes = []
        for libraries in ("queue", ""):
            done = subprocess.run(
                [os.path.join(self.bindir, "postgres"),
                 "-D", os.path.join(self.directory, "data"),
                 "-c", "shared_preload_libraries=" + libraries,
                 "-C", "shared_memory_size"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True, check=False)
            if done.returncode != 0:
                raise ClusterError("postgres -C failed:\n" + done.stderr)
            sizes.append(int(done.stdout))
        self._start_again()
        return sizes[0] - sizes[1]

    def stop(self) -> None:
        """Stop it, if it runs."""
        if self.admin is not None:
            self.admin.close()
        self._server_sh("stop", self.directory)

    def _server_sh(self, *arguments: str) -> str:
        # Its output goes to a file: the server that it starts keeps what it
        # was given, and a pipe would never come to an end.
        path = self.directory + ".server.sh"
        with open(path, "w+", encoding="utf-8") as file:
            done = subprocess.run(
                [SERVER_SH, *arguments], env=self.environment,
                stdin=subprocess.DEVNULL, stdout=file,
                stderr=subprocess.STDOUT, check=False)
            file.seek(0)
            output = file.read()
        if done.returncode != 0:
            raise ClusterError("server.sh %s failed:\n%s"
                               % (" ".join(arguments), output))
        return output

    # Sessions

    def connect(self, database: str | None = None,
                **options) -> psycopg2.extensions.connection:
        """Return a new connection, to its own database if none is named."""
        return psycopg2.connect(
            host=self.environment["PGHOST"], port=self.environment["PGPORT"],
            user=self.environment["PGUSER"],
            dbname=database or self.database, **options)

    def session(self) -> psycopg2.extensions.connection:
        """Return a new connection that commits each statement."""
        connection = self.connect()
        connection.autocommit = True
        return connection

    def execute(self, statements: str) -> None:
        """Carry out statements in the session of the benchmark itself."""
        self.admin.autocommit = True
        with self.admin.cursor() as cursor:
            cursor.execute(statements)

    def row(self, query: str, arguments=None) -> tuple:
        """Return the first row of an answer."""
        self.admin.autocommit = True
        with self.admin.cursor() as cursor:
            cursor.execute(query, arguments)
            return cursor.fetchone()

    def ask(self, query: str, arguments=None):
        """Return a single value."""
        return self.row(query, arguments)[0]

    def rows(self, query: str, arguments=None) -> list[tuple]:
        """Return all rows of an answer."""
        self.admin.autocommit = True
        with self.admin.cursor() as cursor:
            cursor.execute(query, arguments)
            return cursor.fetchall()

    def column(self, query: str, arguments=None) -> list:
        """Return the first column of an answer."""
        return [row[0] for row in self.rows(query, arguments)]

    def has_extension(self, name: str) -> bool:
        """Return whether an extension could be created."""
        return self.ask("SELECT count(*) FROM pg_available_extensions"
                        " WHERE name = %s", (name,)) > 0

    # Costs

    def children(self) -> list[int]:
        """Return the process ids of the server without the postmaster."""
        with open("/proc/%d/task/%d/children"
                  % (self.postmaster, self.postmaster),
                  encoding="ascii") as file:
            return [int(pid) for pid in file.read().split()]

    def sessions(self) -> int:
        """Return how many clients use the database, the benchmark apart."""
        count = 0
        client = " %s [local]" % self.database
        for pid in self.children():
            try:
                with open("/proc/%d/cmdline" % pid, "rb") as file:
                    count += client.encode("ascii") in file.read()
            except OSError:
                pass
        return count - 1

    def wait_for_sessions(self, wanted: int = 0) -> None:
        """Wait until so many clients are left and the others waited for."""
        end = time.monotonic() + PATIENCE
        while self.sessions() > wanted:
            if time.monotonic() > end:
                raise ClusterError("%d sessions do not end" % self.sessions())
            time.sleep(0.01)

    def cpu(self) -> float:
        """Return the seconds that all of the server's processes have used.

        What ends meanwhile might be missed or counted twice, so it is read
        until it has not changed hands.
        """
        while True:
            before = self.children()
            total = self._times(self.postmaster, waited_for=True)
            for pid in before:
                total += self.cpu_of(pid)
            if self.children() == before:
                return total

    def _times(self, pid: int, waited_for: bool) -> float:
        with open("/proc/%d/stat" % pid, encoding="ascii") as file:
            # The name of the program may contain blanks.
            fields = file.read().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        if waited_for:
            ticks += int(fields[13]) + int(fields[14])
        return ticks / self.ticks

    def cpu_of(self, pid: int) -> float:
        """Return the seconds that a running process has used; 0 if it ended.

        In nanoseconds, where the kernel tells.
        """
        try:
            with open("/proc/%d/schedstat" % pid, encoding="ascii") as file:
                return int(file.read().split()[0]) / 1e9
        except OSError:
            pass
        try:
            return self._times(pid, waited_for=False)
        except OSError:
            return 0.0

    def wal_position(self) -> str:
        """Return where the WAL ends, on disk."""
        position = self.ask("SELECT pg_current_wal_insert_lsn()")
        self.execute("SELECT pg_logical_emit_message(true, 'bench', '')")
        return position

    def wal_bytes(self, start: str, end: str) -> int:
        """Return the bytes of the records between two positions.

        Without full-page images.
        """
        done = subprocess.run(
            [os.path.join(self.bindir, "pg_waldump"), "--stats",
             "--path", os.path.join(self.directory, "data", "pg_wal"),
             "--start", start, "--end", end],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, check=False)
        total = re.search(r"^Total\s+\d+\s+(\d+) \[", done.stdout, re.M)
        if total is None:
            raise ClusterError("pg_waldump failed:\n" + done.stderr)
        return int(total.group(1))

    def checkpoint(self) -> None:
        """Write everything, so that nobody has to do so in a run."""
        self.execute("CHECKPOINT")

    def checkpoints(self) -> int:
        """Return how many checkpoints there have been."""
        return self.ask("SELECT checkpoints_timed + checkpoints_req"
                        " FROM pg_stat_bgwriter")
