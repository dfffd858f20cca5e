# Privileges, as a matrix: every function, view, table and column of schema
# "queue", and every statement on a queue, times ten roles, times four ways to
# act as a role.  What is not allowed below is denied, and what is in the schema
# without a line here fails the test.
#
# Besides the SQLSTATE the content is judged: whoever may not SELECT from a
# queue sees neither payload, key nor error text of it, in no result and in no
# message.  At the end, what a session might have remembered: privileges are
# asked for on every call, and nobody's function, operator, type or table gets
# in between.

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use FindBin;
use lib $FindBin::RealBin;

use QueueTest;

#
# Who.  The queues shop.jobs (whose messages are taken) and shop.desk (on which
# statements are tried) belong to "owner"; "sender" has INSERT on them, "viewer"
# SELECT, "consumer" SELECT and DELETE, the others have nothing of their own.
# "heir" is a member of the owner.
#
my @roles = qw(owner sender viewer consumer nobody
  monitor reader writer heir boss);

# Who has the privilege.
my %may = (
	ANYBODY    => [@roles],
	NOBODY     => [],
	SUPER      => [qw(boss)],
	OWN        => [qw(owner heir boss)],
	HEIR       => [qw(heir boss)],
	INSERT     => [qw(owner heir boss sender writer)],
	SELECT     => [qw(owner heir boss viewer consumer reader)],
	WATCH      => [qw(owner heir boss viewer consumer reader monitor)],
	TAKE       => [qw(owner heir boss consumer)],
	DELETE     => [qw(owner heir boss consumer writer)],
	UPDATE     => [qw(owner heir boss writer)],
	READ_ALL   => [qw(owner heir boss reader)],
	WRITE_ALL  => [qw(owner heir boss writer)],
	READ_ONLY  => [qw(boss reader)],

	# a schema that is closed to all but those who may read or write all data
	INTERNAL   => [qw(boss reader writer)],);

#
# How.  Directly; by SET ROLE from a role that has nothing itself, as pools and
# gateways do; within a SECURITY DEFINER function that belongs to the role,
# called by somebody who has nothing; and within one that belongs to somebody
# who has nothing, called by the role, which is then as good as "nobody".
#
my @ways = ('directly', 'by SET ROLE', 'in its function', 'in another function');

