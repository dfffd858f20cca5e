/*-------------------------------------------------------------------------
 *
 * topic_slot.c
 *		Plays publishers and readers against src/shared/topic_slot.c.
 *
 * Transactions publish at random to one or many partitions of a topic, by ids
 * that are drawn from blocks, some of which come late, or that are given.  They
 * commit, roll back, or are prepared and end later.  Whatever stable id a
 * reader has been told, no transaction that ends after that may have an id
 * below it; that of a partition is what a naive look at all open transactions
 * says; and when all have ended it is beyond every id.  Registrations run out,
 * too.  Only the registrations are linked with it.  The last line of the output
 * is "N passed, N failed".
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <assert.h>

#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "storage/spin.h"

#include "common/compat.h"
#include "common/guc.h"
#include "shared/topic_slot.h"

#undef Assert
#define Assert(condition)	assert(condition)
#include "shared/registration.c"
#include "shared/topic_limit.c"
#include "shared/topic_publisher.c"

/* no server, no library of its: the C library's will do */
#undef printf
#undef fprintf

#define NTRANSACTIONS	12
#define NPARTITIONS		16
#define NSTEPS			300000
#define MAX_IDS			400
#define TOPIC			4711
#define BLOCK			32

int			queue_max_topics = 4;
int			MaxBackends = NTRANSACTIONS;
int			max_prepared_xacts = NTRANSACTIONS;
Oid			MyDatabaseId = 1;
static PGPROC proc;
PGPROC	   *MyProc = &proc;
#if PG_VERSION_NUM >= 170000
#undef MyProcNumber
ProcNumber	MyProcNumber = 0;
#endif

/* One that is open, and what it has published */
typedef struct Transaction
{
	Publishing	publishing;
	bool		is_prepared;
	TransactionId xid;
	int			nids;
	int			ndrawn;			/* the last of them, at once */
	int64		ids[MAX_IDS];
	int			partitions[MAX_IDS];
} Transaction;

static Transaction transactions[NTRANSACTIONS];
static int64 told[NPARTITIONS];
static int64 told_all;
static int64 sequence;
static int64 reserved;
static int64 highest;
static TransactionId next_xid = 3;
static LWLockPadded lwlocks[16];
static int	nlocked = 0;
static int	npassed = 0;
static int	nfailed = 0;

/* What topic_slot.c and registration.c want of the server */
void *
ShmemInitStruct(const char *name, Size size, bool *foundPtr)
{
	*foundPtr = false;
	return malloc(size);
}

Size
add_size(Size s1, Size s2)
{
	return s1 + s2;
}

Size
mul_size(Size s1, Size s2)
{
	return s1 * s2;
}

LWLockPadded *
GetNamedLWLockTranche(const char *tranche_name)
{
	return lwlocks;
}

bool
LWLockAcquire(LWLock *lock, LWLockMode mode)
{
	nlocked++;
	return true;
}

void
LWLockRelease(LWLock *lock)
{
	nlocked--;
}

TimestampTz
GetCurrentTransactionStartTimestamp(void)
{
	return 1;
}

int
s_lock(volatile slock_t *lock, const char *file, int line, const char *func)
{
	abort();
}

/* Assertions of topic_slot.c; the server's function differs by release */
void		assertion_failed(void) __asm__("ExceptionalCondition");

void
assertion_failed(void)
{
	abort();
}

static void
check(bool is_right, const char *name)
{
	if (is_right)
		npassed++;
	else
	{
		nfailed++;
		printf("FAILED: %s\n", name);
	}
}

/* What a look at all open transactions says of a partition, or of all */
static int64
naive_stable_id(int partition)
{
	int64		least = highest + 1;

	for (int i = 0; i < NTRANSACTIONS; i++)
		for (int j = 0; j < transactions[i].nids; j++)
			if (partition == ANY_PARTITION ||
				transactions[i].partitions[j] == partition)
				least = Min(least, transactions[i].ids[j]);
	return least;
}

/* Has one registered for any partition? */
static bool
is_for_any(void)
{
	for (int i = 0; i < queue_registration_count(); i++)
		if (queue_registration_at(i)->topic != NO_TOPIC &&
			queue_registration_at(i)->partition == ANY_PARTITION)
			return true;
	return false;
}

