/*-------------------------------------------------------------------------
 *
 * leader_databases.c
 *		Which databases there are, and which of them have a slot.
 *
 * pg_database is read in each pass of the leader.  A database that is new gets
 * a slot (shared/database.c), so that a worker looks into it; one that is gone
 * loses it, and what memory knows of the database is forgotten.  If slots are
 * few, those of databases without the extension are given to others, so the
 * leader remembers which these are.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_database.h"
#include "storage/lwlock.h"
#include "utils/memutils.h"

#include "shared/clear.h"
#include "worker/leader_pass.h"

static List *databases_without = NIL;	/* seen without the extension */
static bool has_warned_databases = false;

static DatabaseSlot *match_slot(LeaderPass *pass, DatabaseInfo *info);
static bool free_slots(LeaderPass *pass);

/*
 * queue_leader_read_databases
 *		Read pg_database.
 *
 * In a transaction of the caller, which has locked those that matter.
 */
void
queue_leader_read_databases(LeaderPass *pass)
{
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;

	/* without a database there is no index to be used */
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old_context = MemoryContextSwitchTo(pass->context);
		DatabaseInfo *info = palloc(sizeof(DatabaseInfo));

		/* a negative limit other than -1: DROP DATABASE was interrupted */
		info->dbid = form->oid;
		info->name = form->datname;
		info->is_open = form->datallowconn && !form->datistemplate &&
			form->datconnlimit >= -1;
		pass->databases = lappend(pass->databases, info);
		MemoryContextSwitchTo(old_context);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/*
 * queue_leader_match_slots
 *		Bring slots and databases together: free the slots of databases that
 *		are gone, make slots for new ones.
 */
void
queue_leader_match_slots(LeaderPass *pass)
{
	List	   *without = NIL;
	DatabaseInfo *left_out = NULL;
	int			nhaving = 0;
	MemoryContext old_context;
	ListCell   *lc;

	foreach(lc, pass->databases)
	{
		DatabaseInfo *info = lfirst(lc);
		bool		is_without = list_member_oid(databases_without, info->dbid);
		DatabaseSlot *slot = match_slot(pass, info);

		if (slot != NULL)
		{
			if (slot->is_probed)
				is_without = !slot->has_extension;
			if (slot->has_extension)
				nhaving++;
		}
		else if (info->is_open && !is_without)
		{
			/* it is looked at in the next pass, which is at once */
			if (queue_database_slot(info->dbid, true) != NULL)
				queue_leader_pass_by(pass, pass->now);
			else
				left_out = info;
		}

		/*
		 * Remember it even if there is a slot that says so: the slot may be
		 * given to another database.
		 */
		if (is_without)
			without = lappend_oid(without, info->dbid);
	}

	/* room for a database that had none, in the next pass */
	if (free_slots(pass) && left_out != NULL)
		queue_leader_pass_by(pass, pass->now);

	old_context = MemoryContextSwitchTo(TopMemoryContext);
	list_free(databases_without);
	databases_without = list_copy(without);
	MemoryContextSwitchTo(old_context);

	/* otherwise there will be room when some were looked into */
	if (nhaving < pass->nslots)
		left_out = NULL;
	if (left_out != NULL && !has_warned_databases)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("could not look for queues in database \"%s\"",
						NameStr(left_out->name)),
				 errdetail("%d databases with queues take all the room.",
						   pass->nslots),
				 errhint("Increase queue.max_databases.")));
	has_warned_databases = pass->lacks_room = left_out != NULL;
}

/* Note which slot a database has; our copy of it, or NULL if it has none. */
static DatabaseSlot *
match_slot(LeaderPass *pass, DatabaseInfo *info)
{
	for (int i = 0; i < pass->nslots; i++)
	{
		if (pass->slots[i].dbid == info->dbid)
		{
			pass->infos[i] = info;
			return &pass->slots[i];
		}
	}
	return NULL;
}

/*
 * free_slots
 *		Free slots of databases that are gone, and forget what memory has of
 *		these; returns true if there were any.
 *
 * For a database that takes no connections a slot is kept only if it has
 * something to tell.
 */
static bool
free_slots(LeaderPass *pass)
{
	DatabaseSlot *slots = queue_database_slots(&pass->nslots);
	bool		has_freed = false;

	LWLockAcquire(queue_database_lock(), LW_EXCLUSIVE);
	for (int i = 0; i < pass->nslots; i++)
	{
		DatabaseInfo *info = pass->infos[i];
		DatabaseSlot *slot = &slots[i];

		if (OidIsValid(slot->dbid) && slot->dbid == pass->slots[i].dbid &&
			queue_database_is_deserted(slot) && slot->exclusions == 0 &&
			pass->workers[i].handle == NULL &&
			(info == NULL || (!info->is_open && !slot->has_extension)))
		{
			if (info == NULL)
				queue_clear_database(slot->dbid);
			memset(slot, 0, sizeof(DatabaseSlot));
			pass->slots[i] = *slot;
			pass->infos[i] = NULL;
			has_freed = true;
		}
	}
	LWLockRelease(queue_database_lock());
	if (has_freed)
		queue_database_announce_room();
	return has_freed;
}

/* See to it that the next pass is not later than that. */
void
queue_leader_pass_by(LeaderPass *pass, TimestampTz at)
{
	pass->next_at = Min(pass->next_at, at);
}
