"""Random statements, one after the other, as a session will send them.

They follow from the seed and the catalog alone: nothing here knows what came
of the last one.  So a block may have failed, or a queue may not exist, when
the next statement comes; that is as it should be.  ddl.py has what changes
tables.
"""

import itertools
import random
from typing import Iterator, NamedTuple

from fuzzer import ddl
from fuzzer.catalog import Catalog, Relation, Routine
from fuzzer.values import Values, quote

# What SET gives a setting.  Those of the extension come out of the catalog.
SETTINGS = {
    "work_mem": ("64kB", "4MB"),
    "search_path": ("fuzz", "fuzz, public", "other, fuzz, pg_catalog", '""'),
    "session_replication_role": ("replica", "origin", "local"),
    "row_security": ("on", "off"),
    "plan_cache_mode": ("force_generic_plan", "force_custom_plan", "auto"),
    "enable_indexscan": ("on", "off"),
    "enable_seqscan": ("on", "off"),
    "enable_bitmapscan": ("on", "off"),
    "synchronous_commit": ("on", "off"),
    "default_transaction_isolation": ("serializable", "repeatable read",
                                      "read committed"),
    "default_transaction_read_only": ("off", "off", "on"),
    "check_function_bodies": ("on", "off"),
    "timezone": ("UTC", "Asia/Kathmandu"),
    "intervalstyle": ("iso_8601", "sql_standard", "postgres"),
    "datestyle": ("SQL, DMY", "ISO, MDY"),
    "temp_file_limit": ("0", "-1"),
    "lock_timeout": ("1ms", "20ms", "100ms"),
    "statement_timeout": ("1ms", "5ms", "50ms", "500ms"),
    "idle_in_transaction_session_timeout": ("0", "0", "30ms"),
}
ENDS_SESSION = "idle_in_transaction_session_timeout"
EXTENSION_SETTINGS = ("queue.max_wait", "queue.max_queues", "queue.none",
                      "queue.lease_write_delay")

ENDS = {"COMMIT": 45, "ROLLBACK": 20, "PREPARE": 25, "COMMIT AND CHAIN": 5,
        "ROLLBACK AND CHAIN": 3, "DISCONNECT": 2}

# A session does not hold what others want for longer than that.
LONGEST_BLOCK = 8

# What a session does when it has lost its connection on purpose.
DISCONNECT = "DISCONNECT"


class Statement(NamedTuple):
    """What is sent; kind is the name of a routine, or tells what it does."""

    sql: str
    kind: str
    # What COPY reads.
    data: str | None = None


