
-- ---------------------------------------------------------------------------
-- Retention of topics
-- ---------------------------------------------------------------------------

-- One row for each partition that the worker has deleted from.  It is rewritten
-- often, so there is room on the page for versions to come.
CREATE TABLE queue.topic_removed (
    topic oid NOT NULL,
    partition smallint NOT NULL,
    removed_id bigint NOT NULL,
    CONSTRAINT topic_removed_pkey PRIMARY KEY (topic, partition)
) WITH (fillfactor = 20);

COMMENT ON TABLE queue.topic_removed IS
'internal: up to this id retention has deleted what was in a partition of a topic';

REVOKE ALL ON queue.topic_removed FROM PUBLIC;

-- as queue.lease_log
ALTER TABLE queue.topic_removed ENABLE ROW LEVEL SECURITY;
