/*-------------------------------------------------------------------------
 *
 * mutant.h
 *		Bugs planted on purpose, to see whether the tests notice them.
 *
 * A checker that never complains proves nothing until it has complained.  So
 * almost each property that test/stress checks has some bugs here that violate
 * it, rare or in a corner, as real ones are.  "make QUEUE_MUTANT=n" builds the
 * extension with one of them, and "make stress-mutants" looks whether each is
 * caught, by name.
 *
 * Without the switch MUTANT() is a constant that no compiler leaves in the
 * code: nothing of this is in a release.
 *
 * A plant is a line or two at the place where the mistake might have been
 * made, and leaves the rest as it is.  It must neither crash the server nor
 * fail an assertion, because that tells nothing about the checker.  In
 * callbacks it may roll dice, which allocates nothing and cannot fail.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_MUTANT_H
#define QUEUE_MUTANT_H

#include "common/pg_prng.h"
#include "fmgr.h"
#include "storage/shmem.h"
#include "utils/fmgrprotos.h"

/*
 * What each does, and after the colon the properties that it violates, the
 * most telling one first.  test/stress/mutants.py reads this list.
 */
enum QueueMutant
{
	/* sending */
	QUEUE_MUTANT_COMMIT_LOST = 1,			/* one message in 10,000 gets an id but no
											 * row: no_loss */
	QUEUE_MUTANT_HALF_A_BATCH = 2,			/* one batch in 200 lacks its last
											 * message: all_or_none, no_loss */
	QUEUE_MUTANT_SURVIVES_ROLLBACK = 3,		/* one insert in 50 is committed at
											 * once: no_dirty_read */
	QUEUE_MUTANT_INDEX_ENTRY_LOST = 4,		/* one row in 1,000 is not in the
											 * index: indexes_clean, drained */
	QUEUE_MUTANT_PAYLOAD_CHANGED = 5,		/* one delivery in 1,000 has another
											 * payload: content_intact */

	/* taking */
	QUEUE_MUTANT_DIRTY_READ = 6,			/* receive gets uncommitted rows now and
											 * then: no_dirty_read */
	QUEUE_MUTANT_PREPARED_VISIBLE = 7,		/* receive gets rows that are only
											 * prepared: prepared_is_invisible */
	QUEUE_MUTANT_LATE_SKIPPED = 8,			/* of what commits late one in 8 is passed
											 * over: late_committer_delivered, drained */
	QUEUE_MUTANT_SNAPSHOT_IGNORED = 9,		/* takes get rows younger than their
											 * snapshot: business_row_visible */
	QUEUE_MUTANT_ORDER_REVERSED = 10,		/* one look in 300 passes over a
											 * row: order_per_producer */
	QUEUE_MUTANT_FAILED_IN_BATCH = 11,		/* what has failed may end a batch: failed_alone */
	QUEUE_MUTANT_TWO_TAKERS = 12,			/* receive gets one in 50 that is
											 * dequeued: taken_is_exclusive */
	QUEUE_MUTANT_PREPARED_REDELIVERED = 13,	/* receive gets one in 2 that is in
											 * doubt: prepared_not_redelivered */

	/* leases */
	QUEUE_MUTANT_LEASE_IGNORED = 14,		/* one look in 10 ends a
											 * lease: leases_do_not_overlap */
	QUEUE_MUTANT_EXTEND_IGNORED = 15,		/* extend does nothing: leases_do_not_overlap */
	QUEUE_MUTANT_LEASE_REFUSED = 16,		/* one good receipt in 1,000 is
											 * refused: lease_honoured */
	QUEUE_MUTANT_STALE_ACCEPTED = 17,		/* a receipt is good for later leases
											 * too: stale_receipt_refused */
	QUEUE_MUTANT_EPOCH_CONSTANT = 18,		/* receipts begin anew after a
											 * crash: receipts_unique, stale_receipt_refused */
	QUEUE_MUTANT_LEASE_NOT_WRITTEN = 19,	/* no lease goes to disk: lease_survives_crash */
	QUEUE_MUTANT_LEASE_NOT_LOADED = 20,		/* one lease in 2 is not read after a
											 * start: lease_survives_crash */
	QUEUE_MUTANT_LEASE_ROW_STAYS = 21,		/* half of the ended leases stay on
											 * disk: nothing_left_behind */

