"""A topic as a log: publishing to it, and reading it from its beginning.

What publishing is compared with is INSERT into a table with the same columns
and the same key.  What reading is compared with is a SELECT that knows where
it stands and gets the same rows of one partition by the key.  A subscription
also finds a partition that nobody has, sees how far it can be read, and writes
how far it has come, in a transaction that is flushed.  queue.read does all but
the last.

Readers must get each message once.  Before the measurement the ids are
compared.  In a measured run what the positions have not passed must be what
there is less what the calls got.
"""

import statistics
import time
from typing import Any, Callable

import cluster
import load
import parts
import runs
from tables import marked, ratio, spread, table
from workloads import ALL, BATCH

# How many are in the log when it is read.
MESSAGES = 1000000
SHORT_MESSAGES = 100000
SMOKE_MESSAGES = 20000

PARTITIONS = 16

# By one call.  Messages without a key go where the first one's id says, so
# with this number each partition gets as many.
FILL_BATCH = 999

# Of a reader.
READ_BATCH = 1000

# The end of the log is not read when it is measured: there a call may find
# less than it asks for.
SHARE_READ = 0.9

# So many at most are read with each id written down.
VERIFIED = 200000

PUBLISH_MUST = 0.95
READ_MUST = 0.5
FIRST_MUST = 0.5

SET_UP = """
SELECT queue.create_topic('bench.log', partitions => %d);
CREATE UNLOGGED TABLE bench.fewer (n bigint);
CREATE TABLE bench.bare (
    partition smallint NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    published_at timestamptz NOT NULL DEFAULT now(),
    routing_key text NOT NULL DEFAULT '',
    group_key text, correlation_id text, content_type text, sender text,
    headers jsonb, payload jsonb, body bytea,
    PRIMARY KEY (partition, id))
""" % PARTITIONS
EMPTY = "TRUNCATE bench.log, bench.bare"
TEAR_DOWN = "DROP TABLE bench.log, bench.bare, bench.fewer"

ANY_PARTITION = "\\set p random(0, %d)\n" % (PARTITIONS - 1)
PUBLISH = {
    ("publish", 1): "SELECT queue.publish('bench.log', :payload) AS sent"
                    " \\gset\n",
    ("publish", BATCH): "SELECT queue.publish_batch('bench.log',"
                        " :payloads::jsonb[]) AS sent \\gset\n",
    ("insert", 1): ANY_PARTITION
                   + "INSERT INTO bench.bare (partition, payload)"
                     " VALUES (:p, :payload) RETURNING id AS sent \\gset\n",
    ("insert", BATCH): ANY_PARTITION
                       + "WITH sent AS (INSERT INTO bench.bare"
                         " (partition, payload) SELECT :p::int,"
                         " unnest(:payloads::jsonb[]) RETURNING id)"
                         " SELECT array_agg(id) AS sent FROM sent \\gset\n",
}
PUBLISH_TABLES = {"publish": "bench.log", "insert": "bench.bare"}
PUBLISH_TITLES = {"publish": "**publish**", "insert": "INSERT",
                  "pgq": "PgQ: insert_event, with ticker and consumer"}

FILL = """
SELECT count(queue.publish_batch('bench.log', payloads))
FROM (SELECT array_agg('{0}'::jsonb) AS payloads
      FROM generate_series(1, {1})) AS batch, generate_series(1, {2})
"""

SUBSCRIBE = "SELECT queue.subscribe('bench.log', '%s', %s)"
UNSUBSCRIBE = "DROP TABLE {0}, {0}_dead"

# Which rows a subscription has not passed.
AHEAD = ("(SELECT l.id FROM bench.log l JOIN {0} s USING (partition)"
         " WHERE l.id > s.position) AS ahead")

# A call that comes to the end of what is free, or has looked for too long,
# returns fewer than it was asked for; by how many is written down.
DEQUEUE = ("SELECT count(payload) AS n"
           " FROM queue.dequeue('bench.reader', {0}) \\gset\n"
           "\\if :n < {0}\n"
           "INSERT INTO bench.fewer VALUES ({0} - :n);\n"
           "\\endif\n".format(READ_BATCH))