#
# What.  Functions by their name and the arguments that have to be given, who
# may call them, what they get (* is anything but 42501), and the call.  All
# others get 42501.
#
my $functions = <<'END';
create_queue(text)                        | OWN     | ok    | SELECT queue.create_queue('shop.fresh')
create_queue(text)                        | OWN     | 42710 | SELECT queue.create_queue('shop.desk')
create_queue(text)                        | OWN     | 42P07 | SELECT queue.create_queue('shop.plain')
create_queue(text)                        | OWN     | ok    | SELECT queue.create_queue('shop.fresh', dead_letter => 'shop.desk_dead')
create_queue(text)                        | SUPER   | ok    | SELECT queue.create_queue('shop.fresh', dead_letter => 'shop.alien')
create_queue(text)                        | SUPER   | *     | SELECT queue.create_queue('queue.fresh')
create_queue(text)                        | ANYBODY | 42P16 | SELECT queue.create_queue('pg_temp.fresh')
alter_queue(regclass)                     | OWN     | ok    | SELECT queue.alter_queue('shop.desk', max_attempts => 7)
alter_queue(regclass)                     | OWN     | 42809 | SELECT queue.alter_queue('shop.plain', max_attempts => 7)
alter_queue(regclass)                     | SUPER   | ok    | SELECT queue.alter_queue('shop.desk', dead_letter => 'shop.alien')
alter_queue(regclass)                     | SUPER   | ok    | SELECT queue.alter_queue('shop.alien', dead_letter => 'shop.desk')
drop_queue(regclass)                      | OWN     | ok    | SELECT queue.drop_queue('shop.desk')
drop_queue(regclass)                      | OWN     | 42809 | SELECT queue.drop_queue('shop.plain')
drop_queue(regclass)                      | SUPER   | ok    | SELECT queue.drop_queue('shop.alien')
purge(regclass)                           | OWN     | ok    | SELECT queue.purge('shop.desk')
purge(regclass)                           | OWN     | ok    | SELECT queue.purge('shop.desk_dead')
pause(regclass)                           | OWN     | ok    | SELECT queue.pause('shop.desk')
resume(regclass)                          | OWN     | ok    | SELECT queue.resume('shop.desk')
enqueue(regclass,jsonb)                   | INSERT  | ok    | SELECT queue.enqueue('shop.jobs', '{}'::jsonb)
enqueue(regclass,jsonb)                   | WRITE_ALL| ok   | SELECT queue.enqueue('shop.jobs_dead', '{}'::jsonb)
enqueue(regclass,jsonb)                   | INSERT  | 42809 | SELECT queue.enqueue('shop.plain', '{}'::jsonb)
enqueue(regclass,jsonb)                   | SUPER   | 42809 | SELECT queue.enqueue('pg_catalog.pg_authid', '{}'::jsonb)
enqueue(regclass,json)                    | INSERT  | ok    | SELECT queue.enqueue('shop.jobs', '{}'::json)
enqueue(regclass,json)                    | WRITE_ALL| ok   | SELECT queue.enqueue('shop.jobs_dead', '{}'::json)
enqueue(regclass,text)                    | INSERT  | ok    | SELECT queue.enqueue('shop.jobs', '{}'::text)
enqueue(regclass,text)                    | WRITE_ALL| ok   | SELECT queue.enqueue('shop.jobs_dead', '{}'::text)
enqueue_batch(regclass,jsonb[])           | INSERT  | ok    | SELECT queue.enqueue_batch('shop.jobs', ARRAY['1', '2']::jsonb[])
enqueue_batch(regclass,jsonb[])           | INSERT  | ok    | SELECT queue.enqueue_batch('shop.jobs', '{}')
enqueue_once(regclass,jsonb,text)         | INSERT  | 55000 | SELECT queue.enqueue_once('shop.jobs', '{}', 'k')
enqueue_bytes(regclass,bytea)             | INSERT  | ok    | SELECT queue.enqueue_bytes('shop.jobs', 'x')
enqueue_bytes_batch(regclass,bytea[])     | INSERT  | ok    | SELECT queue.enqueue_bytes_batch('shop.jobs', ARRAY['x']::bytea[])
create_topic(text)                        | OWN     | ok    | SELECT queue.create_topic('shop.fresh')
create_topic(text)                        | OWN     | 42710 | SELECT queue.create_topic('shop.news')
create_topic(text)                        | OWN     | 42P07 | SELECT queue.create_topic('shop.desk')
create_topic(text)                        | SUPER   | *     | SELECT queue.create_topic('queue.fresh')
alter_topic(regclass)                     | OWN     | ok    | SELECT queue.alter_topic('shop.news', max_bytes => 7)
alter_topic(regclass)                     | OWN     | 42809 | SELECT queue.alter_topic('shop.desk', max_bytes => 7)
drop_topic(regclass)                      | OWN     | ok    | SELECT queue.drop_topic('shop.news')
drop_topic(regclass)                      | OWN     | 42809 | SELECT queue.drop_topic('shop.desk')
subscribe(regclass,text)                  | OWN     | ok    | SELECT queue.subscribe('shop.news', 'shop.fresh')
subscribe(regclass,text)                  | OWN     | 42710 | SELECT queue.subscribe('shop.news', 'shop.watch')
subscribe(regclass,text)                  | OWN     | 42P07 | SELECT queue.subscribe('shop.news', 'shop.desk')
subscribe(regclass,text)                  | SELECT  | 42809 | SELECT queue.subscribe('shop.desk', 'shop.fresh')
subscribe(regclass,text)                  | SELECT  | 42P16 | SELECT queue.subscribe('shop.news', 'pg_temp.fresh')
subscribe(regclass,text)                  | OWN     | ok    | SELECT queue.subscribe('shop.news', 'shop.fresh', dead_letter => 'shop.desk_dead')
subscribe(regclass,text)                  | SUPER   | ok    | SELECT queue.subscribe('shop.news', 'shop.fresh', dead_letter => 'shop.alien')
alter_subscription(regclass)              | OWN     | ok    | SELECT queue.alter_subscription('shop.watch', max_attempts => 7)
alter_subscription(regclass)              | OWN     | 42809 | SELECT queue.alter_subscription('shop.desk', max_attempts => 7)
alter_subscription(regclass)              | SUPER   | ok    | SELECT queue.alter_subscription('shop.watch', dead_letter => 'shop.alien')
drop_queue(regclass)                      | OWN     | ok    | SELECT queue.drop_queue('shop.watch')
pause(regclass)                           | OWN     | ok    | SELECT queue.pause('shop.watch')
resume(regclass)                          | OWN     | ok    | SELECT queue.resume('shop.watch')
alter_queue(regclass)                     | OWN     | 42809 | SELECT queue.alter_queue('shop.watch', max_attempts => 7)
purge(regclass)                           | OWN     | 42809 | SELECT queue.purge('shop.watch')
enqueue(regclass,jsonb)                   | INSERT  | 42809 | SELECT queue.enqueue('shop.watch', '{}'::jsonb)
publish(regclass,jsonb)                   | INSERT  | 42809 | SELECT queue.publish('shop.watch', '{}'::jsonb)
publish(regclass,jsonb)                   | INSERT  | ok    | SELECT queue.publish('shop.news', '{}'::jsonb)
publish(regclass,jsonb)                   | INSERT  | 42809 | SELECT queue.publish('shop.desk', '{}'::jsonb)
publish(regclass,json)                    | INSERT  | ok    | SELECT queue.publish('shop.news', '{}'::json)
publish(regclass,text)                    | INSERT  | ok    | SELECT queue.publish('shop.news', '{}'::text)
publish_batch(regclass,jsonb[])           | INSERT  | ok    | SELECT queue.publish_batch('shop.news', ARRAY['1', '2']::jsonb[])
publish_batch(regclass,jsonb[])           | INSERT  | ok    | SELECT queue.publish_batch('shop.news', '{}')
publish_bytes(regclass,bytea)             | INSERT  | ok    | SELECT queue.publish_bytes('shop.news', 'x')
publish_bytes_batch(regclass,bytea[])     | INSERT  | ok    | SELECT queue.publish_bytes_batch('shop.news', ARRAY['x']::bytea[])
bind(regclass,regclass)                   | OWN     | ok    | SELECT queue.bind('shop.news', 'shop.desk')
bind(regclass,regclass)                   | OWN     | 42809 | SELECT queue.bind('shop.desk', 'shop.desk')
unbind(regclass,regclass)                 | ANYBODY | ok    | SELECT queue.unbind('shop.news', 'shop.desk')
route(regclass)                           | OWN     | ok    | SELECT * FROM queue.route('shop.news')
skipped(regclass,regclass)                | INTERNAL | ok    | SELECT * FROM queue_internal.skipped('shop.news', 'shop.desk')
read(regclass,bigint,bigint)              | SELECT  | ok    | SELECT * FROM queue.read('shop.news', 0, 10)
read(regclass,bigint,bigint)              | SELECT  | 42809 | SELECT * FROM queue.read('shop.desk', 0, 10)
stable_id(regclass)                       | SELECT  | ok    | SELECT queue.stable_id('shop.news')
partition_limits(regclass)                | INTERNAL | ok    | SELECT * FROM queue_internal.partition_limits('shop.news')
partition_positions(regclass)             | INTERNAL | ok    | SELECT * FROM queue_internal.partition_positions('shop.watch')
seek(regclass)                            | OWN     | ok    | SELECT queue.seek('shop.watch', 'begin')
seek(regclass)                            | OWN     | 42809 | SELECT queue.seek('shop.desk', 'begin')
skip(regclass,integer)                    | OWN     | ok    | SELECT queue.skip('shop.watch', 0)
browse(regclass)                          | READ_ALL| ok    | SELECT * FROM queue.browse('shop.watch')
get(regclass,bigint)                      | READ_ALL| ok    | SELECT * FROM queue.get('shop.watch', 1)
why(regclass,bigint)                      | WATCH   | ok    | SELECT * FROM queue.why('shop.watch', 1)
why(regclass,bigint)                      | WATCH   | ok    | SELECT * FROM queue.why('shop.news', 1)
why(regclass,bigint)                      | WATCH   | ok    | SELECT * FROM queue.why('shop.jobs', 1)
enqueue(regclass,jsonb)                   | INSERT  | 42809 | SELECT queue.enqueue('shop.news', '{}'::jsonb)
dequeue(regclass)                         | TAKE    | 42809 | SELECT * FROM queue.dequeue('shop.news')
browse(regclass)                          | SELECT  | 42809 | SELECT * FROM queue.browse('shop.news')
purge(regclass)                           | OWN     | 42809 | SELECT queue.purge('shop.news')
reschedule(regclass,bigint,timestamp with time zone) | TAKE | ok    | SELECT queue.reschedule('shop.jobs', 1, now())
cancel(regclass,bigint)                   | TAKE    | ok    | SELECT queue.cancel('shop.jobs', 1)
wait_for_room(regclass,interval)          | INSERT  | ok    | CALL queue.wait_for_room('shop.jobs', '0')
dequeue(regclass)                         | TAKE    | ok    | SELECT * FROM queue.dequeue('shop.jobs')
dequeue(regclass)                         | OWN     | ok    | SELECT * FROM queue.dequeue('shop.jobs_dead')
dequeue(regclass)                         | TAKE    | ok    | SELECT * FROM queue.dequeue('shop.empty')
dequeue(regclass)                         | TAKE    | ok    | SELECT * FROM queue.dequeue('shop.empty', wait => '1 ms')
receive(regclass)                         | TAKE    | ok    | SELECT * FROM queue.receive('shop.jobs')
receive(regclass)                         | OWN     | ok    | SELECT * FROM queue.receive('shop.jobs_dead')
receive(regclass)                         | TAKE    | ok    | SELECT * FROM queue.receive('shop.empty')
browse(regclass)                          | SELECT  | ok    | SELECT * FROM queue.browse('shop.jobs')
browse(regclass)                          | READ_ALL| ok    | SELECT * FROM queue.browse('shop.jobs_dead')
get(regclass,bigint)                      | SELECT  | ok    | SELECT * FROM queue.get('shop.jobs', 1)
wait(regclass,interval)                   | TAKE    | ok    | CALL queue.wait('shop.jobs'::regclass, '0')
wait(regclass,interval)                   | TAKE    | ok    | CALL queue.wait('shop.empty'::regclass, '0')
wait(text,interval)                       | TAKE    | ok    | CALL queue.wait('shop.jobs', '0')
wait(regclass[],interval)                 | TAKE    | ok    | CALL queue.wait(ARRAY['shop.empty', 'shop.jobs']::regclass[], '0')
wait(regclass[],interval)                 | OWN     | ok    | CALL queue.wait(ARRAY['shop.empty', 'shop.jobs_dead']::regclass[], '0')
ack(text)                                 | TAKE    | ok    | SELECT queue.ack(:'receipt')
ack(text)                                 | OWN     | ok    | SELECT queue.ack(:'dead_receipt')
ack(text)                                 | ANYBODY | QU004 | SELECT queue.ack('nonsense')
ack(text[])                               | TAKE    | ok    | SELECT queue.ack(ARRAY[:'receipt'])
ack(text[])                               | OWN     | ok    | SELECT queue.ack(ARRAY[:'receipt', :'dead_receipt'])
nack(text)                                | TAKE    | ok    | SELECT queue.nack(:'receipt', error => 'seen')
nack(text)                                | OWN     | ok    | SELECT queue.nack(:'dead_receipt', '0')
nack(text[])                              | TAKE    | ok    | SELECT queue.nack(ARRAY[:'receipt'])
release(text)                             | TAKE    | ok    | SELECT queue.release(:'receipt')
release(text[])                           | TAKE    | ok    | SELECT queue.release(ARRAY[:'receipt'])
reject(text,text)                         | TAKE    | ok    | SELECT queue.reject(:'receipt', 'seen')
reject(text[],text)                       | TAKE    | ok    | SELECT queue.reject(ARRAY[:'receipt'], 'seen')
extend(text,interval)                     | TAKE    | ok    | SELECT queue.extend(:'receipt', '1 h')
extend(text[],interval)                   | TAKE    | ok    | SELECT queue.extend(ARRAY[:'receipt'], '1 h')
fail(text)                                | ANYBODY | ok    | SELECT queue.fail('seen')
release_group(regclass,text)              | TAKE    | ok    | SELECT queue.release_group('shop.jobs', 'g')
end_lease(regclass,bigint)                | OWN     | ok    | SELECT queue.end_lease('shop.jobs', 987654)
end_lease(regclass,bigint)                | OWN     | ok    | SELECT queue.end_lease('shop.watch', 1)
redrive(regclass)                         | OWN     | ok    | SELECT queue.redrive('shop.jobs_dead')
redrive_all(regclass)                     | OWN     | 2D000 | CALL queue.redrive_all('shop.jobs_dead')
reset_stats()                             | SUPER   | ok    | SELECT queue.reset_stats()
reset_stats()                             | OWN     | ok    | SELECT queue.reset_stats('shop.desk')
counts(regclass)                          | ANYBODY | ok    | SELECT queue.counts('shop.jobs')
problem(regclass)                         | ANYBODY | ok    | SELECT queue.problem('shop.jobs')
definition(regclass)                      | ANYBODY | ok    | SELECT queue.definition('shop.jobs')
messages_support(internal)                | INTERNAL | 42883 | SELECT queue_internal.messages_support(NULL)
in_flight()                               | INTERNAL | ok    | SELECT * FROM queue_internal.in_flight()
stopped_groups(regclass)                  | INTERNAL | ok    | SELECT * FROM queue_internal.stopped_groups('shop.jobs')
cover()                                   | INTERNAL | ok    | SELECT * FROM queue_internal.cover()
prepared()                                | INTERNAL | ok    | SELECT * FROM queue_internal.prepared()
vacuums()                                 | INTERNAL | ok    | SELECT * FROM queue_internal.vacuums()
kind(regclass)                            | INTERNAL | ok    | SELECT queue_internal.kind('shop.jobs')
qualified_name(oid)                       | INTERNAL | ok    | SELECT queue_internal.qualified_name('shop.jobs'::regclass)
arguments(json,json)                      | INTERNAL | ok    | SELECT queue_internal.arguments('{}', '{}')
queue_settings(oid)                       | INTERNAL | ok    | SELECT queue_internal.queue_settings('shop.jobs'::regclass)
new_settings()                            | INTERNAL | ok    | SELECT queue_internal.new_settings()
table_definition(oid,text)                | INTERNAL | ok    | SELECT queue_internal.table_definition('shop.jobs'::regclass, 'queue')
bindings_definition(oid)                  | INTERNAL | ok    | SELECT queue_internal.bindings_definition('shop.jobs'::regclass)
pause_definition(oid)                     | INTERNAL | ok    | SELECT queue_internal.pause_definition('shop.jobs'::regclass)
dead_letter_definition(oid,oid,boolean,json) | INTERNAL | ok    | SELECT queue_internal.dead_letter_definition('shop.jobs'::regclass, NULL, false, NULL)
queue_definition(oid)                     | INTERNAL | ok    | SELECT queue_internal.queue_definition('shop.jobs'::regclass)
topic_definition(oid)                     | INTERNAL | ok    | SELECT queue_internal.topic_definition('shop.news'::regclass)
subscription_definition(oid)              | INTERNAL | ok    | SELECT queue_internal.subscription_definition('shop.watch'::regclass)
counters()                                | INTERNAL | ok    | SELECT * FROM queue_internal.counters()
latencies()                               | INTERNAL | ok    | SELECT * FROM queue_internal.latencies()
leases()                                  | INTERNAL | ok    | SELECT * FROM queue_internal.leases()
waiters()                                 | INTERNAL | ok    | SELECT * FROM queue_internal.waiters()
workers()                                 | INTERNAL | ok    | SELECT * FROM queue_internal.workers()
progress()                                | INTERNAL | ok    | SELECT * FROM queue_internal.progress()
server_state()                            | INTERNAL | ok    | SELECT * FROM queue_internal.server_state()
held_back()                               | INTERNAL | ok    | SELECT * FROM queue_internal.held_back()
is_vacuum(integer)                        | INTERNAL | ok    | SELECT queue_internal.is_vacuum(0)
stuck_messages()                          | INTERNAL | ok    | SELECT * FROM queue_internal.stuck_messages()
in_flight_used(oid,oid)                   | INTERNAL | ok    | SELECT queue_internal.in_flight_used(0, 'shop.jobs'::regclass)
problems(regclass)                        | INTERNAL | ok    | SELECT queue_internal.problems('shop.jobs')
set_command(text,text,boolean)            | INTERNAL | ok    | SELECT queue_internal.set_command('fsync', 'on', false)
subscription_state(regclass,timestamp with time zone) | INTERNAL | ok    | SELECT * FROM queue_internal.subscription_state('shop.watch', now())
topic_violations(regclass)                | INTERNAL | ok    | SELECT queue_internal.topic_violations('shop.news')
health_of_cleanup(boolean)                | INTERNAL | ok    | SELECT * FROM queue_internal.health_of_cleanup(true)
health_of_queues(boolean)                 | INTERNAL | ok    | SELECT * FROM queue_internal.health_of_queues(true)
health_of_server(boolean)                 | INTERNAL | ok    | SELECT * FROM queue_internal.health_of_server(true)
health_of_stats(boolean)                  | INTERNAL | ok    | SELECT * FROM queue_internal.health_of_stats(true)
health_of_topics(boolean)                 | INTERNAL | ok    | SELECT * FROM queue_internal.health_of_topics(true)
health_of_transactions(boolean)           | INTERNAL | ok    | SELECT * FROM queue_internal.health_of_transactions(true)
health_of_library()                       | INTERNAL | ok    | SELECT * FROM queue_internal.health_of_library()
health_of_settings()                      | INTERNAL | ok    | SELECT * FROM queue_internal.health_of_settings()
horizon()                                 | INTERNAL | ok    | SELECT * FROM queue_internal.horizon()
identity()                                | ANYBODY | ok    | SELECT queue.identity()
branch(text,name,text)                    | ANYBODY | ok    | SELECT queue.branch('hub', 'stock', 'g')
before_insert()                           | ANYBODY | 39P01 | SELECT queue.before_insert()
before_update()                           | ANYBODY | 39P01 | SELECT queue.before_update()
before_publish()                          | ANYBODY | 39P01 | SELECT queue.before_publish()
before_topic_update()                     | ANYBODY | 39P01 | SELECT queue.before_topic_update()
before_subscription_insert()              | ANYBODY | 39P01 | SELECT queue.before_subscription_insert()
before_subscription_change()              | ANYBODY | 39P01 | SELECT queue.before_subscription_change()
restore_subscriptions()                   | SUPER   | 39P01 | SELECT queue_internal.restore_subscriptions()
restore_topics()                          | SUPER   | 39P01 | SELECT queue_internal.restore_topics()
restore_bindings()                        | SUPER   | 39P01 | SELECT queue_internal.restore_bindings()
invalidate_definition()                   | SUPER   | 39P01 | SELECT queue_internal.invalidate_definition()
restore_settings()                        | SUPER   | 39P01 | SELECT queue_internal.restore_settings()
begin_global(text,interval,name[])        | SUPER   | 25001 | CALL queue.begin_global('g', '1 s', ARRAY['boss'])
decide_commit(text)                       | SUPER   | 25001 | CALL queue.decide_commit('g')
decide_abort(text)                        | SUPER   | 25001 | CALL queue.decide_abort('g')
ask_decision(name,text)                   | SUPER   | 25001 | CALL queue.ask_decision('boss', 'g')
report_finished(name,text[])              | SUPER   | 25001 | CALL queue.report_finished('boss', ARRAY['g'])
health()                                  | ANYBODY | ok    | SELECT * FROM queue.health()
forget_globals()                          | SUPER   | ok    | SELECT queue_internal.forget_globals()
write_begin(oid,text,interval,oid[])      | SUPER   | ok    | SELECT queue_internal.write_begin(10, 'h', '1 s', '{10}')
write_decision(oid,text,text)             | SUPER   | ok    | SELECT queue_internal.write_decision(10, 'g', 'commit')
write_participant(oid,text)               | SUPER   | ok    | SELECT queue_internal.write_participant(10, 'here')
write_answer(oid,oid,text,text)           | SUPER   | *     | SELECT queue_internal.write_answer(10, 10, 'g', 'here')
write_finished(oid,oid,text[],text)       | SUPER   | ok    | SELECT queue_internal.write_finished(10, 10, '{g}', 'here')
write_outcomes(text,text[],text[],timestamp with time zone) | SUPER | ok | SELECT queue_internal.write_outcomes('x', '{}', '{}', now())
write_missing(text,text[],oid)            | SUPER   | ok    | SELECT queue_internal.write_missing('x', '{}', 10)
END

