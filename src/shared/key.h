/*-------------------------------------------------------------------------
 *
 * key.h
 *		What a message is known by in shared memory.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_KEY_H
#define QUEUE_KEY_H

/* An id may come again (ids.c), so an entry also tells when its row was sent. */
typedef struct MessageKey
{
	Oid			dbid;
	Oid			relid;
	int64		id;
} MessageKey;

/* Fill in the key of a message of this database */
extern void queue_message_key(MessageKey *key, Oid relid, int64 id);

/* For qsort(): by queue, then by id, within a database */
extern int	queue_message_key_compare(const void *a, const void *b);

#endif							/* QUEUE_KEY_H */
