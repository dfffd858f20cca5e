/*-------------------------------------------------------------------------
 *
 * queue_slot.h
 *		What shared memory knows of each queue.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_QUEUE_SLOT_H
#define QUEUE_QUEUE_SLOT_H

#include "access/transam.h"
#include "datatype/timestamp.h"
#include "lib/ilist.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"

#include "common/ranges.h"
#include "shared/due.h"
#include "shared/key.h"
#include "shared/news.h"

#define COVER_ROOM		32
#define BUSY_ROOM		12
#define OUT_ROOM			16

/* Keys of groups of up to this many bytes are kept in memory */
#define GROUP_TEXT		48

/* How long to leave alone rows that others are changing; the delay doubles */
#define FIRST_BUSY_DELAY	(10 * INT64CONST(1000))
#define MAX_BUSY_DELAY		USECS_PER_SEC

/* A selector: a hash of it, and of what else it depends on */
typedef struct SoughtKey
{
	uint64		hash[2];
} SoughtKey;

/* What consumers with one selector have not looked at */
typedef struct Sought
{
	bool		is_used;
	SoughtKey	key;
	uint64		number;			/* of the last addition (news.c) that is in it */
	int			nout;			/* windows that are out of it; a hint */
	TimestampTz began_at;
	TimestampTz used_at;
	RangeSet	left;
} Sought;

/* cover.c: where to look */
typedef struct CoverPart
{
	RangeSet	set;
	RangeSet	busy;			/* to be looked at again at busy_due */
	TimestampTz busy_due;
	int64		busy_delay;
	TimestampTz delayed_from[NUM_RANKS];	/* messages whose row says that
											 * they are not due: none that
											 * nobody cares for is due before */
	int			noverdue;		/* processes that are adding those */
	volatile TimestampTz first_due; /* of all of these, and of the entries of
									 * the in-flight table; may be read
									 * unlocked */
	bool		priorities_vary;	/* a message may have another priority
									 * than was noted when it was taken */
	NewsLog    *news;			/* NULL: nobody has looked by a selector */
	QueueRange	ranges[RANGE_PLACES(COVER_ROOM)];
	QueueRange	busy_ranges[RANGE_PLACES(BUSY_ROOM)];
} CoverPart;

/* Ids that a consumer has taken out of the cover */
typedef struct OutWindow
{
	bool		is_used;
	int			rank;
	int64		low;
	int64		high;
} OutWindow;

/* window.c: what consumers have taken out of the cover */
typedef struct WindowPart
{
	uint64		nremoved;		/* windows that were ever taken out */
	int			nwindows;		/* that are out at the moment */
	OutWindow	out[OUT_ROOM];
	int			nothers;		/* that have no place in it; their ids ... */
	int64		others_low;
	int64		others_high;
} WindowPart;

/* sought.c: what is left to be looked at by selectors */
typedef struct SoughtPlace SoughtPlace;

typedef struct SoughtPart
{
	SoughtPlace *place;			/* NULL: nobody has looked by a selector */
} SoughtPart;

/* group.c: groups whose first waiting message may be taken */
typedef struct GroupPart
{
	pairingheap ready;
	int			nready;			/* groups in it */
	int64		nlinked;		/* ... that were ever in it */
	volatile bool has_waited;	/* a message may wait for others of its group,
								 * and not be in the cover */
	int64		turn;			/* of the fair group that was served last */
	DuePart		waiting;		/* not before a time */
} GroupPart;

/* How far a range has been gone over, group by group */
typedef struct SortPlace
{
	QueueRange	range;
	int			length;			/* of the key of the last group */
	char text[	GROUP_TEXT];
} SortPlace;

/* sort.c: a part of the cover that is on its way into groups */
typedef struct SortPart
{
	bool		is_used;
	SortPlace	place;
} SortPart;

/* waiter.c: the sessions that sleep */
typedef struct WaitPart
{
	dlist_head	list;
	dlist_head	selecting;		/* those that want certain messages only */
	int			guardian;		/* proc number of the waiter that wakes at
								 * guarded_until */
	TimestampTz guarded_until;
} WaitPart;

/* ids.c: the block of ids in use */
typedef struct IdPart
{
	Oid			file;			/* of the sequence that the block is from */
	Oid			table_file;		/* of the table that it was last used for */
	int64		next;
	int64		last;			/* less than next: none left */
	int64		highest;		/* of all blocks so far */
} IdPart;

