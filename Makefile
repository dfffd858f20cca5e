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
#	make check				runs all tests, on servers of its own
#	make stress				lets clients and faults loose on a server, and judges
#							what happened (SECONDS=n, SEED=n, FAULTS=name,...,
#							SHORT=1 with fewer clients)
#	make stress-mutants		plants bugs and looks whether that notices them
#							(MUTANTS="n ...")
#	make bench				measures, beside what PostgreSQL itself takes and
#							beside other queues, and writes docs/performance.md
#							(PART=name,..., SECONDS=n and REPETITIONS=n of each
#							run, HOLD=n seconds for which an old snapshot is
#							held, MESSAGES=n that wait in a deep queue,
#							QUEUES=n, SHORT=1 to try it)
#	make deps				installs what demo and check need (Debian)
#	make lint				cppcheck
#	make format-check		blanks, tabs, long lines
#
# Switches: WERROR=1 makes warnings errors, ASSERT=1 turns assertions on,
# CC=clang takes another compiler, PG_CONFIG=path another PostgreSQL.
# QUEUE_MUTANT=n plants a bug, for the tests of the tests; src/mutant.h lists
# them.  After a change of switches, "make clean" first.

EXTENSION = queue
MODULE_big = queue
PGFILEDESC = "queue - transactional message queues"

OBJS = \
	src/admin.o \
	src/availability.o \
	src/branch.o \
	src/catalog.o \
	src/cover.o \
	src/create.o \
	src/database.o \
	src/decision.o \
	src/enqueue.o \
	src/estimate.o \
	src/failure.o \
	src/gone.o \
	src/guard.o \
	src/heal.o \
	src/helper.o \
	src/ids.o \
	src/in_doubt.o \
	src/inflight.o \
	src/inspect.o \
	src/leader.o \
	src/lease.o \
	src/look.o \
	src/member.o \
	src/message.o \
	src/purge.o \
	src/queue.o \
	src/ranges.o \
	src/receipt.o \
	src/remote.o \
	src/resolver.o \
	src/restore.o \
	src/settle.o \
	src/share.o \
	src/shape.o \
	src/state.o \
	src/storage.o \
	src/sweep.o \
	src/take.o \
	src/trigger.o \
	src/truncate.o \
	src/vacuum.o \
	src/wait.o \
	src/waiter.o \
	src/worker.o \
	src/xact.o

DATA = \
	sql/queue--0.2.0.sql

# Inputs lie in test/, the expected output of both kinds in expected/.  They
# share results/ too, so no name may occur in both lists.
REGRESS = \
	queue_definition \
	privileges \
	white_list \
	plain_dml_ddl \
	planner \
	transactional \
	batches \
	cover \
	leases \
	dead_letters \
	waiting \
	prepared \
	in_doubt \
	savepoints \
	trigger_disabled \
	errors
REGRESS_OPTS = --inputdir=$(srcdir)/test --load-extension=queue

ISOLATION = \
	ack-after-lease-lost-fails-business-transaction \
	batch-stops-before-failed \
	browse-sees-snapshot \
	busy-looked-at-again \
	cancel-during-wait \
	cancel-gives-back \
	dequeue-skip-locked \
	drop-queue-under-consumers \
	failures-not-counted \
	first-look-leaves-the-rest \
	late-committer-lower-id \
	never-waits \
	prepared-ack-lease-expiry \
	prepared-dequeue-not-redelivered \
	purge-skips-held \
	receive-skip-leased \
	repeatable-read-consumer \
	rollback-gives-back \
	row-locked-by-hand \
	savepoint-gives-back \
	serializable-apart-from-settings \
	serializable-no-failure \
	settle-by-another-session \
	snapshot-rule-join \
	stale-dequeue-of-rewritten-message \
	terminate-consumer \
	terminate-during-wait \
	two-queues-one-transaction \
	uncommitted-enqueue-invisible \
	wait-ended-by-drop \
	wait-ended-by-pause \
	wait-holds-no-snapshot \
	wait-sleeps-through-pause \
	wait-woken-by-commit \
	wait-woken-by-commit-prepared \
	wait-woken-by-lease-end \
	wait-woken-by-rollback \
	wake-up-passed-on
ISOLATION_OPTS = --inputdir=$(srcdir)/test --outputdir=. --load-extension=queue

