/*-------------------------------------------------------------------------
 *
 * topic_slot.h
 *		What shared memory knows of each topic: its ids, and who publishes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_TOPIC_SLOT_H
#define QUEUE_TOPIC_SLOT_H

#include "storage/lwlock.h"

#include "shared/registration.h"

/* Partitions for which one transaction registers; beyond that for any */
#define MAX_PUBLISHED			8

/* All of it under the lock */
typedef struct TopicSlot
{
	LWLock	   *lock;
	Oid			dbid;			/* InvalidOid: free */
	Oid			relid;
	uint64		generation;		/* how often it was given to a topic */
	bool		is_open;
	bool		is_changed;		/* the worker is to write the stable id down */
	int			npartitions;
	int64		highest;		/* of all ids that were handed out */
	int64		greatest[TOPIC_MAX_PARTITIONS]; /* ... that a partition has,
												 * or more */
	int64		removed;		/* retention has deleted nothing after this
								 * id; -1: not known */

	/* a block of the sequence; no ids are left if last is less than next */
	Oid			file;
	int64		next;
	int64		last;
	int64		reserved;		/* that file gives no id up to here again */
	uint64		naltered;		/* so often the table may have got rows that
								 * nobody has told of, */
	uint64		nlooked;		/* ... when somebody has looked for them */

	/* stable ids that were told to readers, of all partitions and of each */
	int64		told_all;
	int64		told_most;		/* the highest of them */
	int64		told[TOPIC_MAX_PARTITIONS];
	uint64		nviolations;
	uint64		nreported;		/* of these */
	uint64		nends;			/* publishers that have ended, and what else
								 * may have changed what there is */
	RegistrationLists lists;
} TopicSlot;

/*
 * What one transaction has registered in one topic.  It lies in the memory of
 * its process, which makes room before it registers.
 */
typedef struct Publishing
{
	Oid			relid;
	TopicSlot  *slot;
	int			n;
	Registration *registrations[MAX_PUBLISHED + 1]; /* the last: of any */
} Publishing;

/* Ids that a transaction wants */
typedef struct TopicDraw
{
	Oid			file;			/* of the sequence */
	int			n;
	int		   *partitions;		/* ANY_PARTITION: by the id, one for all */
	int64	   *ids;
	int			ndrawn;			/* begins with 0 */
	int			chosen;			/* begins with ANY_PARTITION */
	uint64		naltered;		/* set for TOPIC_ALTERED */
} TopicDraw;

typedef enum TopicOutcome
{
	TOPIC_DONE,
	TOPIC_NO_IDS,				/* a block of them is needed */
	TOPIC_ALTERED,				/* rows may have ids that are to be avoided */
	TOPIC_NO_ROOM,				/* there is no registration left */
	TOPIC_PASSED,				/* an id that readers may have passed */
	TOPIC_GONE					/* the slot is another topic's by now */
} TopicOutcome;

/* A transaction that was prepared before the server started */
typedef struct RecoveredPublisher
{
	TransactionId xid;
	int			partition;		/* or ANY_PARTITION */
	int64		first;
	int64		greatest;
	int64		nids;
	TimestampTz since;
} RecoveredPublisher;

/* How far one partition, or all (ANY_PARTITION), can be read */
typedef struct TopicLimit
{
	int64		stable_id;		/* nothing below it can appear */
	int64		next_id;		/* ... if nobody is registered */
	int64		greatest;		/* there is no id above it so far */
	int			procno;			/* who holds it back, or NO_PROC */
	TransactionId xid;			/* ... if that one is prepared, or Invalid */
	TimestampTz since;			/* ... 0: nobody does */
	uint64		nviolations;	/* of the topic: must be 0 */
} TopicLimit;

/* ----------------------------------------------------------------
 *		topic_slot.c: slots
 * ----------------------------------------------------------------
 */

extern int	queue_topic_slot_nlocks(void);
extern Size queue_topic_slot_shmem_size(void);
extern void queue_topic_slot_shmem_init(void);

/*
 * The slot of a topic of this database, made if need be, or as it is; NULL:
 * there is no room, or it has none
 */
extern TopicSlot *queue_topic_slot_make(Oid relid, int npartitions);
extern TopicSlot *queue_topic_slot_find(Oid relid);

/* How many are in use, by topics of any database */
extern int	queue_topic_slot_nused(void);

/* Publishers that ended below what readers were told: must be 0 */
extern uint64 queue_topic_slot_nviolations(Oid relid);

/* By number, as a registration has it, and its number */
extern TopicSlot *queue_topic_slot_at(int i);
extern int	queue_topic_slot_number(const TopicSlot *slot);

