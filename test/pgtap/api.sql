--
-- The API as it is declared: every function with its arguments and result,
-- how the planner may treat it, who may call it; the views and their columns.
-- Whoever changes this changes what applications rely on.
--
\set QUIET 1
\pset format unaligned
\pset tuples_only true
\pset pager off
BEGIN;
SET LOCAL search_path = public, pg_catalog;

CREATE TEMP TABLE declared (name text, kind text, arguments text, result text);
INSERT INTO declared VALUES
    ('create_queue', 'f', 'name text, lease interval, max_attempts integer, retry_delay interval, retry_max_delay interval, dead_letter regclass, unlogged boolean, if_not_exists boolean, max_lease interval, expires_in interval, on_expiry text, group_mode text, group_failure text, dedup_window interval, max_messages bigint, max_bytes bigint, on_full text, max_in_flight integer', 'regclass'),
    ('alter_queue', 'f', 'queue regclass, lease interval, max_attempts integer, retry_delay interval, retry_max_delay interval, dead_letter regclass, max_lease interval, expires_in interval, on_expiry text, group_mode text, group_failure text, dedup_window interval, max_messages bigint, max_bytes bigint, on_full text, max_in_flight integer', 'void'),
    ('drop_queue', 'f', 'queue regclass', 'void'),
    ('health', 'f', '', 'TABLE(severity text, object text, finding text, remedy text)'),
    ('purge', 'f', 'queue regclass, selector jsonpath', 'bigint'),
    ('pause', 'f', 'queue regclass, enqueue boolean, dequeue boolean', 'void'),
    ('resume', 'f', 'queue regclass, enqueue boolean, dequeue boolean', 'void'),
    ('enqueue', 'f', 'queue regclass, payload jsonb, headers jsonb, priority integer, delay interval, deliver_at timestamp with time zone, expires_in interval, group_key text, dedup_key text, correlation_id text', 'bigint'),
    ('enqueue', 'f', 'queue regclass, payload json, headers jsonb, priority integer, delay interval, deliver_at timestamp with time zone, expires_in interval, group_key text, dedup_key text, correlation_id text', 'bigint'),
    ('enqueue', 'f', 'queue regclass, payload text, headers jsonb, priority integer, delay interval, deliver_at timestamp with time zone, expires_in interval, group_key text, dedup_key text, correlation_id text', 'bigint'),
    ('enqueue_batch', 'f', 'queue regclass, payloads jsonb[], headers jsonb[], priority integer, delay interval, deliver_at timestamp with time zone, expires_in interval, group_keys text[], dedup_keys text[], correlation_ids text[]', 'bigint[]'),
    ('enqueue_once', 'f', 'queue regclass, payload jsonb, dedup_key text, headers jsonb, priority integer, delay interval, deliver_at timestamp with time zone, expires_in interval, group_key text, correlation_id text, OUT id bigint, OUT is_new boolean', 'record'),
    ('enqueue_bytes', 'f', 'queue regclass, body bytea, content_type text, headers jsonb, priority integer, delay interval, deliver_at timestamp with time zone, expires_in interval, group_key text, dedup_key text, correlation_id text', 'bigint'),
    ('enqueue_bytes_batch', 'f', 'queue regclass, bodies bytea[], content_type text, headers jsonb[], priority integer, delay interval, deliver_at timestamp with time zone, expires_in interval, group_keys text[], dedup_keys text[], correlation_ids text[]', 'bigint[]'),
    ('create_topic', 'f', 'name text, partitions integer, retention interval, max_bytes bigint, keep_unread boolean', 'regclass'),
    ('alter_topic', 'f', 'topic regclass, retention interval, max_bytes bigint, keep_unread boolean', 'void'),
    ('drop_topic', 'f', 'topic regclass', 'void'),
    ('subscribe', 'f', 'topic regclass, name text, start text, start_id bigint, start_at timestamp with time zone, pattern text, selector jsonpath, on_failure text, on_gap text, idle_after interval, lease interval, max_attempts integer, retry_delay interval, retry_max_delay interval, dead_letter regclass', 'regclass'),
    ('alter_subscription', 'f', 'subscription regclass, pattern text, selector jsonpath, on_failure text, on_gap text, idle_after interval, lease interval, max_attempts integer, retry_delay interval, retry_max_delay interval, dead_letter regclass', 'void'),
    ('publish', 'f', 'topic regclass, payload jsonb, headers jsonb, routing_key text, group_key text, correlation_id text, priority integer, delay interval, deliver_at timestamp with time zone, expires_in interval, dedup_key text', 'bigint'),
    ('publish', 'f', 'topic regclass, payload json, headers jsonb, routing_key text, group_key text, correlation_id text, priority integer, delay interval, deliver_at timestamp with time zone, expires_in interval, dedup_key text', 'bigint'),
    ('publish', 'f', 'topic regclass, payload text, headers jsonb, routing_key text, group_key text, correlation_id text, priority integer, delay interval, deliver_at timestamp with time zone, expires_in interval, dedup_key text', 'bigint'),
    ('publish_batch', 'f', 'topic regclass, payloads jsonb[], headers jsonb[], routing_keys text[], group_keys text[], correlation_ids text[], priority integer, delay interval, deliver_at timestamp with time zone, expires_in interval, dedup_keys text[]', 'bigint[]'),
    ('publish_bytes', 'f', 'topic regclass, body bytea, content_type text, headers jsonb, routing_key text, group_key text, correlation_id text, priority integer, delay interval, deliver_at timestamp with time zone, expires_in interval, dedup_key text', 'bigint'),
    ('publish_bytes_batch', 'f', 'topic regclass, bodies bytea[], content_type text, headers jsonb[], routing_keys text[], group_keys text[], correlation_ids text[], priority integer, delay interval, deliver_at timestamp with time zone, expires_in interval, dedup_keys text[]', 'bigint[]'),
    ('bind', 'f', 'topic regclass, queue regclass, pattern text, selector jsonpath, on_refusal text', 'void'),
    ('unbind', 'f', 'topic regclass, queue regclass, pattern text', 'integer'),
    ('reset_stats', 'f', 'queue regclass', 'void'),
    ('route', 'f', 'topic regclass, routing_key text, headers jsonb, payload jsonb', 'TABLE(queue regclass, patterns text[], on_refusal text, refusal text)'),
    ('read', 'f', 'topic regclass, after bigint, max bigint, pattern text, selector jsonpath', 'messages'),
    ('stable_id', 'f', 'topic regclass', 'bigint'),
    ('seek', 'f', 'subscription regclass, start text, start_id bigint, start_at timestamp with time zone', 'void'),
    ('skip', 'f', 'subscription regclass, partition integer', 'bigint'),
    ('reschedule', 'f', 'queue regclass, id bigint, deliver_at timestamp with time zone', 'boolean'),
    ('cancel', 'f', 'queue regclass, id bigint', 'boolean'),
    ('wait_for_room', 'p', 'IN queue regclass, IN timeout interval', NULL),
    ('dequeue', 'f', 'queue regclass, max bigint, wait interval, selector jsonpath, id bigint, correlation_id text', 'messages'),
    ('receive', 'f', 'queue regclass, max bigint, wait interval, lease interval, selector jsonpath, id bigint, correlation_id text', 'messages'),
    ('browse', 'f', 'queue regclass, max bigint, selector jsonpath', 'messages'),
    ('get', 'f', 'queue regclass, id bigint', 'messages'),
    ('why', 'f', 'queue regclass, id bigint, OUT reason text, OUT since timestamp with time zone, OUT until timestamp with time zone, OUT pid integer, OUT gid text, OUT explanation text, OUT remedy text', 'record'),
    ('ack', 'f', 'receipt text', 'void'),
    ('ack', 'f', 'receipts text[]', 'integer'),
    ('nack', 'f', 'receipt text, delay interval, error text', 'void'),
    ('nack', 'f', 'receipts text[], delay interval, error text', 'integer'),
    ('release', 'f', 'receipt text, delay interval', 'void'),
    ('release', 'f', 'receipts text[], delay interval', 'integer'),
    ('fail', 'f', 'error text', 'void'),
    ('release_group', 'f', 'queue regclass, group_key text, skip boolean', 'boolean'),
    ('end_lease', 'f', 'queue regclass, id bigint, counts boolean', 'boolean'),
    ('reject', 'f', 'receipt text, reason text', 'void'),
    ('reject', 'f', 'receipts text[], reason text', 'integer'),
    ('extend', 'f', 'receipt text, lease interval', 'timestamp with time zone'),
    ('extend', 'f', 'receipts text[], lease interval', 'timestamp with time zone[]'),
    ('redrive', 'f', 'dead_queue regclass, max bigint, selector jsonpath, to_queue regclass, id bigint, per_second integer', 'bigint'),
    ('redrive_all', 'p', 'IN dead_queue regclass, IN batch integer, IN selector jsonpath, IN to_queue regclass, IN per_second integer', NULL),
    ('wait', 'p', 'IN queue regclass, IN timeout interval', NULL),
    ('wait', 'p', 'IN queues regclass[], IN timeout interval', NULL),
    ('counts', 'f', 'queue regclass, OUT ready bigint, OUT leased bigint, OUT delayed bigint, OUT exhausted bigint', 'record'),
    ('problem', 'f', 'queue regclass', 'text'),
    ('definition', 'f', 'queue regclass', 'text'),
    ('begin_global', 'p', 'IN gid text, IN timeout interval, IN participants name[]', NULL),
    ('decide_commit', 'p', 'IN gid text', NULL),
    ('decide_abort', 'p', 'IN gid text', NULL),
    ('ask_decision', 'p', 'IN coordinator name, IN gid text, INOUT decision text, IN database text', NULL),
    ('report_finished', 'p', 'IN coordinator name, IN gids text[], IN database text', NULL),
    ('branch', 'f', 'deciding_database text, participant name, gid text', 'text'),
    ('identity', 'f', '', 'text');