#
# Tables and views of the schema, with all their columns, and who may read them.
# Nobody but superusers writes them, by whatever statement: for the others a
# statement fails, or changes no row.
#
my $relations = <<'END';
queue               | ANYBODY   | queue lease max_attempts retry_delay retry_max_delay dead_letter own_dead_letter enqueue_paused dequeue_paused max_lease expires_in on_expiry group_mode group_failure dedup_window max_messages max_bytes on_full max_in_flight key_table
queues              | ANYBODY   | queue schemaname queuename owner lease max_attempts retry_delay retry_max_delay max_lease expires_in on_expiry group_mode group_failure dedup_window max_messages max_bytes on_full max_in_flight dead_letter dead_letter_of enqueue_paused dequeue_paused unlogged
stats               | ANYBODY   | queue schemaname queuename ready delayed in_flight retrying dead in_doubt oldest_ready_at enqueued delivered acked failed expired dead_lettered stats_reset enqueued_per_second delivered_per_second acked_per_second failed_per_second waiting bytes counted_at
latency             | ANYBODY   | queue schemaname queuename kind messages p50 p90 p99 max buckets bounds
top                 | ANYBODY   | queue schemaname queuename ready age busy later retry dead doubt in_s out_s fail_s idle
in_flight           | ANYBODY   | queue schemaname queuename id state pid lease_until failures due_at
held_groups         | ANYBODY   | queue schemaname queuename group_key id failures waiting failed_at last_error
leases              | ANYBODY   | queue schemaname queuename id partition last_id role application_name client_addr pid since until
waiters             | ANYBODY   | queue schemaname queuename pid role application_name client_addr since until wants
workers             | ANYBODY   | pid kind database activity since started_at last_error_at last_error
cover               | ANYBODY   | queue schemaname queuename ranges ready_groups later busy looking waiting next_due healed expired
storage             | ANYBODY   | queue schemaname queuename table_size index_size toast_size live_rows dead_rows vacuums vacuumed_at held_back horizon_kind horizon_pid horizon_name horizon_since horizon_xmin horizon_age
progress            | ANYBODY   | pid queue schemaname queuename command done total started_at
in_doubt            | ANYBODY   | gid owner database transaction prepared_at age queues horizon_age blocked transaction_manager format_id gtrid bqual deciding_database decision commit_command rollback_command
global_transactions | ANYBODY   | coordinator gid decision deadline is_over participants unfinished begun_at decided_at decided_by
branches            | ANYBODY   | branch deciding_database participant gid owner prepared status
forced_outcomes     | ANYBODY   | branch outcome finished_by finished_at decision
lease               | READ_ONLY | queue id enqueued_at epoch number deadline
restored_settings   | READ_ONLY | queue lease max_attempts retry_delay retry_max_delay dead_letter own_dead_letter enqueue_paused dequeue_paused max_lease expires_in on_expiry group_mode group_failure dedup_window max_messages max_bytes on_full max_in_flight key_table
topic               | ANYBODY   | topic partitions retention max_bytes keep_unread
topics              | ANYBODY   | topic schemaname topicname owner partitions retention max_bytes keep_unread partition limit_id next_id held_back_by held_back_since
restored_topics     | READ_ONLY | topic partitions retention max_bytes keep_unread
binding             | ANYBODY   | topic queue pattern selector on_refusal bound_by
bindings            | ANYBODY   | topic queue schemaname queuename pattern selector on_refusal bound_by skipped skipped_at last_refusal
restored_bindings   | READ_ONLY | topic queue pattern selector on_refusal bound_by
subscriptions       | ANYBODY   | subscription schemaname subscriptionname topic owner pattern selector on_failure on_gap idle_after lease max_attempts retry_delay retry_max_delay dead_letter paused partition position behind behind_since failures held_by held_since held_until
subscription        | ANYBODY   | subscription topic pattern selector on_failure on_gap idle_after lease max_attempts retry_delay retry_max_delay dead_letter own_dead_letter paused
restored_subscriptions | READ_ONLY | subscription topic pattern selector on_failure on_gap idle_after lease max_attempts retry_delay retry_max_delay dead_letter own_dead_letter paused
lease_log           | READ_ONLY | seq queue id enqueued_at epoch number deadline failures group_hash since role application_name
prepared_note       | READ_ONLY | relation partition first_id last_id messages since
topic_stable        | READ_ONLY | topic stable_id
topic_removed       | READ_ONLY | topic partition removed_id
global_transaction  | READ_ONLY | gid coordinator decision deadline participants unfinished begun_at decided_at decided_by
participant_database| READ_ONLY | participant database
deciding_database   | READ_ONLY | name participant coordinator owner connection password_required registered_in identity last_error
outcome             | READ_ONLY | branch outcome finished_by by_owner finished_at decision
committed_branch    | READ_ONLY | branch owner prepared_at
END

