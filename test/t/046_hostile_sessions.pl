# What a session might have remembered, and what somebody might put in between.
# Privileges are asked for on every call: REVOKE, SET ROLE and a change of owner
# count from the next one on, whatever was prepared, opened or waited for before.
# And no function, operator, type or table of a user takes the place of what the
# extension means, whoever calls and whatever his search_path, the worker
# included.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;

my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node, "SET statement_timeout = '120s';");
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 10
queue.lease_write_delay = 0
lock_timeout = '30s'
});
$node->start;

sql(q{CREATE EXTENSION queue;
	CREATE ROLE owner LOGIN;
	CREATE ROLE heir LOGIN;
	CREATE ROLE worker LOGIN;
	CREATE ROLE nobody LOGIN;
	CREATE SCHEMA shop AUTHORIZATION owner;
	GRANT USAGE ON SCHEMA shop TO PUBLIC;
	CREATE SCHEMA attic;
	GRANT ALL ON SCHEMA attic TO PUBLIC;
	SET ROLE owner;
	SELECT queue.create_queue('shop.jobs');
	SELECT queue.create_queue('shop.empty')});

sub allow
{
	sql(q{SET ROLE owner;
		GRANT SELECT, INSERT, DELETE ON shop.jobs, shop.empty TO worker});
	return;
}

sub forbid
{
	sql(q{SET ROLE owner; REVOKE ALL ON shop.jobs, shop.empty FROM worker});
	return;
}

# One session of the worker for all that follows; what a statement comes to.
my $session = $node->background_psql(
	'postgres',
	on_error_stop => 0,
	extra_params  => [ '-U', 'worker' ]);
$session->query_safe('SELECT 1');

sub try
{
	my ($statement) = @_;
	$statement .= ';' unless $statement =~ /\\gset$/;
	my $out = $session->query("$statement\n\\echo state :SQLSTATE");
	$session->{stderr} = '';
	return $out =~ /state (\w+)\s*$/ ? $1 : "nothing: $out";
}

