-- What clients of topics work on: topics, subscriptions, and the tables of the
-- business that uses them.  Run once, after schema.sql.
--
-- A publisher writes a row of "published" for each message, in its
-- transaction.  Who consumes one writes a row of "taken" in the transaction
-- that moves the position.  That row has a number, drawn while the partition is
-- held, so the rows of a partition are numbered in the order in which its
-- holders came one after the other.  Whoever seeks writes rows there, too.

SET SESSION AUTHORIZATION stress;
SET search_path = stress, public;

SELECT queue.create_topic('news', partitions => 4);

-- One total order.
SELECT queue.create_topic('wire', partitions => 1);

SELECT queue.subscribe('news', 'mail', start => 'begin', lease => '2 s',
                       max_attempts => 5, retry_delay => '50 ms',
                       retry_max_delay => '400 ms');

-- Not all of them.
SELECT queue.subscribe('news', 'digest', start => 'begin',
                       pattern => 'city.#',
                       selector => '$.payload.v like_regex "[02468]$"',
                       lease => '1 s', max_attempts => 3,
                       retry_delay => '50 ms', retry_max_delay => '400 ms');

-- Nothing dies here.
SELECT queue.subscribe('wire', 'ticker', start => 'begin', lease => '2 s',
                       max_attempts => 0, retry_delay => '50 ms',
                       retry_max_delay => '400 ms');

-- For the probes, after all else has come to rest.
SELECT queue.create_topic('quiet', partitions => 1);
SELECT queue.subscribe('quiet', 'listener', start => 'begin', lease => '2 s',
                       max_attempts => 3, retry_delay => '50 ms',
                       retry_max_delay => '400 ms');

-- The id is not known of what is copied in.
CREATE TABLE published (topic text, value text, id bigint, txn text);
CREATE INDEX published_value ON published (value);

CREATE TABLE taken (n bigserial, subscription text, partition int, id bigint,
                    how text, txn text);
CREATE INDEX taken_n ON taken (subscription, partition, n);

RESET search_path;
RESET SESSION AUTHORIZATION;
