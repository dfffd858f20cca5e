"""Administrators: their sessions, and what they do to messages."""

import os
from typing import Any, Callable

import psycopg2

import history

# Nothing that an operator does may stall the clients for longer.
LOCK_TIMEOUT_MS = 2000
STATEMENT_TIMEOUT_MS = 20000


def connect(cluster):
    """Return a connection whose statements cannot stall everybody."""
    connection = cluster.connect()
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = %s; SET statement_timeout = %s",
                       (LOCK_TIMEOUT_MS, STATEMENT_TIMEOUT_MS))
    return connection


def first_column(cursor) -> list:
    return [row[0] for row in cursor.fetchall()]


class Operator:
    """A session of a superuser whose calls are in the history.

    What an operator does to messages is part of the business: it is noted in
    the ledger, in the same transaction, and written to the history like
    anything that clients do.
    """

    def __init__(self, run_dir: str):
        directory = os.path.join(run_dir, "history")
        os.makedirs(directory, exist_ok=True)
        self.writer = history.Writer(os.path.join(directory, "dba.jsonl"),
                                     "dba", "operator")
        self.transactions = 0
        self.cursor = None
        self.txn = ""

    def begin(self, cluster, isolation: str) -> None:
        """Open a connection and a transaction."""
        connection = connect(cluster)
        self.cursor = connection.cursor()
        self.transactions += 1
        self.txn = "dba.t%d" % self.transactions
        self.call("begin", "BEGIN ISOLATION LEVEL " + isolation,
                  arg=isolation)

    def call(self, op: str, sql: str, parameters=None, queue=None, arg=None,
             read: Callable[[Any], Any] | None = None) -> Any:
        """Make a call, and return its result as "read" gets it."""
        n = self.writer.before(op, self.txn, queue, arg)
        try:
            self.cursor.execute(sql, parameters)
            result = read(self.cursor) if read is not None else None
        except psycopg2.Error as error:
            # The connection is not used again after an error.
            self.writer.after(n, error.pgcode or history.LOST, None, True)
            raise
        self.writer.after(n, history.OK, result)
        return result

    def end(self, op: str) -> None:
        """Commit or rolls back."""
        n = self.writer.before(op, self.txn)
        try:
            self.cursor.execute(op)
        except psycopg2.Error as error:
            self.writer.after(n, error.pgcode or history.LOST, None, True)
            raise
        state = history.OK
        if op == "commit" and self.cursor.statusmessage == "ROLLBACK":
            state = history.ROLLED_BACK
        self.writer.after(n, state)

    def close(self) -> None:
        """Close the connection; what is open is rolled back by that."""
        if self.cursor is not None:
            self.cursor.connection.close()
            self.cursor = None
        self.writer.flush()