/* vacuum.c and vacuum_worker.c.  The first four belong to the database's
 * worker alone. */
typedef struct VacuumPart
{
	uint64		nremoved;		/* as last seen: has the queue been used
								 * since? */
	TimestampTz look_until;
	TimestampTz looked_at;
	TimestampTz held_since;		/* as seen by its looks: somebody may still
								 * see what was dead by the mark; 0: nobody */
	FullTransactionId mark;		/* what was dead by then is to be removed;
								 * Invalid: nothing is */
	TimestampTz follow_up_at;	/* the mark is for the vacuum after the last
								 * one, which is not before this; 0: it is not */
	TimestampTz retry_at;		/* the last one has failed */
	bool		is_wanted;		/* the vacuum worker is to vacuum it, or
								 * watches it: the mark has passed the
								 * horizon, or watch_until is set */
	TimestampTz watch_at;		/* when it next looks at the table */
	TimestampTz watch_until;	/* 0: it does not watch */
	TimestampTz truncated_at;	/* last attempt to return space to the system */
	int64		nvacuums;
	TimestampTz vacuumed_at;	/* 0: never */
} VacuumPart;

/* expiry.c: messages that the worker is to move or to delete */
typedef struct ExpiryPart
{
	TimestampTz from;			/* none expires before that it has not dealt
								 * with */
	volatile TimestampTz look_at;	/* when it is to look; may be read
									 * unlocked */
	uint64		nexpired;		/* messages that it has dealt with */
} ExpiryPart;

/* usage.c: how many messages and bytes there are, if that is limited */
typedef struct UsagePart
{
	pg_atomic_uint64 messages;	/* committed, as a signed number */
	pg_atomic_uint64 bytes;
	pg_atomic_uint64 coming;	/* sent by transactions in progress */
	pg_atomic_uint64 coming_bytes;
	volatile TimestampTz counted_at;	/* by clock.h; 0: not known */
	uint64		ncounts;		/* how often they were counted */
	int64		cost;			/* how long that took, in microseconds */
	TransactionId unsettled;	/* older ones may have sent, and not counted;
								 * Invalid: none */
	ConditionVariable room;		/* senders wait for it */
} UsagePart;

/* held.c: how many messages are dequeued or leased */
typedef struct HeldPart
{
	pg_atomic_uint32 n;			/* and places reserved for more */
	volatile int limit;			/* as last seen; 0: none */
	volatile bool is_complete;	/* leases loaded before it had a slot are
								 * counted */
} HeldPart;

/* bound.c: what the queue does not take of what is published */
typedef struct BoundPart
{
	uint64		nskipped;		/* messages that publishers have left out */
	TimestampTz skipped_at;		/* ... the last time */
	int			refusal;		/* ... and why */
	pg_atomic_uint32 ncuts;		/* odd: the table is being cut */
} BoundPart;

/*
 * counters.c: what has happened to the messages, and how many there are.  Those
 * that one kind of transaction adds to are 64 bytes away from those of others.
 */
#define NUM_BUCKETS			32
#define FIRST_BUCKET		INT64CONST(64)	/* usec; each is twice as wide */

typedef enum Counter
{
	/* who sends */
	COUNTER_SENT = 0,
	COUNTER_SENT_BYTES,

	/* who commits what it has consumed; in the order of GoneKind */
	COUNTER_ACKED = 16,
	COUNTER_DEAD,
	COUNTER_EXPIRED_DEAD,
	COUNTER_EXPIRED,
	COUNTER_REMOVED,
	COUNTER_GONE_BYTES,
	COUNTER_PROCESSING = 24,	/* buckets */

	/* seldom; DELAYED and RETRYING are no counts, but how many there are */
	COUNTER_FAILED = 64,
	COUNTER_DELAYED,
	COUNTER_RETRYING,
	COUNTER_OVERTAKEN,			/* deleted by retention, unread, and skipped */

	/* who takes */
	COUNTER_WAIT = 80,			/* buckets */
	NUM_COUNTERS = COUNTER_WAIT + NUM_BUCKETS
} Counter;

/* Rates are shown of what is sent, delivered, consumed and has failed */
#define NUM_RATES			4
#define NUM_SAMPLES			8

typedef struct CounterSample
{
	TimestampTz at;				/* 0: none */
	int64		n[NUM_RATES];
} CounterSample;

