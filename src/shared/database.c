/*-------------------------------------------------------------------------
 *
 * database.c
 *		What shared memory knows of each database.
 *
 * A fixed array of slots, one for each database that has the extension or
 * whose worker has still to look.  It is small and seldom written, so one
 * LWLock guards all of it, and slots are found by going through the array.
 * The lock is held over loads and stores (and kill() in a few places); latches
 * are set after its release.  The only locks taken inside are those of the
 * in-flight table, when leases are loaded (lease.c) or the entries of a
 * dropped database are forgotten (leader.c).  So nothing here is called with
 * one of them held.
 *
 * When all slots are in use, that of a database known to lack the extension is
 * given away: nothing about such a database is worth remembering here, and the
 * leader has a list of its own of those that it need not probe again.
 *
 * All times kept here are those of clock.h.
 *
 * How a worker sleeps: before a round it sets worker_due_at to infinity.
 * After the round it sets it to the time when it has to wake, or leaves an
 * earlier time that was set meanwhile.  A wake-up stores its time if that is
 * earlier than the one it finds, and only then sets the latch.  The process
 * that asks for one has made its change before, so either the round saw the change or
 * the request is found after the round.  A latch that is set says no more than
 * "read worker_due_at again".
 *
 * Nothing here outlives a crash of any process, because the server then makes
 * its shared memory anew.  A process that ends in any other way runs its exit
 * callbacks, so neither an exclusion nor an attached worker is left behind.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/syscache.h"

#include "common/clock.h"
#include "common/compat.h"
#include "common/guc.h"
#include "shared/database.h"

/* How long a session waits for a slot that is about to become free */
#define SLOT_TIMEOUT		5000	/* ms */

typedef struct DatabaseArray
{
	int			leader_procno;	/* NO_PROC: no leader */
	int			nwaiting;		/* as the leader has last noted */
	bool		lacks_room;
	pg_atomic_uint32 nrefused;	/* PREPARE TRANSACTION without room for any */
	ConditionVariable detached; /* a worker has detached, or slots have become
								 * free */
	DatabaseSlot slots[FLEXIBLE_ARRAY_MEMBER];
} DatabaseArray;

static DatabaseArray *databases = NULL;
static LWLock *databases_lock = NULL;

static bool is_expendable(const DatabaseSlot *slot);
static bool is_room_coming(void);

/*
 * queue_database_shmem_size
 *		Shared memory needed for the slots.
 */
Size
queue_database_shmem_size(void)
{
	return add_size(offsetof(DatabaseArray, slots),
					mul_size(queue_max_databases, sizeof(DatabaseSlot)));
}

/*
 * queue_database_shmem_init
 *		Create or attach to the slots.
 *
 * Called in the postmaster, and in every process that does not inherit its
 * memory.  The caller holds AddinShmemInitLock.
 */
void
queue_database_shmem_init(void)
{
	bool		found;

	databases = ShmemInitStruct("queue databases", queue_database_shmem_size(),
								&found);
	databases_lock = &GetNamedLWLockTranche("queue_database")->lock;

	if (!found)
	{
		memset(databases, 0, queue_database_shmem_size());
		databases->leader_procno = NO_PROC;
		pg_atomic_init_u32(&databases->nrefused, 0);
		ConditionVariableInit(&databases->detached);
	}
}

/*
 * queue_database_slots
 *		Return the array of all slots, and their number.
 *
 * Their fields are guarded by queue_database_lock().
 */
DatabaseSlot *
queue_database_slots(int *nslots)
{
	*nslots = databases != NULL ? queue_max_databases : 0;
	return databases != NULL ? databases->slots : NULL;
}

/* Return the lock that guards the fields of all slots. */
LWLock *
queue_database_lock(void)
{
	return databases_lock;
}

/*
 * queue_database_slot
 *		Return the slot of a database, made if need be ("create").
 *
 * Returns NULL if there is none, or if all are in use.
 */
DatabaseSlot *
queue_database_slot(Oid dbid, bool create)
{
	DatabaseSlot *slot;

	if (databases == NULL || !OidIsValid(dbid))
		return NULL;

	LWLockAcquire(databases_lock, LW_SHARED);
	slot = queue_database_find(dbid);
	create = create && (slot == NULL || slot->is_for_exclusion);
	LWLockRelease(databases_lock);

	if (create)
	{
		LWLockAcquire(databases_lock, LW_EXCLUSIVE);
		slot = queue_database_make(dbid);
		LWLockRelease(databases_lock);
	}
	return slot;
}

/*
 * queue_database_wait_for_slot
 *		The same for a session that cannot do without a slot.
 *
 * If all slots are in use but one is about to become free, waits for that, for
 * a few seconds at most.  One is about to become free if a worker looks for
 * the extension in its database, or if the database is gone and the leader has
 * still to notice.
 */