sub both
{
	my ($before, $statement, $name, $after) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	allow();
	try($_) foreach @$before;
	is(try($statement), '00000', "$name: allowed");
	forbid();
	is(try($statement), '42501', "$name: revoked");
	try($_) foreach @{ $after // ['ROLLBACK'] };
	return;
}

#
# REVOKE between two calls of one session.
#
allow();
sql(q{SELECT queue.enqueue('shop.jobs', to_jsonb(i)) FROM generate_series(1, 20) i});
both([], q{SELECT queue.enqueue('shop.jobs', '1'::jsonb)}, 'enqueue');
both([], q{SELECT queue.enqueue_batch('shop.jobs', ARRAY['1']::jsonb[])},
	'enqueue_batch');
both([], q{SELECT id FROM queue.dequeue('shop.jobs')}, 'dequeue');
both([], q{SELECT id FROM queue.dequeue('shop.empty')},
	'dequeue of what is known to be empty');
both([], q{SELECT id FROM queue.receive('shop.jobs')}, 'receive');
both([], q{SELECT id FROM queue.browse('shop.jobs')},  'browse');
both([], q{CALL queue.wait('shop.jobs', '0')}, 'wait');
both([], q{CALL queue.wait('shop.empty', '0')}, 'wait for what is empty');
both([], q{INSERT INTO shop.jobs (payload) VALUES ('1')}, 'INSERT');

# Receipts are no privilege.
allow();
try(q{SELECT array_agg(receipt) AS r FROM queue.receive('shop.jobs', 20, lease => '1 h') \gset});
forbid();
is(try(q{SELECT queue.}
		  . s/\bR\b/(:'r'::text[])[1]/r), '42501', "with a receipt: $_")
  foreach ('ack(R)', 'nack(R)', 'release(R)', q{reject(R, 'x')},
	q{extend(R, '1 s')}, 'ack(ARRAY[R])', 'nack(ARRAY[R])',
	'release(ARRAY[R])', q{reject(ARRAY[R], 'x')}, q{extend(ARRAY[R], '1 s')});
is(sql(q{SELECT count(*) > 5 FROM queue.in_flight WHERE state = 'leased'}),
	't', '... and the leases go on');
allow();
is(try(q{SELECT queue.release(:'r'::text[])}), '00000', 'until allowed again');

#
# In one transaction, by prepared statement, by cursor.
#
both(['BEGIN'], q{SELECT queue.enqueue('shop.jobs', '1'::jsonb)},
	'in one transaction: enqueue');
both(['BEGIN'], q{SELECT id FROM queue.dequeue('shop.jobs')},
	'in one transaction: dequeue');
both(['BEGIN ISOLATION LEVEL REPEATABLE READ'],
	q{SELECT id FROM queue.dequeue('shop.jobs')},
	'in one snapshot: dequeue');
both([ q{SET plan_cache_mode = force_generic_plan},
		q{PREPARE p (regclass) AS SELECT queue.enqueue($1, '1'::jsonb)} ],
	q{EXECUTE p ('shop.jobs')}, 'prepared: enqueue',
	[ 'DEALLOCATE p' ]);
both([q{PREPARE p (regclass) AS SELECT id FROM queue.dequeue($1)}],
	q{EXECUTE p ('shop.jobs')}, 'prepared: dequeue', [ 'DEALLOCATE p' ]);
allow();
try('BEGIN');
try(q{DECLARE c CURSOR FOR SELECT * FROM queue.browse('shop.jobs')});
forbid();
is(try('FETCH c'), '42501', 'a cursor that nothing was fetched from');
try('ROLLBACK');
allow();
try('BEGIN');
try(q{DECLARE c CURSOR FOR SELECT id FROM queue.dequeue('shop.jobs', 3)});
is(try('FETCH c'), '00000', 'a cursor from which was fetched');
forbid();
is(try('FETCH c'), '00000', '... goes on, as it does on any table');
is(try(q{SELECT id FROM queue.dequeue('shop.jobs')}), '42501',
	'... beside another call');
is(try('COMMIT'), '00000', 'and the transaction ends as it can');

# A waiter is asked again when it is woken.
allow();
my $waiter = start_waiter(
	q{SET SESSION AUTHORIZATION worker;
	SELECT id FROM queue.dequeue('shop.empty', wait => '60 s')});
forbid();
sql(q{SELECT queue.enqueue('shop.empty', '1'::jsonb)});
is(result_of($waiter), '42501', 'who waits while he loses the privilege');
is(sql(q{SELECT count(*) FROM queue.dequeue('shop.empty')}), '1',
	'... takes nothing');

#
# Schemas: USAGE on "queue" is for names, on the table's for its name.  A role
# without it can still use what it may by the table itself.
#
allow();
sql('REVOKE USAGE ON SCHEMA queue FROM PUBLIC');
is(try(q{SELECT queue.enqueue('shop.jobs', '1'::jsonb)}),
	'42501', 'without USAGE on schema queue: enqueue');
is(try('SELECT * FROM queue.queues'), '42501', '... views');
is(try(q{INSERT INTO shop.jobs (payload) VALUES ('1')}),
	'00000', '... INSERT is a statement on a table');
is(try('UPDATE shop.jobs SET priority = 5'), '42501', '... and UPDATE');
sql('GRANT USAGE ON SCHEMA queue TO PUBLIC');
my $oid = sql(q{SELECT 'shop.jobs'::regclass::oid});
sql('REVOKE USAGE ON SCHEMA shop FROM PUBLIC');
is(try(q{SELECT queue.enqueue('shop.jobs', '1'::jsonb)}),
	'42501', 'without USAGE on the schema of the queue: its name');
is(try(qq{SELECT queue.enqueue($oid, '1'::jsonb)}),
	'00000', '... its number, for who has the privilege on the table');
sql('GRANT USAGE ON SCHEMA shop TO PUBLIC');

#
# Views of others, and what they lend.
#
sql(q{SET ROLE owner;
	CREATE VIEW shop.inbox AS SELECT id, payload FROM shop.jobs;
	GRANT SELECT, INSERT, UPDATE ON shop.inbox TO nobody});
sub as_nobody { return state_of("SET SESSION AUTHORIZATION nobody; $_[0]"); }
like(as_nobody(q{INSERT INTO shop.inbox (payload) VALUES ('2')}),
	qr/^none/, 'INSERT by a view of the owner sends');
is(as_nobody(q{INSERT INTO shop.inbox (id, payload) VALUES (1000, '2')}),
	'42501', '... but gives no id');
is(as_nobody(q{UPDATE shop.inbox SET id = 1000}), '42501', '... nor changes one');
like(as_nobody('SELECT payload FROM shop.inbox'), qr/^none/, '... it reads');
is(as_nobody(q{SELECT queue.browse('shop.jobs')}), '42501',
	'... but is no privilege on the queue');
is(as_nobody(q{SELECT queue.browse('shop.inbox')}), '42809',
	'... and no queue');
is(as_nobody(q{SELECT queue.enqueue('shop.inbox', '1'::jsonb)}), '42809',
	'... for sending neither');
sql('DROP VIEW shop.inbox');

# Privileges that are for statements which a queue refuses.
my %refused = (
	TRIGGER => q{CREATE TRIGGER t BEFORE INSERT ON shop.jobs
		FOR EACH ROW EXECUTE FUNCTION queue.before_insert()},
	REFERENCES => q{CREATE TABLE attic.refers (p int2, i int8,
		FOREIGN KEY (p, i) REFERENCES shop.jobs)},
	'REFERENCES (priority, id)' => q{CREATE TABLE attic.refers (p int2, i int8,
		FOREIGN KEY (p, i) REFERENCES shop.jobs)});
foreach my $privilege (sort keys %refused)
{
	is(as_nobody($refused{$privilege}), '42501', "without $privilege");
	sql("GRANT $privilege ON shop.jobs TO nobody");
	is(as_nobody($refused{$privilege}), '42809', "with $privilege");
	sql("REVOKE $privilege ON shop.jobs FROM nobody");
}

#
# Another owner.
#
sql(q{GRANT CREATE ON SCHEMA shop TO heir;
	REASSIGN OWNED BY owner TO heir});
is( sql(q{SELECT DISTINCT relowner::regrole FROM pg_class
		WHERE relnamespace = 'shop'::regnamespace}),
	'heir', 'all of it has another owner');
foreach my $call (
	q{SELECT queue.purge('shop.jobs')},
	q{SELECT queue.pause('shop.jobs')},
	q{SELECT queue.alter_queue('shop.jobs', max_attempts => 1)},
	q{SELECT queue.drop_queue('shop.jobs')},
	q{INSERT INTO shop.jobs (id, payload) VALUES (100000, '1')},
	q{SELECT * FROM queue.browse('shop.jobs_dead')})
{
	is(state_of("SET SESSION AUTHORIZATION owner; $call"),
		'42501', "the former owner: $call");
	like(state_of("BEGIN; SET LOCAL ROLE heir; $call; ROLLBACK"),
		qr/^none/, "the new one: $call");
}
sql(q{SET ROLE heir; SELECT queue.purge('shop.jobs');
	SELECT queue.alter_queue('shop.jobs', max_attempts => 1);
	SELECT queue.enqueue('shop.jobs', '"last"'::jsonb)});
sql(q{SELECT queue.nack(receipt, error => 'e') FROM queue.receive('shop.jobs')});
wait_until(q{SELECT count(*) = 1 FROM shop.jobs_dead},
	'the worker moves a dead letter for the new owner');

# If he may not write there, it stays.
sql(q{ALTER TABLE shop.jobs_dead OWNER TO owner; SET ROLE heir;
	SELECT queue.enqueue('shop.jobs', '"stays"'::jsonb)});
my $receipt = sql(q{SELECT receipt FROM queue.receive('shop.jobs', lease => '1 h')});
is(state_of("SELECT queue.reject('$receipt', 'x')"), '42501',
	'not into what the owner may not write, whoever rejects');
sql("SELECT queue.nack('$receipt')");
wait_until(q{SELECT count(*) = 1 FROM queue.in_flight WHERE state = 'exhausted'},
	'nor does the worker');
is(sql(q{SELECT count(*) FROM shop.jobs}), '1', '... the message stays');
sql(q{ALTER TABLE shop.jobs_dead OWNER TO heir});
wait_until(q{SELECT count(*) = 2 FROM shop.jobs_dead}, 'until he may');
sql('REASSIGN OWNED BY heir TO owner');
sql(q{SET ROLE owner; SELECT queue.alter_queue('shop.jobs', max_attempts => 10)});

#
# Row security is beyond the white list, and session_replication_role is the
# superusers'.
#
is(state_of('ALTER TABLE shop.jobs ENABLE ROW LEVEL SECURITY'),
	'42809', 'a queue has no row security');
allow();
is(try("SET row_security = $_; SELECT count(*) FROM queue.browse('shop.jobs')"),
	'00000', "... and does not ask for it, row_security = $_")
  foreach ('on', 'off');
is(try('SET session_replication_role = replica'), '42501',
	'session_replication_role');

#
# Hostile objects: whatever a role that may create things in schema "evil" can
# give the name of what is used, it does so; what of it is called tells.
#
sql(q{CREATE SCHEMA evil AUTHORIZATION nobody;
	GRANT ALL ON SCHEMA evil TO PUBLIC;
	CREATE TABLE public.called (by name, what text);
	GRANT ALL ON public.called TO PUBLIC;
	SET ROLE nobody;
	CREATE FUNCTION evil.tell(what text) RETURNS boolean LANGUAGE plpgsql
		VOLATILE SECURITY INVOKER AS $$
		BEGIN
			INSERT INTO public.called VALUES (current_user, what);
			RETURN true;
		END $$;
	DO $do$
	DECLARE
		t text;
		o text;
	BEGIN
		FOREACH t IN ARRAY ARRAY['oid', 'name', 'text', 'int4', 'int8', 'xid',
			'timestamptz', 'interval', 'jsonb', 'regclass', 'regrole', 'bool',
			'"char"', 'oid[]', 'name[]', 'text[]']
		LOOP
			FOREACH o IN ARRAY ARRAY['eq =', 'ne <>', 'lt <', 'gt >', 'le <=',
				'ge >=']
			LOOP
				EXECUTE format($$CREATE FUNCTION evil.%1$s(%2$s, %2$s)
					RETURNS boolean LANGUAGE sql
					AS 'SELECT evil.tell(''%1$s %2$I'')'$$,
					split_part(o, ' ', 1), t);
				EXECUTE format('CREATE OPERATOR evil.%s (FUNCTION = evil.%s,'
					' LEFTARG = %s, RIGHTARG = %3$s)',
					split_part(o, ' ', 2), split_part(o, ' ', 1), t);
			END LOOP;
			FOREACH o IN ARRAY ARRAY['max', 'min', 'count', 'lower', 'age',
				'coalesce_', 'length', 'octet_length', 'format',
				'pg_get_userbyid', 'unnest', 'jsonb_agg', 'array_agg', 'sum']
			LOOP
				EXECUTE format($$CREATE FUNCTION evil.%1$s(%2$s)
					RETURNS %2$s LANGUAGE sql
					AS 'SELECT evil.tell(''%1$s %2$I''); SELECT $1'$$, o, t);
			END LOOP;
		END LOOP;
		FOREACH o IN ARRAY ARRAY['now', 'clock_timestamp', 'current_database',
			'pg_backend_pid', 'pg_prepared_xact', 'version',
			'in_flight', 'before_insert', 'identity']
		LOOP
			EXECUTE format($$CREATE FUNCTION evil.%1$s() RETURNS text
				LANGUAGE sql AS 'SELECT evil.tell(''%1$s''); SELECT ''x'''$$, o);
		END LOOP;
		-- types, and relations, named as those that are meant
		FOREACH o IN ARRAY ARRAY['int8', 'int2', 'timestamptz', 'jsonb', 'regclass',
			'xid', 'interval', 'oid']
		LOOP
			EXECUTE format('CREATE DOMAIN evil.%I AS pg_catalog.text'
				' CHECK (evil.tell(''domain %1$s''))', o);
		END LOOP;
		FOREACH o IN ARRAY ARRAY['pg_class', 'pg_namespace', 'pg_proc',
			'pg_prepared_xacts', 'pg_locks', 'pg_roles', 'pg_database',
			'pg_stat_activity', 'queue', 'queues', 'lease_log',
			'global_transaction', 'outcome', 'deciding_database']
		LOOP
			EXECUTE format('CREATE VIEW evil.%I AS'
				' SELECT evil.tell(''view %1$s'') AS queue', o);
		END LOOP;
	END $do$});

sub called
{
	return sql(q{SELECT coalesce(string_agg(DISTINCT by || ' ' || what, ', '), '')
		FROM public.called});
}

# The trap works.
sql(q{SET search_path = evil, pg_catalog; SELECT 1::oid = 2::oid});
isnt(called(), '', 'somebody who says "=" calls it');
sql('TRUNCATE public.called');

my $all = q{
	SELECT queue.create_queue('shop.trap');
	SELECT queue.create_queue('shop.trap', if_not_exists => true);
	SELECT queue.alter_queue('shop.trap', max_attempts => 2,
		dead_letter => 'shop.trap_dead');
	SELECT queue.pause('shop.trap'); SELECT queue.resume('shop.trap');
	SELECT queue.enqueue('shop.trap', '1'::pg_catalog.jsonb, '{"a": 1}');
	SELECT queue.enqueue_batch('shop.trap', ARRAY['1', '2', '3', '4', '5', '6']::pg_catalog.jsonb[]);
	INSERT INTO shop.trap (payload) VALUES ('7');
	UPDATE shop.trap SET priority = 5;
	SELECT * FROM queue.browse('shop.trap');
	SELECT * FROM queue.dequeue('shop.trap');
	SELECT receipt FROM queue.receive('shop.trap') \gset
	SELECT queue.extend(:'receipt'::pg_catalog.text, '1 min');
	SELECT queue.reject(:'receipt'::pg_catalog.text, 'x');
	SELECT receipt FROM queue.receive('shop.trap') \gset
	SELECT queue.nack(:'receipt'::pg_catalog.text, '0', 'x');
	SELECT receipt FROM queue.receive('shop.trap') \gset
	SELECT queue.ack(ARRAY[:'receipt']);
	CALL queue.wait('shop.trap', '0');
	SELECT * FROM queue.queues; SELECT * FROM queue.in_flight;
	SELECT queue.counts('shop.trap'), queue.problem('shop.trap');
	SELECT * FROM queue.cover; SELECT * FROM queue.storage;
	SELECT * FROM queue.in_doubt; SELECT * FROM queue.branches;
	SELECT * FROM queue.global_transactions;
	SELECT * FROM queue.forced_outcomes;
	SELECT queue.identity(); SELECT queue.branch('a', 'b', 'c');
	SELECT queue.purge('shop.trap'); SELECT queue.purge('shop.trap_dead');
	ALTER TABLE shop.trap SET (fillfactor = 90);
	TRUNCATE shop.trap RESTART IDENTITY;
	ALTER TABLE shop.trap RENAME TO trap2;
	ALTER TABLE shop.trap2 RENAME TO trap;
};
my $globals = q{
	CALL queue.begin_global('hostile', '1 min', ARRAY['nobody']);
	CALL queue.decide_commit('hostile');
	CALL queue.report_finished('postgres', ARRAY['hostile']);
	SELECT queue_internal.forget_globals();
};

# Drops and adopts as the superuser what is the owner's.
my $adopts = q{
	DELETE FROM queue.queue WHERE queue.queue OPERATOR(pg_catalog.=) 'shop.trap'::pg_catalog.regclass;
	DROP SEQUENCE shop.trap_id_seq;
	SELECT queue.create_queue('shop.trap');
};
sql(q{INSERT INTO queue.deciding_database (name, participant, coordinator, owner)
	VALUES ('self', 'nobody', 'postgres', 'owner')});
foreach my $path ('evil, pg_catalog', 'evil, pg_catalog, queue, shop',
	'evil, queue, pg_temp, pg_catalog')
{
	$globals =~ s/hostile/hostile-again/g;
	sql(qq{SET search_path = $path; $all $globals $adopts
		SELECT queue.drop_queue('shop.trap')});
	is(called(), '', "a superuser with search_path $path calls nothing");
	sql(qq{SET search_path = $path; SET ROLE owner; $all
		SELECT queue.drop_queue('shop.trap')});
	is(called(), '', '... an owner neither');
}
sql(q{SET search_path = evil, pg_catalog; SET ROLE owner;
	BEGIN; SELECT queue.enqueue('shop.jobs', '1'::pg_catalog.jsonb);
	PREPARE TRANSACTION 'queue:self:nobody:x'});
is(state_of(q{SET search_path = evil, pg_catalog; DROP TABLE shop.jobs}),
	'55006', 'the look for prepared transactions');
sql(q{SET search_path = evil, pg_catalog; SET ROLE owner;
	ROLLBACK PREPARED 'queue:self:nobody:x'});
is(called(), '', '... and their end: nothing is called');

# Temporary tables and functions that are named as ours.
sql(qq{CREATE TEMP TABLE queue (queue regclass, lease interval);
	CREATE TEMP TABLE queue_pkey (a int);
	CREATE TEMP TABLE lease_log (a int);
	CREATE TEMP VIEW pg_class AS SELECT evil.tell('temporary view') AS oid;
	CREATE FUNCTION pg_temp.enqueue(regclass, jsonb) RETURNS bigint
		LANGUAGE sql AS 'SELECT evil.tell(''temporary function''); SELECT 1::bigint';
	$all SELECT queue.drop_queue('shop.trap')});
is(called(), '', 'temporary tables and functions: nothing is called');
is( state_of(q{SET search_path = shop; CREATE TEMP TABLE jobs (LIKE shop.jobs);
		SELECT queue.enqueue('jobs', '1'::jsonb)}),
	'42809', 'a temporary table hides a queue of that name, and is none');

#
# The worker, too, whatever the database says of its settings.
#
sql(q{ALTER DATABASE postgres SET search_path = evil, pg_catalog;
	ALTER DATABASE postgres SET role = 'nobody';
	ALTER ROLE postgres SET search_path = evil, pg_catalog});
$node->restart;
$ENV{PGOPTIONS} = '-c role=none -c search_path=public';
sql(q{SET ROLE owner;
	SELECT queue.create_queue('shop.poison', max_attempts => 1);
	SELECT queue.enqueue('shop.poison', '"poison"'::jsonb)});
sql(q{SELECT queue.nack(receipt, error => 'x')
	FROM queue.receive('shop.poison')});
sql(q{SELECT queue.enqueue('shop.poison', '"leased"'::jsonb)});
sql(q{SELECT queue.receive('shop.poison', lease => '1 h')});
sql(q{BEGIN; SELECT queue.enqueue('shop.jobs', '1'::jsonb);
	PREPARE TRANSACTION 'old'; ALTER SYSTEM SET queue.in_doubt_warning = 0;
	SELECT pg_reload_conf()});
wait_until(q{SELECT count(*) = 1 FROM shop.poison_dead},
	'the worker does its work');
wait_until(q{SELECT count(*) = 1 FROM queue.lease}, '... and leases');
ok( $node->wait_for_log(qr/prepared transaction "old" of role/),
	'... and warns of a prepared transaction');
sql(q{COMMIT PREPARED 'old'});
is( sql(q{SELECT coalesce(string_agg(DISTINCT by || ' ' || what, ', '), '')
		FROM public.called}),
	'', 'the worker calls nothing of a user');

$session->quit;
$node->stop;
done_testing();
