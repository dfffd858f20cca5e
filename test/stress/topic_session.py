"""A connection of those who publish to topics and read them.

As in session.py each call is in the history, and what is done is in tables of
the business as well (topics.sql): a row of "published" for each message, in
the subtransaction that publishes it, and one of "taken" for each that is
consumed, in that which moves the position.
"""

import io
from typing import Any, Iterable, NamedTuple, Optional

from psycopg2 import extensions

import history
from session import Session, read_column, read_value
from wish import interval

# What a routing key may be.
KEYS = ("", "city", "city.north", "city.north.sport", "sea", "sea.north")

# The argument of a call that reads goes to the checker, with what it got.
GET = """
SELECT m.partition, m.id, m.payload, m.receipt,
       EXISTS (SELECT FROM published p WHERE p.value = m.payload ->> 'v')
  FROM {}
"""

# The rows of "taken" are numbered in the order of the messages.
CONSUME = """
WITH m AS MATERIALIZED (SELECT * FROM queue.dequeue(%s, %s, wait => %s)),
row AS (INSERT INTO taken (subscription, partition, id, how, txn)
        SELECT %s, partition, id, 'dequeue', %s FROM m)
""" + GET.format("m")

TAKE = "INSERT INTO taken (subscription, partition, id, how, txn)" \
    " SELECT %s, u.partition, u.id, %s, %s" \
    " FROM unnest(%s::int[], %s::bigint[]) u (partition, id)"

PUBLISH_BATCH = """
WITH p AS MATERIALIZED (
    SELECT * FROM unnest(%s::text[], queue.publish_batch(
        %s, %s::jsonb[], routing_keys => %s::text[],
        group_keys => %s::text[])) AS u (value, id)),
row AS (INSERT INTO published SELECT %s, value, id, %s FROM p)
SELECT id FROM p
"""

PUBLISH = """
WITH p AS MATERIALIZED (
    SELECT queue.publish(%s, %s::jsonb, routing_key => %s, group_key => %s)
           AS id),
row AS (INSERT INTO published SELECT %s, %s, id, %s FROM p)
SELECT id FROM p
"""

INSERT = """
WITH p AS (
    INSERT INTO {} ({}payload, routing_key, group_key)
    SELECT {}* FROM unnest(%s::jsonb[], %s::text[], %s::text[])
    RETURNING id, payload ->> 'v' AS value),
row AS (INSERT INTO published SELECT %s, value, id, %s FROM p)
SELECT id FROM p
"""

# An id that the topic is about to reach, or one beyond.
GIVEN_ID = """
(SELECT max(next_id) + %s FROM queue.topics WHERE topic = %s::regclass)
 + row_number() OVER (),
"""

READ = GET.format("queue.read(%s, %s, %s) m") + " ORDER BY m.id"

# In one statement the stable id is that of its snapshot.  Whoever has read all
# below it goes on from there.
READ_STABLE = """
SELECT m.partition, m.id, m.payload, s.below::text,
       EXISTS (SELECT FROM published p WHERE p.value = m.payload ->> 'v')
  FROM (SELECT queue.stable_id(%s) AS below) s
  LEFT JOIN {} m ON m.id > %s AND m.id < s.below
 ORDER BY m.id
"""

AUDIT = """
SELECT s.partition, s.position, t.id
  FROM {} s LEFT JOIN LATERAL (
       SELECT id FROM taken
        WHERE subscription = %s AND partition = s.partition
        ORDER BY n DESC LIMIT 1) t ON true
"""

# Where it stands now is written down by who has moved it.
SEEK_NOTE = """
INSERT INTO taken (subscription, partition, id, how, txn)
SELECT %s, partition, position, 'seek', %s FROM {}
"""


# What is passed counts as consumed.
SKIP = """
INSERT INTO taken (subscription, partition, id, how, txn)
SELECT %s, %s, id, 'skip', %s FROM queue.skip(%s, %s) id
 WHERE id IS NOT NULL
"""


class Parcel(NamedTuple):
    """A message as a subscription got it."""

    subscription: str
    partition: int
    id: int
    receipt: Optional[str]


