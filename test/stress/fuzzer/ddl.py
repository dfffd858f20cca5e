"""What is done to tables: rows without the functions, DDL, maintenance."""

from fuzzer.catalog import Catalog
from fuzzer.values import Values, quote

COLUMNS = ("id", "payload", "headers", "failures", "enqueued_at", "priority",
           "visible_at", "failure_log", "correlation_id", "xmin", "none")

ALTERATIONS = (
    "RENAME TO {name}", "SET SCHEMA other", "SET SCHEMA fuzz",
    "RENAME COLUMN payload TO p", "RENAME COLUMN p TO payload",
    "ADD COLUMN extra int", "ADD COLUMN extra text DEFAULT 'x'",
    "ADD COLUMN extra int GENERATED ALWAYS AS (1) STORED",
    "DROP COLUMN extra", "DROP COLUMN payload", "DROP COLUMN {column}",
    "ALTER payload TYPE text", "ALTER payload TYPE jsonb USING payload::jsonb",
    "ALTER id TYPE int", "ALTER payload DROP NOT NULL",
    "ALTER payload SET NOT NULL", "ALTER {column} SET DEFAULT NULL",
    "ALTER {column} DROP DEFAULT", "ALTER payload SET STORAGE EXTERNAL",
    "ALTER payload SET COMPRESSION pglz", "ALTER {column} SET STATISTICS 0",
    "ADD CONSTRAINT c CHECK (id > 5) NOT VALID", "VALIDATE CONSTRAINT c",
    "ADD CONSTRAINT c CHECK (false) NO INHERIT", "DROP CONSTRAINT c",
    "ADD CONSTRAINT f FOREIGN KEY (id) REFERENCES fuzz.plain DEFERRABLE",
    "ADD UNIQUE (payload)", "DROP CONSTRAINT q0_pkey",
    "ADD EXCLUDE USING btree (id WITH =)",
    "DISABLE TRIGGER ALL", "ENABLE TRIGGER ALL", "DISABLE TRIGGER USER",
    "ENABLE ALWAYS TRIGGER queue_before_insert",
    "DISABLE RULE r", "SET (fillfactor = 50)", "RESET (fillfactor)",
    "SET (autovacuum_enabled = false)", "SET UNLOGGED", "SET LOGGED",
    "SET TABLESPACE pg_default", "SET WITHOUT CLUSTER",
    "CLUSTER ON q0_pkey", "OWNER TO fuzz_owner", "OWNER TO fuzz_sender",
    "INHERIT fuzz.plain", "NO INHERIT fuzz.plain", "OF fuzz.row", "NOT OF",
    "REPLICA IDENTITY FULL", "REPLICA IDENTITY NOTHING",
    "ENABLE ROW LEVEL SECURITY", "DISABLE ROW LEVEL SECURITY",
    "FORCE ROW LEVEL SECURITY")

