--
-- Privileges are those of the table: INSERT to enqueue, SELECT to browse,
-- SELECT and DELETE to take and settle, ownership for the rest.  They are
-- asked for on every call.
--
CREATE ROLE regress_queue_owner;
CREATE ROLE regress_queue_producer;
CREATE ROLE regress_queue_consumer;
CREATE ROLE regress_queue_viewer;
CREATE ROLE regress_queue_nobody;
CREATE SCHEMA office;
GRANT USAGE ON SCHEMA office TO PUBLIC;
GRANT CREATE ON SCHEMA office TO regress_queue_owner;
SET search_path = office, public;

-- Everybody may call everything; what comes of it, in a word.
CREATE FUNCTION office.try(call text) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE call;
    RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
    RETURN sqlstate || ': ' || sqlerrm;
END
$$;

CREATE FUNCTION office.try_all() RETURNS TABLE (call text, outcome text)
LANGUAGE sql AS $$
    SELECT c, office.try(format('SELECT queue.' || c, 'office.mail'))
    FROM unnest(ARRAY[
        'enqueue(%L, ''1'')',
        'enqueue_batch(%L, ARRAY[''1'']::jsonb[])',
        'dequeue(%L)',
        'receive(%L)',
        'browse(%L)',
        'purge(%L)',
        'pause(%L)',
        'resume(%L)',
        'alter_queue(%L, lease => ''1 min'')',
        'drop_queue(%L)']) c
    UNION ALL
    SELECT 'wait(%L)', office.try('CALL queue.wait(''office.mail'', ''0'')');
$$;

SET ROLE regress_queue_owner;
SELECT queue.create_queue('mail');
GRANT INSERT ON mail TO regress_queue_producer;
GRANT SELECT, DELETE ON mail TO regress_queue_consumer;
GRANT SELECT ON mail TO regress_queue_viewer;
SELECT grantee::regrole, string_agg(privilege_type, ', ' ORDER BY privilege_type COLLATE "C") AS privileges
FROM pg_class, aclexplode(relacl)
WHERE pg_class.oid = 'mail'::regclass AND grantee <> relowner
GROUP BY grantee ORDER BY grantee::regrole::text COLLATE "C";
SELECT queue.enqueue('mail', '"hello"');

--
-- Each role
--
SET ROLE regress_queue_nobody;
SELECT * FROM try_all();
SELECT queue.enqueue('mail', '1');
\echo :SQLSTATE
SELECT * FROM queue.dequeue('mail');
\echo :SQLSTATE
SELECT queue.drop_queue('mail');
\echo :SQLSTATE
SET ROLE regress_queue_producer;
SELECT * FROM try_all();
SET ROLE regress_queue_consumer;
SELECT * FROM try_all();
SET ROLE regress_queue_viewer;
SELECT * FROM try_all();

-- half of what taking needs, or a part of the columns, is not enough
RESET ROLE;
GRANT DELETE, SELECT (id, payload) ON mail TO regress_queue_nobody;
GRANT INSERT (payload) ON mail TO regress_queue_nobody;
SET ROLE regress_queue_nobody;
SELECT * FROM try_all() LIMIT 5;
RESET ROLE;
REVOKE ALL ON mail FROM regress_queue_nobody;

--
-- Settling asks for the same as taking, of whoever holds the receipt
--
SET ROLE regress_queue_owner;
SELECT queue.purge('mail') > 0 AS purged;
SELECT count(queue.enqueue('mail', '"letter"')) FROM generate_series(1, 2);
SET ROLE regress_queue_consumer;
SELECT receipt FROM queue.receive('mail') \gset
SET ROLE regress_queue_producer;
SELECT try(format('SELECT queue.%s(%L)', v, :'receipt')) FROM unnest(ARRAY['ack', 'nack', 'release']) v;
SELECT try(format('SELECT queue.reject(%L, ''bad'')', :'receipt'));
SELECT try(format('SELECT queue.extend(%L, ''1 min'')', :'receipt'));
SELECT try(format('SELECT queue.ack(ARRAY[%L])', :'receipt'));
SET ROLE regress_queue_consumer;
SELECT queue.ack(:'receipt');
SELECT count(*) FROM mail;
-- moving to the dead letters needs no privilege on those
SELECT receipt FROM queue.receive('mail') \gset
SELECT queue.reject(:'receipt', 'not for us');
SELECT * FROM mail_dead;
\echo :SQLSTATE
SET ROLE regress_queue_owner;
SELECT payload, headers -> 'dead_letter' ->> 'reason' AS reason FROM mail_dead;
DELETE FROM mail_dead;

