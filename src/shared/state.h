/*-------------------------------------------------------------------------
 *
 * state.h
 *		What shared memory knows of each queue.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_STATE_H
#define QUEUE_STATE_H

#include "access/transam.h"
#include "datatype/timestamp.h"
#include "lib/ilist.h"
#include "storage/lwlock.h"

#include "common/ranges.h"
#include "shared/due.h"
#include "shared/key.h"

#define COVER_ROOM		32
#define BUSY_ROOM		12
#define MAX_LATER		16

/* How long to leave alone what others are at; the delay doubles each time */
#define FIRST_BUSY_DELAY	(10 * INT64CONST(1000))
#define MAX_BUSY_DELAY		USECS_PER_SEC

#define NO_PROC			(-1)

/* Messages whose row says that they are not due yet */
typedef struct LaterRange
{
	QueueRange	range;
	TimestampTz due;			/* of the first of them */
} LaterRange;

/* cover.c: where to look */
typedef struct CoverPart
{
	RangeSet	set;
	RangeSet	busy;			/* to be looked at again at busy_due */
	TimestampTz busy_due;
	int64		busy_delay;
	int			nlater;
	LaterRange	later[MAX_LATER];
	volatile TimestampTz first_due; /* of all of these, and of the entries of
									 * the in-flight table; may be read
									 * unlocked */
	uint64		nremoved;		/* windows that were ever taken out */
	int			nwindows;		/* that are out at the moment */
	bool		priorities_vary;	/* a message may have another priority
									 * than was noted when it was taken */
	QueueRange	ranges[RANGE_PLACES(COVER_ROOM)];
	QueueRange	busy_ranges[RANGE_PLACES(BUSY_ROOM)];
} CoverPart;