-- What the tables of users have as triggers: dumps name them, so they are here
CREATE TEMP TABLE triggers (name text);
INSERT INTO triggers VALUES
    ('before_insert'), ('before_update'), ('before_publish'), ('before_topic_update'),
    ('before_subscription_insert'), ('before_subscription_change');

CREATE TEMP VIEW defined AS
SELECT p.oid, proname AS name, prokind AS kind,
       pg_get_function_identity_arguments(p.oid) AS arguments,
       CASE WHEN pg_get_function_result(p.oid) =
                 'TABLE(id bigint, receipt text, attempt integer,'
                 ' enqueued_at timestamp with time zone, priority integer,'
                 ' group_key text, correlation_id text, headers jsonb,'
                 ' payload jsonb, body bytea, content_type text, partition smallint,'
                 ' routing_key text)'
            THEN 'messages' ELSE pg_get_function_result(p.oid) END AS result,
       pronargs, pronargdefaults, provolatile, proisstrict, proparallel, prosecdef, proacl
FROM pg_proc p
WHERE pronamespace = 'queue'::regnamespace;

SELECT plan(91 + (SELECT count(*) FROM declared)::int);

SELECT has_extension('queue', 'extension queue');
SELECT has_schema('queue');
SELECT is(extrelocatable, false, 'the extension is not relocatable') FROM pg_extension WHERE extname = 'queue';