#
# Columns of a queue table, who may give a value in INSERT, what he gets, who
# may change it, and a value.  A superuser may not do everything: the server's
# columns change by its functions only.
#
my $columns = <<'END';
id             | OWN    | ok    | NOBODY | 1000001
priority       | INSERT | ok    | UPDATE | 7
failures       | OWN    | ok    | NOBODY | 3
enqueued_at    | OWN    | ok    | NOBODY | '2020-02-02'
visible_at     | INSERT | ok    | NOBODY | '2020-02-02'
expires_at     | INSERT | ok    | NOBODY | '2020-02-02'
group_key      | INSERT | ok    | NOBODY | 'k'
correlation_id | INSERT | ok    | UPDATE | 'k'
dedup_key      | INSERT | 55000 | NOBODY | 'k'
sender         | OWN    | ok    | NOBODY | 'k'
content_type   | INSERT | ok    | UPDATE | 'k'
headers        | INSERT | ok    | UPDATE | '{}'
payload        | INSERT | ok    | UPDATE | '{}'
body           | INSERT | ok    | UPDATE | NULL
failure_log    | OWN    | ok    | NOBODY | '[]'
END

#
# Columns of a topic table, in the same way.  Nobody changes any.  An id must be
# beyond those that were given before.
#
my $topic_columns = <<'END';
partition      | OWN    | ok    | NOBODY | 3
id             | OWN    | ok    | NOBODY | (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
published_at   | OWN    | ok    | NOBODY | '2020-02-02'
routing_key    | INSERT | ok    | NOBODY | 'k'
group_key      | INSERT | ok    | NOBODY | 'k'
correlation_id | INSERT | ok    | NOBODY | 'k'
content_type   | INSERT | ok    | NOBODY | 'k'
sender         | OWN    | ok    | NOBODY | 'k'
headers        | INSERT | ok    | NOBODY | '{}'
payload        | INSERT | ok    | NOBODY | '{}'
body           | INSERT | ok    | NOBODY | NULL
END

#
# Statements on a queue: who may, what he gets directly or by SET ROLE, what he
# gets within a function if that differs, the statement.  Behind "--?" stands
# what is true then if it was done, where the server says no more than a warning
# to those who may not.
#
my $statements = <<'END';
INSERT   | ok    |       | INSERT INTO shop.desk (payload) VALUES ('{}')
INSERT   | ok    |       | INSERT INTO shop.desk (payload) SELECT to_jsonb(i) FROM generate_series(1, 3) i
INSERT   | ok    |       | INSERT INTO shop.desk (payload) VALUES ('{}') ON CONFLICT DO NOTHING
OWN      | ok    |       | INSERT INTO shop.desk (payload) VALUES ('{}') RETURNING id
WRITE_ALL| ok    |       | INSERT INTO shop.desk_dead (payload) VALUES ('{}')
OWN      | ok    |       | INSERT INTO shop.desk SELECT * FROM shop.empty
INSERT   | ok    |       | MERGE INTO shop.desk USING (VALUES (1)) v ON false WHEN NOT MATCHED THEN INSERT (payload) VALUES ('{}')
SELECT   | ok    |       | SELECT * FROM shop.desk
SELECT   | ok    |       | SELECT count(*) FROM shop.desk
SELECT   | ok    |       | TABLE shop.desk
READ_ALL | ok    |       | SELECT * FROM shop.desk_dead
TAKE     | ok    |       | DELETE FROM shop.desk WHERE id > 0
TAKE     | ok    |       | DELETE FROM shop.desk RETURNING payload
DELETE   | ok    |       | DELETE FROM shop.desk
WRITE_ALL| ok    |       | DELETE FROM shop.desk_dead
OWN      | ok    |       | UPDATE shop.desk SET payload = payload
OWN      | ok    |       | SELECT * FROM shop.desk FOR UPDATE
OWN      | ok    |       | SELECT * FROM shop.desk FOR KEY SHARE
DELETE   | ok    |       | LOCK TABLE shop.desk IN ACCESS EXCLUSIVE MODE
INSERT   | ok    | 0A000 | COPY shop.desk (payload) FROM STDIN
OWN      | ok    | 0A000 | COPY shop.desk (id, payload) FROM STDIN --? EXISTS (SELECT FROM shop.desk WHERE id = 1000001)
SELECT   | ok    | 0A000 | COPY shop.desk TO STDOUT
SELECT   | ok    | 0A000 | COPY (SELECT payload FROM shop.desk) TO STDOUT
READ_ALL | ok    | 0A000 | COPY shop.desk_dead TO STDOUT
OWN      | ok    |       | TRUNCATE shop.desk
OWN      | ok    |       | TRUNCATE shop.desk RESTART IDENTITY
OWN      | ok    |       | DROP TABLE shop.desk
OWN      | ok    |       | DROP TABLE shop.desk_dead
OWN      | 2BP01 |       | DROP INDEX shop.desk_pkey
OWN      | ok    |       | DROP SEQUENCE shop.desk_id_seq
OWN      | ok    |       | DROP TRIGGER queue_insert ON shop.desk
OWN      | ok    |       | ALTER TABLE shop.desk RENAME TO table_top
OWN      | ok    |       | ALTER TABLE shop.desk SET SCHEMA attic
HEIR     | ok    |       | ALTER TABLE shop.desk OWNER TO heir
OWN      | ok    |       | ALTER TABLE shop.desk SET (fillfactor = 50)
OWN      | ok    |       | ALTER TABLE shop.desk ALTER COLUMN payload SET STATISTICS 10
OWN      | ok    |       | ALTER TABLE shop.desk ALTER COLUMN payload SET STORAGE EXTERNAL
OWN      | ok    |       | ALTER TABLE shop.desk REPLICA IDENTITY FULL
OWN      | ok    |       | ALTER TABLE shop.desk CLUSTER ON desk_pkey
OWN      | ok    |       | ALTER TABLE shop.desk SET TABLESPACE pg_default
OWN      | ok    |       | ALTER TABLE shop.desk SET UNLOGGED
OWN      | 42809 |       | ALTER TABLE shop.desk ADD COLUMN extra int
OWN      | 42809 |       | ALTER TABLE shop.desk DROP COLUMN headers
OWN      | 42809 |       | ALTER TABLE shop.desk RENAME COLUMN headers TO h
OWN      | 42809 |       | ALTER TABLE shop.desk ALTER COLUMN enqueued_at DROP NOT NULL
OWN      | 42809 |       | ALTER TABLE shop.desk ALTER COLUMN headers SET DEFAULT '{}'
OWN      | 42809 |       | ALTER TABLE shop.desk ADD CHECK (id > 0)
OWN      | ok    |       | ALTER TABLE shop.desk DROP CONSTRAINT desk_pkey
OWN      | ok    |       | ALTER TABLE shop.desk DISABLE TRIGGER queue_insert
OWN      | ok    |       | ALTER TABLE shop.desk DISABLE TRIGGER ALL
OWN      | 42809 |       | ALTER TABLE shop.desk ENABLE ROW LEVEL SECURITY
OWN      | 42809 |       | ALTER TABLE shop.desk INHERIT shop.empty
OWN      | 42809 |       | CREATE TABLE attic.child () INHERITS (shop.desk)
OWN      | 42809 |       | CREATE TRIGGER t BEFORE INSERT ON shop.desk FOR EACH ROW EXECUTE FUNCTION lab.noop()
OWN      | 42809 |       | CREATE RULE r AS ON INSERT TO shop.desk DO INSTEAD NOTHING
OWN      | 42809 |       | CREATE POLICY p ON shop.desk USING (true)
OWN      | 42809 |       | CREATE TABLE attic.refers (p int2, i int8, FOREIGN KEY (p, i) REFERENCES shop.desk)
OWN      | 42809 |       | CREATE UNIQUE INDEX ON shop.desk (correlation_id)
OWN      | ok    |       | CREATE INDEX ON shop.desk (correlation_id)
OWN      | ok    |       | CREATE STATISTICS attic.s ON priority, failures FROM shop.desk
SUPER    | ok    |       | CREATE PUBLICATION p FOR ALL TABLES
OWN      | ok    |       | COMMENT ON TABLE shop.desk IS 'x'
OWN      | ok    |       | COMMENT ON COLUMN shop.desk.payload IS 'x'
OWN      | ok    |       | GRANT SELECT ON shop.desk TO witness --? has_table_privilege('witness', 'shop.desk', 'SELECT')
OWN      | ok    |       | GRANT INSERT (payload) ON shop.desk TO witness --? has_column_privilege('witness', 'shop.desk', 'payload', 'INSERT')
OWN      | ok    |       | GRANT ALL ON shop.desk_dead TO witness --? has_table_privilege('witness', 'shop.desk_dead', 'SELECT')
OWN      | ok    |       | REVOKE ALL ON shop.desk FROM viewer --? NOT has_table_privilege('viewer', 'shop.desk', 'SELECT')
OWN      | ok    |       | CLUSTER shop.desk USING desk_pkey
OWN      | ok    |       | REINDEX TABLE shop.desk
OWN      | ok    |       | REINDEX INDEX shop.desk_pkey
OWN      | ok    |       | ANALYZE shop.desk --? EXISTS (SELECT FROM pg_statistic WHERE starelid = 'shop.desk'::regclass AND txid_status(xmin::text::bigint) = 'in progress')
WRITE_ALL| ok    |       | SELECT nextval('shop.desk_id_seq')
WRITE_ALL| ok    |       | SELECT setval('shop.desk_id_seq', 1000000)
READ_ALL | ok    |       | SELECT * FROM shop.desk_id_seq
OWN      | ok    |       | ALTER SEQUENCE shop.desk_id_seq RESTART WITH 1000000
OWN      | 42809 |       | ALTER SEQUENCE shop.desk_id_seq CACHE 10
OWN      | 42809 |       | ALTER SEQUENCE shop.desk_id_seq SET UNLOGGED
OWN      | ok    |       | ALTER SEQUENCE shop.desk_id_seq OWNED BY NONE
OWN      | ok    |       | ALTER SEQUENCE shop.desk_id_seq RENAME TO s
OWN      | ok    |       | GRANT USAGE ON SEQUENCE shop.desk_id_seq TO witness --? has_sequence_privilege('witness', 'shop.desk_id_seq', 'USAGE')
NOBODY   | 25001 |       | VACUUM shop.desk
INSERT   | ok    |       | INSERT INTO shop.news (payload) VALUES ('{}')
OWN      | ok    |       | INSERT INTO shop.news (id, payload) VALUES ((extract(epoch FROM clock_timestamp()) * 1000000)::bigint, '{}')
SELECT   | ok    |       | SELECT * FROM shop.news
DELETE   | ok    |       | DELETE FROM shop.news
INSERT   | ok    | 0A000 | COPY shop.news (payload) FROM STDIN
SELECT   | ok    | 0A000 | COPY shop.news TO STDOUT
OWN      | ok    |       | TRUNCATE shop.news
OWN      | 42809 |       | TRUNCATE shop.news RESTART IDENTITY
OWN      | ok    |       | DROP TABLE shop.news
OWN      | ok    |       | ALTER TABLE shop.news RENAME TO papers
OWN      | ok    |       | ALTER TABLE shop.news SET SCHEMA attic
HEIR     | ok    |       | ALTER TABLE shop.news OWNER TO heir
OWN      | 42809 |       | ALTER TABLE shop.news ADD COLUMN extra int
OWN      | 42809 |       | ALTER TABLE shop.news SET UNLOGGED
OWN      | 42809 |       | ALTER TABLE shop.news ENABLE ROW LEVEL SECURITY
OWN      | 42809 |       | CREATE TRIGGER t BEFORE INSERT ON shop.news FOR EACH ROW EXECUTE FUNCTION lab.noop()
OWN      | 42809 |       | ALTER SEQUENCE shop.news_id_seq RESTART WITH 1000000
SUPER    | 42809 |       | ALTER EXTENSION queue ADD TABLE shop.news
OWN      | ok    |       | INSERT INTO shop.watch VALUES (99, 0, 0, NULL, NULL, now())
SELECT   | ok    |       | SELECT * FROM shop.watch
NOBODY   | ok    |       | UPDATE shop.watch SET position = 1
NOBODY   | ok    |       | UPDATE shop.watch SET failures = failures
NOBODY   | ok    |       | DELETE FROM shop.watch
SELECT   | ok    | 0A000 | COPY shop.watch TO STDOUT
OWN      | 42809 |       | TRUNCATE shop.watch
OWN      | ok    |       | DROP TABLE shop.watch
OWN      | ok    |       | ALTER TABLE shop.watch RENAME TO clock
OWN      | ok    |       | ALTER TABLE shop.watch SET SCHEMA attic
HEIR     | ok    |       | ALTER TABLE shop.watch OWNER TO heir
OWN      | 42809 |       | ALTER TABLE shop.watch ADD COLUMN extra int
OWN      | 42809 |       | ALTER TABLE shop.watch SET UNLOGGED
OWN      | 42809 |       | ALTER TABLE shop.watch ENABLE ROW LEVEL SECURITY
OWN      | 42809 |       | CREATE TRIGGER t BEFORE INSERT ON shop.watch FOR EACH ROW EXECUTE FUNCTION lab.noop()
OWN      | 2BP01 |       | DROP TABLE attic.heard
SUPER    | 42809 |       | ALTER EXTENSION queue ADD TABLE shop.watch
SUPER    | ok    |       | SET session_replication_role = replica
SUPER    | ok    |       | SET queue.max_wait = '1 h'
SUPER    | 42809 |       | ALTER EXTENSION queue ADD TABLE shop.desk
SUPER    | 2BP01 |       | DROP EXTENSION queue
SUPER    | ok    |       | CREATE TABLE queue.mine (a int)
SUPER    | ok    |       | CREATE FUNCTION queue.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'
SUPER    | 0A000 |       | ALTER SCHEMA queue RENAME TO mine
SUPER    | 2BP01 |       | DROP SCHEMA queue
SUPER    | ok    |       | GRANT CREATE ON SCHEMA queue TO witness --? has_schema_privilege('witness', 'queue', 'CREATE')
SUPER    | ok    |       | GRANT EXECUTE ON FUNCTION queue_internal.forget_globals() TO witness --? has_function_privilege('witness', 'queue_internal.forget_globals()', 'EXECUTE')
SUPER    | ok    |       | ALTER FUNCTION queue_internal.forget_globals() SECURITY DEFINER
SUPER    | ok    |       | CREATE FUNCTION attic.f() RETURNS trigger AS '$libdir/queue', 'queue_before_insert' LANGUAGE C
END

# What a statement on a table or view of the schema gets if it does nothing.
my %harmless = map { $_ => 1 } qw(42501 none);
my %harmless_on_view =
  map { $_ => 1 } qw(42501 none 55000 0A000 42809);

my $node = PostgreSQL::Test::Cluster->new('main');
use_node($node, "SET statement_timeout = '120s';");
$node->init;
$node->append_conf(
	'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 10
queue.lease_write_delay = 0
lock_timeout = '10s'
});
$node->start;

