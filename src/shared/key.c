/*-------------------------------------------------------------------------
 *
 * key.c
 *		What a message is known by in shared memory.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "shared/key.h"

/*
 * queue_message_key
 *		Fill in the key of a message of this database.
 */
void
queue_message_key(MessageKey *key, Oid relid, int64 id)
{
	key->dbid = MyDatabaseId;
	key->relid = relid;
	key->id = id;
}

/*
 * queue_message_key_compare
 *		Comparator for qsort(): by queue, then by id.
 *
 * Both keys are of the same database.
 */
int
queue_message_key_compare(const void *a, const void *b)
{
	const MessageKey *left = a;
	const MessageKey *right = b;

	if (left->relid != right->relid)
		return left->relid < right->relid ? -1 : 1;
	if (left->id != right->id)
		return left->id < right->id ? -1 : 1;
	return 0;
}
