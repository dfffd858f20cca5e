-- What the fuzzer works on, in each of its two databases; the roles are there.

CREATE EXTENSION queue;

CREATE SCHEMA fuzz AUTHORIZATION fuzz_owner;
GRANT USAGE ON SCHEMA fuzz TO PUBLIC;
CREATE SCHEMA other;
GRANT ALL ON SCHEMA other TO PUBLIC;

GRANT EXECUTE ON ALL ROUTINES IN SCHEMA queue TO fuzz_owner;
INSERT INTO queue.deciding_database (name, participant, coordinator, owner)
    VALUES ('hub', 'near', 'fuzz_owner', 'fuzz_owner');

-- What queues meet that are not queues.
CREATE TABLE fuzz.plain (id bigint PRIMARY KEY DEFAULT 0);
CREATE TYPE fuzz.row AS (id bigint, payload jsonb);
CREATE VIEW fuzz.view AS SELECT * FROM fuzz.plain;
CREATE TABLE fuzz.part (id bigint) PARTITION BY LIST (id);
CREATE FUNCTION fuzz.refuse() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN IF random() < 0.5 THEN RETURN NULL; END IF; RETURN NEW; END$$;
CREATE FUNCTION fuzz.send() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN PERFORM queue.enqueue('fuzz.q2', '{}'); RETURN NULL; END$$;

-- What nobody touches.
CREATE SCHEMA calm;
SELECT queue.create_queue('calm.queue', lease => '1 min', max_attempts => 0);