typedef struct CounterPart
{
	pg_atomic_uint64 n[NUM_COUNTERS];	/* signed */
	pg_atomic_uint64 due_until; /* what is due by then is not counted as
								 * delayed, nor as retrying */
	pg_atomic_uint64 next_due;	/* nothing else falls due before */

	/* under the lock of the slot */
	int64		base[NUM_COUNTERS]; /* when they were reset */
	TimestampTz reset_at;
	int64		rows;			/* and what n says was sent since, less what
								 * has gone */
	int64		bytes;
	int64		exhausted;
	int64		recovered;		/* rows that transactions hold which were
								 * prepared before the start */
	bool		is_recovered;	/* when it was counted, such ones had used it */
	TimestampTz counted_at;		/* 0: not known */
	TimestampTz count_at;		/* not again before; 0: at once */
	uint64		ncounts;
	pg_atomic_uint64 ndoubts;	/* how often it may have become wrong; not
								 * under the lock */
	uint64		counted_doubts; /* ... of which the last count knew */
	bool		is_long;		/* the process that counts is to count it */
	uint64		counted_events; /* what had happened when it was counted, */
	uint64		oldest_events;	/* ... and looked for the oldest */
	TimestampTz oldest_at;		/* when the oldest one that is ready was due;
								 * 0: none */
	struct TopicSlot *topic;	/* hint, of a subscription: whose publishers
								 * add to what is ready; or NULL */
	CounterSample samples[NUM_SAMPLES]; /* the newest comes first */
} CounterPart;

/* care.c: why the worker may have to look at the queue */
typedef struct CarePart
{
	bool		is_repaired;	/* unchanged since repair.c last began a pass */
	TimestampTz repaired_at;	/* when that was */
	uint64		nrepaired;		/* messages that the cover had lost */
	bool		is_deaf;		/* messages may arrive unannounced */
	bool		is_purged;		/* many rows died, and no window tells of it */
} CarePart;

/* What a slot is for: of a topic it has only what is about its vacuum */
typedef enum SlotKind
{
	SLOT_QUEUE,
	SLOT_TOPIC,					/* for those that wait for what is published,
								 * and for vacuum */
	SLOT_SUBSCRIPTION			/* for those that wait, and for vacuum */
} SlotKind;

/*
 * One queue.  The lock guards everything else here.  Each part is touched by
 * one file alone, and by queue_slot.c when the slot is given to a queue; other
 * files ask by the functions below.  The slot never moves, but after a DROP
 * it may be given to another queue, so a process that keeps a pointer uses
 * queue_slot_lock().
 */
typedef struct QueueSlot
{
	LWLock	   *lock;
	Oid			dbid;			/* InvalidOid: free */
	Oid			relid;
	SlotKind	kind;
	int			next_free;		/* of a free slot, under the directory lock */

	CarePart	care;
	CoverPart	cover;
	WindowPart	window;
	SoughtPart	sought;
	DuePart		due;
	GroupPart	groups;
	SortPart	sort;
	ExpiryPart	expiry;
	UsagePart	usage;
	HeldPart	held;
	BoundPart	bound;
	WaitPart	wait;
	IdPart		ids;
	VacuumPart	vacuum;
	CounterPart counters;
} QueueSlot;

extern Size queue_slot_shmem_size(void);
extern void queue_slot_shmem_init(void);
extern int	queue_slot_nlocks(void);

/* The slot of a queue of this database, or NULL: callers must do without */
extern QueueSlot *queue_slot_find(Oid relid);

/*
 * The same, made if need be; for queue_def_slot(), and the worker with a topic,
 * alone
 */
extern QueueSlot *queue_slot_make(Oid relid, SlotKind kind);

/* Lock a queue's slot, given where it was when last seen; NULL: none */
extern QueueSlot *queue_slot_lock(QueueSlot *hint, Oid dbid, Oid relid);

/* Free the slot of a dropped queue, or of all of a database (InvalidOid) */
extern void queue_slot_drop(Oid dbid, Oid relid);

/* Number of slots in use, each of them, and its index */
extern int	queue_slot_count(void);
extern QueueSlot *queue_slot_at(int i);

extern int	queue_slot_index(const QueueSlot *slot);

/* May the worker have something to do for this queue? */
extern void queue_slot_set_active(QueueSlot *slot, bool is_active);

