"""What is found of topics at the end of a run, or in a recovered copy.

Messages, positions, dead letters and the tables of the business go into one
file for the checker.  A copy that was recovered to a point in time has no
history, so there the database is asked itself whether they agree.
"""

import json
import time
from typing import Any

from state import rows, state_path

TOPICS = ("news", "wire")

# As topics.sql makes them, and in words of the checker's own what they want.
SUBSCRIPTIONS: dict[str, dict[str, Any]] = {
    "mail": {"topic": "news", "lease": 2.0},
    "digest": {"topic": "news", "lease": 1.0, "first_word": "city",
               "last_digits": "02468"},
    "ticker": {"topic": "wire", "lease": 2.0}}

# The same in SQL
WANTED = {
    "mail": "true",
    "digest": "split_part(t.routing_key, '.', 1) = 'city'"
              " AND t.payload ->> 'v' ~ '[02468]$'",
    "ticker": "true"}

STORED = """
SELECT partition, id, payload ->> 'v', routing_key FROM stress.{}
"""

DEAD = """
SELECT (headers -> 'published' ->> 'partition')::int,
       (headers -> 'published' ->> 'id')::int8,
       payload ->> 'v'
  FROM stress.{}_dead
"""

# What is wanted and beyond the position
BACKLOG = " UNION ALL ".join(
    "SELECT count(*) AS n FROM stress.{} s JOIN stress.{} t USING (partition)"
    " WHERE t.id > s.position AND {}".format(name, terms["topic"],
                                             WANTED[name])
    for name, terms in SUBSCRIPTIONS.items())
BACKLOG = "SELECT sum(n)::int8 FROM (%s) b" % BACKLOG

# What publishers have committed and the topics disagree about.
UNEQUAL = """
SELECT format('%%s %%s: %%s rows, %%s in the topic', topic, value,
              coalesce(p.n, 0), coalesce(t.n, 0))
  FROM (SELECT topic, value, count(*) AS n FROM stress.published
         GROUP BY 1, 2) p
  FULL JOIN (SELECT topic, value, count(*) AS n
               FROM (%s) m GROUP BY 1, 2) t USING (topic, value)
 WHERE p.n IS DISTINCT FROM 1 OR t.n IS DISTINCT FROM 1
""" % " UNION ALL ".join(
    "SELECT '{0}' AS topic, payload ->> 'v' AS value FROM stress.{0}"
    .format(topic) for topic in TOPICS)

# Since it was sought last: what is passed and was not consumed, and the
# opposite.
ASTRAY = """
WITH begun AS (
    SELECT s.partition, s.position, coalesce(k.n, 0) AS n,
           coalesce(k.id, 0) AS id
      FROM stress.{name} s LEFT JOIN LATERAL (
           SELECT n, id FROM stress.taken
            WHERE subscription = '{name}' AND partition = s.partition
              AND how = 'seek' ORDER BY n DESC LIMIT 1) k ON true),
since AS (
    SELECT k.partition, k.id, b.position FROM begun b
      JOIN stress.taken k ON k.partition = b.partition AND k.n > b.n
       AND k.subscription = '{name}' AND k.how <> 'seek')
SELECT format('{name} has passed %s id %s', t.partition, t.id)
  FROM begun b JOIN stress.{topic} t USING (partition)
 WHERE t.id > b.id AND t.id <= b.position AND {wanted}
   AND (t.partition, t.id::int8) NOT IN (SELECT partition, id FROM since)
   AND (t.partition::int, t.id) NOT IN (
       SELECT (headers -> 'published' ->> 'partition')::int,
              (headers -> 'published' ->> 'id')::int8
         FROM stress.{name}_dead)
UNION ALL
SELECT format('{name} has taken %s id %s, and stands at %s', partition, id,
              position) FROM since WHERE id > position
UNION ALL
SELECT format('{name} has taken %s id %s %s times', partition, id, count(*))
  FROM since GROUP BY partition, id HAVING count(*) > 1
"""

LEFT = """
SELECT t.partition::int, t.id FROM stress.{name} s
  JOIN stress.{topic} t USING (partition)
 WHERE t.id > s.position AND {wanted} ORDER BY 1, 2
"""

# How long a copy may take to give what is left: leases in it run on.
PATIENCE = 30


def topic_state(cluster, run_dir: str) -> None:
    """Write what is left of topics into a file for the checker."""
    connection = cluster.connect()
    cursor = connection.cursor()
    left = {
        "stored": {topic: rows(cursor, STORED.format(topic))
                   for topic in TOPICS},
        "published": rows(cursor, "SELECT topic, value, id, txn"
                          " FROM stress.published"),
        "taken": rows(cursor, "SELECT n, subscription, partition, id, how,"
                      " txn FROM stress.taken"),
        "positions": {name: rows(cursor, "SELECT partition, position"
                                 " FROM stress." + name)
                      for name in SUBSCRIPTIONS},
        "dead": {name: rows(cursor, DEAD.format(name))
                 for name in SUBSCRIPTIONS}}
    connection.close()
    with open(state_path(run_dir, "topics.json"), "w",
              encoding="utf-8") as file:
        json.dump(left, file)
        file.write("\n")


def check_copy(cursor) -> list[str]:
    """Return what is wrong with topics in a recovered copy."""
    problems = [text for text, in rows(cursor, UNEQUAL)]
    for name, terms in SUBSCRIPTIONS.items():
        fitting = {"name": name, "topic": terms["topic"],
                   "wanted": WANTED[name]}
        problems += [text for text, in
                     rows(cursor, ASTRAY.format(**fitting))]
        left = [tuple(row) for row in rows(cursor, LEFT.format(**fitting))]
        got: list[tuple[int, int]] = []
        end = time.monotonic() + PATIENCE
        while len(got) < len(left) and time.monotonic() < end:
            got += [tuple(row) for row in rows(
                cursor, "SELECT partition::int, id FROM queue.dequeue("
                "%s, 1000, wait => '100 ms')", ("stress." + name,))]
        if sorted(got) != left:
            problems.append("%s: %d messages were left, and %d came, %d of"
                            " them others" % (name, len(left), len(got),
                                              len(set(got) - set(left))))
    return problems[:20]