/* Is it what it should be?  With those of any partition it may be less. */
static bool
ask(TopicSlot *slot, int partition, bool *violates)
{
	TopicLimit	limit;
	int64		right = naive_stable_id(partition);
	int64	   *last = partition == ANY_PARTITION ? &told_all : &told[partition];
	bool		is_exact;

	if (queue_topic_limit(slot, TOPIC, partition, &limit) != TOPIC_DONE)
		return false;
	*violates |= limit.nviolations > 0;
	is_exact = limit.stable_id == right;
	if (limit.stable_id < *last || limit.next_id != highest + 1)
		return false;
	*last = limit.stable_id;
	return is_exact || (limit.stable_id < right && is_for_any());
}

static TopicOutcome
publish(Transaction *one, int n, int partition)
{
	int			partitions[100];
	int64		ids[100];
	int64		last;
	TopicDraw	draw = {1, n, partitions, ids, 0, ANY_PARTITION, 0};
	TopicOutcome outcome;

	for (int i = 0; i < n; i++)
		partitions[i] = partition == NPARTITIONS ? rand() % NPARTITIONS :
			partition;
	while ((outcome = queue_topic_draw(&one->publishing, &draw)) ==
		   TOPIC_NO_IDS)
	{
		/* sometimes another was quicker, or the sequence was set back */
		int64		first = rand() % 4 == 0 ?
			sequence - (rand() % 5) * BLOCK : sequence;

		if (first < 1)
			first = 1;
		if (queue_topic_add_block(one->publishing.slot, TOPIC, 1, first,
								  first + BLOCK - 1, &last) ==
			TOPIC_NO_IDS)
			sequence = Max(sequence, last + 1);
		else
			reserved = Max(reserved, first + BLOCK - 1);
		sequence = Max(sequence, first + BLOCK);
	}
	for (int i = 0; i < draw.ndrawn; i++)
	{
		assert(ids[i] > highest);
		highest = ids[i];
		one->ids[one->nids] = ids[i];
		one->partitions[one->nids++] = partitions[i];
	}
	one->ndrawn = draw.ndrawn;
	return outcome;
}

/*
 * Is what was drawn refused to all others, and none that was drawn by nobody?
 * What lies between those of one batch may be refused.
 */
static bool
is_drawn(const Transaction *one, int partition, int64 id)
{
	bool		said = queue_topic_is_drawn(&one->publishing, partition, id);
	bool		may_be = false;

	for (int i = 0; i < NTRANSACTIONS; i++)
	{
		const Transaction *other = &transactions[i];

		if (other == one || other->ndrawn == 0)
			continue;
		for (int j = other->nids - other->ndrawn; j < other->nids; j++)
			if (other->ids[j] == id && other->partitions[j] == partition && !said)
				return false;
		may_be |= id >= other->ids[other->nids - other->ndrawn] &&
			id <= other->ids[other->nids - 1];
	}
	return !said || may_be;
}

/* An id that is given: refused if, and only if, readers may have passed it */
static bool
give(Transaction *one)
{
	int64		id = Max(1, highest - 40 + rand() % 50);
	int			partition = rand() % NPARTITIONS;
	int64		stable;
	bool		moves;
	TopicOutcome outcome =
		queue_topic_admit(&one->publishing, partition, id, 1, &stable,
						  &moves);

	if (outcome == TOPIC_PASSED)
		return id < Max(told_all, told[partition]) &&
			stable == Max(told_all, told[partition]);
	if (outcome != TOPIC_DONE || id < Max(told_all, told[partition]) ||
		moves != (id > reserved))
		return false;
	if (moves)
	{
		queue_topic_reserve(one->publishing.slot, TOPIC, 1, id);
		reserved = id;
		sequence = Max(sequence, id + 1);
	}
	highest = Max(highest, id);
	if (!is_drawn(one, partition, id))
		return false;

	/* before those that were drawn at once, the last time */
	for (int i = one->nids++; i > one->nids - 1 - one->ndrawn; i--)
	{
		one->ids[i] = one->ids[i - 1];
		one->partitions[i] = one->partitions[i - 1];
	}
	one->ids[one->nids - 1 - one->ndrawn] = id;
	one->partitions[one->nids - 1 - one->ndrawn] = partition;
	return true;
}