ANYWHERE = "\\set after random({0}, {1})\n"
READ = {
    "dequeue": DEQUEUE,
    "unflushed": DEQUEUE,
    "read": ANYWHERE +
            "SELECT count(payload) AS n"
            " FROM queue.read('bench.log', :after, %d) \\gset\n" % READ_BATCH,
    "select": ANY_PARTITION + ANYWHERE +
              "SELECT count(payload) AS n FROM (SELECT payload FROM bench.log"
              " WHERE partition = :p AND id > :after ORDER BY id"
              " LIMIT %d) AS x \\gset\n" % READ_BATCH,
    "pgq": "BEGIN;\n"
           "SELECT pgq.next_batch('bench', 'bench') AS batch \\gset\n"
           "SELECT count(ev_data) AS n"
           " FROM pgq.get_batch_events(:batch) \\gset\n"
           "SELECT pgq.finish_batch(:batch) AS done \\gset\n"
           "COMMIT;\n",
}
READ_TITLES = {
    "dequeue": "**dequeue of a subscription**",
    "unflushed": "**the same, with synchronous_commit off**",
    "read": "**queue.read**", "select": "SELECT by the key",
    "pgq": "PgQ: next_batch, get_batch_events, finish_batch; one consumer"}

# Events come in batches as large as those of the others.
PGQ_FILL = """
DO $$
BEGIN
    FOR n IN 1 .. {0} LOOP
        PERFORM pgq.insert_event('bench', 'm', '{1}')
        FROM generate_series(1, {2});
        PERFORM pgq.force_tick('bench');
        PERFORM pgq.ticker('bench');
        COMMIT;
    END LOOP;
END $$
"""


