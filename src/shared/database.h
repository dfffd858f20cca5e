/*-------------------------------------------------------------------------
 *
 * database.h
 *		What shared memory knows of each database: its worker, whether its
 *		leases are loaded, whether somebody needs the worker to stay away.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_DATABASE_H
#define QUEUE_DATABASE_H

#include "storage/lwlock.h"
#include "utils/timestamp.h"

/* Processes beside the worker (helper.c), at most one of each in a database */
typedef enum DatabaseHelper
{
	HELPER_VACUUM,				/* vacuum.c */
	HELPER_RESOLVER				/* resolver.c */
} DatabaseHelper;

#define NUM_HELPERS		(HELPER_RESOLVER + 1)

/*
 * Slots never move, but one may be given to another database after its own
 * was dropped or was seen to have no extension: whoever keeps a pointer
 * compares dbid under the lock.
 */
typedef struct DatabaseSlot
{
	Oid			dbid;			/* InvalidOid: free */
	bool		leases_loaded;	/* memory decides about leases */
	bool		has_extension;	/* as last seen */
	bool		is_probed;		/* a worker has looked since the start, and
								 * has_extension means something */
	bool		probe_wanted;	/* somebody says that has_extension may have
								 * changed; cleared before the worker looks */
	int			holds;			/* backends that want the worker away */
	bool		is_for_hold;	/* there is no other reason for this slot */
	pid_t		worker_pid;		/* 0: no worker attached */
	int			worker_procno;	/* its PGPROC, valid with worker_pid */
	pid_t		helper_pid[NUM_HELPERS];	/* 0: no such helper attached */
	int			helper_procno[NUM_HELPERS]; /* valid with helper_pid */
	bool		resolver_wanted;	/* a branch was prepared or finished */
	int			worker_failures;	/* ends in an error, one after another */

	/* by clock.h, as all times here */
	TimestampTz worker_started_at;	/* of the attached one, else of the last */
	TimestampTz worker_left_at; /* end of the last one, 0: none so far */
	TimestampTz worker_retry_at;	/* leader: not started again before this */
	TimestampTz worker_due_at;	/* when the worker means to wake by itself;
								 * read and set under the lock */
} DatabaseSlot;

extern Size queue_database_shmem_size(void);
extern void queue_database_shmem_init(void);

/*
 * The slot of a database, made when there is none (if "create").  NULL if
 * there is none, or all are in use.
 */
extern DatabaseSlot *queue_database_slot(Oid dbid, bool create);

/*
 * The same for a session that cannot do without.  When all slots are in use but
 * one is about to become free (a worker looks for the extension in its
 * database, or the database is gone and the leader has still to notice), waits
 * for that, for a few seconds at most.
 */
extern DatabaseSlot *queue_database_wait_for_slot(Oid dbid);

/* Slots have become free */
extern void queue_database_announce_room(void);

/* All slots, and the lock that guards their fields */
extern DatabaseSlot *queue_database_slots(int *nslots);
extern LWLock *queue_database_lock(void);

/*
 * Ask the worker of this database to look not later than "due", a time of day.  Sets a
 * latch, throws nothing, allocates nothing: callable from callbacks.  If the
 * database is not known to have the extension, the leader is told to look.
 */
extern void queue_database_poke(Oid dbid, TimestampTz due);

/* The extension was created or dropped in this database: let its worker, or
 * the leader, look.  No allocation, no error. */
extern void queue_database_announce(Oid dbid);

/* The leader's latch */
extern void queue_database_set_leader(int procno);	/* -1: gone */

/*
 * The worker's side.  Attach returns NULL if the database has a worker, or is
 * to have none now; otherwise the process is detached when it exits, after it
 * has left the process array.
 */
extern DatabaseSlot *queue_database_attach(Oid dbid);
extern void queue_database_begin_round(DatabaseSlot *slot);
extern void queue_database_set_extension(DatabaseSlot *slot, bool exists);
extern TimestampTz queue_database_publish_due(DatabaseSlot *slot,
											  TimestampTz due); /* by clock.h */

/*
 * The same of a helper: it goes when the worker goes, and is away when that is
 * held away.  Waking it is up to the worker; false if it is not there.
 */
extern bool queue_database_attach_helper(Oid dbid, DatabaseHelper helper);
extern bool queue_database_wake_helper(DatabaseHelper helper);

/*
 * Who has prepared or finished a branch wants the resolver, so the worker calls
 * it.  The request stands until the resolver takes it, before it looks.
 */
extern void queue_database_want_resolver(Oid dbid);
extern bool queue_database_is_resolver_wanted(bool take);

/* No process of this database is attached.  The lock is held. */
extern bool queue_database_is_deserted(const DatabaseSlot *slot);

extern bool queue_database_is_held(DatabaseSlot *slot);

/* Signal a worker to leave, if it is still this one */
extern void queue_database_dismiss(DatabaseSlot *slot, pid_t worker_pid);

/*
 * Keep the worker of a database and its helpers away, wait (for a bounded time)
 * until they are gone.  False if there is no slot to be had, thus no worker.  A backend holds
 * one database at a time; the hold ends with the backend at the latest.
 */
extern bool queue_database_hold(Oid dbid);
extern void queue_database_release(void);

#endif							/* QUEUE_DATABASE_H */
