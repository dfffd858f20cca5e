/*-------------------------------------------------------------------------
 *
 * clear.c
 *		All that memory knows of a database, forgotten.
 *
 * For when the database is gone, or the extension in it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "shared/clear.h"
#include "shared/inflight.h"
#include "shared/place.h"
#include "shared/queue_slot.h"
#include "shared/topic_slot.h"

/* Forget messages, queues, topics and positions of a database. */
void
queue_clear_database(Oid dbid)
{
	queue_inflight_drop(dbid, InvalidOid);
	queue_slot_drop(dbid, InvalidOid);
	queue_topic_slot_drop(dbid, InvalidOid);
	queue_place_drop_database(dbid);
}