/* The same, unless the slot itself tells a reason to keep it active */
extern void queue_slot_review_active(QueueSlot *slot, bool is_active);

/* Something has changed, so that the worker is to check the queue */
extern bool queue_slot_note_change(QueueSlot *slot);

/* repair.c: is a pass due; one begins; it must begin again; what it found */
extern bool queue_slot_needs_repair(const QueueSlot *slot, int64 idle,
									int64 deaf, TimestampTz now);
extern void queue_slot_begin_repair(QueueSlot *slot);
extern void queue_slot_repair_again(QueueSlot *slot);
extern void queue_slot_count_repaired(QueueSlot *slot, int n);
extern uint64 queue_slot_nrepaired(const QueueSlot *slot);

/* May messages arrive in replica role unannounced? */
extern void queue_slot_set_deaf(QueueSlot *hint, Oid dbid, Oid relid,
								bool is_deaf);
extern bool queue_slot_is_deaf(const QueueSlot *slot);

/* Many rows were deleted; vacuum.c reads that and clears it */
extern void queue_slot_note_purge(Oid relid);
extern bool queue_slot_is_purged(const QueueSlot *slot);
extern void queue_slot_clear_purge(QueueSlot *slot);

/* The first active slot from "i" on; the number in use if none */
extern int	queue_slot_next_active(int i);

/* The same map for slots with due times of entries; set by cover.c */
extern void queue_slot_set_timed(QueueSlot *slot, bool is_timed);
extern int	queue_slot_next_timed(int i);

/* ... with messages that expire; set by expiry.c */
extern void queue_slot_set_expiring(QueueSlot *slot, bool is_expiring);
extern int	queue_slot_next_expiring(int i);

/* ----------------------------------------------------------------
 *		What others ask of the cover.  Unlocked, a hint.
 * ----------------------------------------------------------------
 */

/* When is the first thing due that no transaction announces? */
static inline TimestampTz
queue_slot_first_due(const QueueSlot *slot)
{
	return slot->cover.first_due;
}

/* Is there a group whose first waiting message may be taken? */
static inline bool
queue_slot_has_ready_group(const QueueSlot *slot)
{
	return !pairingheap_is_empty(&slot->groups.ready);
}

/* When may there be one, unless something happens?  The slot is locked */
static inline TimestampTz
queue_slot_group_due(QueueSlot *slot)
{
	DueNode    *node = queue_due_first(&slot->groups.waiting);

	return node != NULL ? node->due : DT_NOEND;
}

/* May messages wait there that are not in the cover? */
static inline bool
queue_slot_has_waited(const QueueSlot *slot)
{
	return slot->groups.has_waited;
}

/* How many of them are ready? */
static inline int
queue_slot_nready_groups(const QueueSlot *slot)
{
	return slot->groups.nready;
}

/* Is a part of the cover on its way into groups? */
static inline bool
queue_slot_is_sorting(const QueueSlot *slot)
{
	return slot->sort.is_used;
}

/* ... and is this id in it?  The slot is locked */
static inline bool
queue_slot_is_sorting_id(const QueueSlot *slot, int rank, int64 id)
{
	const QueueRange *range = &slot->sort.place.range;

	return slot->sort.is_used && range->rank == rank &&
		range->low <= id && id <= range->high;
}

/* May there be a message to take? */
static inline bool
queue_slot_has_cover(const QueueSlot *slot)
{
	return slot->cover.set.nranges > 0 || queue_slot_has_ready_group(slot) ||
		queue_slot_is_sorting(slot);
}

/* Is the cover one range? */
static inline bool
queue_slot_is_one_range(const QueueSlot *slot)
{
	return slot->cover.set.nranges == 1 && !queue_slot_is_sorting(slot);
}

/* Are there rows to be looked at again, because others are changing them? */
static inline bool
queue_slot_has_busy(const QueueSlot *slot)
{
	return slot->cover.busy.nranges > 0;
}

/* How many windows were ever taken out */
static inline uint64
queue_slot_nwindows_taken(const QueueSlot *slot)
{
	return slot->window.nremoved;
}

/* How many are out */
static inline int
queue_slot_nwindows(const QueueSlot *slot)
{
	return slot->window.nwindows;
}

/* May a message be in one of them? */
static inline bool
queue_slot_has_window(const QueueSlot *slot)
{
	return slot->window.nwindows > 0;
}

#endif							/* QUEUE_QUEUE_SLOT_H */
