/*-------------------------------------------------------------------------
 *
 * settings.h
 *		The settings of queues: table queue.queue.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_SETTINGS_H
#define QUEUE_SETTINGS_H

#include "table/setting_row.h"

/* Columns of queue.queue */
#define Natts_settings					20
#define Anum_settings_queue				1
#define Anum_settings_lease				2
#define Anum_settings_max_attempts		3
#define Anum_settings_retry_delay		4
#define Anum_settings_retry_max_delay	5
#define Anum_settings_dead_letter		6
#define Anum_settings_own_dead_letter	7
#define Anum_settings_enqueue_paused	8
#define Anum_settings_dequeue_paused	9
#define Anum_settings_max_lease			10
#define Anum_settings_expires_in		11
#define Anum_settings_on_expiry			12
#define Anum_settings_group_mode		13
#define Anum_settings_group_failure		14
#define Anum_settings_dedup_window		15
#define Anum_settings_max_messages		16
#define Anum_settings_max_bytes			17
#define Anum_settings_on_full			18
#define Anum_settings_max_in_flight		19
#define Anum_settings_key_table			20

/* The queues that have this one as their dead-letter queue */
extern List *queue_dead_letter_sources(Oid relid);

/* The subscriptions that have this queue as their dead-letter queue */
extern List *queue_dead_letter_subscriptions(Oid relid);

/* The key table of a queue, InvalidOid if it has none */
extern Oid	queue_settings_key_table(Oid relid);

/* The queue that has this table for its keys, or InvalidOid */
extern Oid	queue_key_table_owner(Oid relid);

/* OID of queue.queue, or InvalidOid */
extern Oid	queue_settings_relid(void);

/* Table queue.queue, opened; error if the extension is not here */
extern Relation queue_settings_open(LOCKMODE lockmode);

/* The same, or NULL if the extension is not here */
extern Relation queue_settings_try_open(LOCKMODE lockmode);

/* Has this relation a row in queue.queue, and which dead-letter queue? */
extern bool queue_settings_exist(Oid relid, Oid *dead_letter);

/* Queues that have key tables */
extern List *queue_settings_with_keys(void);

/* All queues of this database */
extern List *queue_settings_all(void);

/* A copy of the settings row, locked for an update; NULL: none */
extern HeapTuple queue_settings_lock(Relation settings, Oid relid);

#endif							/* QUEUE_SETTINGS_H */