class TopicSession(Session):
    """One connection of a client of topics."""

    gid = "topic:"

    # Publishing

    def publish(self, topic: str, values: list[str], keys: list[str],
                groups: list[Optional[str]], how: str,
                ahead: int = 0) -> None:
        """Publish messages, with their rows in the same subtransaction.

        "how" is publish (of one), batch, insert, copy (which takes a
        transaction), or given: with ids so far ahead.
        """
        txn = self.txn or self.client.next_txn()
        payloads = [history.encode(history.payload(value))
                    for value in values]
        arg = {"values": values, "how": how}
        if how == "copy":
            self.copy(topic, values, payloads, keys, groups, arg)
            return
        sql, parameters = {
            "publish": (PUBLISH, [topic, payloads[0], keys[0], groups[0],
                                  topic, values[0], txn]),
            "batch": (PUBLISH_BATCH, [values, topic, payloads, keys, groups,
                                      topic, txn]),
            "insert": (INSERT.format(topic, "", ""),
                       [payloads, keys, groups, topic, txn]),
            "given": (INSERT.format(topic, "id, ", GIVEN_ID),
                      [ahead, topic, payloads, keys, groups, topic, txn])
        }[how]
        self.call("publish_given" if how == "given" else "publish", sql,
                  parameters, read_column, topic, arg, txn)

    def copy(self, topic: str, values: list[str], payloads: list[str],
             keys: list[str], groups: list[Optional[str]],
             arg: dict[str, Any]) -> None:
        """Publish by COPY, which the driver does in its own way."""
        self.call("business", "INSERT INTO published"
                  " SELECT %s, unnest(%s::text[]), NULL, %s",
                  [topic, values, self.txn])
        file = io.StringIO("".join(
            "%s\t%s\t%s\n" % (payload, key, group or "\\N")
            for payload, key, group in zip(payloads, keys, groups)))

        def copy_in(sql: str, _: Any) -> None:
            extensions.set_wait_callback(None)
            try:
                self._cursor.copy_expert(sql, file)
            finally:
                extensions.set_wait_callback(self.client.wait_for_server)

        self.call("publish", "COPY %s (payload, routing_key, group_key)"
                  " FROM STDIN" % topic, None, None, topic, arg,
                  execute=copy_in)

    # Consuming

    def get(self, op: str, subscription: str, most: int, wait: float = 0,
            lease: Optional[float] = None) -> list[Parcel]:
        """Take messages by dequeue or receive, and do nothing else."""
        call = "queue.%s(%%s, %%s, wait => %%s" % op
        parameters: list[Any] = [subscription, most, interval(wait)]
        if op == "receive":
            call += ", lease => %s"
            parameters.append(interval(lease))
        return self._got(op, subscription, most, wait, lease,
                         GET.format(call + ") m"), parameters, None)

    def consume(self, subscription: str, most: int = 1,  # type: ignore
                wait: float = 0) -> list[Parcel]:
        """Dequeue messages with their rows, in one statement."""
        txn = self.txn or self.client.next_txn()
        return self._got("dequeue", subscription, most, wait, None, CONSUME,
                         [subscription, most, interval(wait), subscription,
                          txn], txn)

    def _got(self, op, subscription, most, wait, lease, sql, parameters,
             txn) -> list[Parcel]:
        got = self.call(op, sql, parameters, read_parcels, subscription,
                        {"max": most, "wait": wait, "lease": lease}, txn)
        return [Parcel(subscription, partition, id, receipt)
                for partition, id, _, receipt, _ in got]

    def note_taken(self, parcels: list[Parcel], how: str) -> None:
        """Write the rows of what is consumed in this transaction."""
        self.call("taken", TAKE,
                  [parcels[0].subscription, how, self.txn,
                   [parcel.partition for parcel in parcels],
                   [parcel.id for parcel in parcels]])

    def settle_parcels(self, op: str, parcels: list[Parcel],
                       arguments: str = "", *more: Any,
                       lease: Optional[float] = None) -> Any:
        """Call ack, nack, release, reject or extend."""
        receipts = [parcel.receipt for parcel in parcels]
        sql = "SELECT queue.%s(%%s" % op
        parameters: list[Any] = [receipts[0]]
        if len(receipts) > 1:
            sql, parameters = sql + "::text[]", [receipts]
        return self.call(op, sql + arguments + ")", parameters + list(more),
                         None, parcels[0].subscription,
                         {"receipts": receipts, "lease": lease})

    # Reading and looking

    def read(self, topic: str, after: int, most: int,
             is_stable: bool) -> int:
        """Read on from a place; return the next one."""
        if is_stable:
            sql, parameters = READ_STABLE.format(topic), [topic, after]
        else:
            sql, parameters = READ, [topic, after, most]

        def read_all(cursor) -> dict[str, Any]:
            rows = cursor.fetchall()
            got = read_parcels(row for row in rows if row[1] is not None)
            until = got[-1][1] if got else after
            if is_stable:
                until = max(after, int(rows[0][3]) - 1)
            return {"until": until, "got": got}

        return self.call("read", sql, parameters, read_all, topic,
                         {"after": after, "max": most, "stable": is_stable}
                         )["until"]

    def audit(self, subscription: str) -> None:
        """Look where the partitions stand, and what was taken last."""
        self.call("audit", AUDIT.format(subscription), [subscription],
                  lambda cursor: [list(row) for row in cursor], subscription)

    def seek(self, subscription: str, arguments: str, *more: Any) -> None:
        """Move the positions, and write down where they are then."""
        self.call("seek", "SELECT queue.seek(%s, " + arguments + ")",
                  [subscription, *more], read_value, subscription)
        self.call("taken", SEEK_NOTE.format(subscription),
                  [subscription, self.txn])

    def skip(self, subscription: str, partition: int) -> None:
        """Pass the next message of a partition."""
        txn = self.txn or self.client.next_txn()
        self.call("seek", SKIP, [subscription, partition, txn, subscription,
                                 partition], None, subscription, None, txn)


def read_parcels(rows: Iterable[tuple]) -> list[list[Any]]:
    """The result of a take or of a read, as the history has it.

    Partition, id, value (None if it is not whole), receipt, and whether the
    statement saw the row that was committed with it.
    """
    got = []
    for partition, id, payload, receipt, is_seen in rows:
        value = payload.get("v") if isinstance(payload, dict) else None
        if not isinstance(value, str) or \
                not history.is_intact(payload, value):
            value = None
        got.append([partition, id, value, receipt, 1 if is_seen else 0])
    return got