--
-- Functions
--
SELECT ok(EXISTS (SELECT FROM defined d
                  WHERE (d.name, d.kind::text, d.arguments) = (x.name, x.kind, x.arguments)
                    AND d.result IS NOT DISTINCT FROM x.result),
          format('queue.%s(%s)', x.name, x.arguments))
FROM declared x;

SELECT is_empty($$
    SELECT name, arguments FROM defined
    WHERE name NOT IN (SELECT name FROM triggers)
      AND (name, arguments) NOT IN (SELECT name, arguments FROM declared)
      AND (name, arguments) <> ('wait', 'IN queue text, IN timeout interval')
    $$, 'nothing is public that is not declared');
SELECT set_eq($$ SELECT name::text FROM defined WHERE obj_description(oid, 'pg_proc') LIKE 'internal%' $$,
              $$ SELECT name FROM triggers $$, 'what is internal is elsewhere, but for triggers of tables of users');
SELECT ok(NOT has_schema_privilege('public', 'queue_internal', 'USAGE'), 'and that schema is closed');
SELECT is_empty($$ SELECT p.oid::regprocedure FROM pg_proc p WHERE pronamespace = 'queue_internal'::regnamespace
                   AND coalesce(obj_description(p.oid, 'pg_proc'), '') NOT LIKE 'internal: %' $$,
                'what is there has a comment that says so');