CHANGES = (
    "DROP TABLE {queue}", "DROP TABLE IF EXISTS {queue} CASCADE",
    "CREATE TABLE {queue} (LIKE {other} INCLUDING ALL)",
    "CREATE TABLE {queue} AS SELECT * FROM {other}",
    "CREATE TABLE {queue} (id int)",
    "CREATE TABLE fuzz.child () INHERITS ({queue})",
    "DROP TABLE IF EXISTS fuzz.child",
    "ALTER TABLE fuzz.part ATTACH PARTITION {queue} DEFAULT",
    "ALTER TABLE fuzz.part DETACH PARTITION {queue}",
    "CREATE INDEX ON {queue} ((payload -> 'a'))",
    "CREATE INDEX CONCURRENTLY i ON {queue} (enqueued_at)",
    "DROP INDEX IF EXISTS fuzz.i", "DROP INDEX fuzz.q0_pkey",
    "CREATE UNIQUE INDEX ON {queue} (payload)",
    "CREATE TRIGGER t BEFORE INSERT OR UPDATE OR DELETE ON {queue}"
    " FOR EACH ROW EXECUTE FUNCTION fuzz.refuse()",
    "CREATE TRIGGER t AFTER INSERT ON {queue}"
    " FOR EACH STATEMENT EXECUTE FUNCTION fuzz.send()",
    "CREATE TRIGGER a BEFORE INSERT ON {queue}"
    " FOR EACH ROW EXECUTE FUNCTION queue.before_insert()",
    "DROP TRIGGER IF EXISTS t ON {queue}", "DROP TRIGGER a ON {queue}",
    "DROP TRIGGER queue_before_insert ON {queue}",
    "ALTER TRIGGER t ON {queue} RENAME TO u",
    "CREATE RULE r AS ON INSERT TO {queue} DO ALSO NOTIFY n",
    "CREATE RULE r AS ON DELETE TO {queue} DO INSTEAD NOTHING",
    "DROP RULE IF EXISTS r ON {queue}",
    "CREATE POLICY p ON {queue} USING (id > 3)",
    "DROP POLICY IF EXISTS p ON {queue}",
    "CREATE STATISTICS fuzz.s ON id, priority FROM {queue}",
    "CREATE OR REPLACE VIEW fuzz.view AS SELECT * FROM {queue}",
    "CREATE MATERIALIZED VIEW fuzz.mat AS SELECT * FROM {queue}",
    "DROP MATERIALIZED VIEW IF EXISTS fuzz.mat",
    "GRANT SELECT, INSERT, DELETE, UPDATE ON {queue} TO fuzz_consumer",
    "GRANT INSERT ON {queue} TO fuzz_sender",
    "GRANT USAGE ON SCHEMA fuzz TO PUBLIC", "REVOKE ALL ON {queue} FROM PUBLIC",
    "REVOKE ALL ON {queue} FROM fuzz_owner, fuzz_sender, fuzz_consumer",
    "COMMENT ON TABLE {queue} IS 'x'",
    "ALTER SEQUENCE fuzz.q0_id_seq RESTART",
    "ALTER SEQUENCE fuzz.q0_id_seq INCREMENT -1 MAXVALUE 10 START 10 CYCLE",
    "ALTER SEQUENCE fuzz.q1_id_seq OWNED BY NONE",
    "DROP SEQUENCE IF EXISTS fuzz.q0_id_seq CASCADE",
    "SELECT setval('fuzz.q0_id_seq', {number})",
    "SELECT nextval('fuzz.q0_id_seq')",
    "CREATE PUBLICATION p FOR ALL TABLES", "DROP PUBLICATION IF EXISTS p",
    "CREATE TEMP TABLE q0 (LIKE {queue} INCLUDING ALL)",
    "DROP TABLE IF EXISTS pg_temp.q0",
    "DROP OWNED BY fuzz_sender", "REASSIGN OWNED BY fuzz_sender TO fuzz_owner",
    "ALTER INDEX fuzz.q0_pkey RENAME TO q0_key",
    "ALTER INDEX fuzz.q0_key RENAME TO q0_pkey",
    "SELECT queue.drop_queue({literal})",
    "SELECT queue.alter_queue({literal}, dead_letter => {literal2})",
    "SELECT queue.alter_queue({literal}, lease => '2 ms', max_attempts => 1)")

MAINTENANCE = (
    "VACUUM {queue}", "VACUUM (FULL, ANALYZE) {queue}", "VACUUM FREEZE {queue}",
    "ANALYZE {queue}", "REINDEX TABLE {queue}",
    "REINDEX TABLE CONCURRENTLY {queue}", "CLUSTER {queue}",
    "CLUSTER {queue} USING q0_pkey", "VACUUM queue.queue",
    "VACUUM queue.lease_log", "REINDEX TABLE queue.queue", "CHECKPOINT",
    "LOCK TABLE {queue} IN {mode} MODE", "LOCK TABLE {queue} IN {mode} MODE",
    "LOCK TABLE queue.queue IN {mode} MODE",
    "LOCK TABLE queue.lease_log IN {mode} MODE NOWAIT",
    "TRUNCATE {queue}", "TRUNCATE {queue} RESTART IDENTITY CASCADE",
    "TRUNCATE {queue}, {other}", "SELECT pg_stat_reset()")

