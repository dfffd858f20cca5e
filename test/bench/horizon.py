"""What keeps dead rows from being removed, and how to make it do so.

Each of these has prepare(), which may take its time, hold(), after which rows
deleted from then on stay where they are, and let_go().  tend() is called again
and again in between.
"""

import os
import shutil
import subprocess
import threading
import time

import cluster

STANDBY_PATIENCE = 60.0

# What a dump has to write, and how much of it at once.
BALLAST_ROWS = 4000
BALLAST = """
CREATE TABLE bench.ballast (filler text);
ALTER TABLE bench.ballast ALTER COLUMN filler SET STORAGE EXTERNAL;
INSERT INTO bench.ballast
    SELECT repeat('ballast ', 1000) FROM generate_series(1, %d)
""" % BALLAST_ROWS
BALLAST_BYTES = BALLAST_ROWS * 8000
PIECE = 65536


class Snapshot:
    """A REPEATABLE READ transaction that does nothing."""

    title = "snapshot of an idle transaction"

    def __init__(self, server: cluster.Cluster, seconds: float):
        self.server = server
        self.seconds = seconds
        self.session = None

    def prepare(self) -> None:
        """Do what need not be done while traffic is measured."""

    def hold(self) -> None:
        """Take a snapshot."""
        self.session = self.server.connect()
        self.session.set_session(isolation_level="REPEATABLE READ")
        with self.session.cursor() as cursor:
            cursor.execute("SELECT 1")

    def tend(self) -> None:
        """Do nothing."""

    def let_go(self) -> None:
        """End the transaction."""
        if self.session is not None:
            self.session.close()
            self.session = None


class Nothing(Snapshot):
    """Holds nothing: what the others are compared with."""

    title = "nothing"

    def hold(self) -> None:
        """Do nothing."""


class Prepared(Snapshot):
    """A prepared transaction that has written something."""

    title = "prepared transaction"
    gid = "bench"

    def hold(self) -> None:
        """Prepare a transaction."""
        session = self.server.connect()
        with session.cursor() as cursor:
            cursor.execute("INSERT INTO bench.sent VALUES (0)")
            cursor.execute("PREPARE TRANSACTION '%s'" % self.gid)
        session.close()

    def let_go(self) -> None:
        """Roll it back, if it is there."""
        if self.server.ask("SELECT count(*) FROM pg_prepared_xacts"):
            self.server.execute("ROLLBACK PREPARED '%s'" % self.gid)


class Slot(Snapshot):
    """The slot of a standby that has gone.

    With hot_standby_feedback the standby told what its oldest snapshot may
    see; its slot remembers that.
    """

    title = "replication slot of a standby that has gone"
    name = "bench"

    def __init__(self, server: cluster.Cluster, seconds: float):
        super().__init__(server, seconds)
        self.directory = server.directory + ".standby"

    def prepare(self) -> None:
        """Make a standby and its slot."""
        self._run("pg_basebackup", "-D", self.directory, "-c", "fast", "-R",
                  "-C", "-S", self.name)
        with open(os.path.join(self.directory, "postgresql.auto.conf"), "a",
                  encoding="ascii") as file:
            file.write("hot_standby_feedback = on\n"
                       "wal_receiver_status_interval = 1\n"
                       "listen_addresses = ''\n"
                       "unix_socket_directories = '%s'\n" % self.directory)

    def hold(self) -> None:
        """Let the standby tell what it needs, and end it."""
        try:
            self._run("pg_ctl", "-D", self.directory, "-l",
                      os.path.join(self.directory, "log"), "-w", "start")
            deadline = time.monotonic() + STANDBY_PATIENCE
            while self.server.ask("SELECT xmin IS NULL FROM"
                                  " pg_replication_slots"):
                if time.monotonic() > deadline:
                    raise cluster.ClusterError("the standby gives no feedback")
                time.sleep(0.05)
        finally:
            # Not a shutdown, in which it would take its word back.
            self._run("pg_ctl", "-D", self.directory, "-m", "immediate",
                      "stop")

    def let_go(self) -> None:
        """Drop the slot, if it is there, and the standby."""
        shutil.rmtree(self.directory, ignore_errors=True)
        deadline = time.monotonic() + STANDBY_PATIENCE
        while self.server.ask("SELECT count(*) FROM pg_replication_slots"
                              " WHERE active"):
            if time.monotonic() > deadline:
                raise cluster.ClusterError("the slot stays in use")
            time.sleep(0.05)
        self.server.execute("SELECT pg_drop_replication_slot(slot_name)"
                            " FROM pg_replication_slots")

    def _run(self, program: str, *arguments: str) -> None:
        # A server that is started keeps its output, so not a pipe.
        path = self.server.directory + ".standby.out"
        with open(path, "w+", encoding="utf-8") as file:
            done = subprocess.run(
                [os.path.join(self.server.bindir, program), *arguments],
                env=self.server.environment, stdin=subprocess.DEVNULL,
                stdout=file, stderr=subprocess.STDOUT, check=False)
            file.seek(0)
            if done.returncode != 0:
                raise cluster.ClusterError("%s failed:\n%s"
                                           % (program, file.read()))


class Dump(Snapshot):
    """pg_dump, again and again.

    Its output is read so slowly that each dump takes a third of the time.
    """

    title = "`pg_dump` in a loop"
    dumps = 3

    def __init__(self, server: cluster.Cluster, seconds: float):
        super().__init__(server, seconds)
        self.pause = seconds / self.dumps / (BALLAST_BYTES / PIECE)
        self.process = None
        self.reader = None

    def prepare(self) -> None:
        """Make something to dump."""
        self.server.execute(BALLAST)

    def hold(self) -> None:
        """Begin the first dump."""
        self.process = subprocess.Popen(
            [os.path.join(self.server.bindir, "pg_dump")],
            env=self.server.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.reader = threading.Thread(target=self._read,
                                       args=(self.process.stdout,))
        self.reader.start()

    def _read(self, pipe) -> None:
        while pipe.read(PIECE):
            time.sleep(self.pause)

    def tend(self) -> None:
        """Begin the next dump when the last one has ended."""
        if self.process is None or self.reader.is_alive():
            return
        if self.process.wait() != 0:
            raise cluster.ClusterError("pg_dump failed")
        self.hold()

    def let_go(self) -> None:
        """End the dump that is under way."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.reader.join()
            self.process.stdout.close()
            self.process = None
        self.server.execute("DROP TABLE IF EXISTS bench.ballast")


HOLDERS = {"snapshot": Snapshot, "prepared": Prepared, "slot": Slot,
           "dump": Dump}