/* waiter.c: who sleeps */
typedef struct WaitPart
{
	dlist_head	list;
	int			guardian;		/* proc number of who wakes at guarded_until */
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

/* vacuum.c and vacuum_worker.c.  The first three belong to the database's worker alone. */
typedef struct VacuumPart
{
	uint64		nremoved;		/* as last seen: has somebody used it? */
	TimestampTz look_until;
	TimestampTz looked_at;
	FullTransactionId mark;		/* what was dead by then is to be removed;
								 * Invalid: nothing is */
	TimestampTz follow_up_at;	/* the mark is for the vacuum after the last
								 * one, which is not before this; 0: it is not */
	TimestampTz retry_at;		/* the last one has failed */
	bool		is_wanted;		/* the vacuum worker is to see to it: the mark
								 * has passed the horizon, or it watches */
	TimestampTz watch_at;		/* when it looks again */
	TimestampTz watch_until;	/* 0: it does not watch */
	TimestampTz truncated_at;	/* last attempt to return space to the system */
	int64		nvacuums;
	TimestampTz vacuumed_at;	/* 0: never */
} VacuumPart;

/* state.c: why the worker may have to look at the queue */
typedef struct CarePart
{
	bool		is_healed;		/* no change since heal.c has begun a pass */
	TimestampTz healed_at;		/* when that was */
	uint64		nhealed;		/* messages that the cover had lost */
	bool		is_deaf;		/* messages may come that nobody announces */
	bool		is_purged;		/* many rows die, and no window tells of it */
} CarePart;

/*
 * One queue.  Everything but "lock" is guarded by that.  Each part is touched
 * by one file alone, and by state.c when the place is given to a queue; others
 * ask by the functions below.  The place never moves, but after a DROP it may be
 * given to another queue, so whoever keeps a pointer uses queue_state_lock().
 */
typedef struct QueueState
{
	LWLock	   *lock;
	Oid			dbid;			/* InvalidOid: free */
	Oid			relid;
	int			next_free;		/* of a free place, under the directory lock */

	CarePart	care;
	CoverPart	cover;
	DuePart		due;
	WaitPart	wait;
	IdPart		ids;
	VacuumPart	vacuum;
} QueueState;

extern Size queue_state_shmem_size(void);
extern void queue_state_shmem_init(void);
extern int	queue_state_nlocks(void);

/*
 * The state of a queue of this database, NULL if there is none: everybody must
 * be able to do without.
 */
extern QueueState *queue_state_find(Oid relid);

/*
 * The same, made if need be; NULL if there is no room (queue.max_queues).  For
 * queue_def_state() alone, which knows that this is a queue.
 */
extern QueueState *queue_state_make(Oid relid);

/*
 * Lock the state of a queue, given where it was when last seen (or NULL).
 * NULL if it has none.
 */
extern QueueState *queue_state_lock(QueueState *hint, Oid dbid, Oid relid);

/* Free the state of a dropped queue, or of all in a database (InvalidOid) */
extern void queue_state_drop(Oid dbid, Oid relid);

/* Number of states in use, and each of them: NULL if free, not locked */
extern int	queue_state_count(void);
extern QueueState *queue_state_at(int i);

/* ... and which of them this is */
extern int	queue_state_place(const QueueState *state);

/*
 * Is there something that the worker may have to do for this queue?  The
 * caller holds its lock.
 */
extern void queue_state_set_active(QueueState *state, bool is_active);

/*
 * The same, unless it has to be active for a reason noted here: to be called by
 * who finds that there is no other.  Takes the lock.
 */
extern void queue_state_review_active(QueueState *state, bool is_active);

/* Something has changed, so the worker is to go over the queue.  False if it is
 * known to already.  The caller holds its lock. */
extern bool queue_state_note_change(QueueState *state);

/* heal.c: is it to go over the queue, after so long if nothing has changed, or
 * if the queue is deaf?  It begins; it has to begin again; it has found so many.
 * Only the first does not take the lock. */
extern bool queue_state_needs_healing(const QueueState *state, int64 idle,
									  int64 deaf, TimestampTz now);
extern void queue_state_begin_healing(QueueState *state);
extern void queue_state_heal_again(QueueState *state);
extern void queue_state_count_healed(QueueState *state, int n);
extern uint64 queue_state_nhealed(const QueueState *state);

/*
 * Does a queue miss what comes in replica role, for a trigger of it does not
 * fire there?  Then it stays active, and the worker looks for that.
 */
extern void queue_state_set_deaf(QueueState *hint, Oid dbid, Oid relid,
								 bool is_deaf);
extern bool queue_state_is_deaf(const QueueState *state);

/* Many rows of this queue have been deleted by other means than a take: let the
 * worker look whether it is worth a vacuum.  vacuum.c reads that and clears it. */
extern void queue_state_note_purge(Oid relid);
extern bool queue_state_is_purged(const QueueState *state);
extern void queue_state_clear_purge(QueueState *state);

/* The first of the active ones from "i" on; the number in use if none */
extern int	queue_state_next_active(int i);

/* The same for those that have due times of entries: a bit of cover.c */
extern void queue_state_set_timed(QueueState *state, bool is_timed);
extern int	queue_state_next_timed(int i);

/* ----------------------------------------------------------------
 *		What others ask of the cover.  Unlocked, a hint.
 * ----------------------------------------------------------------
 */

/* When is there something to do that nobody announces? */
static inline TimestampTz
queue_state_first_due(const QueueState *state)
{
	return state->cover.first_due;
}

/* May there be a message to take? */
static inline bool
queue_state_has_cover(const QueueState *state)
{
	return state->cover.set.nranges > 0;
}

/* Is there something to be looked at again, since others are at it? */
static inline bool
queue_state_has_busy(const QueueState *state)
{
	return state->cover.busy.nranges > 0;
}

/* How many windows were ever taken out */
static inline uint64
queue_state_nwindows_taken(const QueueState *state)
{
	return state->cover.nremoved;
}

#endif							/* QUEUE_STATE_H */