SELECT is_empty($$ SELECT name FROM defined WHERE provolatile <> 'v' AND name NOT IN ('counts', 'problem', 'definition', 'branch', 'identity', 'stable_id') $$,
                'all are volatile, for they see what others do meanwhile');
SELECT is_empty($$ SELECT name FROM defined WHERE proisstrict $$,
                'none is strict: NULL is an error, not a reason to do nothing');
SELECT is_empty($$ SELECT name FROM defined WHERE proparallel <> 'u' AND name NOT IN ('branch', 'identity', 'stable_id') $$, 'none runs in parallel workers');
SELECT is_empty($$ SELECT name FROM defined WHERE prosecdef $$, 'none runs with the rights of another');
SELECT is_empty($$
    SELECT name FROM defined
    WHERE name NOT IN ('begin_global', 'decide_commit', 'decide_abort', 'ask_decision', 'report_finished')
      AND NOT has_function_privilege('public', oid, 'EXECUTE')
    $$, 'everybody may call: the privileges of the tables decide');
SELECT is_empty($$ SELECT name FROM defined WHERE obj_description(oid, 'pg_proc') IS NULL $$, 'all have comments');
SELECT is_empty($$ SELECT c.oid::regclass FROM pg_class c
                   WHERE relnamespace IN ('queue'::regnamespace, 'queue_internal'::regnamespace) AND relkind IN ('r', 'v', 'S')
                     AND obj_description(c.oid, 'pg_class') IS NULL $$, 'so have tables and views');
SELECT is_empty($$ SELECT a.attrelid::regclass, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
                   WHERE relnamespace IN ('queue'::regnamespace, 'queue_internal'::regnamespace) AND relkind IN ('r', 'v', 'c')
                     AND attnum > 0 AND NOT attisdropped AND col_description(c.oid, attnum) IS NULL $$, 'and all their columns');

-- what may be left out
SELECT set_eq(
    $$ SELECT name::text, arguments NOT LIKE '%receipts%', (pronargs - pronargdefaults)::int
       FROM defined WHERE pronargdefaults > 0 $$,
    $$ VALUES ('alter_queue', true, 1), ('reset_stats', true, 0), ('bind', true, 2), ('unbind', true, 2), ('route', true, 1), ('alter_topic', true, 1), ('subscribe', true, 2), ('alter_subscription', true, 1), ('seek', true, 1), ('ask_decision', true, 2), ('browse', true, 1), ('create_queue', true, 1), ('dequeue', true, 1),
              ('enqueue', true, 2), ('enqueue_batch', true, 2), ('enqueue_once', true, 3),
              ('enqueue_bytes', true, 2), ('enqueue_bytes_batch', true, 2), ('purge', true, 1),
              ('nack', false, 1), ('nack', true, 1), ('pause', true, 1),
              ('receive', true, 1), ('redrive', true, 1), ('redrive_all', true, 1), ('release', true, 1), ('release', false, 1), ('release_group', true, 2), ('end_lease', true, 2), ('report_finished', true, 2),
              ('resume', true, 1), ('create_topic', true, 1), ('read', true, 3), ('publish', true, 2), ('publish_batch', true, 2),
              ('publish_bytes', true, 2), ('publish_bytes_batch', true, 2) $$,
    'arguments that have to be given');

