"""Whether the past is consistent: recoveries to points in time.

Queues live in tables so that a backup holds them together with the business
data.  So at whatever WAL position a recovery stops, queues, dead letters and
ledger must account for all that was sent until then, and consumers must be
able to get what is in the queues.
"""

import json
import os
import random
import shutil
import time

import psycopg2

import history
from global_evidence import PLACES
from instance import (SERVICE, ServerError, WAL_SEGMENT_MB, lsn_text,
                      wait_until)
from state import QUEUES, rows, state_path
from topic_state import check_copy

# Each message that was sent must be in exactly one place; those of offers may
# be gone, when they have expired.
BALANCE = """
WITH sent AS (
    SELECT queue, value, count(*) AS n FROM stress.sent GROUP BY 1, 2),
place AS (
    SELECT queue, value, count(*) AS n, string_agg(place, ' + ') AS places
      FROM (SELECT queue, value, 'ledger (' || effect || ')' AS place
              FROM stress.ledger
            UNION ALL %s) all_places
     GROUP BY 1, 2)
SELECT coalesce(s.queue, p.queue), coalesce(s.value, p.value),
       coalesce(s.n, 0), coalesce(p.places, 'nowhere')
  FROM sent s FULL JOIN place p
    ON s.queue = p.queue AND s.value = p.value
 WHERE s.n IS DISTINCT FROM 1 OR coalesce(p.n, 0) <> 1
   AND (p.n > 1 OR s.queue <> 'offers')
"""

IN_QUEUE = """
SELECT {name}, payload ->> 'v', 'queue' FROM {table}
"""

IN_DEAD_LETTERS = """
SELECT regexp_replace(headers -> 'dead_letter' ->> 'source', '^.*\\.', ''),
       payload ->> 'v', 'dead letters'
  FROM {table}
"""

# Those of other databases are for their resolvers.
PREPARED_HERE = """
SELECT gid FROM pg_prepared_xacts WHERE database = current_database()
"""

OPEN_BRANCHES = """
SELECT gid FROM pg_prepared_xacts
 WHERE gid LIKE 'queue:%' AND owner = 'stress'
"""

# What is at the beginning is no global transaction.
MOVED = "SELECT gid FROM stress.moved WHERE gid <> 'start'"
TOKENS_MADE = "SELECT token FROM stress.moved WHERE gid = 'start'"
TOKENS = "SELECT payload ->> 'v' FROM stress.tokens"

DRAINED = "SELECT queue, value, 'drained' FROM pg_temp.drained"

# How long a restored copy may take to be drained: leases in it run on.
DRAIN_TIME = 45


def balance(cursor, queues: list[list], label: str,
            and_drained: bool) -> list[str]:
    """Compare what was sent with where it is; return what is wrong."""
    places = [DRAINED] if and_drained else []
    for _, name, _, table, _ in queues:
        literal = cursor.mogrify("%s", (name,)).decode()
        places.append(IN_QUEUE.format(name=literal, table=table))
    for table in sorted({dead for _, _, _, _, dead in queues if dead}):
        places.append(IN_DEAD_LETTERS.format(table=table))
    found = rows(cursor, BALANCE % " UNION ALL ".join(places))
    problems = ["%s: %s %s was sent %d times and is found: %s"
                % (label, queue, value, sent, place)
                for queue, value, sent, place in found[:20]]
    if len(found) > 20:
        problems.append("%s: and %d more" % (label, len(found) - 20))
    return problems


def drain_copy(cursor, queues: list[list]) -> list[str]:
    """Consume all that is in a restored copy; return what is wrong."""
    problems = []
    cursor.execute("CREATE TEMPORARY TABLE drained (queue text, value text)")
    for oid, name, _, table, _ in queues:
        cursor.execute("SELECT queue.resume(%s::oid::regclass)", (oid,))
        deadline = time.monotonic() + DRAIN_TIME
        while True:
            cursor.execute(
                "WITH got AS (SELECT payload FROM queue.dequeue("
                "%s::oid::regclass, max => 1000, wait => '100 ms')),"
                " note AS (INSERT INTO pg_temp.drained"
                " SELECT %s, payload ->> 'v' FROM got)"
                " SELECT payload FROM got", (oid, name))
            for payload, in cursor:
                value = (payload.get("v") if isinstance(payload, dict)
                         else None)
                if value is None or not history.is_intact(payload, value):
                    problems.append("drained: %s %s is damaged"
                                    % (name, value))
            if cursor.rowcount == 0:
                left, = rows(cursor, "SELECT count(*) FROM %s" % table)[0]
                if left == 0:
                    break
                if time.monotonic() > deadline:
                    problems.append("%d messages of %s are not delivered"
                                    % (left, name))
                    break
    return problems


