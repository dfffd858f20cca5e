/*-------------------------------------------------------------------------
 *
 * xact.c
 *		Ends of transactions: what is done, and in which order.
 *
 * The callbacks run when the transaction has left the process array, so that
 * what they announce is visible.  They allocate nothing, look nothing up in
 * the catalogs and throw nothing: all that they need is in the notes and in
 * the entries.  What was sent becomes part of the cover then; waiters are
 * woken a little later, when locks are released.
 *
 * What is held is in holds.c, what is to be announced in announce.c, what is
 * counted of queues with limits in charge.c, what it has published in
 * publishing.c, and all of prepared transactions in prepared.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/resowner.h"

#include "common/compat.h"
#include "shared/counters.h"
#include "shared/cover.h"
#include "shared/group.h"
#include "shared/held.h"
#include "shared/overdue.h"
#include "shared/waiter.h"
#include "shared/window.h"
#include "table/definition.h"
#include "transaction/announce.h"
#include "transaction/announcer.h"
#include "transaction/charge.h"
#include "transaction/fault.h"
#include "transaction/holds.h"
#include "transaction/in_doubt_note.h"
#include "transaction/prepared.h"
#include "transaction/publishing.h"
#include "transaction/reason.h"
#include "transaction/xact.h"

/* The last transaction to be aborted had used a queue */
static bool aborted_used_queue = false;

static bool has_nothing(void);
static void run_injection_points(XactEvent event);
static void begin_prepare(void);
static void xact_callback(XactEvent event, void *arg);
static void abort_holds(SubTransactionId subid);
static void end_look(void);
static void release_callback(ResourceReleasePhase phase, bool isCommit,
							 bool isTopLevel, void *arg);
static void subxact_callback(SubXactEvent event, SubTransactionId mySubid,
							 SubTransactionId parentSubid, void *arg);

/* Register the callbacks; from _PG_init(), in every backend. */
void
queue_xact_init(void)
{
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
	RegisterResourceReleaseCallback(release_callback, NULL);
	queue_fault_init();
}

/*
 * queue_xact_failed_used_queue
 *		Returns true if the block that has failed, and is not yet ended, used
 *		a queue.
 *
 * If a subtransaction has failed, those around it have not ended.  Otherwise
 * the block is over as far as callbacks are concerned, so no other transaction
 * of this session can have been aborted since.
 */
bool
queue_xact_failed_used_queue(void)
{
	Assert(IsAbortedTransactionBlockState());
	return GetCurrentTransactionNestLevel() > 1 ? queue_is_used :
		aborted_used_queue;
}

/* Is there nothing that the end of this transaction has to deal with? */
static bool
has_nothing(void)
{
	return queue_holds_count() == 0 && !queue_announce_has_notes() &&
		!queue_announce_has_database() && !queue_charge_has_any() &&
		!queue_publishing_has_any();
}

/*
 * run_injection_points
 *		Let a test stop the transaction when others see how it has ended, and
 *		its holds and notes are as they were.
 */
static void
run_injection_points(XactEvent event)
{
	if (event == XACT_EVENT_COMMIT)
		INJECTION_POINT("queue-committed", NULL);
	else if (event == XACT_EVENT_PREPARE)
		INJECTION_POINT("queue-prepared", NULL);

	/* for where nothing may be allocated */
	INJECTION_POINT_LOAD("queue-let-go");
}

/* The transaction is to be prepared: the last moment when errors are allowed. */
static void
begin_prepare(void)
{
	if (queue_holds_count() > 0 || queue_announce_has_notes() ||
		queue_charge_has_any())
	{
		queue_prepared_reserve();
		queue_in_doubt_note_write();
	}
	queue_publishing_before_prepare();
}

/*
 * xact_callback
 *		Transaction callback: deal with what the transaction holds and has to
 *		announce.
 *
 * Nothing here may throw or allocate, except at PRE_PREPARE.
 */
