
=pod

=head1 NAME

GlobalTest - what the TAP tests of global transactions have in common

=head1 DESCRIPTION

One server, "main", has the deciding database "hub" and the database "orders",
a participant; the other one, "far", has a second participant, "stock", in
database "postgres".  Role "coordinator" decides, role "shop" owns branches,
role "stranger" meddles.

=cut

package GlobalTest;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use Test::More;

use QueueTest;

our @EXPORT = qw(
  make_servers
  use_far
  to_hub
  as
  begin
  prepare
  commits
  poke
  ended
  set_standbys
);

my $far;

=pod

=head1 SERVERS

=over

=item make_servers()

Starts both servers, with the roles, the databases and all that is registered.
Returns them.

=cut

sub make_servers
{
	my $settings = q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 20
queue.resolve_interval = '500ms'
password_encryption = 'md5'
};
	my $node = PostgreSQL::Test::Cluster->new('main');
	$far = PostgreSQL::Test::Cluster->new('far');
	foreach my $server ($node, $far)
	{
		$server->init(allows_streaming => 1);
		$server->append_conf('postgresql.conf', $settings);
		$server->start;
	}
	use_node($node);
	sql(q{CREATE ROLE coordinator LOGIN; CREATE ROLE orders LOGIN;
		CREATE ROLE stock LOGIN PASSWORD 'secret'; CREATE ROLE shop LOGIN;
		CREATE ROLE stranger LOGIN});
	sql('CREATE ROLE shop LOGIN; CREATE ROLE stranger LOGIN', $far);
	sql("CREATE DATABASE $_") foreach ('hub', 'orders');
	sql(q{CREATE EXTENSION queue;
		GRANT EXECUTE ON PROCEDURE queue.begin_global, queue.decide_commit,
			queue.decide_abort TO coordinator, stranger;
		GRANT EXECUTE ON PROCEDURE queue.ask_decision, queue.report_finished
			TO orders, stock, stranger}, 'hub');
	make_participant('orders', to_hub($node), 'orders');
	make_participant('stock',  to_hub($node), $far);
	return ($node, $far);
}

# Registers the deciding database in a participant.
sub make_participant
{
	my ($participant, $connection, $where) = @_;
	sql(qq{CREATE EXTENSION queue;
		SELECT queue.create_queue('work');
		GRANT ALL ON work TO shop, stranger;
		INSERT INTO queue.deciding_database
			(name, participant, coordinator, owner, connection,
				password_required)
			VALUES ('hub', '$participant', 'coordinator', 'shop',
				'$connection', false)}, $where);
	return;
}

=pod

=item use_far(node)

Another server has the second participant from now on.

=cut

sub use_far
{
	($far) = @_;
	return;
}

=pod

=item to_hub(node)

The connection string of the deciding database on a server.

=cut

sub to_hub
{
	my ($server) = @_;
	return
		'host='
	  . $server->host
	  . ' port='
	  . $server->port
	  . ' dbname=hub';
}

=pod

=item set_standbys(node, names)

A test: a server has these synchronous standbys.

=cut

sub set_standbys
{
	my ($at, $names) = @_;
	sql(qq{ALTER SYSTEM SET synchronous_standby_names = '$names'}, $at);
	$at->reload;
	wait_until(
		qq{SELECT current_setting('synchronous_standby_names') = '$names'},
		"standbys: '$names'", $at);
	return;
}

=pod

=back

=head1 STEPS

=over

=item as(role, statement)

The statement, as a role.

=cut

sub as
{
	my ($role, $statement) = @_;
	return "SET SESSION AUTHORIZATION $role;\n$statement";
}

=pod

=item begin(gid, timeout)

The coordinator begins a global transaction with both participants.

=cut

sub begin
{
	my ($gid, $timeout) = @_;
	sql(as('coordinator', qq{CALL queue.begin_global('$gid', '$timeout',
		ARRAY['orders', 'stock'])}), 'hub');
	return;
}

=pod

=item prepare(participant, gid, role)

A branch that sends its gid is prepared, by "shop" unless the role says
otherwise.

=cut

sub prepare
{
	my ($participant, $gid, $role) = @_;
	sql(as($role // 'shop', qq{BEGIN;
		SELECT queue.enqueue('work', to_jsonb('$gid'::text));
		PREPARE TRANSACTION 'queue:hub:$participant:$gid'}),
		$participant eq 'stock' ? $far : 'orders');
	return;
}

=pod

=item commits(gid)

The coordinator decides to commit.

=cut

sub commits
{
	my ($gid) = @_;
	sql(as('coordinator', "CALL queue.decide_commit('$gid')"), 'hub');
	return;
}

=pod

=item poke(participant)

A resolver looks at once when a branch is prepared or finished, else each
minute; so one is.

=cut

sub poke
{
	my ($participant) = @_;
	sql(as('shop', qq{BEGIN; SELECT queue.browse('work');
		PREPARE TRANSACTION 'queue:hub:$participant:poke'}),
		$participant eq 'stock' ? $far : 'orders');
	state_of(as('shop', "ROLLBACK PREPARED 'queue:hub:$participant:poke'"),
		$participant eq 'stock' ? $far : 'orders');
	return;
}

=pod

=item ended(gid, count, name)

Tests: a global transaction ended with so many messages in both databases, and
both said so.

=cut

sub ended
{
	my ($gid, $count, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	poke($_) foreach ('orders', 'stock');
	foreach my $where ('orders', $far)
	{
		wait_until(
			"SELECT count(*) = 0 FROM queue.branches WHERE gid = '$gid'",
			"$name: nothing is in doubt", $where);
		is( sql(qq{SELECT count(*) FROM work
				WHERE payload = to_jsonb('$gid'::text)}, $where),
			$count, "$name: $count messages");
	}
	wait_until(
		qq{SELECT count(*) = 0 FROM queue.global_transactions
			WHERE coordinator = 'coordinator' AND gid = '$gid'
				AND unfinished <> '{}'},
		"$name: both have reported", 'hub');
	return;
}

=pod

=back

=cut

1;