/* It ends, and readers see what it has: had they passed some of it? */
static bool
end(Transaction *one)
{
	bool		is_right = true;

	for (int i = 0; i < one->nids; i++)
		if (one->ids[i] < told_all || one->ids[i] < told[one->partitions[i]])
			is_right = false;
	if (one->is_prepared)
	{
		Oid			dbid;
		Oid			relid;

		for (int i = 0; i < queue_registration_count(); i++)
			(void) queue_topic_end_prepared(i, one->xid, &dbid, &relid);
	}
	else
		(void) queue_topic_strike_off(&one->publishing);
	one->nids = one->ndrawn = 0;
	one->is_prepared = false;
	return is_right;
}

static void
begin_topic(TopicSlot *slot)
{
	memset(transactions, 0, sizeof(transactions));
	memset(told, 0, sizeof(told));
	told_all = 0;
	for (int i = 0; i < NTRANSACTIONS; i++)
	{
		transactions[i].publishing.slot = slot;
		transactions[i].publishing.relid = TOPIC;
	}
}

static void
play(bool gives)
{
	TopicSlot  *slot = queue_topic_slot_make(TOPIC, NPARTITIONS);
	bool		nothing_skipped = true;
	bool		is_exact = true;
	bool		given_right = true;
	bool		violates = false;
	TopicLimit	limit;
	uint64		generation;

	begin_topic(slot);
	highest = 100;
	sequence = 101;
	reserved = 0;
	check(!queue_topic_slot_is_open(slot, TOPIC, &generation),
		  "a new slot is closed");
	check(queue_topic_limit(slot, TOPIC, 0, &limit) == TOPIC_GONE,
		  "and tells nobody how far to read");
	check(queue_topic_slot_open(slot, TOPIC, generation - 1, highest, NULL,
								0) == TOPIC_GONE,
		  "it does not open for what was found before it was this topic's");
	check(queue_topic_slot_open(slot, TOPIC, generation, highest, NULL, 0) ==
		  TOPIC_DONE, "it opens");
	told_all = highest + 1;
	for (int step = 0; step < NSTEPS; step++)
	{
		Transaction *one = &transactions[rand() % NTRANSACTIONS];
		int			what = rand() % 10;

		if (what < 4)
			is_exact &= ask(slot, what == 0 ? ANY_PARTITION :
							rand() % NPARTITIONS, &violates);
		else if (what == 4 || one->is_prepared || one->nids > MAX_IDS - 100)
			nothing_skipped &= end(one);
		else if (what == 5 && one->nids > 0)
		{
			one->is_prepared = true;
			one->xid = next_xid++;
			queue_topic_pass(&one->publishing, one->xid);
		}
		else if (what == 6 && gives)
			given_right &= give(one);
		else
			(void) publish(one, 1 + rand() % 3,
						   rand() % 20 == 0 ? NPARTITIONS :
						   rand() % (NPARTITIONS + 1) - 1);
	}
	for (int i = 0; i < NTRANSACTIONS; i++)
		nothing_skipped &= end(&transactions[i]);
	check(nothing_skipped, gives ? "nothing is skipped, with ids that are given" :
		  "nothing is skipped");
	check(is_exact, "the stable id is what it should be");
	check(given_right, "ids that are given are refused if passed");
	check(!violates, "and there is no violation");
	check(queue_topic_limit(slot, TOPIC, ANY_PARTITION, &limit) ==
		  TOPIC_DONE && limit.stable_id == highest + 1 &&
		  limit.procno == NO_PROC, "at last all can be read");
	check(!queue_topic_slot_has_prepared(), "and none is prepared");
	check(pool->nfree == pool->n, "and all registrations are free");
	queue_topic_slot_drop(MyDatabaseId, TOPIC);
}

