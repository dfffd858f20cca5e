
-- ---------------------------------------------------------------------------
-- Subscriptions: readers of topics that keep their place
-- ---------------------------------------------------------------------------

-- One row for each subscription, as queue.queue has one for each queue.
CREATE TABLE queue.subscription (
    subscription regclass NOT NULL,
    topic regclass NOT NULL,
    pattern text NOT NULL,
    selector jsonpath,
    on_failure text NOT NULL,
    on_gap text NOT NULL,
    idle_after interval,
    lease interval NOT NULL,
    max_attempts int NOT NULL,
    retry_delay interval NOT NULL,
    retry_max_delay interval NOT NULL,
    dead_letter regclass,
    own_dead_letter boolean NOT NULL DEFAULT false,
    paused boolean NOT NULL DEFAULT false,
    CONSTRAINT subscription_pkey PRIMARY KEY (subscription),
    CONSTRAINT subscription_on_failure_check
        CHECK (on_failure IN ('dead_letter', 'hold')),
    CONSTRAINT subscription_on_gap_check
        CHECK (on_gap IN ('error', 'skip')),
    CONSTRAINT subscription_idle_after_check
        CHECK (idle_after > interval '0' AND idle_after <= interval '100 years'),
    CONSTRAINT subscription_lease_check
        CHECK (lease > interval '0' AND lease <= interval '1 day'),
    CONSTRAINT subscription_max_attempts_check
        CHECK (max_attempts BETWEEN 0 AND 32767),
    CONSTRAINT subscription_retry_delay_check
        CHECK (retry_delay BETWEEN interval '0' AND interval '100 years'),
    CONSTRAINT subscription_retry_max_delay_check
        CHECK (retry_max_delay BETWEEN interval '0' AND interval '100 years')
);

COMMENT ON TABLE queue.subscription IS
'settings of subscriptions; use queue.subscribe() and queue.alter_subscription() to change them';
COMMENT ON COLUMN queue.subscription.pattern IS
'which routing keys it wants: words between dots, * for one, # for any number';
COMMENT ON COLUMN queue.subscription.selector IS
'which of these messages it wants; null: all';
COMMENT ON COLUMN queue.subscription.on_failure IS
'what becomes of a message that failed max_attempts times: dead_letter, hold';
COMMENT ON COLUMN queue.subscription.on_gap IS
'what a reader meets whose next messages were removed by retention: error, skip';
COMMENT ON COLUMN queue.subscription.idle_after IS
'how long the topic keeps messages for it when nobody takes any; null: for ever';
COMMENT ON COLUMN queue.subscription.own_dead_letter IS
'the dead-letter queue was made with it, and is dropped with it if it is empty';

CREATE INDEX subscription_topic_idx ON queue.subscription (topic);
CREATE INDEX subscription_dead_letter_idx ON queue.subscription (dead_letter);

SELECT pg_catalog.pg_extension_config_dump('queue.subscription', '');

CREATE TRIGGER queue_invalidate_definition
    AFTER INSERT OR UPDATE OR DELETE ON queue.subscription
    FOR EACH ROW EXECUTE FUNCTION queue.invalidate_definition();

CREATE TRIGGER queue_refuse_others
    BEFORE INSERT OR UPDATE OR DELETE ON queue.subscription
    FOR EACH STATEMENT EXECUTE FUNCTION queue.invalidate_definition();

ALTER TABLE queue.subscription ENABLE ALWAYS TRIGGER queue_invalidate_definition;
ALTER TABLE queue.subscription ENABLE ALWAYS TRIGGER queue_refuse_others;

-- Where a COPY of a dump goes instead, as queue.restored_settings.
CREATE TABLE queue.restored_subscriptions (LIKE queue.subscription INCLUDING DEFAULTS);

ALTER TABLE queue.restored_subscriptions
    ALTER COLUMN subscription TYPE text,
    ALTER COLUMN topic TYPE text,
    ALTER COLUMN dead_letter TYPE text,
    REPLICA IDENTITY NOTHING;

COMMENT ON TABLE queue.restored_subscriptions IS
'internal: the way by which COPY writes queue.subscription; always empty';

CREATE FUNCTION queue.restore_subscriptions()
RETURNS trigger
AS 'MODULE_PATHNAME', 'queue_restore_subscriptions'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.restore_subscriptions() IS
'internal: writes settings to queue.subscription, if the current user owns the subscription';

CREATE TRIGGER queue_restore_subscriptions
    BEFORE INSERT ON queue.restored_subscriptions
    FOR EACH ROW EXECUTE FUNCTION queue.restore_subscriptions();

ALTER TABLE queue.restored_subscriptions
    ENABLE ALWAYS TRIGGER queue_restore_subscriptions;

CREATE FUNCTION queue.before_subscription_insert()
RETURNS trigger
AS 'MODULE_PATHNAME', 'queue_before_subscription_insert'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.before_subscription_insert() IS
'internal: lets only the owner of a subscription put positions into its table';

CREATE FUNCTION queue.before_subscription_change()
RETURNS trigger
AS 'MODULE_PATHNAME', 'queue_before_subscription_change'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.before_subscription_change() IS
'internal: refuses plain UPDATE and DELETE of the positions of a subscription';

CREATE FUNCTION queue.subscribe(
    topic regclass,
    name text,
    start text DEFAULT 'end',
    start_id bigint DEFAULT NULL,
    start_at timestamptz DEFAULT NULL,
    pattern text DEFAULT '#',
    selector jsonpath DEFAULT NULL,
    on_failure text DEFAULT 'dead_letter',
    on_gap text DEFAULT 'error',
    idle_after interval DEFAULT NULL,
    lease interval DEFAULT '30 s',
    max_attempts int DEFAULT 10,
    retry_delay interval DEFAULT '1 s',
    retry_max_delay interval DEFAULT '5 min',
    dead_letter regclass DEFAULT NULL)
RETURNS regclass
AS 'MODULE_PATHNAME', 'queue_subscribe'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.subscribe(regclass, text, text, bigint, timestamptz, text, jsonpath, text, text, interval, interval, int, interval, interval, regclass) IS
'creates a subscription to a topic, or adopts a subscription table that lost its settings';

CREATE FUNCTION queue.alter_subscription(
    subscription regclass,
    pattern text DEFAULT NULL,
    selector jsonpath DEFAULT NULL,
    on_failure text DEFAULT NULL,
    on_gap text DEFAULT NULL,
    idle_after interval DEFAULT NULL,
    lease interval DEFAULT NULL,
    max_attempts int DEFAULT NULL,
    retry_delay interval DEFAULT NULL,
    retry_max_delay interval DEFAULT NULL,
    dead_letter regclass DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME', 'queue_alter_subscription'
LANGUAGE C VOLATILE PARALLEL UNSAFE;

COMMENT ON FUNCTION queue.alter_subscription(regclass, text, jsonpath, text, text, interval, interval, int, interval, interval, regclass) IS
'changes settings of a subscription; null leaves a setting as it is';

-- pg_dump reads the table with the privileges of who calls it
GRANT SELECT ON queue.subscription TO PUBLIC;
GRANT INSERT ON queue.restored_subscriptions TO PUBLIC;
REVOKE ALL ON FUNCTION queue.restore_subscriptions() FROM PUBLIC;

COMMENT ON COLUMN queue.lease_log.group_hash IS
'by which memory knows the group of the message; NULL: it has none that keeps an order; of a partition that a subscription holds: the last message of the batch';
