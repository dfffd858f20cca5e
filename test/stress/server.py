"""The server of the stress test, as clients see it.

A Cluster is a port that is served: at one time by this data directory, and
after a promotion by another.  It has what belongs to a server that is run
seriously, an archive of its WAL, a base backup and for some time a standby,
because each of them is a way in which a queue can come to be somewhere else
than it was.
"""

import glob
import os
import re
import shutil
import threading
import time

import psycopg2.extensions

from global_evidence import FAR
from instance import (CONNECT_PATIENCE, DATABASE, HOST, PATIENCE, Server,
                      ServerError, lsn_number, lsn_text, wait_until)

# What the stress test needs beside test/queue.conf.  Commits wait for
# everything that PostgreSQL's durability asks for except for the disk itself:
# processes die here, the operating system does not.
SETTINGS = {
    "max_connections": "100",
    "max_prepared_transactions": "50",
    # The extension has processes in each of three databases.
    "max_worker_processes": "20",
    "queue.resolve_interval": "300ms",
    "wal_level": "replica",
    "wal_compression": "on",
    "max_wal_senders": "5",
    "wal_keep_size": "32MB",
    "wal_retrieve_retry_interval": "200ms",
    "min_wal_size": "16MB",
    "max_wal_size": "64MB",
    "checkpoint_timeout": "60s",
    "restart_after_crash": "on",
    "hot_standby": "on",
    "autovacuum_naptime": "5s",
    # Tables are old after the least number of transactions that there can be.
    "autovacuum_freeze_max_age": "100000",
    "vacuum_freeze_min_age": "0",
    "log_checkpoints": "off",
    # Clients fail on purpose all the time, and their statements are long.
    "log_min_error_statement": "panic",
}

# Transaction ids begin anew after so many, soon after clients have begun.
IDS_LEFT = 5000


