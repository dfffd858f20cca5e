"""A session: sends the statements of a script, and notes what comes of them."""

import collections
import io
import itertools
import os
import random
import re
import threading
import time
import traceback

import psycopg2
from psycopg2 import extensions, extras

from fuzzer.statements import DISCONNECT, Script, Statement
from instance import HOST

PLACE_HOLDER = re.compile(r"@(receipt|foreign|oid):(\d+)(?::(\d+))?@")

# How a session begins; RESET ALL comes back to that.  What goes wrong is
# noted here, so the log is kept for what nobody else sees.
OPTIONS = " ".join("-c " + option for option in (
    "statement_timeout=500", "lock_timeout=50", "log_min_messages=fatal",
    "client_min_messages=error", "jit=off"))

# What may come in a block that has failed; before others it is ended.
IN_FAILED_BLOCK = ("block", "savepoint", "prepare", DISCONNECT)

# Statements that are kept in a file, which then becomes the older of two.
KEPT = 20000

RECONNECT_PATIENCE = 20.0


# Documents are as deep as the server takes them, which is too deep for us.
extras.register_default_json(loads=str)
extras.register_default_jsonb(loads=str)


class Pool:
    """What all sessions of a database know: receipts and tables."""

    def __init__(self) -> None:
        self.receipts: collections.deque[str] = collections.deque(maxlen=1000)
        self.oids: list[int] = []


def alter(receipt: str, how: int) -> str:
    """Another text that is much like a receipt."""
    rng = random.Random(how)
    at = rng.randrange(len(receipt) + 1)
    kind = rng.choice(("digit", "cut", "insert", "drop", "upper", "field",
                       "twice", "zero"))
    if kind == "digit":
        return (receipt[:at] + rng.choice("0123456789abcdef-g")
                + receipt[at + 1:])
    if kind == "cut":
        return receipt[:at]
    if kind == "insert":
        return receipt[:at] + rng.choice("0f- \u00fcZ") + receipt[at:]
    if kind == "drop":
        return receipt[:at] + receipt[at + 1:]
    if kind == "upper":
        return receipt.upper() + " "
    fields = receipt.split("-")
    which = rng.randrange(len(fields))
    if kind == "field":
        fields[which] = "%x" % rng.choice((0, 1, 2 ** 32, 2 ** 63, 2 ** 64 - 1))
    elif kind == "twice":
        fields.insert(which, fields[which])
    else:
        fields[which] = "0" + fields[which]
    return "-".join(fields)


def fill(sql: str, own: Pool, foreign: Pool) -> str:
    """Put what is known now in the place of place holders."""
    def known(match: re.Match) -> str:
        kind, number, how = match.groups()
        if kind == "oid":
            oids = own.oids or [0]
            return str(oids[int(number) % len(oids)])
        receipts = (foreign if kind == "foreign" else own).receipts
        try:
            receipt = receipts[int(number) % max(1, len(receipts))]
        except IndexError:
            return "0-0-0-0-0"
        return alter(receipt, int(how)) if how and how != "0" else receipt
    return PLACE_HOLDER.sub(known, sql)