DatabaseSlot *
queue_database_wait_for_slot(Oid dbid)
{
	static uint32 wait_event = 0;
	DatabaseSlot *slot = queue_database_slot(dbid, true);
	TimestampTz deadline;

	if (slot != NULL || databases == NULL)
		return slot;

	if (wait_event == 0)
		wait_event = WaitEventExtensionNew("QueueDatabaseSlot");
	deadline = TimestampTzPlusMilliseconds(queue_clock(),
										   SLOT_TIMEOUT);
	for (;;)
	{
		long		left;

		/*
		 * before the look, so that a slot that becomes free after it wakes
		 * this one
		 */
		ConditionVariablePrepareToSleep(&databases->detached);
		slot = queue_database_slot(dbid, true);
		left = TimestampDifferenceMilliseconds(queue_clock(),
											   deadline);
		if (slot != NULL || left <= 0 || !is_room_coming())
			break;
		queue_database_wake_leader();
		(void) ConditionVariableTimedSleep(&databases->detached, left,
										   wait_event);
	}
	ConditionVariableCancelSleep();
	return slot;
}

/*
 * queue_database_announce_room
 *		Wake the sessions that wait for a slot, because some have become free.
 */
void
queue_database_announce_room(void)
{
	ConditionVariableBroadcast(&databases->detached);
}

/*
 * queue_database_detached
 *		Return what a process is woken by when a worker or a helper has
 *		detached, or slots have become free.
 */
ConditionVariable *
queue_database_detached(void)
{
	return &databases->detached;
}

/*
 * Is there a slot that is not that of an existing database with the extension?
 */
static bool
is_room_coming(void)
{
	Oid		   *dbids = palloc(queue_max_databases * sizeof(Oid));
	int			n = 0;
	bool		is_coming = false;

	LWLockAcquire(databases_lock, LW_SHARED);
	for (int i = 0; i < queue_max_databases; i++)
	{
		if (databases->slots[i].has_extension)
			dbids[n++] = databases->slots[i].dbid;
		else
			is_coming = true;
	}
	LWLockRelease(databases_lock);

	while (!is_coming && n > 0)
		is_coming = !SearchSysCacheExists1(DATABASEOID,
										   ObjectIdGetDatum(dbids[--n]));
	pfree(dbids);
	return is_coming;
}

/* Return the slot of a database, or NULL.  The lock is held. */
DatabaseSlot *
queue_database_find(Oid dbid)
{
	static DatabaseSlot *last = NULL;

	if (last != NULL && last->dbid == dbid)
		return last;
	for (int i = 0; i < queue_max_databases; i++)
	{
		if (databases->slots[i].dbid == dbid)
		{
			last = &databases->slots[i];
			return last;
		}
	}
	return NULL;
}

/*
 * queue_database_make
 *		Return the slot of a database, made if need be, and meant to stay.
 *
 * Returns NULL if there is no room.  The lock is held exclusively.
 */
DatabaseSlot *
queue_database_make(Oid dbid)
{
	DatabaseSlot *slot = queue_database_find(dbid);

	if (slot != NULL)
	{
		slot->is_for_exclusion = false;
		return slot;
	}

	slot = queue_database_find(InvalidOid);
	for (int i = 0; slot == NULL && i < queue_max_databases; i++)
	{
		if (is_expendable(&databases->slots[i]))
			slot = &databases->slots[i];
	}
	if (slot != NULL)
	{
		memset(slot, 0, sizeof(DatabaseSlot));
		slot->dbid = dbid;
		slot->worker_procno = NO_PROC;
		slot->worker_due_at = TIMESTAMP_INFINITY;
	}
	return slot;
}

/* Does this slot say no more than that a database has no extension? */
static bool
is_expendable(const DatabaseSlot *slot)
{
	return slot->is_probed && !slot->has_extension && !slot->probe_wanted &&
		queue_database_is_deserted(slot) && slot->exclusions == 0;
}

/*
 * queue_database_set_latch
 *		Set the latch of a process; the lock is not held.
 *
 * The process may have gone and another may have its PGPROC by now.  That one
 * wakes for nothing, which every process must be prepared for.
 */
void
queue_database_set_latch(int procno)
{
	if (procno != NO_PROC)
		SetLatch(&GetPGProcByNumber(procno)->procLatch);
}

/*
 * queue_database_set_leader
 *		Note the leader's latch, by its proc number; NO_PROC if it goes.
 */
void
queue_database_set_leader(int procno)
{
	LWLockAcquire(databases_lock, LW_EXCLUSIVE);
	databases->leader_procno = procno;
	databases->nwaiting = 0;
	databases->lacks_room = false;
	LWLockRelease(databases_lock);
}

/*
 * queue_database_note_shortage
 *		Note what the leader lacks: processes for so many databases, slots.
 *
 * It says so anew in each pass, and takes it back when it goes.
 */
