/*-------------------------------------------------------------------------
 *
 * database.h
 *		What shared memory knows of each database: its worker, whether its
 *		leases are loaded, whether a backend needs the worker to stay away.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_DATABASE_H
#define QUEUE_DATABASE_H

#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "utils/timestamp.h"

/* Processes beside the worker (helper.c), at most one of each in a database */
typedef enum DatabaseHelper
{
	HELPER_VACUUM,				/* vacuum.c */
	HELPER_RESOLVER,			/* resolver.c */
	HELPER_TALLY				/* tally.c */
} DatabaseHelper;

#define NUM_HELPERS		(HELPER_TALLY + 1)

/*
 * Slots never move, but one may be given to another database after its own was
 * dropped or was seen to have no extension.  A process that keeps a pointer
 * therefore compares dbid under the lock.
 */
typedef struct DatabaseSlot
{
	Oid			dbid;			/* InvalidOid: free */
	bool		leases_loaded;	/* memory decides about leases */
	bool		are_leases_in_doubt;	/* ... but a transaction that was
										 * prepared before that may have ended
										 * some of them in their log */
	bool		has_extension;	/* as last seen */
	bool		is_probed;		/* a worker has looked since the start, and
								 * has_extension means something */
	bool		probe_wanted;	/* has_extension may have changed; cleared
								 * before the worker looks */
	int			exclusions;		/* backends that want the worker away */
	bool		is_for_exclusion;	/* there is no other reason for this slot */
	pid_t		worker_pid;		/* 0: no worker attached */
	int			worker_procno;	/* its PGPROC, valid with worker_pid */
	pid_t		helper_pid[NUM_HELPERS];	/* 0: no such helper attached */
	int			helper_procno[NUM_HELPERS]; /* valid with helper_pid */
	bool		resolver_wanted;	/* a branch was prepared or finished */
	bool		walk_wanted;	/* a queue without a slot has changed */
	int			worker_failures;	/* ends in an error, one after another */

	/* by clock.h, as all times here */
	TimestampTz worker_started_at;	/* of the attached one, else of the last */
	TimestampTz worker_left_at; /* end of the last one, 0: none so far */
	TimestampTz worker_retry_at;	/* leader: not started again before this */
	TimestampTz worker_due_at;	/* when the worker means to wake by itself;
								 * read and set under the lock */
	TimestampTz worker_round_at;	/* when a worker last came, began a round
									 * or left; 0: none so far */
} DatabaseSlot;

/* What is known of processes and of the room for databases; for views */
typedef struct DatabaseCensus
{
	int			ndatabases;		/* slots in use */
	int			nwaiting;		/* databases that wait for a worker process */
	bool		lacks_room;		/* there are more with queues than slots */
	pid_t		leader_pid;		/* 0: no leader */
	pid_t		worker_pid;		/* of this database; 0: no worker */
	int64		round_age;		/* usec since it came, began a round or left;
								 * -1: there was none */
	uint32		nrefused;		/* PREPARE TRANSACTION without room for any */
} DatabaseCensus;

extern Size queue_database_shmem_size(void);
extern void queue_database_shmem_init(void);

/* The slot of a database, made if need be ("create"); NULL: none */
extern DatabaseSlot *queue_database_slot(Oid dbid, bool create);

/* The same; waits a few seconds for one that is about to become free */
extern DatabaseSlot *queue_database_wait_for_slot(Oid dbid);

/* Slots have become free */
extern void queue_database_announce_room(void);

/* All slots, and the lock that guards their fields */
extern DatabaseSlot *queue_database_slots(int *nslots);
extern LWLock *queue_database_lock(void);

/* Ask the worker to wake by "due", a time of day.  No allocation, no error */
extern void queue_database_wake_by(Oid dbid, TimestampTz due);

/* The extension was created or dropped here.  No allocation, no error */
extern void queue_database_announce(Oid dbid);

/* The same for a caller that holds the lock; make needs it exclusively */
extern DatabaseSlot *queue_database_find(Oid dbid);
extern DatabaseSlot *queue_database_make(Oid dbid);

/* Woken when a process has detached, or slots have become free */
extern ConditionVariable *queue_database_detached(void);

/* Set a latch, by proc number; nothing for NO_PROC.  The lock is not held */
extern void queue_database_set_latch(int procno);
extern void queue_database_wake_leader(void);

/* The leader's latch */
extern void queue_database_set_leader(int procno);	/* -1: gone */

/* The leader: so many databases wait for a worker; others have no slot */
extern void queue_database_note_shortage(int nwaiting, bool lacks_room);

/* A session: max_prepared_transactions is 0, and something is to be prepared */
extern void queue_database_note_refused(void);

extern void queue_database_count(DatabaseCensus *census);

/* No worker or helper of this database is attached.  The lock is held */
extern bool queue_database_is_deserted(const DatabaseSlot *slot);

#endif							/* QUEUE_DATABASE_H */
