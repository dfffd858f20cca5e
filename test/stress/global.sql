-- Two databases for global transactions, "near" and "far", beside the one
-- that all other clients use.  "near" decides, and takes part as well.  Run
-- once, by a superuser, after schema.sql.
--
-- Each of them has a queue "tokens".  A global transaction takes a token out
-- of one and puts it into the other, and writes down in both what it did
-- there, in a row of "moved".  So a token is always in one of the two queues,
-- and rows and queues tell which branches were committed.

-- Participants, as which the resolvers log in at the deciding database.
CREATE ROLE near LOGIN;
CREATE ROLE far LOGIN;
-- Somebody with branches under the names that belong to others.
CREATE ROLE stranger LOGIN;

CREATE DATABASE near;
CREATE DATABASE far;

\connect near
CREATE EXTENSION queue;
CREATE EXTENSION amcheck;
GRANT EXECUTE ON PROCEDURE queue.begin_global, queue.decide_commit,
    queue.decide_abort TO stress;
GRANT EXECUTE ON PROCEDURE queue.ask_decision, queue.report_finished
    TO near, far;
INSERT INTO queue.deciding_database
        (name, participant, coordinator, owner, connection, password_required)
    VALUES ('hub', 'near', 'stress', 'stress', NULL, false);
CREATE SCHEMA stress AUTHORIZATION stress;
SET SESSION AUTHORIZATION stress;
SELECT queue.create_queue('stress.tokens', lease => '2 s', max_attempts => 0,
                          retry_delay => '20 ms', retry_max_delay => '100 ms');
CREATE TABLE stress.moved (gid text, token text, way text);
-- How all begins.
WITH given AS (
    INSERT INTO stress.moved
    SELECT 'start', 'token' || n, 'put' FROM generate_series(1, 200) n)
SELECT queue.enqueue_batch('stress.tokens',
                           array_agg(jsonb_build_object('v', 'token' || n)))
  FROM generate_series(1, 200) n;

\connect far
CREATE EXTENSION queue;
CREATE EXTENSION amcheck;
INSERT INTO queue.deciding_database
        (name, participant, coordinator, owner, connection, password_required)
    VALUES ('hub', 'far', 'stress', 'stress', 'service=hub dbname=near',
            false);
CREATE SCHEMA stress AUTHORIZATION stress;
GRANT USAGE ON SCHEMA stress TO stranger;
SET SESSION AUTHORIZATION stress;
SELECT queue.create_queue('stress.tokens', lease => '2 s', max_attempts => 0,
                          retry_delay => '20 ms', retry_max_delay => '100 ms');
CREATE TABLE stress.moved (gid text, token text, way text);
CREATE TABLE stress.strange (gid text);
GRANT INSERT ON stress.strange TO stranger;
