/*-------------------------------------------------------------------------
 *
 * walk.c
 *		Going over what a user may see of the in-flight table.
 *
 * The table is read a partition at a time, and of that the keys first.  So no
 * session needs memory for all entries of the server, or keeps a partition
 * locked while it looks up privileges.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "monitor/walk.h"
#include "table/definition.h"

/*
 * queue_walk_entries
 *		Show all entries of this database to "show".
 *
 * A user that may not browse or watch a queue learns nothing of it.
 */
void
queue_walk_entries(EntryShow show, void *arg)
{
	int			max = 1000;
	MessageKey *keys = palloc(max * sizeof(MessageKey));
	Oid			relid = InvalidOid;
	bool		may_watch = false;

	for (int part = 0; part < queue_inflight_nlocks(); part++)
	{
		int			n;

		/* again, if there is not enough room for them */
		while ((n = queue_inflight_keys(part, keys, max)) > max)
		{
			max = n + 100;
			pfree(keys);
			keys = palloc_extended(max * sizeof(MessageKey),
								   MCXT_ALLOC_HUGE);
		}
		for (int i = 0; i < n; i++)
		{
			InflightEntry entry;

			CHECK_FOR_INTERRUPTS();
			if (keys[i].relid != relid)
			{
				relid = keys[i].relid;
				may_watch = queue_may_watch(relid);
			}
			if (may_watch && queue_inflight_copy(&keys[i], &entry))
				show(&entry, arg);
		}
	}
	pfree(keys);
}