-- what the planner knows of those that return messages
SELECT set_eq($$ SELECT name::text, procost, prorows, prosupport::text FROM defined d JOIN pg_proc p USING (oid) WHERE result = 'messages' $$,
              $$ SELECT n, 1000::real AS cost, 1::real AS nrows, 'queue_internal.messages_support' FROM unnest(ARRAY['dequeue', 'receive', 'browse']) n
                 UNION ALL VALUES ('get', 1000, 1, '-'), ('read', 1000, 100, '-') $$,
              'functions that return messages support the planner');

-- defaults that a queue gets
SELECT is(queue.create_queue('defaults')::text, 'defaults', 'create_queue');
SELECT is(obj_description('defaults'::regclass, 'pg_class'), 'queue of extension "queue"', 'a queue says that it is one');
SELECT results_eq(
    $$ SELECT lease, max_attempts, retry_delay, retry_max_delay, dead_letter, own_dead_letter,
              enqueue_paused, dequeue_paused, max_lease, expires_in, on_expiry, group_mode, group_failure, dedup_window,
              max_messages, max_bytes, on_full, max_in_flight, key_table
       FROM queue.queue WHERE queue = 'defaults'::regclass $$,
    $$ VALUES (interval '30 s', 10, interval '1 s', interval '5 min', 'defaults_dead'::regclass, true, false, false, interval '1 day', NULL::interval, 'dead_letter',
              'ordered', 'dead_letter', NULL::interval, NULL::bigint, NULL::bigint, 'error', NULL::int, NULL::regclass) $$,
    'default settings');
SELECT results_eq(
    $$ SELECT max_attempts, dead_letter, group_mode FROM queue.queue WHERE queue = 'defaults_dead'::regclass $$,
    $$ VALUES (0, NULL::regclass, 'none') $$, 'settings of its dead-letter queue');

-- by name and in any order
SELECT lives_ok($$ SELECT queue.create_queue(name => 'named', unlogged => true, dead_letter => 'defaults_dead',
                   retry_max_delay => '1 min', retry_delay => '2 s', max_attempts => 3, lease => '1 min', max_lease => '1 h',
                   expires_in => NULL, on_expiry => 'dead_letter', group_mode => 'none', group_failure => 'dead_letter', dedup_window => NULL,
                   max_messages => NULL, max_bytes => NULL, on_full => 'error', max_in_flight => NULL) $$,
                'create_queue by name');
SELECT is(relpersistence, 'u', 'unlogged') FROM pg_class WHERE oid = 'named'::regclass;
SELECT is(array_agg(o ORDER BY o),
    '{autovacuum_vacuum_cost_delay=0,autovacuum_vacuum_scale_factor=0.1,autovacuum_vacuum_threshold=50000,vacuum_truncate=false}',
    'autovacuum is quick: ' || CASE n WHEN 0 THEN 'table' ELSE 'toast' END)
    FROM (SELECT 'defaults'::regclass AS c, 0 UNION ALL
          SELECT reltoastrelid, 1 FROM pg_class WHERE oid = 'defaults'::regclass) t (c, n)
    JOIN pg_class ON oid = t.c, unnest(reloptions) o GROUP BY n, c ORDER BY n;