	/* settling */
	QUEUE_MUTANT_ACK_ENDS_LEASE = 22,		/* one ack in 500 ends the lease, no
											 * more: consumed_stays_consumed, one_effect */
	QUEUE_MUTANT_ACK_SKIPS_ONE = 23,		/* one ack in 50 of an array skips the
											 * first: consumed_stays_consumed, one_effect */
	QUEUE_MUTANT_ACK_LEAKS = 24,			/* one ack in 50 leaves its
											 * entry: nothing_left_behind */
	QUEUE_MUTANT_ACK_NOT_UNDONE = 25,		/* a rolled-back ack ends the
											 * lease: leases_do_not_overlap */
	QUEUE_MUTANT_PURGE_LEAKS = 26,			/* purge leaves leases: nothing_left_behind, drained */

	/* ends of transactions */
	QUEUE_MUTANT_RECEIVE_NOT_UNDONE = 27,	/* a rolled-back receive keeps its
											 * lease: stale_receipt_refused */
	QUEUE_MUTANT_ROLLBACK_LEAKS = 28,		/* one dequeue in 300 is not given back: drained */
	QUEUE_MUTANT_SAVEPOINT_LEAKS = 29,		/* one in 50 is not after ROLLBACK TO: drained */
	QUEUE_MUTANT_RELEASE_FORGETS = 30,		/* RELEASE passes nothing to the
											 * parent: attempts_add_up */
	QUEUE_MUTANT_PREPARED_LEAKS = 31,		/* ROLLBACK PREPARED gives nothing
											 * back: rolled_back_prepared_returns, drained */

	/* failures and dead letters */
	QUEUE_MUTANT_ROLLBACK_UNCOUNTED = 32,	/* a rolled-back dequeue is no
											 * failure: attempts_add_up */
	QUEUE_MUTANT_NACK_UNCOUNTED = 33,		/* a nack is none: attempts_add_up */
	QUEUE_MUTANT_EXPIRY_UNCOUNTED = 34,		/* a lease that runs out is none: attempts_add_up */
	QUEUE_MUTANT_RELEASE_COUNTED = 35,		/* a release is one: attempts_add_up */
	QUEUE_MUTANT_COUNT_NOT_WRITTEN = 36,	/* failures do not go to the row: attempts_add_up */
	QUEUE_MUTANT_LIMIT_OVERRUN = 37,		/* one attempt more than allowed: limit_kept */
	QUEUE_MUTANT_DEAD_TOO_EARLY = 38,		/* one attempt less: dead_or_alive */
	QUEUE_MUTANT_DEAD_AND_ALIVE = 39,		/* one dead letter in 10 stays in its
											 * queue: dead_or_alive */
	QUEUE_MUTANT_DEAD_LETTER_LOST = 40,		/* one dead letter in 10 arrives nowhere: no_loss */
	QUEUE_MUTANT_DEAD_LETTER_CHANGED = 41,	/* one dead letter in 10 has another
											 * payload: content_intact */

	/* waking */
	QUEUE_MUTANT_COMMIT_SILENT = 42,		/* one commit in 5 wakes nobody: waiter_wakes */
	QUEUE_MUTANT_ROLLBACK_SILENT = 43,		/* nor does a rollback: waiter_wakes */
	QUEUE_MUTANT_PREPARED_SILENT = 44,		/* nor COMMIT PREPARED and ROLLBACK
											 * PREPARED: waiter_wakes */
	QUEUE_MUTANT_NACK_SILENT = 45,			/* nor nack and release: waiter_wakes */

	/* others */
	QUEUE_MUTANT_PHANTOM = 46,				/* one message in 1,000 becomes
											 * another: no_phantom, no_loss */
	QUEUE_MUTANT_SPURIOUS_ERROR = 47,		/* one row in 5,000 is an error: errors_expected */
	QUEUE_MUTANT_WORKER_FAILS = 48,			/* one step of the worker in 50 is
											 * one: server_log_clean */
	QUEUE_MUTANT_BATCH_OVERRUN = 49,		/* one take in 50 gets more than it
											 * asked for: batch_within_max */
	QUEUE_MUTANT_DELAY_IGNORED = 50,		/* nack knows no delay: delay_kept */
	QUEUE_MUTANT_EXTEND_LIES = 51,			/* extend tells a later
											 * deadline: extend_tells_deadline */
	QUEUE_MUTANT_TAKE_WAITS = 52,			/* one look in 5 waits for who has the
											 * row: never_waits */

