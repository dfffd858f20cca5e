/*-------------------------------------------------------------------------
 *
 * sleeper.c
 *		Sessions that wait for messages, as a view shows them.
 *
 * A session that enters the lists of waiter.c leaves a sign in its place: who it
 * is, since when and until when it waits, and for what kind of message; never
 * for which.  Its nodes tell for which queues.  If the pool had too few nodes,
 * it is not known for which.
 *
 * The sign has no lock.  Its number is odd while it changes, so a reader copies
 * it until it finds the same even number before and after.  The nodes change
 * only while there is no sign, which is why it is put up last and taken down
 * first; a node that is free has no process.  All of that is of use to views
 * alone: nobody is woken by it.
 *
 * If a process dies, its exit takes the sign down with the rest.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/qunique.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "common/clock.h"
#include "common/compat.h"
#include "shared/sleeper.h"

/* Longer than that is for ever (usec) */
#define MAX_SHOWN			(INT64CONST(36500) * USECS_PER_DAY)

static void begin_change(Waiter *waiter);
static void end_change(Waiter *waiter);
static int	copy_relids(int procno, const WaitSign *sign, Oid *relids);

/*
 * queue_sleeper_begin
 *		Put up the sign: this session waits, with so many nodes.
 */
void
queue_sleeper_begin(Waiter *waiter, int nnodes, const WaitTerms *terms)
{
	WaitSign	sign;
	int64		left = Max(terms->end - queue_clock(), 0);

	queue_client_self(&sign.client);
	sign.since = GetCurrentTimestamp();
	sign.until = left > MAX_SHOWN ? TIMESTAMP_INFINITY : sign.since + left;
	sign.wants = terms->wants;
	sign.nnodes = nnodes;
	sign.nqueues = terms->nqueues;

	begin_change(waiter);
	waiter->sign = sign;
	end_change(waiter);
}

/* Take the sign down.  No error. */
void
queue_sleeper_end(Waiter *waiter)
{
	begin_change(waiter);
	waiter->sign.client.pid = 0;
	end_change(waiter);
}

/* The sign is about to change; only its own process does that. */
static void
begin_change(Waiter *waiter)
{
	waiter->changes++;
	pg_write_barrier();
}

/* It has changed. */
static void
end_change(Waiter *waiter)
{
	pg_write_barrier();
	waiter->changes++;
	Assert((waiter->changes & 1) == 0);
}

/* How many places are there? */
int
queue_sleeper_count(void)
{
	return MaxBackends;
}

/*
 * queue_sleeper_copy
 *		Copy what the i-th place says.
 *
 * Returns false if nobody waits there, or in another database.
 */
bool
queue_sleeper_copy(int i, Sleeper *copy)
{
	Waiter	   *waiter = &queue_waiters->waiters[i];

	for (;;)
	{
		uint32		before = waiter->changes;

		CHECK_FOR_INTERRUPTS();
		pg_read_barrier();
		copy->sign = waiter->sign;
		if ((before & 1) == 0)
		{
			bool		waits = copy->sign.client.pid != 0 &&
				waiter->dbid == MyDatabaseId;

			pg_read_barrier();
			if (waiter->changes != before)
				continue;
			if (!waits)
				return false;
			copy->relids = palloc(Max(copy->sign.nqueues, 1) * sizeof(Oid));
			copy->nrelids = copy_relids(i, &copy->sign, copy->relids);
			pg_read_barrier();
			if (waiter->changes == before)
			{
				qsort(copy->relids, copy->nrelids, sizeof(Oid), oid_cmp);
				copy->nrelids = (int) qunique(copy->relids, copy->nrelids,
											  sizeof(Oid), oid_cmp);
				return true;
			}
			pfree(copy->relids);
		}
	}
}

/*
 * copy_relids
 *		Copy the queues that the session has named; what else it listens to is
 *		nobody's business.
 *
 * Those beyond its own nodes are in the pool, of which all are looked at.
 */
static int
copy_relids(int procno, const WaitSign *sign, Oid *relids)
{
	const Waiter *waiter = &queue_waiters->waiters[procno];
	int			nnamed = Min(sign->nqueues, sign->nnodes);
	int			n = Min(nnamed, OWN_NODES);

	for (int i = 0; i < n; i++)
		relids[i] = waiter->nodes[i].relid;
	if (nnamed > OWN_NODES)
	{
		const WaitNode *pool = queue_waiter_pool();

		for (int i = 0; i < MaxBackends * POOL_NODES && n < nnamed; i++)
			if (pool[i].procno == procno && pool[i].place < nnamed)
				relids[n++] = pool[i].relid;
	}
	return n;
}
