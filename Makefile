# queue: transactional message queues for PostgreSQL
#
#	make && make install	builds and installs (postgresql-15 and
#							postgresql-server-dev-15 are all it needs)
#	make installcheck		tests against a running server, which must have
#							shared_preload_libraries = 'queue' and
#							max_prepared_transactions > 0
#	make demo				shows it at work, on a server of its own
#	make demo-2pc			kills the coordinator of global transactions, and shows
#							that they resolve by themselves
#	make check				runs all tests, on servers of its own (SUITES="name ...",
#							PG=17, 18 or 19 on that release, which is downloaded)
#	make check-assert		runs those that tell most on servers with assertions,
#							which are built from source (PG=18 on that release alone)
#	make check-sanitize		the same with gcc's sanitizers
#	make check-valgrind		the same under valgrind, which takes hours
#	make stress				lets clients and faults loose on a server, and judges
#							what happened (SECONDS=n, SEED=n, FAULTS=name,...,
#							SHORT=1 with fewer clients), and random statements
#							(FUZZ=n: only these, n of them)
#	make stress-mutants		plants bugs and looks whether that notices them
#							(MUTANTS="n ...")
#	make fuzz				lets libFuzzer loose on what reads bytes, without a
#							server (SECONDS=n for each target, SEED=n,
#							TARGET="name ...")
#	make races				stops processes where they seldom meet, on PostgreSQL 17
#							and 18 built from source (PG=18, RACES="NN ...")
#	make bench				measures, beside what PostgreSQL itself takes and
#							beside other queues, and writes docs/performance.md
#							(PART=name,..., SECONDS=n and REPETITIONS=n of each
#							run, HOLD=n seconds for which an old snapshot is
#							held, MESSAGES=n that wait in a deep queue,
#							QUEUES=n, SHORT=1 to try it)
#	make deb				makes Debian packages, in dist/ (PG="n ..." for these
#							releases of PostgreSQL)
#	make dist				archives of the last commit, in dist/, for PGXN and others
#	make deps				installs what demo and check need (Debian)
#	make style				what programs can say of the sources without running them
#							(CHECKS="name ...")
#	make indent				formats the C sources as PostgreSQL's pgindent does
#
# Switches: WERROR=1 makes warnings errors, ASSERT=1 turns assertions on,
# CC=clang takes another compiler, PG_CONFIG=path another PostgreSQL.  After a
# change of switches, "make clean" first.

EXTENSION = queue
MODULE_big = queue
PGFILEDESC = "queue - transactional message queues"

# What lies in these folders is built, installed and run.
files = $(patsubst $(srcdir)/%,%,$(sort $(wildcard $(addprefix $(srcdir)/,$(1)))))
names = $(basename $(notdir $(call files,$(1))))

OBJS = $(patsubst %.c,%.o,$(call files,src/*.c src/*/*.c))

