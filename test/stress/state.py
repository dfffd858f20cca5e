"""What is found on the server at the end of a run.

Business tables, queues and dead letters go into files that the checker reads,
and beside them everything that may be there while something happens and never
afterwards: leases, locks, prepared transactions, sessions, damage.
"""

import csv
import json
import os
import time

import psycopg2

import history
from global_evidence import FAR, NEAR

# How long the worker may take to finish what it has begun.
SETTLE_TIME = 15

# The queue of bodies has no values; the probe that makes it looks into it.  The
# dead letters of subscriptions are looked at by topic_state.py.
QUEUES = """
SELECT q.queue::oid::int8, c.relname, d.relname,
       format('%I.%I', n.nspname, c.relname),
       format('%I.%I', dn.nspname, d.relname)
  FROM queue.queue q
  JOIN pg_class c ON c.oid = q.queue
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_class d ON d.oid = q.dead_letter
  LEFT JOIN pg_namespace dn ON dn.oid = d.relnamespace
 WHERE NOT EXISTS (SELECT FROM queue.queue o WHERE o.dead_letter = q.queue)
   AND NOT EXISTS (SELECT FROM queue.subscription s
                    WHERE s.dead_letter = q.queue)
   AND c.relname <> 'bodies'
 ORDER BY c.relname
"""

IN_FLIGHT = """
SELECT queue::text, id, state, pid, lease_until::text, failures, due_at::text
  FROM queue.in_flight WHERE state <> 'lapsed' ORDER BY queue::text, id
"""

LEASES = """
SELECT queue::regclass::text, id, epoch, number, deadline::text
  FROM queue.lease ORDER BY queue, id
"""

# The launcher and the walsender keep locks of their own that are no concern
# here, and autovacuum comes and goes as it likes.
LOCKS = """
SELECT l.locktype, l.relation::regclass::text, l.mode, l.granted, l.pid,
       a.backend_type, a.application_name
  FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.pid IS DISTINCT FROM pg_backend_pid()
   AND a.backend_type IS DISTINCT FROM 'autovacuum worker'
   AND (l.database = (SELECT oid FROM pg_database
                       WHERE datname = current_database())
        OR l.locktype IN ('transactionid', 'advisory'))
"""

SESSIONS = """
SELECT pid, usename, application_name, state, left(query, 200)
  FROM pg_stat_activity
 WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
"""

PREPARED = "SELECT gid FROM pg_prepared_xacts ORDER BY gid"

QUEUE_PROBLEMS = """
SELECT queue::text, queue.problem(queue) FROM queue.queues
WHERE queue.problem(queue) IS NOT NULL
"""

DEAD = """
SELECT regexp_replace(headers -> 'dead_letter' ->> 'source', '^.*\\.', ''),
       payload ->> 'v',
       headers -> 'dead_letter' ->> 'source_id',
       headers -> 'dead_letter' ->> 'reason',
       headers -> 'dead_letter' ->> 'attempts',
       extract(epoch FROM (headers -> 'dead_letter' ->> 'died_at')::timestamptz),
       payload
  FROM %s
"""

# Of global transactions: what may not be there in the end.
GLOBAL_RECORDS = """
SELECT coordinator, gid, decision, unfinished::text[]
  FROM queue.global_transactions WHERE unfinished <> '{}' ORDER BY gid
"""

GLOBAL_ERRORS = """
SELECT name, participant, last_error FROM queue.deciding_database
 WHERE last_error IS NOT NULL
"""

BRANCHES = "SELECT gid, database FROM pg_prepared_xacts ORDER BY gid"

FORCED = """
SELECT branch, outcome, decision FROM queue.forced_outcomes ORDER BY branch
"""

TABLES_TO_CHECK = """
SELECT c.oid::int8, c.oid::regclass::text FROM pg_class c
 WHERE c.oid IN (SELECT queue FROM queue.queue)
    OR c.oid IN (SELECT topic FROM queue.topic
                  UNION SELECT subscription FROM queue.subscription)
    OR c.oid IN ('queue.queue'::regclass, 'queue.lease_log'::regclass,
                 'queue.topic_stable'::regclass)
 ORDER BY 2
"""

INDEXES_TO_CHECK = """
SELECT i.indexrelid::int8, i.indexrelid::regclass::text, i.indisvalid
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
 WHERE i.indrelid = %s AND c.relam = (SELECT oid FROM pg_am
                                       WHERE amname = 'btree')
 ORDER BY 2
"""


def rows(cursor, sql: str, arguments=None) -> list[list]:
    cursor.execute(sql, arguments)
    return [list(row) for row in cursor.fetchall()]


def state_path(run_dir: str, name: str) -> str:
    directory = os.path.join(run_dir, "state")
    os.makedirs(directory, exist_ok=True)
    return os.path.join(directory, name)


def copy_out(cursor, query: str, file) -> None:
    cursor.copy_expert("COPY (%s) TO STDOUT" % query, file)


def write_left(cursor, queues: list[list], path: str) -> None:
    """Write what is left in the queues that have not died."""
    with open(path, "w", encoding="utf-8") as file:
        for _, name, _, table, _ in queues:
            literal = cursor.mogrify("%s", (name,)).decode()
            copy_out(cursor, "SELECT %s, id, payload ->> 'v', failures"
                     " FROM %s ORDER BY id" % (literal, table), file)