	/* where to look */
	QUEUE_MUTANT_MERGE_DROPS = 53,			/* ranges that become one lose what the
											 * second covers: nothing_hidden */
	QUEUE_MUTANT_WINDOW_LOST = 54,			/* one look in 500 is cancelled, and
											 * gives nothing back: nothing_hidden */
	QUEUE_MUTANT_COVER_LOSES = 55,			/* one message in 50 that somebody lets
											 * go is not looked for: nothing_hidden */
	QUEUE_MUTANT_ABORT_NOT_COVERED = 56,	/* nor one rolled-back dequeue
											 * in 20: nothing_hidden */
	QUEUE_MUTANT_NEWER_DROPPED = 57,		/* what a snapshot does not see is hidden
											 * from others: nothing_hidden */
	QUEUE_MUTANT_BUSY_DROPPED = 58,			/* nobody looks again at what plain
											 * DML changes: nothing_hidden */
	QUEUE_MUTANT_PREPARED_NOT_NOTED = 59,	/* what a prepared transaction has sent
											 * is not announced: nothing_hidden */
	QUEUE_MUTANT_UNREGISTERED_DROPPED = 60, /* nobody looks again at what was
											 * prepared before a restart: nothing_hidden */
	QUEUE_MUTANT_ID_TWICE = 61,				/* one id in 500 is given
											 * twice: errors_expected */

	/* leases on disk */
	QUEUE_MUTANT_LEASE_LOG_FORGETS = 62,	/* the log is compacted all the time, and
											 * loses one lease in 10: lease_survives_crash */

	/* global transactions */
	QUEUE_MUTANT_RESOLVER_GUESSES = 63,		/* what cannot ask is rolled
											 * back: global_has_one_outcome */
	QUEUE_MUTANT_DECIDED_LATE = 64,			/* decide_commit looks neither at the
											 * deadline nor at what is
											 * decided: global_has_one_outcome */
	QUEUE_MUTANT_RECORD_FORGOTTEN = 65,		/* a record goes when the first has
											 * finished: global_has_one_outcome */
	QUEUE_MUTANT_OWNER_IGNORED = 66,		/* branches of others are finished as
											 * well: branch_of_another_left_alone */
	QUEUE_MUTANT_UNDECIDED_IS_ABORT = 67,	/* what is not decided yet is rolled
											 * back: global_has_one_outcome */
	QUEUE_MUTANT_BRANCH_FORGOTTEN = 68,		/* one branch in 10 is never
											 * finished: global_nothing_in_doubt, drained */

	/* places that a vacuum has given to others: one in 50 is */
	QUEUE_MUTANT_PLACE_TRUSTED = 69,		/* what is there now is taken for the
											 * message: no_loss, consumed_stays_consumed */
	QUEUE_MUTANT_PLACE_IS_ALL = 70,			/* what is not there is taken to be
											 * gone: lease_honoured */
	QUEUE_MUTANT_RECEIVE_UNCOUNTED = 71,	/* a rolled-back receive is not
											 * counted: attempts_add_up */

	/* ids that come again */
	QUEUE_MUTANT_IDENTITY_IGNORED = 72,		/* what is remembered of a row
											 * holds for the next one with its
											 * id: attempts_add_up, stale_receipt_refused */
	QUEUE_MUTANT_BLOCK_SURVIVES = 73,		/* ids of a sequence that was restarted
											 * are for all, also when that was
											 * rolled back: ids_unique, errors_expected */

	/* leases that ran out */
	QUEUE_MUTANT_FENCE_STAYS = 74,			/* a dequeue that is rolled back leaves
											 * the receipt of the lease before it
											 * good: stale_receipt_refused */

	QUEUE_MUTANT_END
};

/* Is this bug planted? */
#ifdef QUEUE_MUTANT
StaticAssertDecl(QUEUE_MUTANT >= 1 && QUEUE_MUTANT < QUEUE_MUTANT_END,
				 "QUEUE_MUTANT is not the number of a mutant");
#define MUTANT(NAME)	(QUEUE_MUTANT == QUEUE_MUTANT_##NAME)
#else
#define MUTANT(NAME)	false
#endif

/* ... and is this one of the cases, one in n, where it shows? */
#define MUTANT_SOMETIMES(NAME, n) \
	(MUTANT(NAME) && \
	 pg_prng_uint64_range(&pg_global_prng_state, 1, (n)) == 1)

/*
 * For LATE_SKIPPED: consumers remember how far they have come in a queue, and
 * do not go back.  Those that share their ids with others are within reach of
 * their neighbours, and most of the late ones are spared.
 */
static inline bool
queue_mutant_is_behind(Oid relid, int64 id)
{
	bool		found;
	volatile int64 *reached = ShmemInitStruct("queue mutant",
											  1024 * sizeof(int64), &found);

	reached += relid % 1024;
	if (id + 50 < *reached)
		return id % 8 == 0;
	*reached = Max(*reached, id);
	return false;
}

/* For those that damage a payload: some of its keys get other values. */
static inline void
queue_mutant_change(Datum *payload, const char *keys)
{
	*payload = DirectFunctionCall2(jsonb_concat, *payload,
								   DirectFunctionCall1(jsonb_in,
													   CStringGetDatum(keys)));
}

#endif							/* QUEUE_MUTANT_H */