class Session(threading.Thread):
    """One of several that send statements at the same time."""

    def __init__(self, name: str, database: str, port: int, script: Script,
                 statements: int, pools: tuple[Pool, Pool], directory: str):
        super().__init__(name=name, daemon=True)
        self.database = database
        self.port = port
        self.script = script
        self.statements = statements
        self.own, self.foreign = pools
        self.path = os.path.join(directory, name.replace(" ", "-") + ".sql")
        self.connection = None
        self.pid = 0
        self.must_stop = threading.Event()
        # Since when the server has been asked to do something.
        self.since: float | None = None
        self.sent = 0
        self.reconnects = 0
        self.states: collections.Counter[str] = collections.Counter()
        self.called: collections.Counter[str] = collections.Counter()
        self.succeeded: collections.Counter[str] = collections.Counter()
        # Statement, SQLSTATE, message and where in the server it was raised.
        self.internal: list[tuple[str, str, str, str]] = []
        self.trouble: str | None = None

    def run(self) -> None:
        """Send all."""
        try:
            with open(self.path, "w", encoding="utf-8") as self.file:
                for statement in itertools.islice(self.script,
                                                  self.statements):
                    if self.must_stop.is_set():
                        break
                    self.send(statement)
                self.end_block()
        except psycopg2.OperationalError as error:
            self.trouble = "the server is gone: %s" % str(error).strip()
        except Exception:
            self.trouble = traceback.format_exc()

    def connect(self) -> None:
        """Open a connection, unless there is one."""
        if self.connection is not None and not self.connection.closed:
            return
        deadline = time.monotonic() + RECONNECT_PATIENCE
        while True:
            try:
                self.connection = psycopg2.connect(
                    host=HOST, port=self.port, user="postgres",
                    dbname=self.database, application_name=self.name,
                    options=OPTIONS, connect_timeout=10)
                break
            except psycopg2.OperationalError:
                # Places of sessions that have just ended may not be free.
                if time.monotonic() > deadline or self.must_stop.is_set():
                    raise
                time.sleep(0.1)
        self.connection.autocommit = True
        self.pid = self.connection.info.backend_pid
        self.reconnects += 1

    def send(self, statement: Statement) -> None:
        """Send a statement, after a ROLLBACK if the block has failed."""
        self.connect()
        if statement.kind == DISCONNECT:
            self.connection.close()
            self.sent += 1
            return
        if (self.connection.info.transaction_status ==
                extensions.TRANSACTION_STATUS_INERROR
                and statement.kind not in IN_FAILED_BLOCK):
            self.execute("ROLLBACK", "block")
            self.connect()
        self.sent += 1
        self.execute(fill(statement.sql, self.own, self.foreign),
                     statement.kind, statement.data)

    def execute(self, sql: str, kind: str, data: str | None = None) -> None:
        """Let the server do it."""
        self.keep(sql)
        self.called[kind] += 1
        self.since = time.monotonic()
        try:
            with self.connection.cursor() as cursor:
                if data is None:
                    cursor.execute(sql)
                else:
                    cursor.copy_expert(sql, io.StringIO(data))
                # A DO that has caught an error tells nothing.
                self.succeeded[kind] += not sql.startswith("DO ")
                self.learn(cursor)
        except psycopg2.Error as error:
            self.note(sql, error)
        finally:
            self.since = None

    def learn(self, cursor) -> None:
        """Remember the receipts that came."""
        if cursor.description is None:
            return
        names = [column.name for column in cursor.description]
        if "receipt" in names:
            at = names.index("receipt")
            try:
                rows = cursor.fetchmany(200)
            except (ValueError, OverflowError):
                # There is a time that Python cannot tell.
                return
            self.own.receipts.extend(row[at] for row in rows
                                     if isinstance(row[at], str))

    def note(self, sql: str, error: psycopg2.Error) -> None:
        """Count an error, and keep it if it is one of the server's own."""
        state = error.pgcode or "lost"
        self.states[state] += 1
        if state.startswith("XX"):
            where = "%s, %s" % (error.diag.source_file,
                                error.diag.source_function)
            self.internal.append((sql, state, str(error).strip(), where))

    def keep(self, sql: str) -> None:
        """Write it down, for whoever wants to know what went before."""
        if self.sent % KEPT == 0 and self.sent:
            self.file.close()
            os.replace(self.path, self.path + ".1")
            self.file = open(self.path, "w", encoding="utf-8")
        self.file.write("/* %d */ %s;\n" % (self.sent, sql))

    def end_block(self) -> None:
        """Leave nothing open behind the last statement."""
        self.connect()
        self.execute("ROLLBACK", "block")
        self.connect()
        self.execute("DISCARD ALL", "setting")

    def close(self) -> None:
        """Close the connection."""
        if self.connection is not None:
            self.connection.close()