SELECT lives_ok($$ SELECT queue.alter_queue(queue => 'named', lease => NULL, max_attempts => 5, retry_delay => NULL,
                   retry_max_delay => NULL, dead_letter => NULL, max_lease => NULL, expires_in => NULL, on_expiry => NULL,
                   group_mode => NULL, group_failure => NULL, dedup_window => NULL, max_messages => NULL, max_bytes => NULL,
                   on_full => NULL, max_in_flight => NULL) $$, 'alter_queue by name');
SELECT results_eq(
    $$ SELECT lease, max_attempts, retry_delay, retry_max_delay, dead_letter, group_mode FROM queue.queue WHERE queue = 'named'::regclass $$,
    $$ VALUES (interval '1 min', 5, interval '2 s', interval '1 min', 'defaults_dead'::regclass, 'none') $$,
    'NULL leaves a setting as it is');
SELECT lives_ok($$ SELECT queue.enqueue(payload => '1', queue => 'named', headers => NULL, priority => 4, delay => NULL,
                   deliver_at => NULL, expires_in => NULL, group_key => NULL, dedup_key => NULL, correlation_id => 'c') $$,
                'enqueue by name');
SELECT lives_ok($$ SELECT queue.enqueue_batch(queue => 'named', payloads => ARRAY['1']::jsonb[], headers => NULL, priority => 4,
                   delay => NULL, deliver_at => NULL, expires_in => NULL, group_keys => NULL, dedup_keys => NULL,
                   correlation_ids => NULL) $$, 'enqueue_batch by name');
SELECT lives_ok($$ SELECT queue.enqueue_batch('named', ARRAY['1']::jsonb[], headers => ARRAY[NULL]::jsonb[], correlation_ids => ARRAY[NULL]) $$,
                'NULL elements of the optional arrays mean none');
SELECT lives_ok($$ SELECT queue.alter_queue('named', dedup_window => '1 h') $$, 'a window for keys');
SELECT results_eq($$ SELECT is_new FROM queue.enqueue_once(queue => 'named', payload => '1', dedup_key => 'd', headers => NULL,
                     priority => 4, delay => NULL, deliver_at => NULL, expires_in => NULL, group_key => NULL, correlation_id => NULL) $$,
                  ARRAY[true], 'enqueue_once by name');
SELECT columns_are('public', 'named_keys', ARRAY['id', 'enqueued_at', 'dedup_key']);
SELECT lives_ok($$ SELECT * FROM queue.dequeue(queue => 'named', max => 1, wait => '0', selector => NULL, id => NULL, correlation_id => NULL) $$, 'dequeue by name');
SELECT lives_ok($$ SELECT * FROM queue.receive(queue => 'named', max => 1, wait => '0', lease => NULL, selector => NULL, id => NULL, correlation_id => NULL) $$, 'receive by name');
SELECT lives_ok($$ SELECT * FROM queue.browse(queue => 'named', max => 1, selector => NULL) $$, 'browse by name');
SELECT lives_ok($$ SELECT queue.pause(queue => 'named', enqueue => true, dequeue => false) $$, 'pause by name');
SELECT lives_ok($$ SELECT queue.resume(queue => 'named', enqueue => true, dequeue => true) $$, 'resume by name');
SELECT lives_ok($$ SELECT queue.purge(queue => 'named', selector => NULL) $$, 'purge by name');
SELECT lives_ok($$ SELECT queue.ack(receipts => '{}') $$, 'ack by name');
SELECT lives_ok($$ SELECT queue.nack(receipts => '{}', delay => NULL, error => NULL) $$, 'nack by name');
SELECT lives_ok($$ SELECT queue.release(receipts => '{}', delay => NULL) $$, 'release by name');
SELECT lives_ok($$ SELECT queue.reject(receipts => '{}', reason => 'r') $$, 'reject by name');
SELECT lives_ok($$ SELECT queue.extend(receipts => '{}', lease => '1 s') $$, 'extend by name');
SELECT lives_ok($$ CALL queue.wait(queue => 'named'::regclass, timeout => '0') $$, 'wait by name');
SELECT lives_ok($$ CALL queue.wait(queues => ARRAY['named', 'defaults']::regclass[], timeout => '0') $$, 'wait for several by name');
SELECT lives_ok($$ SELECT queue.drop_queue(queue => 'named') $$, 'drop_queue by name');
SELECT hasnt_table('public', 'named', 'a dropped queue is no table any more');