# What is released lies in sql/released/, with its checksum, and never changes
# again.  What the version in queue.control adds is made of parts, one feature a
# file, in the order of their names: they become the script that updates from
# the version before, and CREATE EXTENSION installs that and updates it, so there
# is one way to a version.  With its release the script goes to sql/released/,
# and the parts are those of the next one.
version = $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" $(srcdir)/queue.control)
released = 0.3.0
script = sql/queue--$(released)--$(version).sql
DATA = $(call files,sql/released/*.sql sql/move-from-*.sql)
DATA_built = $(if $(filter-out $(version),$(released)),$(script))

# Inputs lie in test/, the expected output of both kinds in expected/.  They
# share results/ too, so no name may occur in both lists.
REGRESS = $(call names,test/sql/*.sql)
REGRESS_OPTS = --inputdir=$(srcdir)/test --load-extension=queue
ISOLATION = $(call names,test/specs/*.spec)
ISOLATION_OPTS = --inputdir=$(srcdir)/test --outputdir=. --load-extension=queue
PROVE_TESTS = $(call files,test/t/*.pl)

# Without IPC::Run no TAP test starts, and "make installcheck" would fail for
# the lack of it.
ifeq ($(shell perl -MIPC::Run -e 'print 1' 2>/dev/null),1)
TAP_TESTS = 1
endif

PG_CPPFLAGS = -I$(srcdir)/src -I$(libpq_srcdir)

# The resolver asks other databases.  Every server has libpq, which its own
# walreceiver and dblink use.
SHLIB_LINK_INTERNAL = $(libpq)

# PGXS hands clang the options that PostgreSQL was built with by gcc, and its
# headers an attribute for gcc; clang warns of what it does not know.
PG_CFLAGS = \
	$(if $(WERROR),-Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare -Wshadow$(if $(findstring clang,$(CC)),,=compatible-local)) \
	$(if $(ASSERT),-DUSE_ASSERT_CHECKING) \
	$(if $(findstring clang,$(CC)),-Wno-unknown-warning-option -Wno-ignored-optimization-argument -Wno-ignored-attributes)

PG_CONFIG ?= pg_config

# These targets start make again where they need PGXS, for two reasons: PGXS
# may not be there before "deps" has run, and it has a "check" of its own which
# only says that there is none.
watched = check-assert check-sanitize check-valgrind
own_targets = bench check $(watched) demo demo-2pc deps fuzz indent races stress \
	stress-mutants style
own_targets += deb dist

ifneq (,$(filter $(own_targets),$(MAKECMDGOALS)))

# Whatever else was asked for in the same breath, in the order given.
other_targets = $(filter-out $(own_targets),$(MAKECMDGOALS))

.PHONY: $(own_targets) $(other_targets)
.NOTPARALLEL:

ifneq (,$(other_targets))
$(other_targets):
	+$(MAKE) $@
endif

deps:
	test/deps.sh check

dist:
	.package/dist.sh

deb:
	test/deps.sh deb
	.package/deb.sh $(PG)

demo:
	test/deps.sh demo
	test/demo.sh

demo-2pc:
	test/deps.sh demo
	test/demo.sh two_phase.sh

check:
	test/deps.sh check
	$(if $(filter packages,$(SUITES)),test/deps.sh packages)
	$(if $(filter monitoring,$(SUITES)),test/deps.sh monitoring)
	$(if $(PG),PG=$(PG)) test/check.sh $(SUITES)

$(watched):
	test/deps.sh source
	$(if $(SUITES),SUITES="$(SUITES)") test/check_built.sh $(@:check-%=%) $(PG)

stress:
	test/deps.sh check
	$(if $(FUZZ),,test/stress/run.sh stress.py \
		$(if $(SECONDS),--seconds $(SECONDS)) \
		$(if $(SEED),--seed $(SEED)) $(if $(FAULTS),--faults $(FAULTS)) \
		$(if $(SHORT),--short))
	test/stress/run.sh fuzz.py $(if $(FUZZ),--statements $(FUZZ)) \
		$(if $(SEED),--seed $(SEED)) $(if $(SHORT),--short)

stress-mutants:
	test/deps.sh check
	test/stress/run.sh mutants.py $(MUTANTS)

fuzz:
	test/deps.sh check
	test/fuzz/run.sh $(if $(SECONDS),--seconds $(SECONDS)) \
		$(if $(SEED),--seed $(SEED)) $(TARGET)

races:
	test/deps.sh source
	$(if $(PG),PG=$(PG)) test/races/run.sh $(RACES)

bench:
	test/deps.sh bench
	test/bench/run.sh $(if $(PART),--parts $(PART)) \
		$(if $(SECONDS),--seconds $(SECONDS)) \
		$(if $(REPETITIONS),--repetitions $(REPETITIONS)) \
		$(if $(HOLD),--hold $(HOLD)) \
		$(if $(MESSAGES),--messages $(MESSAGES)) \
		$(if $(QUEUES),--queues $(QUEUES)) $(if $(SHORT),--short)

style:
	test/deps.sh check
	test/style.sh $(CHECKS)

indent:
	test/deps.sh check
	test/indent.pl src/*.[ch] src/*/*.[ch] test/unit/*.c test/fuzz/*.[ch]

else

PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifeq (,$(wildcard $(PGXS)))
$(error cannot find PGXS through "$(PG_CONFIG)": install postgresql-server-dev-15, or run "make deps")
endif
include $(PGXS)

parts = $(sort $(wildcard $(srcdir)/sql/parts/*.sql))

# The folder counts as well: a part may go.
$(script): $(parts) $(srcdir)/sql/parts
	@$(MKDIR_P) $(@D)
	(echo "/* $@ */"; cat $(parts)) >$@

# A build beside the sources begins without their folders.  As targets of a rule
# they would be found there, by VPATH, and not made.
ifdef VPATH
$(shell $(MKDIR_P) $(sort $(dir $(OBJS))))
endif

# PGXS does not track headers unless PostgreSQL was built to do so.
$(OBJS) $(OBJS:.o=.bc): $(wildcard $(srcdir)/src/*/*.h)

# For the scripts in test/: what a variable of this file comes to.
print-%:
	@echo $($*)

endif
