"""One data directory, and the server that runs on it or not.

The stress test kills servers all the time, so what matters here is that each
operation tells the truth about the server when it returns.  A postmaster that
was killed is dead together with its orphans, a server that was started
accepts connections, and one that does not come back is an error with the tail
of its log rather than a test that hangs.

All of it runs as the user who owns the servers.
"""

import contextlib
import glob
import math
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time
from typing import Iterator

import psycopg2
import psycopg2.extensions

HERE = os.path.dirname(os.path.abspath(__file__))
QUEUE_CONF = os.path.join(HERE, "..", "queue.conf")

# The database that the stress test lives in.
DATABASE = "postgres"

# How processes of a server find the server itself, wherever its port is: by
# this service, in a file of the data directory, where they work.
SERVICE = "hub"
SERVICE_FILE = "pg_service.conf"

# A server that is not there after so many seconds does not come back.
PATIENCE = 60

# Where servers are reached.  Not at a socket in the file system: its path may
# not have more than 107 bytes, and directories of tests have long names.
HOST = "127.0.0.1"

# A server that runs answers within so many seconds, be the machine busy.
CONNECT_PATIENCE = 10

# Small enough for some segments to fit on a small file system.
WAL_SEGMENT_MB = 4

# Transaction ids of which the status is in one file, and those there are.
IDS_PER_FILE = 32 * 8192 * 4
IDS = 2 ** 32

# Processes that died in a way that a server does not survive.
CRASH = re.compile(r"\(PID (\d+)\) (?:was terminated by signal \d+"
                   r"|exited with exit code (?:[2-9]|\d\d+))")
REINITIALIZING = "all server processes terminated; reinitializing"
NO_SPACE = "No space left on device"
LOG_LINE = re.compile(r"^\S+ \S+ \S+ \[(\d+)\] ")

# Processes of the extension report their troubles nowhere but in the log.
# These are what faults do to them.
WORKER_ERROR = re.compile(
    r"^\S+ \S+ \S+ \[\d+\] queue (?:worker|leader|resolver)\b.*? "
    r"(?:ERROR|FATAL|PANIC):  (.*)")
WORKER_MAY_FAIL = re.compile(
    r"terminating |canceling |lock timeout|deadlock detected"
    r"|could not open relation with OID|cannot execute .* during recovery"
    r"|the database system is |is not permitted to log in")


# What the worker says when it finds messages that the cover had lost.
HIDDEN = "were hidden from consumers"

# Of a topic: a publisher that ended had an id that readers may have passed.
BELOW_STABLE = "got messages below its stable id"


class ServerError(Exception):
    """A server does not do what it must for the test to go on."""


def clean_environment() -> dict[str, str]:
    """Return the environment without what leads to other servers."""
    return {name: value for name, value in os.environ.items()
            if not name.startswith("PG")}


def free_port() -> int:
    """Return a port on which nobody listens.

    Below the range that the kernel hands out to clients, and at random, so
    that servers started side by side seldom meet.  Not from the test's own
    random numbers, which a seed replays.
    """
    while True:
        port = random.SystemRandom().randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port


