/*-------------------------------------------------------------------------
 *
 * reason.c
 *		Why a transaction, which is about to roll back, failed what it took.
 *
 * queue.fail() says it.  A reason is that of the subtransaction in which it was
 * given, and of those around it: if it is released, the reason becomes its
 * parent's; if it is rolled back, the reason goes with it.  Of several the last
 * one counts.
 *
 * A ROLLBACK of all first rolls back the savepoints that are open, one after the
 * other, and then the rest, for which a reason given in a savepoint is good,
 * too.  So one that went with its savepoint is remembered until the transaction
 * goes on: another savepoint begins, as ROLLBACK TO lets it, or another error
 * comes.
 *
 * The reasons are in memory of the transaction.  The functions that its end
 * calls allocate nothing and throw nothing; those for the ends of savepoints, of
 * which there may be many, give memory back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "shared/failure.h"
#include "transaction/reason.h"

typedef struct Reason
{
	struct Reason *outer;		/* given before, further out */
	SubTransactionId subid;
	char text[	FAILURE_TEXT_SIZE];
} Reason;

/* The one given last */
static Reason *reason = NULL;

/* ... and that of a savepoint that was just rolled back, if there was one */
static bool has_undone = false;
static char undone[FAILURE_TEXT_SIZE];

static void drop_reason(Reason **from);

/*
 * queue_reason_give
 *		Give a reason for a rollback of the present subtransaction, or one
 *		around it.  May throw.
 *
 * A text that is too long is cut.
 */
void
queue_reason_give(const char *text)
{
	SubTransactionId subid = GetCurrentSubTransactionId();
	int			length = pg_mbcliplen(text, strlen(text),
									  FAILURE_TEXT_SIZE - 1);

	if (reason == NULL || reason->subid != subid)
	{
		Reason	   *given = MemoryContextAlloc(TopTransactionContext,
											   sizeof(Reason));

		given->outer = reason;
		given->subid = subid;
		reason = given;
	}
	memcpy(reason->text, text, length);
	reason->text[length] = '\0';
	has_undone = false;
}

/*
 * queue_reason_at_abort
 *		Return the reason for the rollback of a subtransaction, or of all, if
 *		one was given.
 */
const char *
queue_reason_at_abort(SubTransactionId subid)
{
	if (has_undone)
		return undone;
	if (reason == NULL ||
		(subid != InvalidSubTransactionId && reason->subid != subid))
		return NULL;
	return reason->text;
}

/* The subtransaction is released: its reason becomes its parent's. */
void
queue_reason_pass_on(SubTransactionId subid, SubTransactionId parent)
{
	if (reason == NULL || reason->subid != subid)
		return;
	reason->subid = parent;
	if (reason->outer != NULL && reason->outer->subid == parent)
		drop_reason(&reason->outer);
}

/* The subtransaction is rolled back. */
void
queue_reason_abort_sub(SubTransactionId subid)
{
	if (reason == NULL || reason->subid != subid)
		return;
	if (!has_undone)
		strlcpy(undone, reason->text, sizeof(undone));
	has_undone = true;
	drop_reason(&reason);
}

/* Take one out of the list, and give its memory back. */
static void
drop_reason(Reason **from)
{
	Reason	   *dropped = *from;

	*from = dropped->outer;
	pfree(dropped);
}

/*
 * queue_reason_note_error
 *		An error comes, or a subtransaction begins: what was rolled back before
 *		has nothing to do with what is rolled back next.
 */
void
queue_reason_note_error(void)
{
	has_undone = false;
}

/* The transaction is over, and its memory goes. */
void
queue_reason_forget(void)
{
	reason = NULL;
	has_undone = false;
}