class Script:
    """The statements of one session.

    In a session that may ruin things they change what belongs to the
    extension, too, drop it and create it.  One that stays keeps its connection
    for all its life, and nobody ends it.
    """

    def __init__(self, seed: int, session: int, catalog: Catalog,
                 may_ruin: bool, stays: bool, others: int):
        self.rng = random.Random("%d/%d" % (seed, session))
        self.values = Values(self.rng)
        self.session = session
        self.others = max(1, others)
        self.catalog = catalog
        self.may_ruin = may_ruin
        self.stays = stays
        # Statements to the end of the block; None if there is none.
        self.left: int | None = None
        self.savepoints = 0
        # Prepared here: the name, and statements until it is finished.
        self.prepared: dict[str, int] = {}
        self.routines = catalog.routines
        # In turn, each session from another one on: by chance, a short run would
        # leave one out now and then.
        self.relations = itertools.islice(itertools.cycle(catalog.relations),
                                          5 * session, None)
        self.cursors = 0

    def __iter__(self) -> Iterator[Statement]:
        while True:
            yield from self.step()

    def step(self) -> Iterator[Statement]:
        """One statement, or some that belong together."""
        yield from self.end_due()
        what = self.rng.choices(
            ("routine", "send", "relation", "rows", "ddl", "maintenance",
             "block", "setting", "cursor", "prepared", "signal", "ruin"),
            (560, 90, 40, 80, 60, 12, 100, 25, 12, 12, 5, 12))[0]
        if what == "routine":
            yield self.routine(self.rng.choice(self.routines))
        elif what == "send":
            yield self.common()
        elif what == "relation":
            yield self.relation(next(self.relations))
        elif what == "rows":
            yield Statement(*ddl.rows(self.values))
        elif what == "ddl":
            yield Statement(ddl.change(self.values), "DDL")
        elif what == "maintenance":
            yield Statement(ddl.maintain(self.values), "maintenance")
        elif what == "block":
            yield from self.block()
        elif what == "setting":
            yield self.setting()
        elif what == "cursor":
            yield from self.cursor()
        elif what == "prepared":
            yield from self.prepared_statement()
        elif what == "signal":
            yield self.signal()
        elif self.may_ruin:
            yield from self.ruin()

    # Calls

    def arguments(self, routine: Routine) -> str:
        """A list, of positions or of names, in which defaults may be left."""
        count = len(routine.types)
        least = count - routine.defaults
        names = (routine.arguments or [])[:count]
        if len(names) < count:
            names += [""] * (count - len(names))
        given = list(range(count))
        if routine.defaults and self.values.chance(0.7):
            given = [n for n in given
                     if n < least or self.values.chance(0.35)]
        by_name = given != list(range(len(given))) or self.values.chance(0.2)
        made = []
        for n in given:
            value = self.values.argument(routine.types[n], names[n])
            if by_name and names[n]:
                value = '"%s" => %s' % (names[n], value)
            made.append(value)
        return ", ".join(made)

    def call(self, routine: Routine) -> str:
        """The expression that calls it."""
        return 'queue."%s"(%s)' % (routine.name, self.arguments(routine))

    def routine(self, routine: Routine) -> Statement:
        """A call in one of many places."""
        call = self.call(routine)
        if routine.is_procedure:
            sql = "CALL " + call
            if self.values.chance(0.15):
                sql = self.protected(sql)
            return Statement(sql, routine.signature)
        forms = ["SELECT " + call, "SELECT " + call,
                 "SELECT * FROM %s f" % call, "SELECT * FROM %s f" % call,
                 "SELECT * FROM %s f" % call,
                 "SELECT f.* FROM generate_series(1, %d) g, LATERAL %s f"
                 % (self.values.number(4), call),
                 "WITH w AS MATERIALIZED (SELECT * FROM %s f) SELECT count(*)"
                 " FROM w" % call,
                 "SELECT * FROM fuzz.plain WHERE EXISTS (SELECT %s)" % call,
                 "INSERT INTO fuzz.plain SELECT 1 FROM %s f" % call,
                 "SELECT CASE WHEN random() < 2 THEN %s END" % call,
                 "SELECT * FROM %s f LIMIT %d" % (call,
                                                  self.values.number(2)),
                 self.protected("PERFORM " + call),
                 self.protected("PERFORM %s; PERFORM 1 / 0" % call),
                 "SELECT * FROM %s f; SELECT %s"
                 % (call, self.call(self.rng.choice(
                     [r for r in self.routines if not r.is_procedure])))]
        return Statement(self.rng.choice(forms), routine.signature)

    def protected(self, sql: str) -> str:
        """In a subtransaction, whose errors are caught but for internal ones.

        What cancels a statement is not caught by "others" anyway.
        """
        return ("DO $do$ BEGIN %s; EXCEPTION WHEN others THEN"
                " IF SQLSTATE ~ '^XX' THEN RAISE; END IF; END $do$" % sql)

    def common(self) -> Statement:
        """What is done most, with arguments that are mostly right."""
        queue = quote(self.values.queue())
        create = (
            "create_queue",
            "SELECT queue.create_queue(%s, lease => '%d ms',"
             " max_attempts => %d, retry_delay => '1 ms',"
             " if_not_exists => true, unlogged => %s)"
             % (queue, self.values.number(200) + 1, self.values.number(4),
                self.values.chance(0.1)))
        kind, sql = self.rng.choice((
            create, create, create,
            ("enqueue", "SELECT queue.enqueue(%s, '%d')"
             % (queue, self.values.number(1000))),
            ("enqueue_batch", "SELECT queue.enqueue_batch(%s, array_fill("
             "'{}'::jsonb, ARRAY[%d]))" % (queue, self.values.number(20) + 1)),
            ("receive", "SELECT * FROM queue.receive(%s, %d)"
             % (queue, self.values.number(5) + 1)),
            ("receive", "SELECT * FROM queue.receive(%s, %d, lease => '1 h')"
             % (queue, self.values.number(3) + 1)),
            ("dequeue", "SELECT * FROM queue.dequeue(%s, %d)"
             % (queue, self.values.number(10) + 1)),
            ("purge", "SELECT queue.purge(%s)" % queue),
            ("resume", "SELECT queue.resume(%s)" % queue)))
        return Statement(sql, kind)

    def relation(self, relation: Relation) -> Statement:
        """Look at a view or table of the extension."""
        name = "queue.%s" % relation.name
        column = self.rng.choice(relation.columns)
        return Statement(self.rng.choice((
            "SELECT * FROM " + name,
            "SELECT count(*) FROM " + name,
            'SELECT "%s" FROM %s' % (column[0], name),
            'SELECT * FROM %s WHERE "%s" = %s' % (
                name, column[0], self.values.argument(column[1], column[0])),
            "SELECT * FROM %s FOR UPDATE SKIP LOCKED" % name,
            "SELECT * FROM %s a JOIN %s b ON true LIMIT 9" % (name, name),
            self.write_to(relation))), name)

    def write_to(self, relation: Relation) -> str:
        """Write to one: refused, but to a superuser in the other database."""
        name = "queue.%s" % relation.name
        columns = [column for column in relation.columns
                   if self.values.chance(0.8)] or relation.columns[:1]
        values = [self.values.argument(kind, column)
                  for column, kind in columns]
        sql = self.rng.choice((
            "INSERT INTO %s (%s) VALUES (%s)" % (
                name, ", ".join('"%s"' % column for column, _ in columns),
                ", ".join(values)),
            'UPDATE %s SET "%s" = %s' % (name, columns[0][0], values[0]),
            "DELETE FROM " + name,
            "TRUNCATE " + name))
        if not self.may_ruin:
            return "SET LOCAL ROLE %s; %s" % (self.values.role(), sql)
        return sql

    # Blocks

    def end_due(self) -> Iterator[Statement]:
        """End a block in time, and what was prepared."""
        if self.left is not None:
            self.left -= 1
            if self.left <= 0:
                yield from self.end_block()
            return
        for gid in list(self.prepared):
            self.prepared[gid] -= 1
            if self.prepared[gid] <= 0:
                del self.prepared[gid]
                yield Statement("%s PREPARED %s" % (
                    self.rng.choice(("COMMIT", "ROLLBACK")), quote(gid)),
                    "finish prepared")

    def block(self) -> Iterator[Statement]:
        """Begin a block, or a subtransaction of it."""
        if self.left is None:
            self.left = self.values.number(LONGEST_BLOCK) + 1
            self.savepoints = 0
            yield Statement("BEGIN" + self.rng.choice((
                "", "", "", " ISOLATION LEVEL REPEATABLE READ",
                " ISOLATION LEVEL SERIALIZABLE", " READ ONLY",
                " ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE")),
                "block")
            return
        what = self.rng.choice(("SAVEPOINT", "SAVEPOINT", "ROLLBACK TO",
                                "RELEASE"))
        yield Statement("%s s%d" % (what, self.values.number(3)), "savepoint")

    def end_block(self) -> Iterator[Statement]:
        """In one of the ways in which a block ends."""
        self.left = None
        end = self.rng.choices(list(ENDS), list(ENDS.values()))[0]
        if end == "PREPARE":
            gid = self.rng.choice(("fuzz:%d:%d" % (self.session,
                                                   self.values.number(2)),
                                   "queue:hub:near:%d" % self.session))
            self.prepared[gid] = self.values.number(6) + 1
            yield Statement("PREPARE TRANSACTION " + quote(gid), "prepare")
            return
        if end.endswith("CHAIN"):
            self.left = self.values.number(3) + 1
        if end == DISCONNECT and self.stays:
            end = "ROLLBACK"
        yield Statement(end, "block" if end != DISCONNECT else end)

    # Sessions

    def setting(self) -> Statement:
        """Another setting, or another role."""
        if self.values.chance(0.4):
            return Statement("SET ROLE " + self.values.role()
                             if self.values.chance(0.4) else "RESET ROLE",
                             "role")
        if self.values.chance(0.2):
            return Statement(self.rng.choice(("RESET ALL", "DISCARD PLANS",
                                              "DISCARD ALL", "DISCARD TEMP",
                                              "DEALLOCATE ALL", "UNLISTEN *")),
                             "setting")
        if self.values.chance(0.1):
            return Statement("SET %s = '%d'" % (
                self.rng.choice(EXTENSION_SETTINGS),
                self.rng.choice((-1, 0, 1, 10, 2 ** 31))), "setting")
        name = self.rng.choice([name for name in SETTINGS if not self.stays
                                or name != ENDS_SESSION])
        return Statement("SET %s%s = %s" % (
            "LOCAL " if self.values.chance(0.5) else "", name,
            self.rng.choice(SETTINGS[name])
            if name in ("search_path", "datestyle")
            else quote(self.rng.choice(SETTINGS[name]))), "setting")

    def cursor(self) -> Iterator[Statement]:
        """Some rows of a call through a cursor, which stays open."""
        routine = self.rng.choice([r for r in self.routines if r.is_set])
        self.cursors += 1
        name = "c%d" % (self.cursors % 4)
        yield Statement("DECLARE %s %sCURSOR %s FOR SELECT * FROM %s f" % (
            name, self.rng.choice(("", "SCROLL ", "NO SCROLL ")),
            self.rng.choice(("", "WITH HOLD")), self.call(routine)),
            routine.signature)
        for _ in range(self.values.number(3)):
            yield Statement("%s %s" % (self.rng.choice((
                "FETCH 1", "FETCH ALL", "MOVE 1", "FETCH BACKWARD 1",
                "CLOSE")), name), "cursor")

    def prepared_statement(self) -> Iterator[Statement]:
        """A plan that is used more than once, whatever happens meanwhile."""
        routine = self.rng.choice([r for r in self.routines
                                   if not r.is_procedure])
        name = "p%d" % self.values.number(4)
        yield Statement("PREPARE %s AS SELECT * FROM %s f" % (
            name, self.call(routine)), "PREPARE")
        for _ in range(self.values.number(4)):
            yield Statement("EXECUTE " + name, routine.signature)
        yield Statement("DEALLOCATE " + name, "PREPARE")

    def signal(self) -> Statement:
        """Cancel what another session does, or end it or a process of ours.

        Session 0 of each database is the one that stays.
        """
        sessions = "application_name = 'fuzz %d'" % (
            self.values.number(self.others) + 1)
        processes = "backend_type LIKE 'queue%'"
        function, who = self.rng.choice((
            ("cancel", sessions), ("cancel", sessions), ("cancel", sessions),
            ("cancel", processes), ("terminate", sessions),
            ("terminate", processes)))
        return Statement("SELECT pg_%s_backend(pid) FROM pg_stat_activity"
                         " WHERE %s AND datname = current_database()"
                         " AND pid <> pg_backend_pid()" % (function, who),
                         "signal")

    def ruin(self) -> Iterator[Statement]:
        """What only a superuser does, and no good one."""
        for sql in ddl.ruin(self.values, self.catalog):
            yield Statement(sql, "ruin")