/* Those that were prepared before the start */
static void
recover(void)
{
	TopicSlot  *slot = queue_topic_slot_make(TOPIC, NPARTITIONS);
	const RecoveredPublisher recovered[] = {
		{70, 3, 50, 60, 2, 9}, {71, ANY_PARTITION, 40, 45, 1, 9},
		{72, 3, 45, 90, 7, 9}
	};
	TopicLimit	limit;
	Oid			dbid = InvalidOid;
	Oid			relid = InvalidOid;
	uint64		generation;
	int64		stable;
	bool		moves;

	begin_topic(slot);
	(void) queue_topic_slot_is_open(slot, TOPIC, &generation);
	check(queue_topic_slot_open(slot, TOPIC, generation, 100, recovered, 3) ==
		  TOPIC_DONE &&
		  queue_topic_slot_open(slot, TOPIC, generation, 500, recovered, 3) ==
		  TOPIC_DONE, "a slot opens once");
	check(queue_topic_admit(&transactions[0].publishing, 0, 39, 1, &stable,
							&moves) == TOPIC_PASSED && stable == 40,
		  "what may have been read before the start is refused");
	check(queue_topic_limit(slot, TOPIC, 5, &limit) == TOPIC_DONE &&
		  limit.stable_id == 40 && limit.xid == 71 && limit.since == 9,
		  "one of any partition holds all of them back");
	for (int i = 0; i < queue_registration_count(); i++)
		(void) queue_topic_end_prepared(i, 71, &dbid, &relid);
	check(queue_topic_limit(slot, TOPIC, 5, &limit) == TOPIC_DONE &&
		  limit.stable_id == 101 && limit.xid == InvalidTransactionId,
		  "until it ends");
	check(queue_topic_limit(slot, TOPIC, 3, &limit) == TOPIC_DONE &&
		  limit.stable_id == 45 && limit.xid == 72,
		  "the list is in order of first ids, not as they came");
	for (int i = 0; i < queue_registration_count(); i++)
		(void) queue_topic_end_prepared(i, 72, &dbid, &relid);
	check(queue_topic_limit(slot, TOPIC, 3, &limit) == TOPIC_DONE &&
		  limit.stable_id == 50 && limit.xid == 70, "then the next one does");
	queue_topic_slot_drop(MyDatabaseId, TOPIC);
	check(pool->nfree == pool->n && !queue_topic_slot_has_prepared(),
		  "what is left goes with the topic");
}

/* No slot, no registration, and a topic that goes away under its publisher */
static void
run_out(void)
{
	TopicSlot  *slot = queue_topic_slot_make(TOPIC, NPARTITIONS);
	Registration *taken[4000];
	int			ntaken = 0;
	TopicLimit	limit;
	uint64		generation;
	int64		last;

	for (Oid other = 1; other < queue_max_topics; other++)
		check(queue_topic_slot_make(other, 1) != NULL, "one has a slot");
	check(queue_topic_slot_make(99, 1) == NULL, "one more has none");
	queue_topic_slot_drop(MyDatabaseId, InvalidOid);

	slot = queue_topic_slot_make(TOPIC, NPARTITIONS);
	begin_topic(slot);
	highest = 0;
	sequence = 1;
	(void) queue_topic_slot_is_open(slot, TOPIC, &generation);
	(void) queue_topic_slot_open(slot, TOPIC, generation, 0, NULL, 0);
	while (ntaken < 4000 && (taken[ntaken] = queue_registration_take(3)) != NULL)
		ntaken++;
	check(ntaken > 0 && publish(&transactions[0], 1, 3) == TOPIC_DONE &&
		  transactions[0].publishing.registrations[0]->partition ==
		  ANY_PARTITION, "without room it is registered for any partition");
	while (ntaken < 4000 &&
		   (taken[ntaken] = queue_registration_take(ANY_PARTITION)) != NULL)
		ntaken++;
	check(publish(&transactions[1], 1, 3) == TOPIC_NO_ROOM && highest == 1,
		  "with no room at all it gets no id");
	check(queue_topic_limit(slot, TOPIC, 4, &limit) == TOPIC_DONE &&
		  limit.stable_id == 1, "and the first holds all back");
	while (ntaken > 0)
		queue_registration_free(taken[--ntaken]);

	queue_topic_slot_drop_idle(TOPIC);
	check(queue_topic_limit(slot, TOPIC, 4, &limit) == TOPIC_DONE,
		  "a slot with somebody registered stays");
	queue_topic_slot_drop(MyDatabaseId, InvalidOid);
	check(queue_topic_limit(slot, TOPIC, 4, &limit) == TOPIC_GONE &&
		  publish(&transactions[0], 1, 3) == TOPIC_GONE &&
		  queue_topic_add_block(slot, TOPIC, 1, 1, 2, &last) ==
		  TOPIC_GONE, "a slot that is another's is told");
	check(end(&transactions[0]) && pool->nfree == pool->n,
		  "who was registered gives back what it has");
}

int
main(void)
{
	queue_registration_shmem_init();
	queue_topic_slot_shmem_init();
	srand(1);
	play(false);
	play(true);
	recover();
	run_out();
	check(nlocked == 0, "every lock is released");
	printf("%d passed, %d failed\n", npassed, nfailed);
	return nfailed == 0 ? 0 : 1;
}