#
# The stage.  Payloads and the like contain "jobs-secret", "dead-secret" and so
# on, after their queue, and nothing else does.
#
sql(q{CREATE EXTENSION queue;
	CREATE ROLE owner LOGIN;
	CREATE ROLE sender LOGIN;
	CREATE ROLE viewer LOGIN;
	CREATE ROLE consumer LOGIN;
	CREATE ROLE nobody LOGIN;
	CREATE ROLE monitor LOGIN IN ROLE pg_monitor;
	CREATE ROLE reader LOGIN IN ROLE pg_read_all_data;
	CREATE ROLE writer LOGIN IN ROLE pg_write_all_data;
	CREATE ROLE heir LOGIN IN ROLE owner;
	CREATE ROLE boss LOGIN SUPERUSER;
	CREATE ROLE gateway LOGIN NOINHERIT
		IN ROLE owner, sender, viewer, consumer, nobody, monitor, reader,
			writer, heir, boss;
	CREATE ROLE stranger;
	CREATE ROLE witness;
	CREATE SCHEMA shop AUTHORIZATION owner;
	GRANT USAGE ON SCHEMA shop TO PUBLIC;
	GRANT CREATE ON SCHEMA shop TO stranger;
	CREATE SCHEMA attic;
	GRANT ALL ON SCHEMA attic TO PUBLIC;
	CREATE SCHEMA lab;
	GRANT USAGE ON SCHEMA lab TO PUBLIC;
	CREATE FUNCTION lab.noop() RETURNS trigger LANGUAGE plpgsql
		AS 'BEGIN RETURN NEW; END'});