def call_resolver(connection, place: str) -> None:
    """Have a resolver look at once, which it does when a branch is made."""
    name = "queue:%s:%s:recovered" % (SERVICE, place)
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION AUTHORIZATION stress")
        cursor.execute("BEGIN")
        cursor.execute("PREPARE TRANSACTION %s", (name,))
        cursor.execute("ROLLBACK PREPARED %s", (name,))
        cursor.execute("RESET SESSION AUTHORIZATION")


def check_globals(cluster) -> list[str]:
    """Let resolvers finish global transactions; return what is wrong.

    The branches that were in doubt at that moment end as was decided by then,
    so each of them is in both databases or in none, and no token is lost.
    """
    # The deciding database may have been out of reach just then.
    cluster.open_hub()
    connections = [cluster.connect(database=place) for place in PLACES]
    cursors = [connection.cursor() for connection in connections]
    for connection, place in zip(connections, PLACES):
        call_resolver(connection, place)
    problems = []
    if not wait_until(lambda: not rows(cursors[0], OPEN_BRANCHES),
                      DRAIN_TIME):
        problems += ["branch %s stays in doubt" % gid for gid, in
                     rows(cursors[0], OPEN_BRANCHES)]
    moved = [{gid for gid, in rows(cursor, MOVED)} for cursor in cursors]
    problems += ["%s is in one database only" % gid
                 for gid in sorted(moved[0] ^ moved[1])[:20]]
    tokens = sorted(token for cursor in cursors
                    for token, in rows(cursor, TOKENS))
    made = sorted(token for token, in rows(cursors[0], TOKENS_MADE))
    if tokens != made:
        problems.append("there are %d tokens, %d different ones, of %d"
                        % (len(tokens), len(set(tokens)), len(made)))
    for connection in connections:
        connection.close()
    return problems


def check_prefix(cluster) -> list[str]:
    """Return what is wrong with a recovered server.

    What was sent must be in the ledger, in a queue or in the dead letters,
    and in one of them; and what is in the queues must be there for consumers
    too, not only for those who read the tables.  Positions of subscriptions
    agree with what was consumed.  Global transactions have one outcome.
    """
    connection = cluster.connect()
    cursor = connection.cursor()
    for gid, in rows(cursor, PREPARED_HERE):
        cursor.execute("ROLLBACK PREPARED %s", (gid,))
    queues = rows(cursor, QUEUES)
    problems = balance(cursor, queues, "recovered", False)
    problems += drain_copy(cursor, queues)
    problems += balance(cursor, queues, "drained", True)
    problems += check_copy(cursor)
    connection.close()
    problems += check_globals(cluster)
    return problems


def recovery_targets(cluster, end: int, count: int,
                     rng: random.Random) -> list[int]:
    """Return random WAL positions between the base backup and the end.

    Some of them on either side of a promotion.
    """
    def pick(low: int, high: int) -> int:
        return rng.randrange(low, max(low + 1, high))

    segment = WAL_SEGMENT_MB << 20
    targets = [pick(cluster.backup_end, end) for _ in range(count)]
    for number, switch in enumerate(cluster.promotions):
        if cluster.backup_end < switch and count > 2 * number + 1:
            targets[2 * number] = pick(cluster.backup_end, switch)
            targets[2 * number + 1] = pick(switch, end)
        # The last segment of the old timeline was never archived, for it was
        # never full; what is in it is in the first one of the new timeline,
        # which is no help to a recovery that ends on the old.
        targets = [switch if switch - switch % segment <= target < switch
                   else target for target in targets]
    return sorted(targets)


def check_prefixes(cluster, run_dir: str, count: int,
                   seed: int) -> None:
    """Recover the base backup to some points, and check each of them.

    Writes state/prefixes.json.  A copy in which something is wrong is kept.
    """
    results = []
    if cluster.backup_end is not None and count > 0:
        end = cluster.archive_all()
        rng = random.Random("%s/prefixes" % seed)
        for number, target in enumerate(
                recovery_targets(cluster, end, count, rng)):
            directory = os.path.join(cluster.directory, "prefix%d" % number)
            results.append(check_one_prefix(cluster, target, directory))
    with open(state_path(run_dir, "prefixes.json"), "w",
              encoding="utf-8") as file:
        json.dump(results, file, indent=1)
        file.write("\n")


def check_one_prefix(cluster, target: int, directory: str) -> dict:
    """Recover to one point and check what is there."""
    result = {"target": lsn_text(target), "problems": [], "sent": 0,
              "consumed": 0}
    copy = None
    try:
        copy = cluster.restore(target, directory)
        result["sent"], result["consumed"] = copy.query(
            "SELECT (SELECT count(*) FROM stress.sent),"
            " (SELECT count(*) FROM stress.ledger)")[0]
        result["problems"] = check_prefix(copy) + copy.log_problems()
    except (ServerError, psycopg2.Error) as error:
        result["problems"].append(str(error))
    finally:
        if copy is not None:
            copy.stop_all()
    if not result["problems"]:
        shutil.rmtree(directory)
    return result
