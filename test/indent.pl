#!/usr/bin/perl

# indent.pl
#	  Formats C as PostgreSQL's pgindent does, by the same program.
#
# Usage:
#	  test/indent.pl FILE...			rewrites what is formatted otherwise
#	  test/indent.pl --check FILE...	shows it, and fails
#
# pg_bsd_indent must be told which names are types.  They are found in the
# headers of the server that PG_CONFIG describes, in src, and in the files
# themselves.

use strict;
use warnings;

use File::Find;
use FindBin;
use File::Temp qw(tempfile);
use Getopt::Long;

my @indent = qw(pg_bsd_indent -bad -bap -bbb -bc -bl -cli1 -cp33 -cdb -nce
  -d0 -di12 -nfc1 -i4 -l79 -lp -lpl -nip -npro -sac -tpg -ts4);

# Not declared by "typedef" where it would be found.
my @more_types = qw(bool FILE int8_t pid_t sig_atomic_t size_t ssize_t time_t
  uint64_t);

# Types by name, but variables wherever they occur here.
my %no_type = map { $_ => 1 } qw(date digit interval iterator numeric other
  pointer reference string timestamp type wrap);

my $check;
GetOptions('check' => \$check) && @ARGV
  or die "Usage: test/indent.pl [--check] FILE...\n";

my ($types_file, $types_name) = tempfile(UNLINK => 1);
print $types_file "$_\n" foreach types(@ARGV);
close($types_file);

my $differing = 0;
foreach my $name (@ARGV)
{
	my $formatted = formatted($name);

	next if $formatted eq slurp($name);
	$differing++;
	if ($check)
	{
		open(my $diff, '|-', 'diff', '-u', '--label', $name, '--label',
			'formatted', $name, '-')
		  or die "cannot run diff: $!\n";
		print $diff $formatted;
		close($diff);
	}
	else
	{
		print "$name\n";
		open(my $file, '>', $name) or die "cannot write $name: $!\n";
		print $file $formatted;
		close($file) or die "cannot write $name: $!\n";
	}
}
exit($check && $differing > 0 ? 1 : 0);

sub slurp
{
	my ($name) = @_;

	local $/;
	open(my $file, '<', $name) or die "cannot read $name: $!\n";
	return <$file>;
}

# The names of types in headers, and in some files.
sub types
{
	my @files = @_;
	my $config = $ENV{PG_CONFIG} // 'pg_config';
	my %types = map { $_ => 1 } @more_types;

	chomp(my $libpq  = `$config --includedir`);
	chomp(my $server = `$config --includedir-server`);
	die "indent.pl: $config knows no headers\n" unless -d $server;
	find(sub { push @files, $File::Find::name if /\.h$/ },
		$server, "$FindBin::RealBin/../src");
	push @files, "$libpq/libpq-fe.h";
	foreach my $name (@files)
	{
		my $text = slurp($name);

		$text =~ s{/\*.*?\*/}{}gs;
		$types{$1} = 1 while $text =~ /^\}\s*(?:pg_attribute\w+\s*)?(\w+)\s*;/mg;
		$types{$1} = 1
		  while $text =~ /^typedef\s[^;{}()]*?\b(\w+)(?:\[[^]]*\])?\s*;/mg;
		$types{$1} = 1 while $text =~ /^typedef\s[^;{}(]*\(\s*\*?\s*(\w+)\s*\)/mg;
	}
	return sort grep { !$no_type{$_} } keys %types;
}

# A file as it ought to be.
sub formatted
{
	my ($name) = @_;
	my ($file, $copy) = tempfile(UNLINK => 1);
	my $text;

	# Between dashes a comment stays as it is.
	($text = slurp($name)) =~ s{/\* +---}{/*---X_X}g;
	print $file $text;
	close($file);
	$text = `@indent -U$types_name <$copy 2>&1 >$copy.out`;
	die "$name: $text" if $? != 0 || $text ne '';
	$text = slurp("$copy.out");
	unlink("$copy.out");
	$text =~ s{/\*---X_X}{/* ---}g;
	# One blank before the star of what a function returns.
	$text =~ s/^([A-Za-z_]\S*)[ \t]+\*$/$1 */mg;
	return indent_initializers($text);
}

# Before 2.1.2 the program does not indent the further lines of the value that
# a variable is declared with.
sub indent_initializers
{
	my ($text) = @_;
	my ($margin, $inside);
	my @lines;

	foreach my $line (split(/^/, $text))
	{
		if (defined $margin)
		{
			$inside = 1 if $line =~ /^$margin *[^\s]/;
			$line = "\t$line" if $inside && $line !~ /^\s*$/;
			$margin = undef if $line =~ /;\s*(?:\/\*.*)?$/;
		}
		elsif ($line =~ /^(\t+)(?!return\b)[A-Za-z_][\w \t]*[ \t*]\w+(?:\[\w*\])? =(?:\s[^;]*[^;{\s])?\s*$/)
		{
			$margin = $1;
			$inside = 0;
		}
		push @lines, $line;
	}
	return join('', @lines);
}
