#!/usr/bin/perl
#
# tap.pl
#	  Runs test programs that speak TAP and counts their tests.
#
# Usage:
#	  perl test/tap.pl [--jobs N] [--logs DIR] [--psql PROGRAM] [--verbose]
#		  FILE...
#
# Like prove, with a last line "N passed, N failed" for test/check.sh.  With
# --psql the files are pgTAP scripts, run by that psql against the database in
# the environment; otherwise they are programs.  With --logs the end of
# DIR/regress_log_<file without suffix> is shown for each file that failed,
# where PostgreSQL's own test modules leave the details.  With --verbose each
# test is shown.
#
use strict;
use warnings;

use File::Basename qw(basename);
use Getopt::Long;
use TAP::Harness;

$| = 1;

my ($jobs, $verbose, $logs, $psql) = (1, 0);
GetOptions(
	'jobs=i' => \$jobs,
	'logs=s' => \$logs,
	'psql=s' => \$psql,
	'verbose' => \$verbose) or die "tap.pl: wrong usage\n";

my %harness =
  (jobs => $jobs, timer => 1, color => 0, verbosity => $verbose);
if ($psql)
{
	$harness{exec} = [
		$psql, qw(-X -q -A -t -P pager=off -v ON_ERROR_STOP=1 -f)
	];
}
else
{
	$harness{lib} = [@INC];
}

my $result = TAP::Harness->new(\%harness)->runtests(@ARGV);

# Skipped tests count as passed there, and are told apart here.
my $skipped = $result->skipped;
my $passed = $result->passed - $skipped;
my $failed = $result->failed;

# A file may fail without a failed test: it died, or ran fewer than it planned.
my @bad_files;
foreach my $file (@ARGV)
{
	my ($parser) = $result->parsers($file);

	# A file that skips itself as a whole has no tests to count.
	$skipped++ if $parser && $parser->skip_all;
	next if $parser && !$parser->has_problems;
	push @bad_files, $file;
	$failed++ unless $parser && $parser->failed;
}

foreach my $file (@bad_files)
{
	(my $name = basename($file)) =~ s/\.[^.]+$//;

	if ($logs && open(my $log, '<', "$logs/regress_log_$name"))
	{
		my @lines = <$log>;

		splice(@lines, 0, -80) if @lines > 80;
		print "---- end of regress_log_$name\n", @lines, "----\n";
	}
}

print "$passed passed, $failed failed", ($skipped ? ", $skipped skipped" : ''),
  "\n";
exit($failed || !($passed + $skipped) ? 1 : 0);
