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

/* How long to leave alone rows that others are changing; the delay doubles */
#define FIRST_BUSY_DELAY	(10 * INT64CONST(1000))
#define MAX_BUSY_DELAY		USECS_PER_SEC

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
	bool		priorities_vary;	/* a message may have another priority
									 * than was noted when it was taken */
	QueueRange	ranges[RANGE_PLACES(COVER_ROOM)];
	QueueRange	busy_ranges[RANGE_PLACES(BUSY_ROOM)];
} CoverPart;

/* window.c: what consumers have taken out of the cover */
typedef struct WindowPart
{
	uint64		nremoved;		/* windows that were ever taken out */
	int			nwindows;		/* that are out at the moment */
} WindowPart;

/* waiter.c: the sessions that sleep */
typedef struct WaitPart
{
	dlist_head	list;
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

/* vacuum.c and vacuum_worker.c.  The first three belong to the database's
 * worker alone. */
typedef struct VacuumPart
{
	uint64		nremoved;		/* as last seen: has the queue been used
								 * since? */
	TimestampTz look_until;
	TimestampTz looked_at;
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

/* state.c: why the worker may have to look at the queue */
typedef struct CarePart
{
	bool		is_healed;		/* unchanged since heal.c last began a pass */
	TimestampTz healed_at;		/* when that was */
	uint64		nhealed;		/* messages that the cover had lost */
	bool		is_deaf;		/* messages may arrive unannounced */
	bool		is_purged;		/* many rows died, and no window tells of it */
} CarePart;

/*
 * One queue.  The lock guards everything else here.  Each part is touched by
 * one file alone, and by state.c when the place is given to a queue; other
 * files ask by the functions below.  The place never moves, but after a DROP
 * it may be given to another queue, so a process that keeps a pointer uses
 * queue_state_lock().
 */
typedef struct QueueState
{
	LWLock	   *lock;
	Oid			dbid;			/* InvalidOid: free */
	Oid			relid;
	int			next_free;		/* of a free place, under the directory lock */

	CarePart	care;
	CoverPart	cover;
	WindowPart	window;
	DuePart		due;
	WaitPart	wait;
	IdPart		ids;
	VacuumPart	vacuum;
} QueueState;

extern Size queue_state_shmem_size(void);
extern void queue_state_shmem_init(void);
extern int	queue_state_nlocks(void);

/* The state of a queue of this database, or NULL: callers must do without */
extern QueueState *queue_state_find(Oid relid);

/* The same, made if need be; for queue_def_state() alone */
extern QueueState *queue_state_make(Oid relid);

/* Lock a queue's state, given where it was when last seen; NULL: none */
extern QueueState *queue_state_lock(QueueState *hint, Oid dbid, Oid relid);

/* Free the state of a dropped queue, or of all of a database (InvalidOid) */
extern void queue_state_drop(Oid dbid, Oid relid);

/* Number of places in use, each of them, and its index */
extern int	queue_state_count(void);
extern QueueState *queue_state_at(int i);

extern int	queue_state_place(const QueueState *state);

/* May the worker have something to do for this queue? */
extern void queue_state_set_active(QueueState *state, bool is_active);

/* The same, unless the state itself tells a reason to keep it active */
extern void queue_state_review_active(QueueState *state, bool is_active);

/* Something has changed, so that the worker is to check the queue */
extern bool queue_state_note_change(QueueState *state);

/* heal.c: is a pass due; one begins; it must begin again; what it found */
extern bool queue_state_needs_healing(const QueueState *state, int64 idle,
									  int64 deaf, TimestampTz now);
extern void queue_state_begin_healing(QueueState *state);
extern void queue_state_heal_again(QueueState *state);
extern void queue_state_count_healed(QueueState *state, int n);
extern uint64 queue_state_nhealed(const QueueState *state);

/* May messages arrive in replica role unannounced? */
extern void queue_state_set_deaf(QueueState *hint, Oid dbid, Oid relid,
								 bool is_deaf);
extern bool queue_state_is_deaf(const QueueState *state);

/* Many rows were deleted; vacuum.c reads that and clears it */
extern void queue_state_note_purge(Oid relid);
extern bool queue_state_is_purged(const QueueState *state);
extern void queue_state_clear_purge(QueueState *state);

/* The first active place from "i" on; the number in use if none */
extern int	queue_state_next_active(int i);

/* The same map for places with due times of entries; set by cover.c */
extern void queue_state_set_timed(QueueState *state, bool is_timed);
extern int	queue_state_next_timed(int i);

/* ----------------------------------------------------------------
 *		What others ask of the cover.  Unlocked, a hint.
 * ----------------------------------------------------------------
 */

/* When is the first thing due that no transaction announces? */
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

/* Are there rows to be looked at again, because others are changing them? */
static inline bool
queue_state_has_busy(const QueueState *state)
{
	return state->cover.busy.nranges > 0;
}

/* How many windows were ever taken out */
static inline uint64
queue_state_nwindows_taken(const QueueState *state)
{
	return state->window.nremoved;
}

/* How many are out */
static inline int
queue_state_nwindows(const QueueState *state)
{
	return state->window.nwindows;
}

/* May a message be in one of them? */
static inline bool
queue_state_has_window(const QueueState *state)
{
	return state->window.nwindows > 0;
}

#endif							/* QUEUE_STATE_H */