def write_dead(cursor, queues: list[list], path: str) -> None:
    """Write the dead letters, and whether they are whole."""
    tables = sorted({dead for _, _, _, _, dead in queues if dead})
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n",
                            quoting=csv.QUOTE_NONE, escapechar="\\")
        for table in tables:
            cursor.execute(DEAD % table)
            for *columns, payload in cursor:
                value = columns[1]
                intact = (value is not None
                          and history.is_intact(payload, value))
                writer.writerow(["\\N" if column is None else column
                                 for column in columns]
                                + ["t" if intact else "f"])


def amcheck(cursor) -> list[str]:
    """Return what amcheck has to say about tables and indexes."""
    messages = []
    for table, name in rows(cursor, TABLES_TO_CHECK):
        try:
            for block, offset, _, message in rows(
                    cursor, "SELECT * FROM verify_heapam(%s::oid::regclass,"
                    " check_toast => true)", (table,)):
                messages.append("%s (%s,%s): %s"
                                % (name, block, offset, message))
        except psycopg2.Error as error:
            messages.append("%s: %s" % (name, error))
        for index, index_name, is_valid in rows(cursor, INDEXES_TO_CHECK,
                                                (table,)):
            if not is_valid:
                messages.append("%s: index is not valid" % index_name)
                continue
            try:
                cursor.execute("SELECT bt_index_check(%s::oid::regclass,"
                               " heapallindexed => true)", (index,))
            except psycopg2.Error as error:
                messages.append("%s: %s" % (index_name, error))
    return messages


def left_behind(cursor) -> dict[str, list]:
    """Return what may be there while something happens, never later."""
    return {
        "in_flight": rows(cursor, IN_FLIGHT),
        "leases": rows(cursor, LEASES),
        "prepared": [gid for gid, in rows(cursor, PREPARED)],
        "locks": rows(cursor, LOCKS),
        "sessions": rows(cursor, SESSIONS),
    }


def settled(cursor) -> dict[str, list]:
    """Return what is left behind for good.

    Nothing but the worker may be running.  It gets some time to finish what
    it has begun: leases on disk are removed and failures counted by it, after
    everybody else is done with them.
    """
    left = left_behind(cursor)
    deadline = time.monotonic() + SETTLE_TIME
    while any(left.values()) and time.monotonic() < deadline:
        time.sleep(0.1)
        left = left_behind(cursor)
    return left


def global_left(near, far) -> dict[str, list]:
    """Return what is left of global transactions that is not over."""
    return {
        "branches": rows(near, BRANCHES),
        "records": rows(near, GLOBAL_RECORDS),
        "in_flight": rows(near, IN_FLIGHT) + rows(far, IN_FLIGHT),
        "errors": rows(near, GLOBAL_ERRORS) + rows(far, GLOBAL_ERRORS),
    }


def read_globals(cluster) -> dict:
    """Return the end of all global transactions.

    Their resolvers get some time to finish.
    """
    connections = [cluster.connect(database=place) for place in (NEAR, FAR)]
    near, far = (connection.cursor() for connection in connections)
    left: dict = global_left(near, far)
    deadline = time.monotonic() + SETTLE_TIME
    while any(left.values()) and time.monotonic() < deadline:
        time.sleep(0.1)
        left = global_left(near, far)
    left["forced"] = []
    for place, cursor in ((NEAR, near), (FAR, far)):
        left[place] = {
            "moved": rows(cursor, "SELECT gid, token, way FROM stress.moved"),
            "tokens": [token for token, in rows(
                cursor, "SELECT payload ->> 'v' FROM stress.tokens")]}
        left["forced"] += rows(cursor, FORCED)
    left["strange"] = [gid for gid, in
                       rows(far, "SELECT gid FROM stress.strange")]
    for connection in connections:
        connection.close()
    return left


def global_state(cluster, run_dir: str) -> None:
    """Write what became of the global transactions."""
    with open(state_path(run_dir, "global.json"), "w",
              encoding="utf-8") as file:
        json.dump(read_globals(cluster), file, indent=1)
        file.write("\n")


def drained_state(cluster, run_dir: str) -> None:
    """Write what clients have left behind, before anything else happens.

    A crash would clear the memory, and the probes make some.
    """
    connection = cluster.connect()
    left = settled(connection.cursor())
    connection.close()
    with open(state_path(run_dir, "drained.json"), "w",
              encoding="utf-8") as file:
        json.dump(left, file, indent=1)
        file.write("\n")


def final_state(cluster, run_dir: str) -> None:
    """Write the state that the server is in into files for the checker."""
    connection = cluster.connect()
    cursor = connection.cursor()
    left = settled(cursor)
    left["queue_problems"] = rows(cursor, QUEUE_PROBLEMS)

    queues = rows(cursor, QUEUES)
    for name, query in (
            ("sent.tsv", "SELECT queue, value, txn FROM stress.sent"),
            ("ledger.tsv",
             "SELECT queue, value, txn, effect FROM stress.ledger")):
        with open(state_path(run_dir, name), "w", encoding="utf-8") as file:
            copy_out(cursor, query, file)
    write_left(cursor, queues, state_path(run_dir, "left.tsv"))
    write_dead(cursor, queues, state_path(run_dir, "dead.tsv"))
    left["amcheck"] = amcheck(cursor)
    connection.close()
    left["log_problems"] = cluster.log_problems()
    left["hidden"] = cluster.hidden_messages()
    with open(state_path(run_dir, "left.json"), "w",
              encoding="utf-8") as file:
        json.dump(left, file, indent=1)
        file.write("\n")