def publishing(server: cluster.Cluster, extent: parts.Extent,
               names: list[str],
               say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Publish to the log, and beside it."""
    counts = {"full": [1, 8], "short": [8], "smoke": [2]}[extent.mode]
    rows = [{"what": "publish", "size": size, "clients": clients,
             "rounds": [], "trouble": []}
            for size in (1, BATCH) for clients in counts]
    for repetition in range(extent.repetitions):
        for row in rows:
            found: dict[str, Any] = {}
            for kind in PUBLISH_TABLES:
                found[kind] = publish_once(server, row, kind, extent)
            name = "pgq" if row["size"] == 1 else "pgq_batch"
            if name in names:
                run = runs.Run(name, row["clients"], "100 B", repetition)
                parts.one_run(server, run, extent)
                found["pgq"] = run.as_dict()
                # As the others: what was sent, whoever has read it.
                found["pgq"]["rate"] = (run.sent / run.seconds
                                        if run.seconds else 0.0)
            for kind, load_found in found.items():
                say(load.describe("%s by %d" % (kind, row["size"]),
                                  row["clients"], load_found))
                row["trouble"] += ["%s: %s" % (kind, text)
                                   for text in load_found["trouble"]]
            row["rounds"].append(found)
    return rows


def publish_once(server: cluster.Cluster, row: dict[str, Any], kind: str,
                 extent: parts.Extent) -> dict[str, Any]:
    """Publish, or insert, once."""
    server.execute(EMPTY)
    server.checkpoint()
    relation = PUBLISH_TABLES[kind]
    before = server.ask(load.INSERTED, (relation,))
    found = load.Load(PUBLISH[kind, row["size"]], row["clients"],
                      extent.length, row["size"]).put(server)
    inserted = server.ask(load.INSERTED, (relation,)) - before
    if inserted != found["messages"]:
        found["trouble"].append("%d sent, but %d inserted"
                                % (found["messages"], inserted))
    return found


class Log:
    """A log that is read, and what reads it."""

    def __init__(self, server: cluster.Cluster, messages: int):
        self.server = server
        self.trouble: list[str] = []
        server.execute(EMPTY)
        batches = max(messages // FILL_BATCH, 1)
        began = time.monotonic()
        server.execute(FILL.format(runs.payload(runs.PAYLOADS["100 B"]),
                                   FILL_BATCH, batches))
        self.messages = batches * FILL_BATCH
        self.fill = self.messages / (time.monotonic() - began)
        server.execute("VACUUM ANALYZE bench.log")
        self.first_id, self.last_id = server.row(
            "SELECT min(id), max(id) FROM bench.log")
        self.check()

    def check(self) -> None:
        """See that those who read anywhere get as many as they ask for.

        Or, if the machine is so busy that they look for too long, fewer.
        """
        for kind in ("read", "select"):
            for after in self.places():
                query = READ[kind][READ[kind].index("SELECT"):]
                count = self.server.ask(
                    query.replace(":after", str(after)).replace(":p", "0")
                    .replace("\\gset", ""))
                least = READ_BATCH if kind == "select" else 1
                if not least <= count <= READ_BATCH:
                    self.trouble.append("%s got %d messages after %d"
                                        % (kind, count, after))

    def places(self) -> tuple[int, int]:
        """Return between which ids somebody may begin to read."""
        return (self.first_id - 1,
                max(self.last_id - 2 * PARTITIONS * READ_BATCH,
                    self.first_id - 1))

    def subscribe(self, name: str, start: str = "'begin'") -> None:
        """Make a subscription that has read nothing."""
        self.server.execute(SUBSCRIBE % (name, start))

    def unsubscribe(self, name: str) -> None:
        """Drop it."""
        self.server.execute(UNSUBSCRIBE.format(name))

    def ahead(self, name: str) -> int:
        """Return how many messages it has not passed."""
        self.server.execute("SET enable_seqscan = on")
        count = self.server.ask("SELECT count(*) FROM " + AHEAD.format(name))
        self.server.execute("RESET enable_seqscan")
        return count

    def verify(self) -> None:
        """Read the end of the log, or all of it, and compare the ids."""
        wanted = min(self.messages, VERIFIED)
        first = self.last_id - wanted + 1
        name = "bench.verifier"
        server = self.server
        server.execute("TRUNCATE bench.sent, bench.taken")
        self.subscribe(name, "start_id => %d" % first)
        server.execute("INSERT INTO bench.sent SELECT id FROM bench.log"
                       " WHERE id >= %d" % first)
        sent = server.ask("SELECT count(*) FROM bench.sent")
        clients = min(8, PARTITIONS)
        script = ("INSERT INTO bench.taken SELECT id"
                  " FROM queue.dequeue('%s', %d);\n" % (name, READ_BATCH))
        while self.ahead(name):
            before = server.ask("SELECT count(*) FROM bench.taken")
            load.Load(script, clients,
                      ["-t", str(wanted // READ_BATCH // clients + 1)]
                      ).put(server)
            if server.ask("SELECT count(*) FROM bench.taken") == before:
                break
        run = runs.Run("dequeue", clients, "100 B", 0)
        runs.complain_of_ids(AHEAD.format(name), server, run, sent)
        if run.verified != sent:
            run.trouble.append("%d of %d were read" % (run.verified, sent))
        self.trouble += run.trouble
        self.unsubscribe(name)

    def read(self, kind: str, clients: int,
             extent: parts.Extent) -> dict[str, Any]:
        """Read once: most of it, or parts of it for a time."""
        self.server.checkpoint()
        if kind == "select" or kind == "read":
            return load.Load(READ[kind].format(*self.places()), clients,
                             extent.length, READ_BATCH).put(self.server)
        times = max(int(self.messages * SHARE_READ / READ_BATCH / clients), 1)
        self.subscribe("bench.reader")
        self.server.execute("TRUNCATE bench.fewer")
        found = load.Load(
            READ[kind], clients, ["-t", str(times)], READ_BATCH,
            setting="synchronous_commit=off" if kind == "unflushed" else ""
        ).put(self.server)
        asked = max(found["messages"], 1)
        found["messages"] -= self.server.ask(
            "SELECT coalesce(sum(n), 0)::bigint FROM bench.fewer")
        share = found["messages"] / asked
        found["rate"] *= share
        if share:
            found["cpu"] /= share
            found["wal"] /= share
        ahead = self.ahead("bench.reader")
        if self.messages - found["messages"] != ahead:
            found["trouble"].append("%d of %d read, but %d are left"
                                    % (found["messages"], self.messages,
                                       ahead))
        self.unsubscribe("bench.reader")
        return found

    def first(self) -> float:
        """Read for the first time, in a new session; how long does it take?

        Connecting and planning are part of it.
        """
        self.subscribe("bench.first")
        began = time.monotonic()
        session = self.server.session()
        with session.cursor() as cursor:
            cursor.execute("SELECT count(payload) FROM"
                           " queue.dequeue('bench.first', %d)" % READ_BATCH)
            count = cursor.fetchone()[0]
            seconds = time.monotonic() - began
        session.close()
        self.server.wait_for_sessions()
        if not 0 < count <= READ_BATCH:
            self.trouble.append("the first read found %d messages" % count)
        self.unsubscribe("bench.first")
        return seconds


def read_pgq(server: cluster.Cluster, messages: int) -> dict[str, Any]:
    """Fill PgQ with batches as large, and let its consumer read most."""
    workload = ALL["pgq"]
    server.execute(workload.tear_down)
    server.execute(workload.set_up)
    batches = max(messages // READ_BATCH, 2)
    server.execute(PGQ_FILL.format(
        batches, runs.payload(runs.PAYLOADS["100 B"]), READ_BATCH))
    server.checkpoint()
    # The first batch may be what was there before the first tick: nothing.
    server.execute("SELECT pgq.finish_batch(pgq.next_batch('bench', 'bench'))")
    found = load.Load(READ["pgq"], 1, ["-t", str(max(
        int(batches * SHARE_READ), 1))], READ_BATCH).put(server)
    server.execute(workload.tear_down)
    return found


def reading(server: cluster.Cluster, extent: parts.Extent, names: list[str],
            messages: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Fill the log, read it, restart the server and read again."""
    log = Log(server, messages)
    say("the log is filled with %d, %.0f msg/s" % (log.messages, log.fill))
    log.verify()
    counts = {"full": [1, 8], "short": [8], "smoke": [2]}[extent.mode]
    rows = [{"what": "read", "clients": clients, "messages": log.messages,
             "rounds": [], "trouble": []} for clients in counts]
    for _ in range(extent.repetitions):
        for row in rows:
            found = {}
            for kind in ("dequeue", "unflushed", "read", "select"):
                found[kind] = log.read(kind, row["clients"], extent)
            if "pgq" in names and row["clients"] == counts[0]:
                found["pgq"] = read_pgq(server, min(log.messages, VERIFIED))
            for kind, load_found in found.items():
                say(load.describe("%s by %d" % (kind, READ_BATCH),
                                  row["clients"], load_found))
                row["trouble"] += ["%s: %s" % (kind, text)
                                   for text in load_found["trouble"]]
            row["rounds"].append(found)
    first = first_reads(server, log, extent, say)
    for row in rows + [first]:
        row["trouble"] += log.trouble
    return rows + [first]


def first_reads(server: cluster.Cluster, log: Log, extent: parts.Extent,
                say: Callable[[str], None]) -> dict[str, Any]:
    """Time the first read, with a publisher that is prepared."""
    row: dict[str, Any] = {"what": "first", "messages": log.messages,
                           "seconds": {"running": log.first()}, "trouble": []}
    session = server.connect()
    with session.cursor() as cursor:
        cursor.execute("SELECT queue.publish('bench.log', '1')")
        cursor.execute("PREPARE TRANSACTION 'bench log'")
    session.close()
    for how in ("stop",) if extent.mode == "smoke" else ("stop", "crash"):
        server.restart(how)
        row["seconds"][how] = log.first()
    server.execute("ROLLBACK PREPARED 'bench log'")
    for how, seconds in row["seconds"].items():
        say("first read, %-8s %.3f s" % (how, seconds))
    return row


def carry_out(server: cluster.Cluster, extent: parts.Extent, names: list[str],
              messages: int | None,
              say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Measure; return the rows of the file of results."""
    if messages is None:
        messages = {"full": MESSAGES, "short": SHORT_MESSAGES,
                    "smoke": SMOKE_MESSAGES}[extent.mode]
    server.execute(SET_UP)
    rows = publishing(server, extent, names, say)
    rows += reading(server, extent, names, messages, say)
    server.execute(TEAR_DOWN)
    return rows


def figures(row: dict[str, Any], titles: dict[str, str], of: str, to: str,
            must: float, cells: Callable[[str], list[str]]
            ) -> list[list[str]]:
    """Return the lines of a table for what was measured in turn."""
    lines = []
    for kind, title in titles.items():
        rounds = [found for found in row["rounds"] if kind in found]
        if not rounds:
            continue
        line = cells(title)
        if row["trouble"]:
            lines.append(line + ["FAILED"] + [""] * 4)
            continue
        ratios = [ratio(found[kind]["rate"], found[to]["rate"])
                  for found in rounds]
        text = spread(ratios, "{:.2f}".format) if kind != to else ""
        if kind == of:
            text = marked(text, statistics.median(ratios) >= must)
        lines.append(line + [
            spread([found[kind]["rate"] for found in rounds],
                   "{:,.0f}".format), text,
            "≥ %g" % must if kind == of else "",
            spread([found[kind]["cpu"] for found in rounds], "{:.1f}".format),
            "{:,.0f}".format(statistics.median(
                found[kind]["wal"] for found in rounds))])
    return lines


COSTS = ["server CPU, µs a message", "WAL, bytes a message"]


def publish_section(rows: list[dict[str, Any]]) -> str:
    """Return what the page says of publishing."""
    lines = [["publish to the log", "by", "clients", "messages a second",
              "÷ INSERT", "must reach", *COSTS]]
    for row in rows:
        lines += figures(row, PUBLISH_TITLES, "publish", "insert",
                         PUBLISH_MUST, lambda title, row=row: [
                             title, str(row["size"]), str(row["clients"])])
    return ("INSERT goes to a table with the columns and the key of a topic"
            " and with an identity. Nothing is bound, and nobody reads."
            " PgQ has a consumer that reads meanwhile, whose work is part of"
            " its CPU; what counts here is what was sent.\n\n" + table(lines))


def read_section(rows: list[dict[str, Any]], first: dict[str, Any]) -> str:
    """Return what the page says of reading."""
    lines = [["read by {:,}".format(READ_BATCH), "clients",
              "messages a second", "÷ SELECT", "must reach", *COSTS]]
    for row in rows:
        lines += figures(row, READ_TITLES, "dequeue", "select", READ_MUST,
                         lambda title, row=row: [title, str(row["clients"])])
    firsts = [["a new session reads from the beginning", "first read",
               "must reach"]]
    for how, title in (("running", "while the server runs"),
                       ("stop", "after a restart, one publisher prepared"),
                       ("crash", "after a crash, one publisher prepared")):
        if how in first["seconds"]:
            seconds = first["seconds"][how]
            firsts.append(["**%s**" % title,
                           "FAILED" if first["trouble"] else
                           marked("%.3f s" % seconds, seconds <= FIRST_MUST),
                           "≤ %g s" % FIRST_MUST])
    return ("A log of {:,} messages in {} partitions is read from its"
            " beginning. A call of a subscription is a transaction, which"
            " writes a position and is flushed. `SELECT` knows where it"
            " stands, writes nothing, and reads the same table at a random"
            " place, as queue.read does here. In all of them the payload is"
            " read and counted in the server: `SELECT count(payload) FROM"
            " (SELECT payload FROM t WHERE partition = p AND id > $1 ORDER BY"
            " id LIMIT {}) x`.\n\n".format(first["messages"], PARTITIONS,
                                           READ_BATCH)
            + table(lines) + "\n" + table(firsts))