MODES = ("ACCESS SHARE", "ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE", "SHARE",
         "EXCLUSIVE", "ACCESS EXCLUSIVE")

ROWS = (
    "INSERT INTO {queue} (payload) VALUES ({json})",
    "INSERT INTO {queue} (payload) SELECT {json} FROM generate_series(1, {few})",
    "INSERT INTO {queue} (payload) VALUES ({json}) RETURNING *",
    "INSERT INTO {queue} (id, payload) VALUES ({number}, {json})",
    "INSERT INTO {queue} (id, payload) OVERRIDING SYSTEM VALUE"
    " VALUES ({number}, {json})",
    "INSERT INTO {queue} (id, payload) VALUES ({few}, {json})"
    " ON CONFLICT DO NOTHING",
    "INSERT INTO {queue} (id, payload) VALUES ({few}, {json})"
    " ON CONFLICT (id) DO UPDATE SET payload = {json}",
    "INSERT INTO {queue} ({column}) VALUES (NULL)",
    "INSERT INTO {queue} SELECT * FROM {other}",
    "INSERT INTO {queue} DEFAULT VALUES",
    "UPDATE {queue} SET payload = {json}",
    "UPDATE {queue} SET {column} = NULL WHERE id % 2 = 0",
    "UPDATE {queue} SET id = id + {number}",
    "UPDATE {queue} SET failures = {few}",
    "UPDATE {queue} SET {column} = {column}",
    "DELETE FROM {queue}", "DELETE FROM {queue} WHERE id % {few} = 0",
    "DELETE FROM {queue} USING {other} o WHERE o.id = {queue}.id",
    "MERGE INTO {queue} q USING fuzz.plain p ON q.id = p.id"
    " WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN"
    " INSERT (payload) VALUES ('1')",
    "SELECT * FROM {queue} FOR UPDATE SKIP LOCKED LIMIT {few}",
    "SELECT * FROM {queue} FOR KEY SHARE NOWAIT",
    "SELECT ctid, xmin, * FROM {queue} TABLESAMPLE BERNOULLI (50)",
    "WITH d AS (DELETE FROM {queue} RETURNING *)"
    " INSERT INTO {other} SELECT * FROM d")

RUIN = (
    "DROP EXTENSION queue", "DROP EXTENSION IF EXISTS queue CASCADE",
    "DROP EXTENSION IF EXISTS queue CASCADE; CREATE EXTENSION queue",
    "ALTER EXTENSION queue UPDATE", "ALTER EXTENSION queue UPDATE TO '0'",
    "ALTER EXTENSION queue SET SCHEMA fuzz",
    "ALTER SCHEMA queue RENAME TO queue_2", "ALTER SCHEMA queue_2 RENAME TO"
    " queue", "DROP SCHEMA queue CASCADE",
    "DELETE FROM queue.queue", "TRUNCATE queue.queue",
    "UPDATE queue.queue SET max_attempts = {few}",
    "UPDATE queue.queue SET dead_letter = queue",
    "UPDATE queue.queue SET queue = {literal}::text::regclass",
    "DELETE FROM queue.lease_log", "TRUNCATE queue.lease_log",
    "INSERT INTO queue.lease_log SELECT {number}, @oid:1@, {few}, now(),"
    " {number}, {number}, now(), {few}",
    "ALTER TABLE queue.{relation} RENAME TO r",
    "ALTER TABLE queue.r RENAME TO {relation}",
    "ALTER TABLE queue.{relation} ADD COLUMN extra int",
    "ALTER TABLE queue.{relation} DISABLE TRIGGER ALL",
    "ALTER TABLE queue.{relation} OWNER TO fuzz_owner",
    "ALTER TABLE queue.{relation} SET UNLOGGED",
    "ALTER EXTENSION queue DROP TABLE queue.{relation}",
    "ALTER EXTENSION queue ADD TABLE queue.{relation}",
    "DROP TABLE queue.{relation} CASCADE", "DROP VIEW queue.{relation} CASCADE",
    "ALTER EXTENSION queue DROP ROUTINE {routine}",
    "ALTER ROUTINE {routine} OWNER TO fuzz_owner",
    "DROP ROUTINE {routine} CASCADE", "ALTER ROUTINE {routine} STABLE",
    "ALTER ROUTINE {routine} SECURITY DEFINER",
    "ALTER ROUTINE {routine} SET search_path = fuzz",
    "DROP SCHEMA fuzz CASCADE; CREATE SCHEMA fuzz",
    "REINDEX DATABASE", "VACUUM FULL queue.queue", "CLUSTER queue.queue USING"
    " queue_pkey",
    "COPY queue.queue (queue, lease, max_attempts, retry_delay,"
    " retry_max_delay, own_dead_letter) FROM PROGRAM"
    " $$printf 'fuzz.q0\\t1 s\\t1\\t1 s\\t1 s\\tf\\n.\\t1 s\\t1\\t1 s\\t1 s\\tf\\n'$$")