sql(q{SET ROLE stranger; SELECT queue.create_queue('shop.alien');
	SELECT queue.enqueue('shop.alien', '"alien-secret"');
	SELECT queue.create_queue('shop.alien_doubt')});
sql(q{SET ROLE owner;
	CREATE TABLE shop.plain (a int);
	SELECT queue.create_queue('shop.jobs', max_attempts => 0,
		retry_delay => '1 day', retry_max_delay => '1 day');
	SELECT queue.create_queue('shop.desk');
	SELECT queue.create_queue('shop.empty');
	SELECT queue.create_queue('shop.doubt')});
sql(q{SET ROLE owner; SELECT queue.create_topic('shop.news')});

# A row in each table about topics: a bound queue, a subscription, and what a
# transaction that is over had noted.
sql(q{SET ROLE owner; SELECT queue.create_topic('attic.heard');
	SELECT queue.create_queue('attic.ears');
	SELECT queue.subscribe('attic.heard', 'shop.watch')});
sql(q{SELECT queue.bind('attic.heard', 'attic.ears');
	INSERT INTO queue.topic_removed VALUES (1, 0, 1);
	INSERT INTO queue.prepared_note VALUES (1, NULL, 1, 1, 1, now())});
foreach my $queue (
	qw(shop.jobs shop.desk shop.empty shop.doubt shop.plain shop.news shop.watch))
{
	sql(qq{SET ROLE owner;
		GRANT INSERT ON $queue TO sender;
		GRANT SELECT ON $queue TO viewer;
		GRANT SELECT, DELETE ON $queue TO consumer});
}

sql(q{SELECT queue.publish('shop.news', '"news-secret"',
			headers => '{"h": "news-secret"}', routing_key => 'news-secret')});

# A dead letter, and one message that has failed with a text.
sql(q{SELECT queue.enqueue('shop.desk', '"dead-secret"',
			headers => '{"h": "dead-secret"}', correlation_id => 'dead-secret')});
sql(q{SELECT queue.reject(receipt, 'dead-secret') FROM queue.receive('shop.desk')});
sql(q{SELECT queue.enqueue('shop.desk', '"desk-secret"',
			headers => '{"h": "desk-secret"}', correlation_id => 'desk-secret')});
sql(q{SELECT queue.nack(receipt, '1 ms', 'desk-secret') FROM queue.receive('shop.desk')});
wait_until(q{SELECT failure_log IS NOT NULL FROM shop.desk},
	'the error text is in the row');
sql(q{SELECT queue.enqueue_batch('shop.jobs',
		array_agg('{"p": "jobs-secret"}'::jsonb),
		array_agg('{"h": "jobs-secret"}'::jsonb),
		correlation_ids => array_agg('jobs-secret'::text))
	FROM generate_series(1, 3000)});
sql(q{SELECT queue.enqueue_batch('shop.jobs_dead', array_agg('"dead-secret"'::jsonb))
	FROM generate_series(1, 500)});
sql(q{SELECT FROM queue.receive('shop.jobs', lease => '1 h');
	SELECT FROM queue.receive('shop.jobs_dead', lease => '1 h');
	SELECT FROM queue.receive('shop.alien', lease => '1 h')});
wait_until('SELECT count(*) = 3 FROM queue.lease', 'leases are on disk');

# A prepared transaction, and rows in the tables of global transactions.
sql(q{SELECT queue.enqueue('shop.doubt', '"doubt-secret"')});
sql(q{BEGIN; SELECT FROM queue.dequeue('shop.doubt');
	SELECT FROM queue.enqueue('shop.alien_doubt', '"alien-secret"');
	PREPARE TRANSACTION 'doubt'});
sql(q{SELECT queue_internal.write_begin(10, 'g', '1 h', '{10}');
	SELECT queue_internal.write_participant(10, 'here');
	INSERT INTO queue.committed_branch VALUES ('queue:hub:stock:g', 10, now());
	INSERT INTO queue.outcome VALUES
		('queue:hub:stock:g', 'commit', 'boss', false, now());
	INSERT INTO queue.deciding_database
		(name, participant, coordinator, owner, connection, registered_in)
		VALUES ('hub', 'stock', 'boss', 'stranger',
			'host=nowhere password=connection-secret', 'elsewhere')});

# Which secrets a role may know.
my %reads;
foreach my $set ([ SELECT => qw(jobs desk doubt news) ], [ READ_ALL => 'dead' ],
	[ SUPER => qw(alien connection) ])
{
	my ($who, @what) = @$set;
	push @{ $reads{$_} }, @what foreach @{ $may{$who} };
}
push @{ $reads{reader} }, 'alien';

#
# What statements need: receipts, and the truth about what they have done.
# Receipts of this very transaction are as good as others.
#
sql(q{CREATE FUNCTION lab.receipt(queue regclass) RETURNS text LANGUAGE sql
		SECURITY DEFINER SET search_path = pg_catalog, pg_temp
		AS 'SELECT receipt FROM queue.receive(queue, lease => ''1 h'')';
	CREATE FUNCTION lab.is_true(condition text) RETURNS boolean LANGUAGE plpgsql
		SECURITY DEFINER SET search_path = pg_catalog, pg_temp
		AS 'DECLARE result boolean;
			BEGIN EXECUTE ''SELECT '' || condition INTO result;
			RETURN result; END';
	CREATE TABLE lab.cell (n int PRIMARY KEY, statement text, condition text,
		wants_receipt boolean, wants_dead_receipt boolean);
	GRANT SELECT ON lab.cell TO PUBLIC});

