/*-------------------------------------------------------------------------
 *
 * group_wait.c
 *		What waits of a group: a message, and perhaps others behind it.
 *
 * Two numbers, whatever waits: the id of the first message, and one from which
 * on there may be others.  So nothing here allocates or fails, and a message
 * that commits late or fails, with a low id, makes nobody go over the dead rows
 * between itself and the others.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "shared/group.h"

/* Nothing waits. */
void
queue_group_wait_init(GroupWait *wait)
{
	wait->is_empty = true;
	wait->rank = 0;
	wait->id = PG_INT64_MAX;
	wait->others = PG_INT64_MAX;
}

/*
 * queue_group_wait_add
 *		Add a message, and perhaps others with ids from "others" on, which is
 *		PG_INT64_MAX if there are none.
 */
void
queue_group_wait_add(GroupWait *wait, int rank, int64 id, int64 others)
{
	if (wait->is_empty || id < wait->id)
	{
		if (!wait->is_empty)
			wait->others = wait->id;
		wait->is_empty = false;
		wait->rank = rank;
		wait->id = id;
	}
	else if (id == wait->id)
		wait->rank = rank;
	else
		wait->others = Min(wait->others, id);
	wait->others = Min(wait->others, others);
}
