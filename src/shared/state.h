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
#include "lib/pairingheap.h"
#include "storage/lwlock.h"

#include "common/ranges.h"

#define COVER_ROOM		32
#define BUSY_ROOM		12
#define MAX_LATER		16

typedef struct MessageKey
{
	Oid			dbid;
	Oid			relid;
	int64		id;
} MessageKey;

/* Messages whose row says that they are not due yet */
typedef struct LaterRange
{
	QueueRange	range;
	TimestampTz due;			/* of the first of them */
} LaterRange;

/* vacuum.c.  The first three belong to the database's worker alone. */
typedef struct VacuumState
{
	uint64		nremoved;		/* as last seen: has somebody used it? */
	TimestampTz look_until;
	TimestampTz looked_at;
	bool		is_purged;		/* many rows die, and no window tells of it */
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
} VacuumState;

/*
 * One queue.  Everything but "lock" is guarded by that, and each part belongs
 * to one file.  The place never moves, but after a DROP it may be given to
 * another queue, so whoever keeps a pointer uses queue_state_lock().
 */
typedef struct QueueState
{
	LWLock	   *lock;
	Oid			dbid;			/* InvalidOid: free */
	Oid			relid;
	int			next_free;		/* of a free place, under the directory lock */

	/* cover.c: where to look */
	RangeSet	cover;
	RangeSet	busy;			/* to be looked at again at busy_due */
	TimestampTz busy_due;
	int64		busy_delay;
	int			nlater;
	LaterRange	later[MAX_LATER];
	dlist_head	due_list;		/* of entries of the in-flight table: those
								 * that came in this order */
	pairingheap due_heap;		/* ... and the others */
	volatile TimestampTz first_due; /* of all of these; may be read unlocked */
	uint64		nremoved;		/* windows that were ever taken out */
	int			nwindows;		/* that are out at the moment */
	bool		priorities_vary;	/* a message may have another priority
									 * than was noted when it was taken */

	/* heal.c */
	bool		is_healed;		/* no change since a pass has begun */
	TimestampTz healed_at;		/* when that was */
	uint64		nhealed;		/* messages that the cover had lost */
	bool		is_deaf;		/* messages may come that nobody announces */

	/* vacuum.c */
	VacuumState vacuum;

	/* waiter.c */
	dlist_head	waiters;
	int			guardian;		/* proc number of who wakes at guarded_until */
	TimestampTz guarded_until;

	/* ids.c */
	Oid			id_file;		/* of the sequence that the block is from */
	Oid			id_table_file;	/* of the table that it was last used for */
	int64		next_id;
	int64		last_id;		/* less than next_id: none left */
	int64		highest_id;		/* of all blocks so far */

	QueueRange	cover_ranges[RANGE_PLACES(COVER_ROOM)];
	QueueRange	busy_ranges[RANGE_PLACES(BUSY_ROOM)];
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
 * Does a queue miss what comes in replica role, for a trigger of it does not
 * fire there?  Then it stays active, and the worker looks for that.
 */
extern void queue_state_set_deaf(QueueState *hint, Oid dbid, Oid relid,
								 bool is_deaf);

/* The first of the active ones from "i" on; the number in use if none */
extern int	queue_state_next_active(int i);

/* The same for those that have due times of entries: a bit of cover.c */
extern void queue_state_set_timed(QueueState *state, bool is_timed);
extern int	queue_state_next_timed(int i);

#endif							/* QUEUE_STATE_H */
