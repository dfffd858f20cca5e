"""What the benchmark measures: scripts for pgbench.

A workload is a script that sends one message, or a hundred, and then consumes
as many, so each message lives its whole life and the queue stays short.  There
are three kinds:

    floor   what PostgreSQL itself takes for the same rows: a table with a
            primary key, INSERT, DELETE by that key, no queue at all
    ours    the functions of the extension
    peer    what one would use instead: a table with SKIP LOCKED, written by
            hand and as well as we can, and PgQ

In all of them whoever sends learns the id, except where a peer does not need
it, and whoever consumes gets id and payload as the rows of a result.  A lease
by a hundred needs the receipts, or for the others the ids, in one array, so
there all of them return one row with arrays.

Each workload has a second script, which does the same and writes down each id
that was sent and each that was delivered.  It is run before each measurement,
on the same tables.  It shows whether a message is delivered twice, which the
counts of a measured run cannot show, and warms everything up.
"""

import dataclasses

BATCH = 100

SCHEMA = """
CREATE SCHEMA bench;
CREATE UNLOGGED TABLE bench.sent (id bigint);
CREATE UNLOGGED TABLE bench.taken (id bigint);
"""

# A table of messages as the hand-written queues and the floors have it.
TABLE = """
CREATE TABLE bench.{name} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,{more}
    payload jsonb NOT NULL)
"""
VISIBLE_AT = "\n    visible_at timestamptz NOT NULL DEFAULT now(),"

LOG_SENT = "INSERT INTO bench.sent VALUES (:sent);\n"
LOG_SENT_MANY = "INSERT INTO bench.sent SELECT unnest(:sent::bigint[]);\n"
LOG_TAKEN = "INSERT INTO bench.taken VALUES (:id);\n"
LOG_TAKEN_MANY = "INSERT INTO bench.taken SELECT unnest(:ids::bigint[]);\n"


@dataclasses.dataclass
class Workload:
    """One of the things that are measured."""

    name: str
    kind: str
    title: str
    size: int
    script: str
    verify: str
    set_up: str
    tear_down: str
    # What tells how many messages are there; also what grows.
    relation: str

    @property
    def left(self) -> str:
        """Return the query for the number of messages that are left."""
        return "SELECT count(*) FROM " + self.relation


def table(name: str, kind: str, title: str, size: int, script: str,
          verify: str, more: str = "") -> Workload:
    """Return a workload on a table of its own."""
    return Workload(name, kind, title, size, script, verify,
                    TABLE.format(name=name, more=more),
                    "DROP TABLE IF EXISTS bench." + name, "bench." + name)


def queue(name: str, title: str, size: int, script: str,
          verify: str, settings: str = "") -> Workload:
    """Return a workload on a queue of its own."""
    return Workload(name, "ours", title, size, script, verify,
                    "SELECT queue.create_queue('bench.%s'%s)" % (name,
                                                                 settings),
                    "DROP TABLE IF EXISTS bench.{0}, bench.{0}_dead"
                    .format(name), "bench." + name)


def single() -> list[Workload]:
    """Return the workloads with one message a transaction."""
    insert = ("INSERT INTO bench.{0} (payload) VALUES (:payload)"
              " RETURNING id AS sent \\gset\n")
    delete = ("DELETE FROM bench.{0} WHERE id = :sent"
              " RETURNING id, payload \\aset\n")
    enqueue = "SELECT queue.enqueue('bench.{0}', :payload) AS sent \\gset\n"
    dequeue = ("\\set id 0\n"
               "SELECT id, payload FROM queue.dequeue('bench.dequeue')"
               " \\aset\n")
    receive = ("\\set id 0\n"
               "SELECT id, receipt, payload"
               " FROM queue.receive('bench.lease') \\aset\n")
    ack = "SELECT queue.ack(:receipt::text);\n"
    pop = ("\\set id 0\n"
           "DELETE FROM bench.pop WHERE id ="
           " (SELECT id FROM bench.pop ORDER BY id"
           " FOR UPDATE SKIP LOCKED LIMIT 1)"
           " RETURNING id, payload \\aset\n")
    claim = ("\\set id 0\n"
             "UPDATE bench.claim SET visible_at = now() + '30 s' WHERE id ="
             " (SELECT id FROM bench.claim WHERE visible_at <= now()"
             " ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 1)"
             " RETURNING id, payload \\aset\n")
    settle = "DELETE FROM bench.claim WHERE id = :id;\n"

    def if_taken(lines: str) -> str:
        return "\\if :id > 0\n" + lines + "\\endif\n" if lines else ""

    def workload(make, name, kind, title, send, between, take, after="",
                 **how):
        arguments = [name] if make is queue else [name, kind]
        return make(
            *arguments, title, 1,
            send.format(name) + between + take.format(name) + if_taken(after),
            send.format(name) + LOG_SENT + between + take.format(name)
            + if_taken(after + LOG_TAKEN), **how)

    floor = "\\set id 0\n" + delete
    return [
        workload(table, "pair", "floor", "INSERT, DELETE by key",
                 insert, "", floor),
        workload(queue, "dequeue", "ours", "enqueue, dequeue",
                 enqueue, "", dequeue),
        workload(table, "pop", "peer", "INSERT, DELETE with SKIP LOCKED",
                 insert, "", pop),
        workload(table, "lease_floor", "floor",
                 "INSERT, SELECT 1, DELETE by key",
                 insert, "SELECT 1 AS one \\gset\n", floor),
        workload(queue, "lease", "ours", "enqueue, receive, ack",
                 enqueue, "", receive, ack),
        workload(table, "claim", "peer",
                 "INSERT, UPDATE with SKIP LOCKED, DELETE by key",
                 insert, "", claim, settle, more=VISIBLE_AT)]