--
-- Queue tables
--
SELECT columns_are('public', 'defaults', ARRAY['id', 'priority', 'failures', 'enqueued_at', 'visible_at', 'expires_at',
    'group_key', 'correlation_id', 'dedup_key', 'sender', 'content_type', 'headers', 'payload', 'body', 'failure_log']);
SELECT col_is_pk('public', 'defaults', ARRAY['priority', 'id'], 'primary key of a queue table');
SELECT is(pg_get_serial_sequence('defaults', 'id'), 'public.defaults_id_seq', 'the sequence of ids is owned by the table');
SELECT is_empty($$ SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = 'defaults'::regclass AND deptype = 'e' $$,
                'a queue is no member of the extension');

--
-- Views and tables
--
SELECT columns_are('queue', 'queues', ARRAY['queue', 'schemaname', 'queuename', 'owner', 'lease', 'max_attempts', 'retry_delay',
    'retry_max_delay', 'max_lease', 'expires_in', 'on_expiry', 'group_mode', 'group_failure', 'dedup_window', 'max_messages', 'max_bytes',
    'on_full', 'max_in_flight', 'dead_letter', 'dead_letter_of', 'enqueue_paused', 'dequeue_paused', 'unlogged']);
SELECT columns_are('queue', 'topics', ARRAY['topic', 'schemaname', 'topicname', 'owner', 'partitions', 'retention', 'max_bytes',
                                    'keep_unread', 'partition', 'limit_id', 'next_id', 'held_back_by', 'held_back_since']);
SELECT columns_are('queue', 'topic', ARRAY['topic', 'partitions', 'retention', 'max_bytes', 'keep_unread']);
SELECT is(queue.create_topic('default_topic')::text, 'default_topic', 'create_topic');
SELECT columns_are('public', 'default_topic', ARRAY['partition', 'id', 'published_at', 'routing_key', 'group_key', 'correlation_id',
                                                    'content_type', 'sender', 'headers', 'payload', 'body']);
SELECT columns_are('queue', 'subscriptions', ARRAY['subscription', 'schemaname', 'subscriptionname', 'topic', 'owner', 'pattern', 'selector',
    'on_failure', 'on_gap', 'idle_after', 'lease', 'max_attempts', 'retry_delay', 'retry_max_delay', 'dead_letter', 'paused', 'partition',
    'position', 'behind', 'behind_since', 'failures', 'held_by', 'held_since', 'held_until']);
SELECT columns_are('queue', 'subscription', ARRAY['subscription', 'topic', 'pattern', 'selector', 'on_failure', 'on_gap', 'idle_after', 'lease',
                                          'max_attempts', 'retry_delay', 'retry_max_delay', 'dead_letter', 'own_dead_letter', 'paused']);