def wait_until(condition, seconds: float, pause: float = 0.02) -> bool:
    """Wait until condition() is true; return whether it became so."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def conf_line(name: str, value: str) -> str:
    return "%s = '%s'\n" % (name, str(value).replace("'", "''"))


def lsn_text(lsn: int) -> str:
    return "%X/%X" % (lsn >> 32, lsn & 0xFFFFFFFF)


def lsn_number(text: str) -> int:
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


class Server:
    """One data directory, and the server that runs on it or not."""

    def __init__(self, directory: str, bindir: str, settings: dict[str, str]):
        self.directory = os.path.abspath(directory)
        self.bindir = bindir
        self.data = os.path.join(self.directory, "data")
        self.log = os.path.join(self.directory, "log")
        self.settings = dict(settings)
        self.port = 0
        # PIDs of server processes that were killed on purpose.
        self.victims: set[int] = set()
        # Where in the log there may be complaints about a full disk.
        self.full_disk_log: list[tuple[int, float]] = []
        os.makedirs(self.directory, mode=0o700, exist_ok=True)

    # Programs

    def program(self, name: str, *arguments: str, timeout: float = PATIENCE,
                check: bool = True) -> subprocess.CompletedProcess:
        """Run one of the server's programs; its failure is an error."""
        command = [os.path.join(self.bindir, name), *arguments]
        output = os.path.join(self.directory, name + ".out")
        # A file, not a pipe: a server that was started would keep it open.
        with open(output, "w+", encoding="utf-8", errors="replace") as file:
            try:
                done = subprocess.run(
                    command, stdin=subprocess.DEVNULL, stdout=file,
                    stderr=subprocess.STDOUT, timeout=timeout,
                    env={**clean_environment(),
                         "PGSERVICEFILE": SERVICE_FILE}, check=False)
            except subprocess.TimeoutExpired:
                raise self.trouble("%s takes too long" % name) from None
            file.seek(0)
            done.stdout = file.read()
        if check and done.returncode != 0:
            raise self.trouble("%s failed: %s" % (name, done.stdout.strip()))
        return done

    def initdb(self, wal_dir: str | None = None) -> None:
        """Make the data directory."""
        arguments = ["-D", self.data, "--username=postgres", "--auth=trust",
                     "--encoding=UTF8", "--no-sync", "--no-instructions",
                     "--wal-segsize=%d" % WAL_SEGMENT_MB]
        if wal_dir is not None:
            arguments.append("--waldir=" + wal_dir)
        # C.UTF-8 is there on every Debian; elsewhere plain C does as well.
        done = self.program("initdb", "--locale=C.UTF-8", *arguments,
                            check=False)
        if done.returncode != 0:
            self.program("initdb", "--locale=C", *arguments)
        shutil.copyfile(QUEUE_CONF, os.path.join(self.data, "queue.conf"))
        with open(os.path.join(self.data, "postgresql.conf"), "a",
                  encoding="utf-8") as file:
            file.write("include 'queue.conf'\ninclude 'stress.conf'\n")

    def write_settings(self) -> None:
        """Write the settings file, which a start or a reload reads."""
        path = os.path.join(self.data, "stress.conf")
        settings = {"port": str(self.port), "listen_addresses": HOST,
                    # Relative to the data directory, so that it is short.
                    "unix_socket_directories": "..",
                    **self.settings}
        with open(path + ".new", "w", encoding="utf-8") as file:
            for name, value in settings.items():
                file.write(conf_line(name, value))
        os.rename(path + ".new", path)
        path = os.path.join(self.data, SERVICE_FILE)
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write("[%s]\nhost=%s\nport=%d\n"
                       % (SERVICE, HOST, self.port))
        os.rename(path + ".new", path)

    # Transaction ids

    def age(self, left: int) -> None:
        """Leave so many transaction ids before they begin anew.

        The server does not run before and after that.  What is there must be
        frozen on the way, since ids that are half of all away are in the
        future.
        """
        for next_id in (2 * 10 ** 9, 4 * 10 ** 9, IDS - left):
            path = os.path.join(self.data, "pg_xact",
                                "%04X" % (next_id // IDS_PER_FILE))
            with open(path, "wb") as file:
                file.write(bytes(IDS_PER_FILE // 4))
            self.program("pg_resetwal", "-x", str(next_id), self.data)
            if next_id != IDS - left:
                self.start()
                with (contextlib.closing(self.connect()) as connection,
                      connection.cursor() as cursor):
                    cursor.execute("ALTER DATABASE template0"
                                   " ALLOW_CONNECTIONS true")
                self.program("vacuumdb", "--all", "--freeze", "--quiet",
                             "--host=" + HOST, "--port=%d" % self.port,
                             "--username=postgres")
                self.stop()

    # Life and death

    def postmaster_pid(self) -> int | None:
        """Return the process id of the postmaster, None if there is none."""
        try:
            with open(os.path.join(self.data, "postmaster.pid"),
                      encoding="ascii") as file:
                pid = int(file.readline())
        except (OSError, ValueError):
            return None
        return pid if pid in self.processes() else None

    def processes(self) -> list[int]:
        """Return all living processes of this server, orphans included.

        Every process of a server works in its data directory, and so do the
        commands that it runs.
        """
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    cwd = os.readlink("/proc/%s/cwd" % entry)
                except OSError:
                    continue
                if cwd == self.data:
                    found.append(int(entry))
        return found

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        self.await_no_processes()
        self.forget_postmaster()
        for _ in range(8):
            # A server keeps its port, unless somebody took it meanwhile.
            if self.port == 0:
                self.port = free_port()
            self.write_settings()
            offset = self.log_size()
            done = self.program("pg_ctl", "start", "-D", self.data, "-l",
                                self.log, "-w", "-t", str(PATIENCE), "-s",
                                timeout=PATIENCE + 10, check=False)
            if done.returncode == 0:
                return
            if "already in use" not in self.log_text(offset):
                break
            self.port = 0
        raise self.trouble("the server did not start: "
                           + done.stdout.strip())

    def await_no_processes(self) -> None:
        """Wait for orphans, beside which no postmaster starts."""
        if not wait_until(lambda: not self.processes(), PATIENCE):
            raise self.trouble("processes are left of the last server: %s"
                               % self.processes())

    def forget_postmaster(self) -> None:
        """Remove the lock files of a postmaster that is known to be dead.

        A new postmaster takes the old one for alive as long as there is a
        process of that id, be it one that init has not buried yet.
        """
        for path in [os.path.join(self.data, "postmaster.pid"),
                     *glob.glob(os.path.join(self.directory,
                                             ".s.PGSQL.*.lock"))]:
            if os.path.exists(path):
                os.remove(path)

    def stop(self, mode: str = "fast") -> None:
        """Stop the server; no error if it does not run."""
        if self.postmaster_pid() is not None:
            done = self.program("pg_ctl", "stop", "-D", self.data, "-m", mode,
                                "-w", "-t", str(PATIENCE), "-s",
                                timeout=PATIENCE + 10, check=False)
            if done.returncode != 0 and self.postmaster_pid() is not None:
                raise self.trouble("the server did not stop: "
                                   + done.stdout.strip())
        self.await_no_processes()

    def kill_postmaster(self) -> None:
        """Kill the postmaster and then its orphans, as operators do."""
        pid = self.postmaster_pid()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        self.kill_rest()

    def kill_rest(self) -> None:
        """Kill whatever is left of a server, until nothing is."""
        def none_left() -> bool:
            left = self.processes()
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            return not left

        if not wait_until(none_left, PATIENCE):
            raise self.trouble("processes survive kill -9: %s"
                               % self.processes())

    def is_ready(self) -> bool:
        """Return whether the server accepts connections now."""
        try:
            self.connect().close()
            return True
        except psycopg2.OperationalError:
            return False

    def wait_ready(self, timeout: float = PATIENCE) -> None:
        """Wait until the server accepts connections."""
        if not wait_until(self.is_ready, timeout, 0.05):
            raise self.trouble("the server did not come back within %g s"
                               % timeout)

    def wait_crash(self, log_offset: int, patience: float) -> bool:
        """Wait until the server has noticed that a process of it crashed.

        It needs a moment for that, and accepts connections until then.  So
        the log tells, from log_offset on.  False if there was no crash within
        that many seconds.  After a crash the server is on its way up again,
        or has given up.
        """
        def has_noticed() -> bool:
            return CRASH.search(self.log_text(log_offset)) is not None

        def is_over() -> bool:
            return (REINITIALIZING in self.log_text(log_offset)
                    or self.postmaster_pid() is None)

        if not wait_until(has_noticed, patience):
            return False
        if not wait_until(is_over, PATIENCE):
            raise self.trouble("the server hangs while it crashes")
        return True

    def wait_promoted(self, timeout: float) -> None:
        """Wait until the server is no standby any more."""
        def is_promoted() -> bool:
            if self.postmaster_pid() is None:
                raise self.trouble("the server ended in recovery")
            try:
                return self.query("SELECT pg_is_in_recovery()") == [(False,)]
            except psycopg2.OperationalError:
                return False

        if not wait_until(is_promoted, timeout, 0.05):
            raise self.trouble("recovery takes too long")

    def connect(self, patience: int = CONNECT_PATIENCE,
                database: str = DATABASE) -> psycopg2.extensions.connection:
        """Return a connection of the superuser, in autocommit mode."""
        connection = psycopg2.connect(
            host=HOST, port=self.port, user="postgres",
            dbname=database, connect_timeout=patience, application_name="dba",
            options="")
        connection.autocommit = True
        return connection

    def query(self, sql: str, arguments=None,
              database: str = DATABASE) -> list[tuple]:
        """Return the rows of one query, on a connection of its own."""
        connection = self.connect(database=database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, arguments)
                return cursor.fetchall()
        finally:
            connection.close()

    def set(self, **settings: str) -> None:
        """Change settings of the running server by a reload."""
        self.settings.update(settings)
        self.write_settings()
        self.program("pg_ctl", "reload", "-D", self.data, "-s")

    # Its log

    @contextlib.contextmanager
    def full_disk(self) -> Iterator[None]:
        """Excuse what the log says meanwhile about a full disk."""
        start = self.log_size()
        # The end is not known yet, and may never be.
        self.full_disk_log.append((start, math.inf))
        try:
            yield
        finally:
            self.full_disk_log[-1] = (start, self.log_size())

    def log_size(self) -> int:
        try:
            return os.path.getsize(self.log)
        except OSError:
            return 0

    def log_text(self, start: int = 0, end: int | None = None) -> str:
        """Return the log between two positions in bytes."""
        try:
            with open(self.log, "rb") as file:
                file.seek(start)
                data = file.read(-1 if end is None else end - start)
        except OSError:
            return ""
        return data.decode("utf-8", "replace")

    def trouble(self, message: str) -> ServerError:
        """Return an error that shows how the log ends."""
        tail = self.log_text(max(0, self.log_size() - 4000)).splitlines()
        return ServerError("%s\nthe end of %s:\n%s" % (
            message, self.log,
            "\n".join("  " + line for line in tail[-20:])))

    def hidden_messages(self) -> list[str]:
        """Return lines of the log that tell of messages nobody could find."""
        try:
            with open(self.log, encoding="utf-8", errors="replace") as file:
                return [line.rstrip() for line in file if HIDDEN in line]
        except OSError:
            return []

    def log_problems(self) -> list[str]:
        """Return lines of the log that tell of troubles without a fault."""
        problems = []
        victims = set(self.victims)
        try:
            file = open(self.log, "rb")
        except OSError:
            return []
        position = 0
        with file:
            for data in file:
                line = data.decode("utf-8", "replace")
                is_full = any(start <= position < end
                              for start, end in self.full_disk_log)
                position += len(data)
                if is_full and NO_SPACE in line:
                    # Where this is a PANIC the process dies of it.
                    victims.add(int(LOG_LINE.match(line).group(1)))
                elif "TRAP: " in line or "PANIC:  " in line or \
                        BELOW_STABLE in line:
                    problems.append(line.rstrip())
                elif CRASH.search(line):
                    if int(CRASH.search(line).group(1)) not in victims:
                        problems.append(line.rstrip())
                else:
                    error = WORKER_ERROR.match(line)
                    if error and not WORKER_MAY_FAIL.search(error.group(1)):
                        problems.append(line.rstrip())
        return problems