void
queue_database_note_shortage(int nwaiting, bool lacks_room)
{
	LWLockAcquire(databases_lock, LW_EXCLUSIVE);
	databases->nwaiting = nwaiting;
	databases->lacks_room = lacks_room;
	LWLockRelease(databases_lock);
}

/*
 * queue_database_note_refused
 *		Note that a transaction is to be prepared where none can be.
 *
 * The server refuses it, and nothing else would tell the administrator.
 */
void
queue_database_note_refused(void)
{
	pg_atomic_fetch_add_u32(&databases->nrefused, 1);
}

/* Return what there is, for views. */
void
queue_database_count(DatabaseCensus *census)
{
	DatabaseSlot *slot;

	memset(census, 0, sizeof(DatabaseCensus));
	census->round_age = -1;
	census->nrefused = pg_atomic_read_u32(&databases->nrefused);

	LWLockAcquire(databases_lock, LW_SHARED);
	for (int i = 0; i < queue_max_databases; i++)
	{
		if (OidIsValid(databases->slots[i].dbid) &&
			!is_expendable(&databases->slots[i]))
			census->ndatabases++;
	}
	census->nwaiting = databases->nwaiting;
	census->lacks_room = databases->lacks_room;
	if (databases->leader_procno != NO_PROC)
		census->leader_pid = GetPGProcByNumber(databases->leader_procno)->pid;
	slot = queue_database_find(MyDatabaseId);
	if (slot != NULL)
	{
		census->worker_pid = slot->worker_pid;
		if (slot->worker_round_at != 0)
			census->round_age = queue_clock() - slot->worker_round_at;
	}
	LWLockRelease(databases_lock);
}

/* Set the leader's latch, if there is a leader. */
void
queue_database_wake_leader(void)
{
	int			procno;

	LWLockAcquire(databases_lock, LW_SHARED);
	procno = databases->leader_procno;
	LWLockRelease(databases_lock);
	queue_database_set_latch(procno);
}

/*
 * queue_database_wake_by
 *		Ask the worker of a database to wake not later than "due", a time of
 *		day.
 *
 * If the database is not known to have the extension, the leader is told to
 * look.  No allocation, no error, so this may be called from callbacks.
 *
 * It is called often, so it takes the lock in shared mode first: mostly the
 * worker means to wake soon enough.
 */
void
queue_database_wake_by(Oid dbid, TimestampTz due)
{
	DatabaseSlot *slot;
	int			procno = NO_PROC;

	if (databases == NULL)
		return;
	due = queue_clock_at(due);

	LWLockAcquire(databases_lock, LW_SHARED);
	slot = queue_database_find(dbid);
	if (slot != NULL && slot->worker_due_at <= due &&
		(slot->has_extension || slot->probe_wanted))
	{
		LWLockRelease(databases_lock);
		return;
	}
	LWLockRelease(databases_lock);

	LWLockAcquire(databases_lock, LW_EXCLUSIVE);
	slot = queue_database_make(dbid);
	if (slot != NULL)
	{
		if (due < slot->worker_due_at)
		{
			slot->worker_due_at = due;
			if (slot->worker_pid != 0)
				procno = slot->worker_procno;
		}

		/*
		 * A session uses the extension here, whatever a worker saw earlier.
		 * The leader is told once.  A worker that is under way clears the
		 * flag before it looks, and so it is with announcements.
		 */
		if (!slot->has_extension && !slot->probe_wanted)
		{
			slot->probe_wanted = true;
			slot->worker_retry_at = 0;
			if (slot->worker_pid == 0)
				procno = databases->leader_procno;
		}
	}
	LWLockRelease(databases_lock);
	queue_database_set_latch(procno);
}

/*
 * queue_database_announce
 *		The extension was created or dropped in this database: let its worker,
 *		or the leader, look.
 *
 * No allocation, no error.
 */
void
queue_database_announce(Oid dbid)
{
	DatabaseSlot *slot;
	int			procno;

	if (databases == NULL)
		return;

	LWLockAcquire(databases_lock, LW_EXCLUSIVE);
	procno = databases->leader_procno;
	slot = queue_database_make(dbid);
	if (slot != NULL)
	{
		slot->probe_wanted = true;
		slot->worker_due_at = 0;
		slot->worker_retry_at = 0;
		if (slot->worker_pid != 0)
			procno = slot->worker_procno;
	}
	LWLockRelease(databases_lock);
	queue_database_set_latch(procno);
}

/*
 * queue_database_is_deserted
 *		Returns true if neither a worker nor a helper of this database is
 *		attached.
 *
 * The lock is held.
 */
bool
queue_database_is_deserted(const DatabaseSlot *slot)
{
	for (int i = 0; i < NUM_HELPERS; i++)
	{
		if (slot->helper_pid[i] != 0)
			return false;
	}
	return slot->worker_pid == 0;
}
