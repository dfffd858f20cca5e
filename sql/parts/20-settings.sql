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
        CHECK (dead_letter OPERATOR(pg_catalog.<>) queue)
);

COMMENT ON TABLE queue.queue IS
'settings of queues; use queue.create_queue() and queue.alter_queue() to change them';
COMMENT ON COLUMN queue.queue.own_dead_letter IS
'the dead-letter queue was created together with the queue';
COMMENT ON COLUMN queue.queue.max_lease IS
'no lease of its messages lasts longer, from the take or from the last extend on';

CREATE INDEX queue_dead_letter_idx ON queue.queue (dead_letter);