--
-- At once, within a transaction too
--
SET ROLE regress_queue_producer;
BEGIN;
SELECT queue.enqueue('mail', '1') IS NOT NULL AS sent;
SAVEPOINT a;
SET LOCAL ROLE regress_queue_owner;
REVOKE INSERT ON mail FROM regress_queue_producer;
SET LOCAL ROLE regress_queue_producer;
SELECT queue.enqueue('mail', '2');
ROLLBACK TO a;
SELECT queue.enqueue('mail', '2') IS NOT NULL AS sent;
SET LOCAL ROLE regress_queue_nobody;
SELECT queue.enqueue('mail', '3');
ROLLBACK;

-- through a role that one is a member of, and through a function
RESET ROLE;
GRANT regress_queue_producer TO regress_queue_nobody;
SET ROLE regress_queue_nobody;
SELECT try('SELECT queue.enqueue(''mail'', ''1'')');
RESET ROLE;
REVOKE regress_queue_producer FROM regress_queue_nobody;
SET ROLE regress_queue_owner;
CREATE FUNCTION office.post(body jsonb) RETURNS boolean SECURITY DEFINER SET search_path = office, pg_temp
LANGUAGE sql AS $$ SELECT queue.enqueue('mail', body) IS NOT NULL $$;
SET ROLE regress_queue_nobody;
SELECT post('1');
SELECT try('SELECT queue.enqueue(''mail'', ''1'')');

-- a superuser may
RESET ROLE;
SELECT queue.enqueue('mail', '1') IS NOT NULL AS sent;
-- ... and an owner may take his own privilege away
SET ROLE regress_queue_owner;
REVOKE DELETE ON mail FROM regress_queue_owner;
SELECT * FROM queue.dequeue('mail');
\echo :SQLSTATE
GRANT DELETE ON mail TO regress_queue_owner;

--
-- Creating
--
SET ROLE regress_queue_nobody;
SELECT queue.create_queue('mine');
\echo :SQLSTATE
SELECT queue.create_queue('office.mail');
\echo :SQLSTATE
SET ROLE regress_queue_owner;
SELECT queue.create_queue('mail');
\echo :SQLSTATE
SELECT queue.create_queue('pg_catalog.mine');
\echo :SQLSTATE
-- only the owner adopts
RESET ROLE;
DELETE FROM queue.queue WHERE queue IN ('mail'::regclass, 'mail_dead'::regclass);
GRANT CREATE ON SCHEMA office TO regress_queue_nobody;
SET ROLE regress_queue_nobody;
SELECT queue.create_queue('mail');
\echo :SQLSTATE
SET ROLE regress_queue_owner;
SELECT queue.create_queue('mail');
-- or a superuser, for him
RESET ROLE;
DELETE FROM queue.queue WHERE queue IN ('mail'::regclass, 'mail_dead'::regclass);
DROP SEQUENCE mail_id_seq;
DROP TRIGGER queue_insert ON mail;
SELECT queue.create_queue('mail');
SELECT relowner::regrole FROM pg_class WHERE oid = pg_get_serial_sequence('mail', 'id')::regclass;
SET ROLE regress_queue_owner;
SELECT queue.enqueue('mail', '1') IS NOT NULL AS sent;
-- a dead-letter queue that is another's is no place for one's dead letters
SET ROLE regress_queue_nobody;
SELECT queue.create_queue('mine', dead_letter => 'mail_dead');
\echo :SQLSTATE
SELECT queue.create_queue('mine');
SELECT queue.alter_queue('mine', dead_letter => 'mail_dead');
\echo :SQLSTATE
SET ROLE regress_queue_owner;
GRANT INSERT ON mail_dead TO regress_queue_nobody;
SET ROLE regress_queue_nobody;
SELECT queue.alter_queue('mine', dead_letter => 'mail_dead');
SELECT queue.drop_queue('mine');
SELECT queue.drop_queue('mine_dead');
-- default privileges hold as for any table
SET ROLE regress_queue_owner;
ALTER DEFAULT PRIVILEGES IN SCHEMA office GRANT INSERT ON TABLES TO regress_queue_nobody;
SELECT queue.create_queue('open_house');
SET ROLE regress_queue_nobody;
SELECT queue.enqueue('open_house', '1');
SET ROLE regress_queue_owner;
SELECT queue.drop_queue('open_house');
-- ... but not to the dead-letter queue that comes along
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA office GRANT ALL ON SEQUENCES TO regress_queue_nobody;
SELECT queue.create_queue('granted_too')::text;
-- from PostgreSQL 17 on an owner has MAINTAIN (m), too
SELECT relname, relkind, replace(relacl::text, 'arwdDxtm', 'arwdDxt') AS relacl
FROM pg_class WHERE relname ~ '^granted_too' AND relkind IN ('r', 'S') ORDER BY relname COLLATE "C";
SELECT has_table_privilege('regress_queue_nobody', 'granted_too_dead', 'INSERT');
-- an own one that was left, and was granted on purpose, keeps what it has
GRANT SELECT ON granted_too_dead TO regress_queue_viewer;
SELECT queue.enqueue('granted_too_dead', '1') IS NOT NULL AS sent;
SELECT queue.drop_queue('granted_too');
SELECT queue.create_queue('granted_too')::text;
SELECT has_table_privilege('regress_queue_viewer', 'granted_too_dead', 'SELECT');
SELECT queue.purge('granted_too_dead');
SELECT queue.drop_queue('granted_too');
ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA office REVOKE ALL ON SEQUENCES FROM regress_queue_nobody;
ALTER DEFAULT PRIVILEGES IN SCHEMA office REVOKE INSERT ON TABLES FROM regress_queue_nobody;
-- what came with a queue but is no longer the owner's is not dropped with it
SELECT queue.create_queue('split');
RESET ROLE;
ALTER TABLE split_dead OWNER TO regress_queue_nobody;
SET ROLE regress_queue_owner;
SELECT queue.drop_queue('split');
RESET ROLE;
SELECT queue.drop_queue('split_dead');