class Cluster:
    """A server as clients see it, with its archive, backup and standby.

    directory gets all of it: the data directories, logs, sockets, archived
    WAL and the base backup.  wal_dir is a directory on a small file system
    of its own that fault injection can fill.
    """

    def __init__(self, directory: str, bindir: str,
                 wal_dir: str | None = None):
        self.directory = os.path.abspath(directory)
        self.bindir = bindir
        self.wal_dir = wal_dir
        self.archive = os.path.join(self.directory, "archive")
        self.backup = os.path.join(self.directory, "backup")
        # WAL positions between which a recovery can stop.
        self.backup_end: int | None = None
        # Where the timeline of each promotion begins.
        self.promotions: list[int] = []
        self.standby: Server | None = None
        # Servers that were replaced by a standby; their logs still count.
        self.former: list[Server] = []
        # A thread that injects faults must not start what was given up.
        self.life = threading.Lock()
        self.is_given_up = False
        os.makedirs(self.archive, mode=0o700, exist_ok=True)
        # To overwrite is right: a crash may come between the end of the
        # command and the note that the segment is archived.
        copy = os.path.join(self.archive, "%f")
        self.server = Server(self.directory, bindir, {
            **SETTINGS,
            "archive_mode": "on",
            "archive_command":
                'cp "%%p" "%s.tmp" && mv "%s.tmp" "%s"' % (copy, copy, copy)})
        self.restore_command = ('test -f "%s" && cp "%s" "%%p"'
                                % (copy, copy))

    # What is as with a plain server

    @property
    def port(self) -> int:
        return self.server.port

    def start(self) -> None:
        """Start the server, making its data directory first if need be."""
        with self.life:
            if self.is_given_up:
                raise ServerError("the server was stopped for good")
            server = self.server
            if not os.path.exists(os.path.join(server.data, "PG_VERSION")):
                wal = self.wal_dir and os.path.join(self.wal_dir, "pg_wal")
                server.initdb(wal)
                server.age(IDS_LEFT)
            server.start()

    def stop(self, mode: str = "fast") -> None:
        """Stop the server; "immediate" is a crash without kill -9."""
        self.server.stop(mode)

    def stop_all(self) -> None:
        """Stop all for good, whatever state it is in."""
        with self.life:
            self.is_given_up = True
            for server in [self.standby, self.server]:
                if server is not None:
                    try:
                        server.stop("immediate")
                    except ServerError:
                        server.kill_postmaster()

    def kill_postmaster(self) -> None:
        """Kill the postmaster and then its orphans, as operators do."""
        self.server.kill_postmaster()

    def wait_ready(self, timeout: float = PATIENCE) -> None:
        """Wait until the server accepts connections."""
        self.server.wait_ready(timeout)

    def postmaster_pid(self) -> int | None:
        return self.server.postmaster_pid()

    def connect(self, patience: int = CONNECT_PATIENCE,
                database: str = DATABASE) -> psycopg2.extensions.connection:
        """Return a connection of the superuser, in autocommit mode."""
        return self.server.connect(patience, database)

    def query(self, sql: str, arguments=None,
              database: str = DATABASE) -> list[tuple]:
        """Return the rows of one query, on a connection of its own."""
        return self.server.query(sql, arguments, database)

    def open_hub(self) -> None:
        """Let the far database log in at the deciding one."""
        connection = self.connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute("ALTER ROLE %s LOGIN" % FAR)
        finally:
            connection.close()

    def log_problems(self) -> list[str]:
        """Return the lines of all logs that no fault explains."""
        servers = self.former + [self.server]
        if self.standby is not None:
            servers.append(self.standby)
        return [line for server in servers for line in server.log_problems()]

    def hidden_messages(self) -> list[str]:
        """Return what all logs tell of messages that nobody could find."""
        servers = self.former + [self.server]
        if self.standby is not None:
            servers.append(self.standby)
        return [line for server in servers
                for line in server.hidden_messages()]

    # Full disk

    def wal_disk(self) -> str | None:
        """Return the small file system with the WAL, if it is on one."""
        return None if self.former else self.wal_dir

    # Backup and recovery

    def copy_server(self, directory: str) -> None:
        """Take a base backup of the running server."""
        self.server.program(
            "pg_basebackup", "-D", directory, "-h", HOST,
            "-p", str(self.port), "-U", "postgres", "-X", "stream",
            "--checkpoint=fast", "--no-sync", timeout=2 * PATIENCE)

    def base_backup(self) -> None:
        """Take the base backup that restore() starts from.

        It replaces an earlier one, and WAL older than it is removed from the
        archive.
        """
        fresh = self.backup + ".new"
        shutil.rmtree(fresh, ignore_errors=True)
        self.copy_server(fresh)
        shutil.rmtree(self.backup, ignore_errors=True)
        os.rename(fresh, self.backup)
        self.backup_end = self.wal_position()
        with open(os.path.join(self.backup, "backup_label"),
                  encoding="utf-8") as file:
            start = re.search(r"^START WAL LOCATION: .* \(file (\w+)\)",
                              file.read(), re.MULTILINE)
        self.server.program("pg_archivecleanup", self.archive,
                            start.group(1))

    def wal_position(self) -> int:
        """Return where the next WAL record goes."""
        return lsn_number(
            self.query("SELECT pg_current_wal_insert_lsn()::text")[0][0])

    def archive_all(self) -> int:
        """Wait until all WAL is archived, and return where it ends."""
        end = self.wal_position()
        # The first record makes sure that there is something to switch from.
        self.query("SELECT pg_create_restore_point('end')")
        segment, = self.query(
            "SELECT pg_walfile_name(pg_switch_wal())")[0]
        path = os.path.join(self.archive, segment)
        if not wait_until(lambda: os.path.exists(path), PATIENCE, 0.1):
            raise self.server.trouble("%s is not archived" % segment)
        return end

    def restore(self, target_lsn: int, directory: str) -> "Cluster":
        """Recover the base backup to a WAL position, and promote it."""
        copy = Cluster(directory, self.bindir)
        server = copy.server
        shutil.rmtree(server.data, ignore_errors=True)
        shutil.copytree(self.backup, server.data, symlinks=True)
        os.chmod(server.data, 0o700)
        server.settings.update(
            archive_mode="off", restore_command=self.restore_command,
            recovery_target_lsn=lsn_text(target_lsn),
            recovery_target_timeline="latest",
            recovery_target_action="promote")
        open(os.path.join(server.data, "recovery.signal"), "wb").close()
        try:
            server.start()
            server.wait_promoted(10 * PATIENCE)
        except BaseException:
            # An interrupt, too, must not leave a server behind.
            copy.stop_all()
            raise
        return copy

    # Standby

    def add_standby(self) -> None:
        """Make a standby, which streams from the server.

        Commits do not wait for it before start_synchronous().
        """
        standby = Server(os.path.join(self.directory, "standby"), self.bindir,
                         self.server.settings)
        self.copy_server(standby.data)
        standby.settings.update(
            restore_command=self.restore_command,
            primary_conninfo="host=%s port=%d user=postgres"
            " application_name=standby" % (HOST, self.port))
        open(os.path.join(standby.data, "standby.signal"), "wb").close()
        self.standby = standby
        standby.start()

    def start_synchronous(self) -> None:
        """Make commits wait for the standby from now on.

        When this returns the standby has all that was committed before.
        """
        self.server.set(synchronous_standby_names="standby")
        state = """
            SELECT sync_state = 'sync' AND flush_lsn >= %s::pg_lsn
              FROM pg_stat_replication WHERE application_name = 'standby'"""

        def has_all(position: str) -> bool:
            return self.query(state, (position,)) == [(True,)]

        if not wait_until(lambda: has_all("0/0"), PATIENCE, 0.1):
            raise self.standby.trouble("the standby does not stream")
        # The checkpointer is who tells backends to wait; it is told by the
        # same reload as the walsender that we just saw obey.
        time.sleep(0.5)
        position = lsn_text(self.wal_position())
        if not wait_until(lambda: has_all(position), PATIENCE, 0.1):
            raise self.standby.trouble("the standby does not keep up")

    def promote_standby(self, kill: bool = True) -> None:
        """Let the standby take over from the server, which dies.

        Either by kill -9 or by an immediate stop.  From then on the port is
        that of the standby.
        """
        if kill:
            self.server.kill_postmaster()
        else:
            self.server.stop("immediate")
        standby = self.standby
        standby.program("pg_ctl", "promote", "-D", standby.data, "-w", "-t",
                        str(PATIENCE), "-s", timeout=PATIENCE + 10)
        standby.wait_promoted(PATIENCE)
        newest = max(glob.glob(os.path.join(standby.data, "pg_wal",
                                            "*.history")))
        with open(newest, encoding="utf-8") as file:
            switches = re.findall(r"^\d+\t(\w+/\w+)", file.read(),
                                  re.MULTILINE)
        self.promotions.append(lsn_number(switches[-1]))
        self.former.append(self.server)
        self.server = standby
        self.standby = None