# In a function: each statement in a savepoint, which is rolled back.
my $try_all = q{
	CREATE FUNCTION lab.try_all_NAME()
	RETURNS TABLE (n int, outcome text, said text)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $f$
	#variable_conflict use_column
	DECLARE
		c lab.cell;
		r record;
		nrows bigint;
		detail text;
		hint text;
	BEGIN
		FOR c IN SELECT * FROM lab.cell ORDER BY n LOOP
			n := c.n;
			said := '';
			BEGIN
				IF c.wants_receipt THEN
					c.statement := replace(c.statement, ':''receipt''',
						quote_literal(lab.receipt('shop.jobs')));
				END IF;
				IF c.wants_dead_receipt THEN
					c.statement := replace(c.statement, ':''dead_receipt''',
						quote_literal(lab.receipt('shop.jobs_dead')));
				END IF;
				IF c.statement ~ '^SELECT|^TABLE|RETURNING' THEN
					nrows := 1;
					FOR r IN EXECUTE c.statement LOOP
						said := said || r::text;
					END LOOP;
				ELSE
					EXECUTE c.statement;
					GET DIAGNOSTICS nrows = ROW_COUNT;
				END IF;
				outcome := CASE
					WHEN c.condition <> '' AND NOT lab.is_true(c.condition)
						OR c.statement ~ '^UPDATE|^DELETE' AND nrows = 0
					THEN 'none' ELSE 'ok' END;
				RAISE EXCEPTION 'rolled back' USING ERRCODE = 'UNDO0';
			EXCEPTION WHEN OTHERS THEN
				IF SQLSTATE <> 'UNDO0' THEN
					outcome := SQLSTATE;
					GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL,
						hint = PG_EXCEPTION_HINT;
					said := concat_ws(' ', SQLERRM, detail, hint);
				END IF;
			END;
			RETURN NEXT;
		END LOOP;
	END
	$f$;
	ALTER FUNCTION lab.try_all_NAME() OWNER TO NAME};
foreach my $role (@roles)
{
	(my $create = $try_all) =~ s/NAME/$role/g;
	sql($create);
}

#
# The cells: a statement, and the expected outcome of each role, directly or by
# SET ROLE, and within its function.
#
my @cells;

sub is_in
{
	my ($role, $set) = @_;
	die "no set \"$set\"" unless $may{$set};
	return scalar grep { $_ eq $role } @{ $may{$set} };
}