def fill(values: Values, template: str, **more: str) -> str:
    """Put names and values into a template."""
    for key, make in {
            "queue": values.queue, "other": values.queue,
            "literal": lambda: quote(values.queue()),
            "literal2": lambda: quote(values.queue()),
            "name": lambda: "q%d" % values.number(5),
            "column": lambda: values.rng.choice(COLUMNS),
            "mode": lambda: values.rng.choice(MODES),
            "json": values.make_jsonb,
            "few": lambda: str(values.number(4) + 1),
            "number": values.make_bigint}.items():
        if "{%s}" % key in template:
            template = template.replace("{%s}" % key, make())
    for key, value in more.items():
        template = template.replace("{%s}" % key, value)
    return template


def rows(values: Values) -> tuple[str, str, str | None]:
    """Rows of a queue, read and written without the functions."""
    if values.chance(0.03):
        return ("COPY %s (payload) FROM STDIN" % values.queue(), "COPY",
                values.rng.choice(("1\n", "{}\n[]\n", "\\N\n", "{\n", "")))
    if values.chance(0.03):
        return ("COPY queue.queue (queue, lease, max_attempts, retry_delay,"
                " retry_max_delay, dead_letter, own_dead_letter) FROM STDIN",
                "COPY", "\n".join(
                    "\t".join((values.queue() if values.chance(0.7)
                               else values.text().replace("\\", "\\\\")
                               .replace("\t", " ").replace("\n", " "),
                               values.rng.choice(("1 s", "-1 s", "x")),
                               str(values.number(5)), "1 s", "2 s",
                               values.rng.choice(("\\N", values.queue())),
                               values.rng.choice("tf")))
                    for _ in range(values.number(4))) + "\n")
    return fill(values, values.rng.choice(ROWS)), "rows", None


def change(values: Values) -> str:
    """DDL on a queue, most of it refused."""
    if values.chance(0.4):
        return "ALTER TABLE %s %s" % (
            values.queue(), fill(values, values.rng.choice(ALTERATIONS)))
    return fill(values, values.rng.choice(CHANGES))


def maintain(values: Values) -> str:
    """VACUUM and the like."""
    return fill(values, values.rng.choice(MAINTENANCE))


def ruin(values: Values, catalog: Catalog) -> list[str]:
    """Statements that no extension survives, and one that brings it back."""
    made = []
    if values.chance(0.5):
        made.append(fill(
            values, values.rng.choice(RUIN),
            relation=values.rng.choice(catalog.relations).name,
            routine=values.rng.choice(catalog.routines).signature))
    if values.chance(0.3):
        made += ["DROP EXTENSION IF EXISTS queue CASCADE",
                 "DROP SCHEMA IF EXISTS queue CASCADE",
                 "CREATE EXTENSION queue"]
    return made