static void
xact_callback(XactEvent event, void *arg)
{
#ifdef USE_ASSERT_CHECKING
	MemoryContext saved_context = CurrentMemoryContext;
#endif

	switch (event)
	{
		case XACT_EVENT_PRE_PREPARE:
			begin_prepare();
			return;
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
			queue_charge_begin_commit();
			return;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
		case XACT_EVENT_PREPARE:
			break;
	}
	if (event == XACT_EVENT_ABORT)
		aborted_used_queue = queue_is_used;
	queue_is_used = false;

	if (has_nothing())
	{
		queue_fault_forget();
		queue_reason_forget();
		queue_xact_end_take();
		if (event == XACT_EVENT_ABORT)
			end_look();
		return;
	}

	run_injection_points(event);
#ifdef USE_ASSERT_CHECKING
	/* an error becomes a PANIC here, and an allocation a crash */
	CurrentMemoryContext = NULL;
	START_CRIT_SECTION();
#endif

	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
			queue_holds_commit();
			INJECTION_POINT_CACHED("queue-let-go", NULL);

			/* last: it may have sent again, by its id, what it held */
			queue_announce_commit();
			queue_charge_commit();
			break;
		case XACT_EVENT_PREPARE:
			queue_prepared_pass();
			queue_publishing_pass();
			queue_announce_reset();
			break;
		default:
			end_look();
			queue_announce_abort(InvalidSubTransactionId);
			queue_announce_reset();
			abort_holds(InvalidSubTransactionId);
			queue_charge_abort(InvalidSubTransactionId);
			queue_prepared_give_up();
			break;
	}
	queue_publishing_end();

#ifdef USE_ASSERT_CHECKING
	END_CRIT_SECTION();
	CurrentMemoryContext = saved_context;
#endif
	queue_charge_reset();
	queue_reason_forget();
	if (event == XACT_EVENT_PREPARE || queue_holds_count() == 0)
		queue_holds_reset();
	queue_announcer_unregister();
}

/*
 * abort_holds
 *		Undo what a subtransaction holds, InvalidSubTransactionId: what all of
 *		it does.
 */
static void
abort_holds(SubTransactionId subid)
{
	FailureNote note;
	FailureNote *failure;

	if (queue_holds_count() == 0)
		return;
	failure = queue_fault_note(subid, &note) ? &note : NULL;
	if (subid == InvalidSubTransactionId)
		queue_holds_abort(failure);
	else
		queue_holds_abort_sub(subid, failure);
}

/* A look that the (sub)transaction was in has come to nothing. */
static void
end_look(void)
{
	queue_waiter_leave();
	queue_window_return();
	queue_overdue_return();
	queue_group_return();
	queue_held_unreserve();
	queue_counters_discard();
}

/*
 * release_callback
 *		Resource release callback: wake waiters.
 *
 * The last thing that a transaction does, as far as others can see, is to send
 * its invalidations and to release its locks.  A waiter that is woken earlier
 * may look with settings that are out of date, and go back to sleep.
 */
static void
release_callback(ResourceReleasePhase phase, bool isCommit, bool isTopLevel,
				 void *arg)
{
	if (phase != RESOURCE_RELEASE_AFTER_LOCKS || !isTopLevel)
		return;
	queue_cover_request_repair();
	if (queue_announce_is_pending())
	{
		queue_holds_release();
		queue_announce_wake();
		queue_announce_reset();
	}
}

/*
 * subxact_callback
 *		Subtransaction callback: pass on to the parent, or undo, what the
 *		subtransaction holds and has looked at.
 */
static void
subxact_callback(SubXactEvent event, SubTransactionId mySubid,
				 SubTransactionId parentSubid, void *arg)
{
	switch (event)
	{
		case SUBXACT_EVENT_COMMIT_SUB:
			queue_reason_pass_on(mySubid, parentSubid);
			queue_holds_pass_on(mySubid, parentSubid);
			queue_announce_pass_on(mySubid, parentSubid);
			queue_charge_pass_on(mySubid, parentSubid);
			break;
		case SUBXACT_EVENT_ABORT_SUB:
			end_look();
			queue_announce_abort(mySubid);
			queue_announce_pass_on(mySubid, parentSubid);
			abort_holds(mySubid);
			queue_reason_abort_sub(mySubid);
			queue_fault_abort_sub();
			queue_charge_abort(mySubid);
			break;
		case SUBXACT_EVENT_START_SUB:
			/* the transaction goes on after an error, or had none */
			queue_fault_forget();
			queue_reason_note_error();
			break;
		default:
			break;
	}
}
