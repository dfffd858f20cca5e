
=pod

=head1 NAME

Hints - how TAP tests of queue lose what memory knows of queues

=head1 DESCRIPTION

Builds with assertions have a function that makes the cover of a queue forget
all messages; then the worker has to find them.

=cut

package Hints;

use strict;
use warnings;

use Exporter 'import';
use Test::More;

use QueueTest;

our @EXPORT = qw(
  can_forget
  gone_over
);

=pod

=over

=item can_forget()

Creates the function forget(regclass).  False if this build has no assertions.

=cut

sub can_forget
{
	my ($state, $said) = error_of(
		q{CREATE OR REPLACE FUNCTION forget(regclass) RETURNS void
			LANGUAGE C STRICT AS '$libdir/queue', 'queue_test_forget'});
	return 1 if $state =~ /^none/;
	die $said if $said !~ /could not find function "queue_test_forget"/;
	return 0;
}

=pod

=item gone_over()

Waits until the worker has looked for what is hidden, in all queues: it has when
it has found twice what another one has hidden.  Does nothing in a build without
assertions.

=cut

sub gone_over
{
	return if !can_forget();
	sql(q{SELECT queue.create_queue('marker')});
	foreach my $i (1 .. 2)
	{
		sql(q{SELECT queue.enqueue('marker', '1'); SELECT forget('marker')});
		my ($node, $db) = QueueTest::place();
		$node->poll_query_until($db,
			qq{SELECT healed >= $i FROM queue.cover WHERE queue = 'marker'::regclass})
		  or die 'the worker does not look after queues';
	}
	sql(q{SELECT queue.drop_queue('marker')});
	return;
}

=pod

=back

=cut

1;
