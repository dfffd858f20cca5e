/*-------------------------------------------------------------------------
 *
 * make_queue.c
 *		Tables that become queues, and the dead-letter queues that come along.
 *
 * The name of a dead-letter queue is locked to the end of the transaction, as
 * that of any queue (create.c), before one that is left from before is looked
 * at.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "api/make_queue.h"
#include "api/make_table.h"
#include "api/name.h"
#include "api/setting_args.h"
#include "common/compat.h"
#include "table/definition.h"
#include "table/settings.h"
#include "transaction/announce.h"

static Oid	find_dead_letter_queue(Oid schema, const char *relname);


/*
 * find_dead_letter_queue
 *		Return the dead-letter queue of an earlier queue of the same name,
 *		which was dropped, or restored without its settings.
 *
 * It must be owned by the caller, still be as queue_make_dead_letter() made
 * it, and be used by no other queue.  InvalidOid if there is none.
 */
static Oid
find_dead_letter_queue(Oid schema, const char *relname)
{
	Oid			relid = get_relname_relid(relname, schema);
	Relation	rel;
	QueueDef   *def;
	bool		fits;

	if (!OidIsValid(relid) ||
		!object_ownercheck(RelationRelationId, relid, GetUserId()) ||
		!queue_settings_exist(relid, NULL) ||
		queue_dead_letter_sources(relid) != NIL ||
		queue_dead_letter_subscriptions(relid) != NIL)
		return InvalidOid;

	rel = queue_open(relid, QUEUE_OWN, &def);
	fits = def->retry.max_attempts == 0 && !OidIsValid(def->dead_letter);
	table_close(rel, NoLock);
	return fits ? relid : InvalidOid;
}

/*
 * queue_make_dead_letter
 *		Make the dead-letter queue that comes with a queue or subscription, or
 *		find one left from before.
 *
 * It is logged even if the other is not, because it is the record of what went
 * wrong.
 */
Oid
queue_make_dead_letter(Oid schema, const char *source,
					   const Datum *source_values, const bool *source_nulls)
{
	char	   *relname = makeObjectName(source, NULL, "dead");
	Oid			relid;
	Datum		values[Natts_settings];
	bool		nulls[Natts_settings];

	queue_name_lock(schema, relname);
	relid = find_dead_letter_queue(schema, relname);
	if (OidIsValid(relid))
		return relid;

	relid = queue_make_table(&queue_form, schema, relname, source,
							 false /* logged */ );
	memcpy(values, source_values, sizeof(values));
	memcpy(nulls, source_nulls, sizeof(nulls));
	queue_setting_args_dead(values, nulls);
	queue_make_settings(relid, values, nulls);

	return relid;
}

/*
 * queue_make_settings
 *		Give a table its row in queue.queue, which makes it a queue.
 *
 * Throws if the table is beyond the white list by now.
 */
void
queue_make_settings(Oid relid, Datum *values, bool *nulls)
{
	Relation	rel;

	queue_make_setting_row(&queue_form, relid, values, nulls);
	queue_announce_all(relid);	/* it may have messages */

	/* an event trigger may have changed it */
	rel = table_open(relid, NoLock);
	queue_check_shape(rel, queue_def(rel));
	table_close(rel, NoLock);
}