/* Lock the slot of a topic; false, and nothing is locked: it is another's */
extern bool queue_topic_slot_lock(TopicSlot *slot, Oid relid);

/* Which partitions have ids up to this one is not known; the slot is locked */
extern void queue_topic_slot_note_unknown(TopicSlot *slot, int64 id);

/*
 * Retention is about to delete up to this id; or, if that is not known yet, it
 * has done so
 */
extern void queue_topic_slot_note_removed(Oid relid, int64 id,
										  bool if_unknown);
extern int64 queue_topic_slot_removed(Oid relid);

/* Is this the topic's slot, and open? */
extern bool queue_topic_slot_is_open(TopicSlot *slot, Oid relid,
									 uint64 *generation);

/* How many publishers have ended, unlocked; 0: it has no slot */
extern uint64 queue_topic_slot_nends(Oid relid);

/* Messages may have gone, as by TRUNCATE: a look for publishers looks */
extern void queue_topic_slot_note_gone(Oid dbid, Oid relid);
extern void queue_topic_slot_note_all_gone(Oid dbid);

/* The table was altered, or adopted: it may have ids that nobody has told of */
extern void queue_topic_slot_note_altered(Oid relid);

/*
 * Open it, unless another has: no id up to the highest is handed out any more,
 * but to these
 */
extern TopicOutcome queue_topic_slot_open(TopicSlot *slot, Oid relid,
										  uint64 generation, int64 highest,
										  const RecoveredPublisher *recovered,
										  int n);

/* So many registrations of prepared transactions more; are there any? */
extern void queue_topic_slot_count_prepared(int change);
extern bool queue_topic_slot_has_prepared(void);

/*
 * The next topic of this database whose stable id is to be written down; all of
 * them are to be, again
 */
extern Oid	queue_topic_slot_next_changed(int *place);
extern void queue_topic_slot_write_again(void);

/*
 * Topics that are gone; InvalidOid: all of a database; one whose table is not
 * there, unless somebody is registered
 */
extern void queue_topic_slot_drop(Oid dbid, Oid relid);
extern void queue_topic_slot_drop_idle(Oid relid);

/* ----------------------------------------------------------------
 *		topic_limit.c: how far to read
 * ----------------------------------------------------------------
 */

/*
 * How far it can be read.  What was told once stays true, whoever publishes
 */
extern TopicOutcome queue_topic_limit(TopicSlot *slot, Oid relid,
									  int partition, TopicLimit *limit);
extern TopicOutcome queue_topic_limits(TopicSlot *slot, Oid relid,
									   int npartitions, TopicLimit *limits);

/* The stable id of all partitions, for the worker, which writes it down */
extern TopicOutcome queue_topic_limit_to_write(Oid relid, int64 *stable_id,
											   uint64 *nviolations);

/* The highest stable id of a partition, or of all, that a reader was told */
extern int64 queue_topic_limit_told(const TopicSlot *slot, int partition);

/* ----------------------------------------------------------------
 *		topic_publisher.c: who publishes
 * ----------------------------------------------------------------
 */

/* Register, then draw; see TopicOutcome for what is to be done */
extern TopicOutcome queue_topic_draw(Publishing *publishing, TopicDraw *draw);
extern TopicOutcome queue_topic_add_block(TopicSlot *slot, Oid relid, Oid file,
										  int64 first, int64 last,
										  int64 *highest);

/* What the table has: ids go on beyond it */
extern void queue_topic_pass_rows(TopicSlot *slot, Oid relid, int64 id,
								  uint64 naltered);

/*
 * Register an id that is given; below *stable_id readers may have passed it.
 * Is the sequence to be moved beyond it?  It has been, up to this id
 */
extern TopicOutcome queue_topic_admit(Publishing *publishing, int partition,
									  int64 id, Oid file, int64 *stable_id,
									  bool *moves_sequence);
extern void queue_topic_reserve(TopicSlot *slot, Oid relid, Oid file,
								int64 id);

/* One that was registered: may another be about to insert it, which drew it? */
extern bool queue_topic_is_drawn(const Publishing *publishing, int partition,
								 int64 id);
extern void queue_topic_note_given(Oid relid, int partition, int64 id);

/*
 * It has left the process array: strike it off.  Or it is prepared.  True: the
 * worker has something to write down, and does not know it yet
 */
extern bool queue_topic_strike_off(Publishing *publishing);
extern void queue_topic_pass(Publishing *publishing, TransactionId xid);

/* The prepared one that has the registration of this number has ended */
extern bool queue_topic_end_prepared(int number, TransactionId xid, Oid *dbid,
									 Oid *relid);

#endif							/* QUEUE_TOPIC_SLOT_H */