sub fields { return map { s/^\s+|\s+$//gr } split /\|/, $_[0], $_[1]; }

# "expected" is a sub that tells of a role and an outcome whether it is right,
# and what would be.
sub add_cell
{
	my ($statement, $expected) = @_;
	my ($text, $condition) = split / --\? /, $statement;
	push @cells,
	  {
		statement => $text,
		condition => $condition // '',
		expected  => $expected
	  };
	return;
}

sub add_statement
{
	my ($who, $at_top, $in_function, $statement) = @_;
	add_cell(
		$statement,
		sub {
			my ($role, $outcome, $is_in_function) = @_;
			my $right = is_in($role, $who)
			  || $who eq 'NOBODY' && $at_top ne 'ok'
			  ? ($is_in_function && $in_function ne '' ? $in_function : $at_top)
			  : '42501';
			# the server looks at these before privileges
			$right = $in_function if $is_in_function && $in_function eq '0A000';
			return ($outcome ne '42501' && $outcome ne 'none', 'anything else')
			  if $right eq '*';
			return ($outcome eq $right
				  || $right eq '42501'
				  && $statement =~ / --\? /
				  && $outcome eq 'none', $right);
		});
	return;
}

my %described;
foreach my $line (split /\n/, $functions)
{
	my ($function, $who, $outcome, $statement) = fields($line, 4);
	$described{$function} = 1;
	add_statement($who, $outcome, '', $statement);
}
foreach my $line (split /\n/, $statements)
{
	add_statement(fields($line, 4));
}

my %column_of;
foreach my $line (split /\n/, $columns)
{
	my ($column, $inserts, $outcome, $updates, $value) = fields($line, 5);
	push @{ $column_of{'shop.desk'} }, $column;
	my ($list, $values) =
	  $column eq 'payload' ? ($column, $value)
	  : ("payload, $column", "'{}', $value");
	add_statement('SELECT', 'ok', '', "SELECT $column FROM shop.desk");
	add_statement('READ_ALL', 'ok', '', "SELECT $column FROM shop.desk_dead");
	add_statement($inserts, $outcome, '',
		"INSERT INTO shop.desk ($list) VALUES ($values)");
	add_statement($updates, 'ok', '', "UPDATE shop.desk SET $column = $value");
	add_statement(
		$updates eq 'UPDATE' ? 'WRITE_ALL' : $updates,
		'ok', '', "UPDATE shop.desk_dead SET $column = $value");
}

foreach my $line (split /\n/, $topic_columns)
{
	my ($column, $inserts, $outcome, $updates, $value) = fields($line, 5);
	push @{ $column_of{'shop.news'} }, $column;
	my ($list, $values) =
	  $column eq 'payload' ? ($column, $value)
	  : ("payload, $column", "'{}', $value");
	add_statement('SELECT', 'ok', '', "SELECT $column FROM shop.news");
	add_statement($inserts, $outcome, '',
		"INSERT INTO shop.news ($list) VALUES ($values)");
	add_statement($updates, 'ok', '', "UPDATE shop.news SET $column = $value");
}

# Statements that read a table or view of the schema, and all that write it.
foreach my $line (split /\n/, $relations)
{
	my ($name, $who, $names) = fields($line, 3);
	my $relation = "queue.$name";
	my $is_view  = sql(
		qq{SELECT relkind = 'v' FROM pg_class WHERE oid = '$relation'::regclass}
	) eq 't';
	my $right = $is_view ? \%harmless_on_view : \%harmless;
	my $writes = sub {
		my ($role, $outcome) = @_;
		return ($right->{$outcome}, '42501') unless $role eq 'boss';
		return (1) if $is_view || $name =~ /^restored_/ && $outcome eq 'none';
		return ($outcome !~ /^(42501|none)$/, 'done');
	};

	$column_of{$relation} = [ split / /, $names ];
	add_statement($who, 'ok', '', "SELECT * FROM $relation");
	add_statement($who, 'ok', '', "SELECT $_ FROM $relation")
	  foreach @{ $column_of{$relation} };
	add_cell("UPDATE $relation SET $_ = NULL", $writes)
	  foreach @{ $column_of{$relation} };

	# Where COPY of settings goes, everybody may INSERT; 042_dump_matrix tells
	# what becomes of it.
	if ($name =~ /^restored_/)
	{
		add_statement('ANYBODY', '23502', '',
			"INSERT INTO $relation DEFAULT VALUES");
	}
	else
	{
		add_cell($_, $writes)
		  foreach (
			"INSERT INTO $relation DEFAULT VALUES",
			"INSERT INTO $relation SELECT * FROM $relation");
	}
	add_cell($_, $writes)
	  foreach (
		"DELETE FROM $relation",
		"TRUNCATE $relation CASCADE",
		"DROP " . ($is_view ? 'VIEW' : 'TABLE') . " $relation CASCADE",
		"ALTER TABLE $relation RENAME TO mine",
		"ALTER TABLE $relation RENAME COLUMN $column_of{$relation}[0] TO c",
		"ALTER TABLE $relation OWNER TO nobody",
		"ALTER TABLE $relation ALTER $column_of{$relation}[0] SET DEFAULT NULL",
		"CREATE RULE r AS ON INSERT TO $relation DO INSTEAD NOTHING",
		"COMMENT ON COLUMN $relation.$column_of{$relation}[0] IS 'x'",
		"GRANT DELETE ON $relation TO witness --? has_table_privilege('witness', '$relation', 'DELETE')",
		$is_view ? (
			"CREATE OR REPLACE VIEW $relation AS SELECT 1 AS x",
			"CREATE TRIGGER t INSTEAD OF DELETE ON $relation FOR EACH ROW EXECUTE FUNCTION lab.noop()",
			"ALTER VIEW $relation SET (security_barrier = false)")
		: (
			"ALTER TABLE $relation ADD COLUMN c int",
			"ALTER TABLE $relation DISABLE ROW LEVEL SECURITY",
			"CREATE INDEX ON $relation ($column_of{$relation}[0])",
			"CREATE TRIGGER t BEFORE DELETE ON $relation FOR EACH ROW EXECUTE FUNCTION lab.noop()",
			"CREATE POLICY mine ON $relation USING (true)",
			"CLUSTER $relation USING mine"));
}

my $n = 0;
my $fill = '';
foreach my $cell (@cells)
{
	$cell->{n} = $n++;
	$fill .= sprintf
	  "INSERT INTO lab.cell VALUES (%d, \$q\$%s\$q\$, \$q\$%s\$q\$, %s, %s);\n",
	  @{$cell}{qw(n statement condition)},
	  map { $cell->{statement} =~ /:'$_'/ ? 'true' : 'false' }
	  qw(receipt dead_receipt);
}
sql($fill);

#
# The same for psql: each statement in a transaction, which is rolled back.
#
my $one_column  = $node->basedir . '/one_column';
my $two_columns = $node->basedir . '/two_columns';
append_to_file($one_column,  "{}\n");
append_to_file($two_columns, "1000001\t{}\n");

my $script = '';
foreach my $cell (@cells)
{
	my $statement = $cell->{statement};
	my $data = $statement =~ /\(id, payload\)/ ? $two_columns : $one_column;

	# Unlike COPY, this does not take the data for statements if it fails.
	$statement =~ s/FROM STDIN/FROM '$data'/
	  if $statement =~ s/^COPY/\\copy/;
	$script .= "\\echo === $cell->{n}\nBEGIN;\n";
	$script .= "SELECT lab.receipt('shop.jobs') AS receipt \\gset\n"
	  if $statement =~ /:'receipt'/;
	$script .= "SELECT lab.receipt('shop.jobs_dead') AS dead_receipt \\gset\n"
	  if $statement =~ /:'dead_receipt'/;
	$script .= $statement . ($statement =~ /^\\/ ? "\n" : ";\n");
	$script .= "\\set state :SQLSTATE\n\\set nrows :ROW_COUNT\n\\set done "
	  . ($cell->{condition} eq '' ? 't' : 'f') . "\n";
	$script .=
	  "\\if :ERROR\n\\else\nSELECT lab.is_true(\$q\$$cell->{condition}\$q\$) AS done \\gset\n\\endif\n"
	  if $cell->{condition} ne '';
	$script .= "\\echo --- $cell->{n} :state :nrows :done\nROLLBACK;\n";
}

# Runs all statements; returns what each came to, what it said, and all errors.
sub run_all
{
	my ($role, $way) = @_;
	my (@outcomes, @said, $now);
	my $in_function = $way =~ /function/;
	my $function = $way eq 'in its function' ? $role : 'nobody';
	my $user =
	    $way eq 'by SET ROLE'     ? 'gateway'
	  : $way eq 'in its function' ? 'nobody'
	  :                             $role;
	my $input =
	  $in_function
	  ? qq{SELECT format(E'=== %s\n%s\n--- %s %s', n, said, n, outcome)
			FROM lab.try_all_$function() ORDER BY n;\n}
	  : ($way eq 'by SET ROLE' ? "SET ROLE $role;\n" : '') . $script;
	my ($ret, $stdout, $stderr) = $node->psql(
		'postgres', $input,
		on_error_stop => 0,
		extra_params  => [ '-U', $user ]);

	foreach my $line (split /\n/, $stdout)
	{
		if ($line =~ /^=== (\d+)$/)
		{
			$now = $1;
			$said[$now] = '';
		}
		elsif ($line =~ /^--- (\d+) (\S+)(?: (\d+) (t|f))?$/)
		{
			my ($cell, $outcome, $nrows, $done) = ($1, $2, $3, $4);
			my $is_write = $cells[$cell]{statement} =~ /^(?:UPDATE|DELETE)/;

			$outcome = 'ok' if $outcome eq '00000';
			$outcome = 'none'
			  if $outcome eq 'ok'
			  && ( ($done // 't') eq 'f'
				|| $is_write && defined $nrows && $nrows == 0);
			$outcomes[$cell] = $outcome;
		}
		else
		{
			$said[$now] .= "$line\n";
		}
	}
	return (\@outcomes, \@said, $stderr);
}

my $ncells = 0;
foreach my $way (@ways)
{
	my $is_in_function = $way =~ /function/;

	foreach my $role (@roles)
	{
		my ($outcomes, $said, $errors) = run_all($role, $way);
		my $as = $way eq 'in another function' ? 'nobody' : $role;
		my %knows = map { $_ => 1 } @{ $reads{$as} // [] };
		my @wrong;

		foreach my $cell (@cells)
		{
			my $outcome = $outcomes->[ $cell->{n} ] // 'missing';
			my ($is_right, $right) =
			  $cell->{expected}->($as, $outcome, $is_in_function);
			my @secrets =
			  grep { !$knows{$_} } ($said->[ $cell->{n} ] // '') =~ /(\w+)-secret/g;

			push @wrong, "$cell->{statement}: $outcome, not $right"
			  unless $is_right;
			push @wrong, "$cell->{statement}: tells what is in @secrets"
			  if @secrets;
			$ncells++;
		}
		is(join("\n", @wrong), '', "$role, $way");
		is_deeply([ grep { !$knows{$_} } $errors =~ /(\w+)-secret/g ],
			[], '... and errors tell nothing');
	}
}
cmp_ok($ncells, '>=', 3500, "$ncells statements tried");

#
# Nothing is in the schema, or belongs to the extension, that is not above.
#
is( sql(q{SELECT string_agg(DISTINCT proname || '(' || array_to_string(ARRAY(
				SELECT format_type(t, NULL)
				FROM unnest((proargtypes::oid[])
					[:pronargs - pronargdefaults - 1]) WITH ORDINALITY a (t, i)
				ORDER BY i), ',') || ')', E'\n')
		FROM pg_proc
		WHERE pronamespace IN ('queue'::regnamespace, 'queue_internal'::regnamespace)}),
	join("\n", sort keys %described),
	'functions');
is( sql(q{SELECT string_agg(format('%s: %s', c.oid::regclass, ARRAY(
				SELECT attname FROM pg_attribute
				WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
				ORDER BY attnum)), E'\n' ORDER BY c.oid::regclass::text COLLATE "C")
		FROM pg_class c
		WHERE relnamespace IN ('queue'::regnamespace, 'queue_internal'::regnamespace)
				AND relkind NOT IN ('i', 'I')
				AND c.oid <> 'queue_internal.watched'::regclass
			OR c.oid IN ('shop.desk'::regclass, 'shop.news'::regclass)}),
	join("\n",
		map { "$_: {" . join(',', @{ $column_of{$_} }) . '}' }
		sort keys %column_of),
	'tables and views, and their columns');
is( sql(q{SELECT count(*) FROM pg_type t
		WHERE typnamespace IN ('queue'::regnamespace, 'queue_internal'::regnamespace)
			AND NOT EXISTS (
			SELECT FROM pg_class c
			WHERE t.oid = c.reltype
				OR t.typelem = c.reltype AND t.typelem <> 0)}),
	'0', 'no types but those of the tables and views');
# From some release on the types of tables are members, too.
is( sql(q{SELECT DISTINCT classid::regclass FROM pg_depend
		WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
			AND classid <> 'pg_type'::regclass
			AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'queue')
		ORDER BY 1}),
	"pg_proc\npg_class\npg_namespace", 'kinds of members');
is( sql(q{SELECT nspname, nspacl FROM pg_namespace
		WHERE nspname LIKE 'queue%' ORDER BY nspname}),
	"queue|{postgres=UC/postgres,=U/postgres}\nqueue_internal|", 'schemas');

#
# What the views show to whom: of the queues that he may SELECT from, and to
# monitors of all, but no payload, key or error text, which is judged above.
#
my %sees;
foreach my $set ([ SELECT => qw(jobs doubt) ], [ READ_ALL => 'jobs_dead' ],
	[ READ_ONLY => qw(alien alien_doubt) ])
{
	my ($who, @queues) = @$set;
	foreach my $role (@{ $may{$who} }, 'monitor')
	{
		$sees{$role}{"shop.$_"} = 1 foreach @queues;
	}
}
my $shows = <<'END';
shop.jobs shop.jobs_dead shop.alien  | SELECT queue FROM queue.in_flight
shop.jobs shop.jobs_dead shop.alien  | SELECT queue FROM queue.cover
shop.jobs shop.jobs_dead shop.alien  | SELECT queue FROM queue.stats WHERE ready IS NOT NULL
shop.jobs shop.jobs_dead shop.alien  | SELECT queue FROM queue.storage WHERE table_size IS NOT NULL
shop.jobs shop.jobs_dead shop.alien  | SELECT queue FROM queue.storage WHERE vacuums IS NOT NULL
shop.jobs shop.jobs_dead shop.alien  | SELECT queue FROM queue.storage WHERE held_back IS NOT NULL
shop.jobs shop.jobs_dead shop.alien  | SELECT queue FROM queue.queues WHERE (queue.counts(queue)).ready IS NOT NULL
shop.doubt shop.alien_doubt          | SELECT (q ->> 'queue')::regclass FROM queue.in_doubt, jsonb_array_elements(queues) q WHERE q ->> 'taken' IS NOT NULL
END
my @queries = map { [ fields($_, 2) ] } split /\n/, $shows;
foreach my $role (@roles)
{
	my $input = "SET SESSION AUTHORIZATION $role;\n";
	my @expected;

	foreach my $pair (@queries)
	{
		my ($queues, $query) = @$pair;
		my @queues = split / /, $queues;

		$input .= "SELECT \$q\$$query: \$q\$ || coalesce(string_agg(DISTINCT"
		  . " q::text, ' ' ORDER BY q::text), '') FROM ($query) v (q)"
		  . ' WHERE q IN ('
		  . join(', ', map { "'$_'" } @queues) . ");\n";
		push @expected,
		  "$query: " . join(' ', sort grep { $sees{$role}{$_} } @queues);
	}
	$input .= 'SELECT count(*) FROM queue.global_transactions';
	push @expected, $role =~ /^(?:boss|monitor)$/ ? '1' : '0';
	is(sql($input), join("\n", @expected), "$role: what the views show");
}

$node->stop;
done_testing();