--
-- Redrive: the owner of the dead letters, who may send where they go
--
SET ROLE regress_queue_owner;
SELECT queue.redrive('mail_dead');
\echo :SQLSTATE

--
-- The catalog is open to read, and to nobody to write
--
SET ROLE regress_queue_nobody;
SELECT queue, lease FROM queue.queue ORDER BY queue::text COLLATE "C";
SELECT queue, owner, lease FROM queue.queues ORDER BY queue::text COLLATE "C";
SELECT q.queue, n.*, queue.problem(q.queue) FROM queue.queues q, queue.counts(q.queue) n ORDER BY q.queue::text COLLATE "C";
SELECT try(s) FROM unnest(ARRAY[
    'INSERT INTO queue.queue SELECT * FROM queue.queue',
    'UPDATE queue.queue SET enqueue_paused = true',
    'DELETE FROM queue.queue',
    'TRUNCATE queue.queue',
    'SELECT * FROM queue.lease',
    'DELETE FROM queue.lease_log',
    'CREATE TABLE queue.mine (a int)',
    'CREATE TABLE mine (queue regclass)']) s;
-- the trigger of that table is for that table
CREATE TRIGGER t AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION queue_internal.invalidate_definition();
\echo :SQLSTATE
RESET ROLE;
CREATE TRIGGER t AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION queue_internal.invalidate_definition();
INSERT INTO mine VALUES ('mail');
\echo :SQLSTATE
DROP TABLE mine;
SET ROLE regress_queue_viewer;
SELECT q.queue, n.ready IS NOT NULL AS is_counted FROM queue.queues q, queue.counts(q.queue) n ORDER BY q.queue::text COLLATE "C";

-- in flight: who may read a queue sees what is known of its messages
SET ROLE regress_queue_owner;
SELECT queue.purge('mail') >= 0 AS purged;
SELECT queue.enqueue('mail', '1') IS NOT NULL AS sent;
SELECT receipt FROM queue.receive('mail') \gset
SET ROLE regress_queue_viewer;
SELECT queue, state, lease_until > now() AS is_leased, failures FROM queue.in_flight;
SET ROLE regress_queue_nobody;
SELECT count(*) FROM queue.in_flight;
SELECT count(*) FROM queue_internal.in_flight();
SET ROLE regress_queue_owner;
SELECT queue.ack(:'receipt');

-- without the privilege to execute, or to use the schema, there is no queue
RESET ROLE;
REVOKE EXECUTE ON FUNCTION queue.purge(regclass, jsonpath) FROM PUBLIC;
SET ROLE regress_queue_owner;
SELECT queue.purge('mail');
\echo :SQLSTATE
RESET ROLE;
GRANT EXECUTE ON FUNCTION queue.purge(regclass, jsonpath) TO PUBLIC;
REVOKE USAGE ON SCHEMA queue FROM PUBLIC;
SET ROLE regress_queue_owner;
SELECT queue.enqueue('mail', '1');
\echo :SQLSTATE
-- but a plain INSERT is one into a table
INSERT INTO mail (payload) VALUES ('1');
RESET ROLE;
GRANT USAGE ON SCHEMA queue TO PUBLIC;

SET client_min_messages = warning;
DROP SCHEMA office CASCADE;
DROP ROLE regress_queue_owner, regress_queue_producer, regress_queue_consumer, regress_queue_viewer, regress_queue_nobody;
SELECT count(*) FROM queue.queue;
