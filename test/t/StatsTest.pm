
=pod

=head1 NAME

StatsTest - what the TAP tests of queue.stats have in common

=head1 SYNOPSIS

  use QueueTest;
  use StatsTest;

  my $node = start_node();
  wait_for_stats('orders', 'ready = 1', 'a message is counted');
  is(stats('orders', 'ready, acked'), '1|0', 'nobody has taken it');

=cut

package StatsTest;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use Test::More;

use QueueTest;

our @EXPORT = qw(
  start_node
  stats
  wait_for_stats
);

=pod

=over

=item start_node()

Starts a server with the extension, which is the one in use from then on, and
returns it.

=cut

sub start_node
{
	my $node = PostgreSQL::Test::Cluster->new('main');
	use_node($node, "SET statement_timeout = '120s';");
	$node->init;
	$node->append_conf(
		'postgresql.conf', q{
shared_preload_libraries = 'queue'
max_prepared_transactions = 5
});
	$node->start;
	sql(q{CREATE EXTENSION queue});
	return $node;
}

=pod

=item stats(queue, columns)

What queue.stats says of a queue, or of a subscription.

=cut

sub stats
{
	my ($queue, $columns) = @_;

	return sql(qq{SELECT $columns FROM queue.stats WHERE queue = '$queue'::regclass});
}

=pod

=item wait_for_stats(queue, condition, name)

A test: it has been counted in the end, and this is so.

=cut

sub wait_for_stats
{
	my ($queue, $condition, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return wait_until(qq{SELECT count(*) = 1 FROM queue.stats
		WHERE queue = '$queue'::regclass AND counted_at IS NOT NULL AND ($condition)}, $name);
}

=pod

=back

=cut

1;
