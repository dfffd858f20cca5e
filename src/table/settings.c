/*-------------------------------------------------------------------------
 *
 * settings.c
 *		The settings of queues: table queue.queue.
 *
 * How such a table is read and changed is in setting_row.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/fmgroids.h"

#include "table/settings.h"
#include "table/subscription_settings.h"

/* Return the OID of queue.queue, InvalidOid if the extension is not here. */
Oid
queue_settings_relid(void)
{
	return queue_setting_relid(MEMBER_QUEUE);
}

/* Open it; throws if the extension is not here, or the table was altered. */
Relation
queue_settings_open(LOCKMODE lockmode)
{
	return queue_setting_open(MEMBER_QUEUE, lockmode);
}

/* Open it, or return NULL if the extension is not here. */
Relation
queue_settings_try_open(LOCKMODE lockmode)
{
	return queue_setting_try_open(MEMBER_QUEUE, lockmode);
}

/*
 * queue_settings_exist
 *		Returns true if this relation has a row in queue.queue.
 *
 * *dead_letter, unless NULL, is set to its dead-letter queue, or InvalidOid.
 */
bool
queue_settings_exist(Oid relid, Oid *dead_letter)
{
	return queue_setting_find(MEMBER_QUEUE, relid, Anum_settings_dead_letter, dead_letter);
}

/*
 * queue_settings_key_table
 *		Return the key table of a queue, InvalidOid if it has none.
 */
Oid
queue_settings_key_table(Oid relid)
{
	Oid			keys;

	(void) queue_setting_find(MEMBER_QUEUE, relid, Anum_settings_key_table, &keys);
	return keys;
}

/*
 * queue_settings_lock
 *		Return a copy of a queue's settings row, locked for an update by this
 *		transaction; NULL if there is none.
 */
HeapTuple
queue_settings_lock(Relation settings, Oid relid)
{
	return queue_setting_lock(settings, MEMBER_QUEUE, relid);
}

/*
 * queue_dead_letter_sources
 *		Return the queues that have this one as their dead-letter queue, a
 *		List of Oid.
 */
List *
queue_dead_letter_sources(Oid relid)
{
	ScanKeyData key;

	ScanKeyInit(&key, Anum_settings_dead_letter, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(relid));
	return queue_setting_list(MEMBER_QUEUE, "queue_dead_letter_idx", 1, &key);
}

/* The same of subscriptions */
List *
queue_dead_letter_subscriptions(Oid relid)
{
	ScanKeyData key;

	ScanKeyInit(&key, Anum_subscription_dead_letter, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(relid));
	return queue_setting_list(MEMBER_SUBSCRIPTION,
							  "subscription_dead_letter_idx", 1, &key);
}

/*
 * queue_key_table_owner
 *		Return the queue that has this table for its keys, or InvalidOid.
 */
Oid
queue_key_table_owner(Oid relid)
{
	ScanKeyData key;
	List	   *queues;

	ScanKeyInit(&key, Anum_settings_key_table, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	queues = queue_setting_list(MEMBER_QUEUE, "queue_key_table_idx", 1, &key);
	return queues == NIL ? InvalidOid : linitial_oid(queues);
}

/*
 * queue_settings_all
 *		Return all queues of this database, a List of Oid.
 *
 * Rows are left whose tables were dropped by a prepared transaction, so the
 * caller looks whether there is a table.
 */
List *
queue_settings_all(void)
{
	return queue_setting_list(MEMBER_QUEUE, NULL, 0, NULL);
}

/*
 * queue_settings_with_keys
 *		Return the queues that have key tables, a List of Oid.
 */
List *
queue_settings_with_keys(void)
{
	ScanKeyData key;

	/* IS NOT NULL, which only an index knows */
	ScanKeyEntryInitialize(&key, SK_ISNULL | SK_SEARCHNOTNULL,
						   Anum_settings_key_table, InvalidStrategy,
						   InvalidOid, InvalidOid, InvalidOid, (Datum) 0);
	return queue_setting_list(MEMBER_QUEUE, "queue_key_table_idx", 1, &key);
}
