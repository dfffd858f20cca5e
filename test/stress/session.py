"""One connection to the server, and all that clients say over it.

Here is the only place that knows the SQL of the test and how a call gets into
the history: the event before it, then the call, then its outcome.  Two rules
make the history usable.  Each enqueue is accompanied by a row of "sent", and
each consumption by a row of "ledger", in the same subtransaction, so that
these tables tell what became of a transaction whose end nobody was told.  And
an error is an answer: it is written down before anybody else hears of it.
"""

import time
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional

import psycopg2
from psycopg2 import extensions

import history
from which import ANY, Which
from wish import NOTHING, Wish, interval

if TYPE_CHECKING:
    from client import Client

# A connection that takes longer than this to open, in seconds, is given up,
# and so is a call that lasts longer than this after the end of the run.
PATIENCE = 5.0


class Failed(Exception):
    """A call failed; it is in the history already."""

    def __init__(self, state: str, closed: bool):
        super().__init__(state)
        self.state = state
        self.closed = closed


class Stopped(Exception):
    """The client is to end."""


class Message(NamedTuple):
    """A message as it was delivered."""

    queue: str
    id: int
    value: Optional[str]
    receipt: Optional[str]


class Session:
    """One connection of a client, and the transaction that is open on it.

    The methods that talk to the server write the history, and raise Failed
    for any error.  A connection that is lost is opened again by the next
    call.
    """

    # How the names of its prepared transactions begin.
    gid = "stress:"

    def __init__(self, client: "Client", database: Optional[str] = None,
                 user: str = "stress"):
        self.client = client
        self.database = database or client.shared.database
        self.user = user
        self.txn: Optional[str] = None
        self._connection = None
        self._cursor = None
        self._timeouts = (0, 0)
        # What to count when the transaction commits.
        self._tally: list[tuple[str, int, int]] = []

    # Calls in general

    def call(self, op: str, sql: str, parameters: Any = None,
             read: Optional[Callable] = None, queue: Optional[str] = None,
             arg: Any = None, txn: Optional[str] = None,
             execute: Optional[Callable] = None) -> Any:
        """Make a call and return its result, as "read" gets it.

        Without an open transaction it is one of its own, named "txn" if the
        caller needs to know the name.  "execute" is for what is no query.
        """
        client = self.client
        if self.txn is None and op not in ("begin", "settings"):
            self._set_timeouts()
        self._connect()
        txn = txn or self.txn or client.next_txn()
        n = client.history.before(op, txn, queue, arg)
        try:
            (execute or self._cursor.execute)(sql, parameters)
            result = read(self._cursor) if read is not None else None
        except psycopg2.Error as error:
            raise self._failed(n, error) from None
        client.history.after(n, history.OK, result)
        client.count_call()
        if self.txn is None:
            self._count(True)
        return result

    def _failed(self, n: int, error: psycopg2.Error) -> Failed:
        """Note the failure of call n, and whether it took the connection.

        The server says that it ends a session before the socket is closed,
        so the severity tells more than the state of the connection does.
        """
        state = error.pgcode
        if state is None and isinstance(error, psycopg2.ProgrammingError):
            # A mistake in this program, noticed by the driver.
            raise error
        closed = (state is None or self._connection.closed != 0 or
                  error.diag.severity_nonlocalized in ("FATAL", "PANIC"))
        self.client.history.after(n, state or history.LOST, None, closed)
        self.client.count_call(failed=True)
        self._tally.clear()
        if closed:
            self.close()
        return Failed(state or history.LOST, closed)

    def _connect(self) -> None:
        """Open the connection unless it is open."""
        client = self.client
        while self._connection is None:
            if client.is_stopped():
                raise Stopped
            client.connecting_since = time.monotonic()
            try:
                self._connection = psycopg2.connect(
                    host=client.shared.host, port=client.shared.port,
                    user=self.user, dbname=self.database,
                    application_name=client.name,
                    connect_timeout=int(PATIENCE))
            except psycopg2.Error:
                client.pause(0.02)
            finally:
                client.connecting_since = None
        if self._cursor is None:
            self._connection.autocommit = True
            self._cursor = self._connection.cursor()
            self._timeouts = (0, 0)
            client.count_connection()

    def close(self) -> None:
        """Forget the connection, and the transaction with it."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._cursor = None
        self.txn = None
        self._tally.clear()

    def _set_timeouts(self) -> None:
        """Take over timeouts that were changed for all clients."""
        shared = self.client.shared
        timeouts = (shared.statement_timeout_ms, shared.lock_timeout_ms)
        self._connect()
        if timeouts != self._timeouts:
            self.call("settings",
                      "SELECT set_config('statement_timeout', %s, false),"
                      " set_config('lock_timeout', %s, false)",
                      [str(timeout) for timeout in timeouts])
            self._timeouts = timeouts

    def _count(self, committed: bool) -> None:
        if committed:
            for queue, enqueued, consumed in self._tally:
                self.client.count(queue, enqueued, consumed)
        self._tally.clear()

    # Transactions

    @property
    def has_failed(self) -> bool:
        """Is the transaction open, and good for nothing but its end?"""
        return (self.txn is not None and
                self._connection.info.transaction_status ==
                extensions.TRANSACTION_STATUS_INERROR)

    def begin(self, isolation: Optional[str] = None) -> None:
        """Open a transaction, of READ COMMITTED unless told otherwise."""
        self._set_timeouts()
        txn = self.client.next_txn()
        sql = "BEGIN"
        if isolation is not None:
            sql += " ISOLATION LEVEL " + isolation
        self.call("begin", sql, arg=isolation, txn=txn)
        self.txn = txn

    def commit(self) -> bool:
        """Commit; false if the server rolled back instead."""
        return self._end("commit", "COMMIT")

    def rollback(self) -> None:
        """Roll the transaction back."""
        self._end("rollback", "ROLLBACK")

    def prepare(self) -> str:
        """Prepare the transaction and return its name."""
        txn = self.txn
        self.prepare_as(self.gid + txn)
        return txn

    def prepare_as(self, gid: str) -> None:
        """Prepare the transaction under this name."""
        if not self._end("prepare", "PREPARE TRANSACTION '%s'" % gid, gid):
            # The server rolled back instead, and the history says so.
            raise Failed(history.ROLLED_BACK, False)

    def _end(self, op: str, sql: str, arg: Any = None) -> bool:
        """Whatever the answer is, the transaction is over."""
        client = self.client
        n = client.history.before(op, self.txn, None, arg)
        self.txn = None
        try:
            self._cursor.execute(sql)
        except psycopg2.Error as error:
            failure = self._failed(n, error)
            # A cancellation may come before the server has begun to end the
            # transaction, which is open and has failed then.
            self._leave_transaction()
            raise failure from None
        done = op == "rollback" or self._cursor.statusmessage != "ROLLBACK"
        client.history.after(n, history.OK if done else history.ROLLED_BACK)
        client.count_call()
        self._count(done and op != "rollback")
        return done

    def _leave_transaction(self) -> None:
        """Close the connection if a transaction is open on it."""
        if self._connection is not None and \
                self._connection.info.transaction_status != \
                extensions.TRANSACTION_STATUS_IDLE:
            self.close()

    def finish_prepared(self, txn: str, commit: bool) -> None:
        """Commit a prepared transaction, or roll it back."""
        self.finish_prepared_as(self.gid + txn, txn, commit)

    def finish_prepared_as(self, gid: str, txn: str, commit: bool) -> None:
        """Finish a transaction that was prepared under this name."""
        verb = "COMMIT" if commit else "ROLLBACK"
        self.call(verb.lower() + "_prepared", "%s PREPARED '%s'" % (verb, gid),
                  arg=gid, txn=txn)

    def savepoint(self, name: str) -> None:
        """Open a subtransaction."""
        self.call("savepoint", "SAVEPOINT " + name, arg=name)

    def rollback_to(self, name: str) -> None:
        """Roll back to a savepoint, which stays."""
        self.call("rollback_to", "ROLLBACK TO SAVEPOINT " + name, arg=name)

    def release_savepoint(self, name: str) -> None:
        """End a subtransaction; its work stays."""
        self.call("release_savepoint", "RELEASE SAVEPOINT " + name, arg=name)

    def uncount(self) -> None:
        """Count no failure when this transaction rolls back."""
        self.call("uncount", "SET LOCAL queue.count_failures = off")

    def fail_on_purpose(self) -> None:
        """Let a statement fail, and the transaction with it."""
        self.call("error", "SELECT 1 / 0")

    def wait(self, queues: list[str], seconds: float) -> None:
        """Wait until there may be a message in one of the queues."""
        self.call("business", "CALL queue.wait(%s::regclass[], %s)",
                  [queues, interval(seconds)])

    def sleep(self, seconds: float) -> None:
        """Let the server sleep, in the midst of a statement."""
        self.call("business", "SELECT pg_sleep(%s)", [seconds])

    # Sending

    def enqueue(self, queue: str, values: list[str], how: str,
                together: bool = True, wish: Wish = NOTHING,
                groups: Optional[list[Optional[str]]] = None) -> list[int]:
        """Send messages and write their business rows; return the ids.

        "how" is enqueue (of one value), batch or insert; "together" is in
        one statement, as there must be outside of a transaction; "groups"
        are those of the messages, if they have any.
        """
        txn = self.txn or self.client.next_txn()
        payloads = [history.encode(history.payload(value))
                    for value in values]
        said, more = wish.arguments()
        names, columns, fields = wish.columns()
        if groups is not None and how == "enqueue":
            said, more = said + ", group_key => %s", more + groups
        elif groups is not None:
            said, more = said + ", group_keys => %s::text[]", more + [groups]
            names, fields = names + ", group_key", fields + [groups]
            columns += ", unnest(%s::text[])"
        sql, parameters = {
            "enqueue": ("SELECT ARRAY[queue.enqueue(%s, %s" + said + ")]",
                        [queue, payloads[0], *more]),
            "batch": ("SELECT queue.enqueue_batch(%s, %s::jsonb[]" + said
                      + ")", [queue, payloads, *more]),
            "insert": ("INSERT INTO " + queue + " (payload" + names + ")"
                       " SELECT unnest(%s::jsonb[])" + columns
                       + " RETURNING id", [payloads, *fields])}[how]
        rows = ("INSERT INTO sent SELECT %s, unnest(%s::text[]), %s",
                [queue, values, txn])
        if together or self.txn is None:
            sql = "WITH row AS (" + rows[0] + ") " + sql
            parameters = rows[1] + parameters
        else:
            self.call("business", *rows)
        self._tally.append((queue, len(values), 0))
        return self.call("enqueue", sql, parameters,
                         read_column if how == "insert" else read_value,
                         queue, {"values": values, "how": how, "group": groups,
                                 **wish.said()}, txn)

    def enqueue_once(self, queue: str, value: str, key: str) -> bool:
        """Send a message unless its key is known; true if it is new."""
        txn = self.txn or self.client.next_txn()
        _, is_new = self.call(
            "enqueue_once",
            "WITH o AS MATERIALIZED (SELECT * FROM queue.enqueue_once(%s, %s,"
            " %s)), row AS (INSERT INTO sent SELECT %s, %s, %s FROM o"
            " WHERE is_new) SELECT id, is_new FROM o",
            [queue, history.encode(history.payload(value)), key, queue, value,
             txn], read_change, queue, {"values": [value], "key": key}, txn)
        if is_new and self.txn is not None:
            self._tally.append((queue, 1, 0))
        elif is_new:
            self.client.count(queue, 1, 0)
        return is_new

    def redrive(self, queue: str, dead: str, most: int,
                selector: Optional[str] = None) -> int:
        """Bring dead letters back to their queue; returns how many."""
        return self.call("redrive", "SELECT queue.redrive(%s, %s, %s)",
                         [dead, most, selector], read_value, queue, most)

    # Changing what waits

    def reschedule(self, queue: str, id: int, value: str, at: float,
                   must: Optional[bool] = None) -> bool:
        """Have a message due at another time of day; true if that is done.

        "must" is what the caller knows of it.
        """
        done = self.call("reschedule",
                         "SELECT * FROM reschedule(%s, %s, to_timestamp(%s))",
                         [queue, id, at], read_change, queue,
                         {"id": id, "value": value, "at": at, "must": must})
        return done is not None

    def cancel(self, queue: str, id: int, value: str,
               must: Optional[bool] = None) -> bool:
        """Cancel a message, with its row in the ledger; true if it is gone."""
        txn = self.txn or self.client.next_txn()
        done = self.call("cancel",
                         "WITH c AS MATERIALIZED (SELECT * FROM cancel(%s,"
                         " %s)), row AS (INSERT INTO ledger SELECT %s, value,"
                         " %s, 'cancelled' FROM c) SELECT * FROM c",
                         [queue, id, queue, txn], read_change, queue,
                         {"id": id, "value": value, "must": must}, txn)
        if done is None:
            return False
        if self.txn is None:
            self.client.count(queue, 0, 1)
        else:
            self._tally.append((queue, 0, 1))
        return True

    # Taking

    def take(self, op: str, queue: str, most: int = 1, wait: float = 0,
             lease: Optional[float] = None,
             which: Which = ANY) -> list[Message]:
        """Take messages by dequeue or receive."""
        sql, parameters = take_sql(op, queue, most, wait, lease, which)
        return self._take(op, queue, {"max": most, "wait": wait,
                                      "lease": lease, **which.said()},
                          sql, parameters, None)

    def consume(self, queue: str, most: int = 1,
                wait: float = 0) -> list[Message]:
        """Dequeue messages and write the ledger, in one statement."""
        txn = self.txn or self.client.next_txn()
        taken, parameters = take_sql("dequeue", queue, most, wait, None, ANY)
        sql = ("WITH m AS MATERIALIZED (" + taken + "),"
               " row AS (INSERT INTO ledger"
               " SELECT %s, payload ->> 'v', %s, 'consumed' FROM m)"
               " SELECT * FROM m")
        messages = self._take("dequeue", queue,
                              {"max": most, "wait": wait, "lease": None},
                              sql, parameters + [queue, txn], txn)
        self.client.count(queue, 0, len(messages))
        return messages

    def _take(self, op, queue, arg, sql, parameters, txn) -> list[Message]:
        result = self.call(op, sql, parameters, read_messages, queue, arg,
                           txn)
        return [Message(queue, id, value, receipt)
                for id, value, attempt, receipt, _, _ in result["got"]]

    def effect(self, messages: list[Message], effect: str) -> None:
        """Write the ledger."""
        self.call("effect",
                  "INSERT INTO ledger SELECT unnest(%s::text[]),"
                  " unnest(%s::text[]), %s, %s",
                  [[message.queue for message in messages],
                   [message.value for message in messages],
                   self.txn, effect],
                  arg=[[message.queue, message.value, effect]
                       for message in messages])
        for message in messages:
            self._tally.append((message.queue, 0, 1))

    # Settling

    def settle(self, op: str, messages: list[Message], *,
               delay: Optional[float] = None,
               lease: Optional[float] = None) -> Any:
        """Call ack, nack, release, reject or extend.

        One receipt goes into the form for one of the function, more into the
        form for an array.  Returns the new deadline after extend; of many, a
        list, with None for what is not held any more.  Without messages there
        is nothing to call.
        """
        if not messages:
            return None
        receipts = [message.receipt for message in messages]
        arg = {"receipts": receipts}
        sql = "SELECT queue." + op + "(%s"
        parameters: list[Any] = [receipts]
        if len(receipts) == 1:
            parameters = [receipts[0]]
        else:
            sql += "::text[]"
        read = None
        if op == "nack":
            arg["delay"] = delay
            sql += ", %s, %s"
            parameters += [interval(delay), "failed on purpose"]
        elif op == "release" and delay is not None:
            arg["delay"] = delay
            sql += ", %s"
            parameters.append(interval(delay))
        elif op == "reject":
            sql += ", 'rejected on purpose'"
        elif op == "extend":
            arg["lease"] = lease
            parameters.append(interval(lease))
            if len(receipts) == 1:
                sql = sql.replace("SELECT queue.", "SELECT extract(epoch FROM"
                                  " queue.") + ", %s)"
                read = read_number
            else:
                sql = sql.replace("SELECT queue.", "SELECT extract(epoch FROM"
                                  " d)::float8 FROM unnest(queue.") + ", %s)"
                read = read_column
        if op == "extend" and len(receipts) > 1:
            return self.call(op, sql + ") WITH ORDINALITY u (d, n) ORDER BY n",
                             parameters, read, messages[0].queue, arg)
        return self.call(op, sql + ")", parameters, read, messages[0].queue,
                         arg)

    def ack_at_once(self, messages: list[Message]) -> None:
        """Ack messages and write the ledger, in one statement."""
        txn = self.txn or self.client.next_txn()
        self.call("ack",
                  "WITH done AS MATERIALIZED (SELECT queue.ack(%s::text[]))"
                  " INSERT INTO ledger SELECT unnest(%s::text[]),"
                  " unnest(%s::text[]), %s, 'consumed' FROM done",
                  [[message.receipt for message in messages],
                   [message.queue for message in messages],
                   [message.value for message in messages], txn],
                  queue=messages[0].queue, txn=txn,
                  arg={"receipts": [message.receipt
                                    for message in messages]})
        for message in messages:
            self.client.count(message.queue, 0, 1)


def take_sql(op: str, queue: str, most: int, wait: float,
             lease: Optional[float], which: Which) -> tuple[str, list[Any]]:
    """The query that takes messages, and all the checker asks about them.

    It joins the business row in the same statement, whose snapshot must see
    that row if it sees the message.  A function in FROM is run to its end
    before the first row is made, so any reading of the clock in the target
    list comes after the messages were taken.
    """
    sql = ("SELECT m.id, m.payload, m.attempt, m.receipt, m.priority,"
           " extract(epoch FROM statement_timestamp())::float8 AS before,"
           " extract(epoch FROM clock_timestamp())::float8 AS after,"
           " (SELECT count(*) > 0 FROM sent s"
           " WHERE s.value = m.payload ->> 'v' AND s.queue = %s) AS is_sent"
           " FROM queue." + op + "(%s, %s, wait => %s")
    parameters = [queue, queue, most, interval(wait)]
    if op == "receive":
        sql += ", lease => %s"
        parameters.append(interval(lease))
    said, more = which.arguments()
    return sql + said + ") m", parameters + more


def read_messages(cursor) -> dict[str, Any]:
    """The result of a take, as the history has it."""
    got = []
    before = after = None
    for (id, payload, attempt, receipt, priority, before, clock,
         is_sent) in cursor:
        value = payload.get("v") if isinstance(payload, dict) else None
        intact = (isinstance(value, str) and
                  history.is_intact(payload, value))
        after = clock if after is None else min(after, clock)
        got.append([id, value, attempt, receipt,
                    (1 if is_sent else 0) + (2 if intact else 0), priority])
    return {"at": [before, after], "got": got}


def read_change(cursor) -> Optional[list[Any]]:
    """The one row of a result, such as what was changed; None: there is none.
    """
    row = cursor.fetchone()
    return None if row is None else list(row)


def read_value(cursor) -> Any:
    """The one value of a result."""
    return cursor.fetchone()[0]


def read_number(cursor) -> float:
    """The one value of a result, which is a number."""
    return float(cursor.fetchone()[0])


def read_column(cursor) -> list[Any]:
    """The first column of a result."""
    return [row[0] for row in cursor]