SELECT is(queue.subscribe('default_topic', 'default_subscription')::text, 'default_subscription', 'subscribe');
SELECT columns_are('public', 'default_subscription', ARRAY['partition', 'position', 'failures', 'alone_until', 'failure_log', 'moved_at']);
SELECT columns_are('queue', 'in_flight', ARRAY['queue', 'schemaname', 'queuename', 'id', 'state', 'pid', 'lease_until', 'failures', 'due_at']);
SELECT columns_are('queue', 'held_groups', ARRAY['queue', 'schemaname', 'queuename', 'group_key', 'id', 'failures', 'waiting', 'failed_at', 'last_error']);
SELECT columns_are('queue', 'leases', ARRAY['queue', 'schemaname', 'queuename', 'id', 'partition', 'last_id', 'role', 'application_name', 'client_addr', 'pid', 'since', 'until']);
SELECT columns_are('queue', 'waiters', ARRAY['queue', 'schemaname', 'queuename', 'pid', 'role', 'application_name', 'client_addr', 'since', 'until', 'wants']);
SELECT columns_are('queue', 'workers', ARRAY['pid', 'kind', 'database', 'activity', 'since', 'started_at', 'last_error_at', 'last_error']);
SELECT columns_are('queue', 'cover', ARRAY['queue', 'schemaname', 'queuename', 'ranges', 'ready_groups', 'later', 'busy', 'looking', 'waiting', 'next_due', 'healed', 'expired']);
SELECT columns_are('queue', 'in_doubt', ARRAY['gid', 'owner', 'database', 'transaction', 'prepared_at', 'age', 'queues',
    'horizon_age', 'blocked', 'transaction_manager', 'format_id', 'gtrid', 'bqual', 'deciding_database', 'decision', 'commit_command', 'rollback_command']);
SELECT columns_are('queue', 'storage', ARRAY['queue', 'schemaname', 'queuename', 'table_size', 'index_size', 'toast_size', 'live_rows', 'dead_rows', 'vacuums',
    'vacuumed_at', 'held_back', 'horizon_kind', 'horizon_pid', 'horizon_name', 'horizon_since', 'horizon_xmin', 'horizon_age']);
SELECT columns_are('queue', 'queue', ARRAY['queue', 'lease', 'max_attempts', 'retry_delay', 'retry_max_delay', 'dead_letter',
    'own_dead_letter', 'enqueue_paused', 'dequeue_paused', 'max_lease',
    'expires_in', 'on_expiry', 'group_mode', 'group_failure', 'dedup_window', 'max_messages', 'max_bytes', 'on_full', 'max_in_flight', 'key_table']);
SELECT columns_are('queue', 'stats', ARRAY['queue', 'schemaname', 'queuename', 'ready', 'delayed', 'in_flight', 'retrying', 'dead', 'in_doubt',
    'oldest_ready_at', 'enqueued', 'delivered', 'acked', 'failed', 'expired', 'dead_lettered', 'stats_reset', 'enqueued_per_second',
    'delivered_per_second', 'acked_per_second', 'failed_per_second', 'waiting', 'bytes', 'counted_at']);
SELECT columns_are('queue', 'latency', ARRAY['queue', 'schemaname', 'queuename', 'kind', 'messages', 'p50', 'p90', 'p99', 'max', 'buckets', 'bounds']);
SELECT columns_are('queue', 'top', ARRAY['queue', 'schemaname', 'queuename', 'ready', 'age', 'busy', 'later', 'retry', 'dead', 'doubt', 'in_s', 'out_s', 'fail_s', 'idle']);
SELECT columns_are('queue', 'progress', ARRAY['pid', 'queue', 'schemaname', 'queuename', 'command', 'done', 'total', 'started_at']);
CREATE ROLE regress_queue_nobody;
SELECT schema_privs_are('queue', 'regress_queue_nobody', ARRAY['USAGE']);
SELECT table_privs_are('queue', t, 'regress_queue_nobody', ARRAY['SELECT']) FROM unnest(ARRAY['queue', 'queues', 'in_flight', 'held_groups', 'leases', 'waiters', 'workers', 'cover', 'in_doubt', 'storage', 'stats', 'latency', 'top']) t;
SELECT table_privs_are('queue', 'lease', 'regress_queue_nobody', ARRAY[]::text[]);
SELECT table_privs_are('queue', 'restored_settings', 'regress_queue_nobody', ARRAY['INSERT']);
SELECT is((SELECT extconfig FROM pg_extension WHERE extname = 'queue'), ARRAY['queue.queue'::regclass::oid, 'queue.topic'::regclass::oid, 'queue.binding'::regclass::oid, 'queue.subscription'::regclass::oid],
          'pg_dump dumps the settings, and not the leases');

SELECT * FROM finish();
ROLLBACK;