PROVE_TESTS = \
	test/t/001_preload.pl \
	test/t/002_crash_restart.pl \
	test/t/003_prepared_over_restart.pl \
	test/t/004_dump_restore.pl \
	test/t/005_standby.pl \
	test/t/006_worker_stopped.pl \
	test/t/007_plain_dml.pl \
	test/t/008_memory_full.pl \
	test/t/009_hostile_sizes.pl \
	test/t/010_worker_life_cycle.pl \
	test/t/011_database_ddl.pl \
	test/t/012_worker_turns.pl \
	test/t/020_two_databases.pl \
	test/t/021_logs_clean.pl \
	test/t/022_upgrade.pl \
	test/t/023_what_counts.pl \
	test/t/024_ddl_meets_consumers.pl \
	test/t/025_crash_under_load.pl \
	test/t/026_lease_log.pl \
	test/t/027_nothing_hidden.pl \
	test/t/028_hints_lost.pl \
	test/t/029_looks_cost_nothing.pl \
	test/t/030_max_queues.pl \
	test/t/031_ids.pl \
	test/t/032_one_waiter_a_message.pl \
	test/t/033_counts.pl \
	test/t/034_no_harm.pl \
	test/t/035_wraparound.pl \
	test/t/036_dumps_in_a_loop.pl \
	test/t/037_deep_queue.pl \
	test/t/038_vacuum.pl \
	test/t/039_identity.pl \
	test/t/040_strangers.pl \
	test/t/041_prepared_many_queues.pl \
	test/t/042_dump_matrix.pl \
	test/t/043_replication.pl \
	test/t/044_create_queue.pl \
	test/t/045_privileges.pl \
	test/t/046_hostile_sessions.pl \
	test/t/047_stuck_dead_letters.pl \
	test/t/048_clock_set_back.pl \
	test/t/049_versions.pl \
	test/t/050_random_transactions.pl \
	test/t/051_wait_for_many_queues.pl \
	test/t/052_room_for_all.pl \
	test/t/060_two_phase_matrix.pl \
	test/t/061_in_doubt.pl \
	test/t/062_global.pl \
	test/t/063_ended_without_hook.pl \
	test/t/064_nobody_waits.pl \
	test/t/065_failed_prepare.pl \
	test/t/066_closed_catalogs.pl

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
	$(if $(WERROR),-Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare) \
	$(if $(ASSERT),-DUSE_ASSERT_CHECKING) \
	$(if $(QUEUE_MUTANT),-DQUEUE_MUTANT=$(QUEUE_MUTANT)) \
	$(if $(findstring clang,$(CC)),-Wno-unknown-warning-option -Wno-ignored-optimization-argument -Wno-ignored-attributes)

PG_CONFIG ?= pg_config

# These targets start make again where they need PGXS, for two reasons: PGXS
# may not be there before "deps" has run, and it has a "check" of its own which
# only says that there is none.
own_targets = bench check demo demo-2pc deps format-check lint stress stress-mutants

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

demo:
	test/deps.sh demo
	test/demo.sh

demo-2pc:
	test/deps.sh demo
	test/demo.sh two_phase.sh

check:
	test/deps.sh check
	test/check.sh $(SUITES)

stress:
	test/deps.sh check
	test/stress/run.sh stress.py $(if $(SECONDS),--seconds $(SECONDS)) \
		$(if $(SEED),--seed $(SEED)) $(if $(FAULTS),--faults $(FAULTS)) \
		$(if $(SHORT),--short)

stress-mutants:
	test/deps.sh check
	test/stress/run.sh mutants.py $(MUTANTS)

bench:
	test/deps.sh bench
	test/bench/run.sh $(if $(PART),--parts $(PART)) \
		$(if $(SECONDS),--seconds $(SECONDS)) \
		$(if $(REPETITIONS),--repetitions $(REPETITIONS)) \
		$(if $(HOLD),--hold $(HOLD)) \
		$(if $(MESSAGES),--messages $(MESSAGES)) \
		$(if $(QUEUES),--queues $(QUEUES)) $(if $(SHORT),--short)

lint:
	cppcheck --std=c99 --language=c --quiet --inline-suppr --error-exitcode=1 \
		--enable=warning,performance,portability \
		--suppress=missingInclude -Isrc src

format-check:
	test/format.sh

else

PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifeq (,$(wildcard $(PGXS)))
$(error cannot find PGXS through "$(PG_CONFIG)": install postgresql-server-dev-15, or run "make deps")
endif
include $(PGXS)

# PGXS does not track headers unless PostgreSQL was built to do so.
$(OBJS) $(OBJS:.o=.bc): $(wildcard $(srcdir)/src/*.h)

# For the scripts in test/: what is in the lists above.
print-%:
	@echo $($*)

endif
