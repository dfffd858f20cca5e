-- ---------------------------------------------------------------------------
-- Tables
-- ---------------------------------------------------------------------------

-- One row for each queue.  The library writes it with catalog functions; the
-- constraints are for those who write it directly.
CREATE TABLE queue.queue (
    queue regclass NOT NULL,
    lease interval NOT NULL,
    max_attempts int NOT NULL,
    retry_delay interval NOT NULL,
    retry_max_delay interval NOT NULL,
    dead_letter regclass,
    own_dead_letter boolean NOT NULL,
    enqueue_paused boolean NOT NULL DEFAULT false,
    dequeue_paused boolean NOT NULL DEFAULT false,
    max_lease interval NOT NULL DEFAULT '1 day',
    expires_in interval,
    on_expiry text NOT NULL DEFAULT 'dead_letter',
    group_mode text NOT NULL DEFAULT 'ordered',
    group_failure text NOT NULL DEFAULT 'dead_letter',
    dedup_window interval,
    max_messages bigint,
    max_bytes bigint,
    on_full text NOT NULL DEFAULT 'error',
    max_in_flight int,
    key_table regclass,
    CONSTRAINT queue_pkey PRIMARY KEY (queue),
    CONSTRAINT queue_lease_check
        CHECK (lease > interval '0' AND lease <= max_lease
               AND max_lease <= interval '100 years'),
    CONSTRAINT queue_max_attempts_check
        CHECK (max_attempts BETWEEN 0 AND 32767),
    CONSTRAINT queue_retry_delay_check
        CHECK (retry_delay >= interval '0' AND retry_delay <= interval '100 years'
               AND retry_max_delay >= interval '0'
               AND retry_max_delay <= interval '100 years'),
    CONSTRAINT queue_dead_letter_check
        CHECK (dead_letter OPERATOR(pg_catalog.<>) queue),
    CONSTRAINT queue_expires_in_check
        CHECK (expires_in > interval '0' AND expires_in <= interval '100 years'),
    CONSTRAINT queue_on_expiry_check
        CHECK (on_expiry IN ('dead_letter', 'discard')),
    CONSTRAINT queue_group_mode_check
        CHECK (group_mode IN ('ordered', 'fair', 'none')),
    CONSTRAINT queue_group_failure_check
        CHECK (group_failure IN ('dead_letter', 'hold')),
    CONSTRAINT queue_dedup_window_check
        CHECK (dedup_window >= interval '0'
               AND (NOT pg_catalog.isfinite(dedup_window) OR dedup_window <= interval '100 years')),
    CONSTRAINT queue_limits_check
        CHECK (max_messages > 0 AND max_bytes > 0 AND max_in_flight > 0),
    CONSTRAINT queue_on_full_check
        CHECK (on_full IN ('error', 'wait'))
);

COMMENT ON TABLE queue.queue IS
'settings of queues; use queue.create_queue() and queue.alter_queue() to change them';
COMMENT ON COLUMN queue.queue.own_dead_letter IS
'the dead-letter queue was created together with the queue';
COMMENT ON COLUMN queue.queue.max_lease IS
'no lease of its messages lasts longer, from the take or from the last extend on';

COMMENT ON COLUMN queue.queue.expires_in IS
'how long after it is due a message that says nothing of it is delivered; null: for ever';
COMMENT ON COLUMN queue.queue.on_expiry IS
'what becomes of an expired message: dead_letter, discard';
COMMENT ON COLUMN queue.queue.group_mode IS
'what the group key of a message means: ordered, fair, none';
COMMENT ON COLUMN queue.queue.group_failure IS
'what an exhausted message means for its group: dead_letter, hold';
COMMENT ON COLUMN queue.queue.dedup_window IS
'how long after its enqueue a message keeps others with its key away; null: not at all';
COMMENT ON COLUMN queue.queue.max_messages IS
'how many messages the queue takes; null: no limit';
COMMENT ON COLUMN queue.queue.max_bytes IS
'how many bytes of messages the queue takes; null: no limit';
COMMENT ON COLUMN queue.queue.on_full IS
'what a sender meets at these limits: error, wait';
COMMENT ON COLUMN queue.queue.max_in_flight IS
'how many of its messages are held at a time; null: no limit';

COMMENT ON COLUMN queue.queue.key_table IS
'where the keys of its messages are, if it has a dedup_window';

CREATE INDEX queue_dead_letter_idx ON queue.queue (dead_letter);
CREATE INDEX queue_key_table_idx ON queue.queue (key_table);