def batches() -> list[Workload]:
    """Return the workloads with a hundred messages a transaction."""
    n = BATCH
    rows = "INSERT INTO bench.{0} (payload) SELECT unnest(:payloads::jsonb[])"
    returning = ("WITH sent AS (" + rows + " RETURNING id)"
                 " SELECT array_agg(id) AS sent FROM sent \\gset\n")
    enqueue = ("SELECT queue.enqueue_batch('bench.{0}', :payloads::jsonb[])"
               " AS sent \\gset\n")
    delete = "DELETE FROM bench.batch_pair WHERE id = ANY (:sent::bigint[])"
    dequeue = "queue.dequeue('bench.dequeue_batch', %d)" % n
    pop = ("DELETE FROM bench.pop_batch WHERE id = ANY (ARRAY("
           "SELECT id FROM bench.pop_batch ORDER BY id"
           " FOR UPDATE SKIP LOCKED LIMIT %d)) RETURNING id, payload" % n)
    claim = ("UPDATE bench.claim_batch SET visible_at = now() + '30 s'"
             " WHERE id = ANY (ARRAY(SELECT id FROM bench.claim_batch"
             " WHERE visible_at <= now() ORDER BY id"
             " FOR UPDATE SKIP LOCKED LIMIT %d)) RETURNING id, payload" % n)
    arrays = ("SELECT count(*) AS n, array_agg(id) AS ids,{0}"
              " string_agg(payload::text, ',') AS payload FROM {1} \\gset\n")
    receive = arrays.format(" array_agg(receipt) AS receipts,",
                            "queue.receive('bench.lease_batch', %d)" % n)
    claimed = "WITH claimed AS (%s) %s" % (claim, arrays.format("", "claimed"))
    ack = "SELECT queue.ack(:receipts::text[]);\n"
    settle = "DELETE FROM bench.claim_batch WHERE id = ANY (:ids::bigint[]);\n"

    def if_any(lines: str) -> str:
        return "\\if :n > 0\n" + lines + "\\endif\n"

    def logged(rows: str) -> str:
        return ("WITH taken AS (%s) INSERT INTO bench.taken"
                " SELECT id FROM taken;\n" % rows)

    def sending(name: str) -> str:
        return returning.format(name) + LOG_SENT_MANY

    return [
        table("batch_pair", "floor", "INSERT, DELETE by keys", n,
              returning.format("batch_pair") + delete
              + " RETURNING id, payload \\aset\n",
              sending("batch_pair") + logged(delete + " RETURNING id")),
        queue("dequeue_batch", "enqueue_batch, dequeue", n,
              enqueue.format("dequeue_batch")
              + "SELECT id, payload FROM " + dequeue + " \\aset\n",
              enqueue.format("dequeue_batch") + LOG_SENT_MANY
              + logged("SELECT id FROM " + dequeue)),
        table("pop_batch", "peer", "INSERT, DELETE with SKIP LOCKED", n,
              rows.format("pop_batch") + ";\n" + pop + " \\aset\n",
              sending("pop_batch") + logged(pop)),
        queue("lease_batch", "enqueue_batch, receive, ack of all", n,
              enqueue.format("lease_batch") + receive + if_any(ack),
              enqueue.format("lease_batch") + LOG_SENT_MANY + receive
              + if_any(ack + LOG_TAKEN_MANY)),
        table("claim_batch", "peer",
              "INSERT, UPDATE with SKIP LOCKED, DELETE by keys", n,
              rows.format("claim_batch") + ";\n" + claimed + if_any(settle),
              sending("claim_batch") + claimed
              + if_any(settle + LOG_TAKEN_MANY), more=VISIBLE_AT)]


def pgq() -> list[Workload]:
    """Return what PgQ's producers do; its consumer is in pgq.py."""
    set_up = ("SELECT pgq.create_queue('bench'),"
              " pgq.set_queue_config('bench', 'ticker_max_lag', '0'),"
              " pgq.set_queue_config('bench', 'ticker_max_count', '1'),"
              " pgq.register_consumer('bench', 'bench')")
    tear_down = ("SELECT pgq.drop_queue(queue_name, true)"
                 " FROM pgq.get_queue_info() WHERE queue_name = 'bench'")
    script = "SELECT pgq.insert_event('bench', 'm', :payload) AS sent \\gset\n"
    many = ("SELECT array_agg(pgq.insert_event('bench', 'm', payload)) AS sent"
            " FROM unnest(:payloads::text[]) payload \\gset\n")
    return [
        Workload("pgq", "peer", "insert_event; one consumer by batches",
                 1, script, script + LOG_SENT, set_up, tear_down, "pgq"),
        Workload("pgq_batch", "peer",
                 "insert_event; one consumer by batches", BATCH,
                 many, many + LOG_SENT_MANY, set_up, tear_down, "pgq")]


ALL = {workload.name: workload
       for workload in single() + batches() + pgq()}
