/*-------------------------------------------------------------------------
 *
 * rows.h
 *		Rows of queue tables, below the executor.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_ROWS_H
#define QUEUE_ROWS_H

#include "access/genam.h"
#include "access/tableam.h"
#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "utils/snapshot.h"

#include "common/ranges.h"
#include "shared/availability.h"
#include "shared/inflight.h"
#include "table/definition.h"
#include "table/draft.h"

/* What a row is at this moment, by the status of transactions */
typedef enum RowState
{
	ROW_LIVE,					/* committed, and not being changed */
	ROW_GONE,					/* not there (any more) */
	ROW_BUSY,					/* another transaction in progress deletes or
								 * updates it */
	ROW_COMING,					/* another transaction in progress inserts it,
								 * or this version of it */
	ROW_OWN						/* inserted or updated by this transaction */
} RowState;

/* A row as read; by-reference columns point into the slot */
typedef struct MessageRow
{
	TupleTableSlot *slot;
	ItemPointerData tid;
	int64		id;
	int			priority;
	int			failures;
	TimestampTz enqueued_at;
	TimestampTz visible_at;		/* 0: at once */
	TimestampTz expires_at;		/* 0: never */
	bool		has_group;
	Datum		group_key;
	RowState	state;			/* as a scan found it */
	BlockNumber nblocks;		/* of the table, when that was asked last */
} MessageRow;

/* What has become of the row in the slot since a scan put it there? */
extern RowState queue_row_recheck(Relation rel, MessageRow *row);

/* Is there a message with this id in another priority? */
extern bool queue_row_has_twin(Relation rel, QueueDef *def, int64 id,
							   int priority);

/* enqueued_at of a row to be found: whichever row has the id */
#define QUEUE_ANY_ROW	DT_NOBEGIN

/* Find a message by its id and when it was sent */
extern RowState queue_row_find(Relation rel, QueueDef *def, MessageRow *row);

/* Has it been delivered before, and failed, or was given back for later? */
extern bool queue_row_was_delivered(Relation rel, MessageRow *row);

/* Judge it by the row and its in-flight entry, NULL: none */
extern void queue_row_status(QueueDef *def, const MessageRow *row,
							 const InflightEntry *entry, TimestampTz now,
							 MessageStatus *status);

/* Claim the message whose row is in the slot (inflight.h) */
extern ClaimResult queue_row_claim(Relation rel, MessageRow *row,
								   const MessageKey *key, QueueSlot *queue,
								   TimestampTz now, InflightEntry **entry,
								   TimestampTz *due);

/* In how large a batch may it come, if it is taken now?  0: any */
extern int	queue_row_batch_limit(QueueDef *def, MessageRow *row,
								  const InflightEntry *entry, int failures);

/* Does this snapshot see the row in the slot? */
extern bool queue_row_is_visible(Relation rel, MessageRow *row,
								 Snapshot snapshot);

/* Delete it; false if another transaction was quicker, or holds a lock */
extern bool queue_row_delete(Relation rel, MessageRow *row);

/* Wait for the transaction of this process to end, if it changes the row */
extern void queue_row_wait(Relation rel, MessageRow *row, int procno);

/* Rewrite the row with another count of failures, due time and log */
extern bool queue_row_rewrite(Relation rel, QueueDef *def, MessageRow *row,
							  int failures, bool set_visible_at,
							  TimestampTz visible_at, const FailureNews *news);

/* Rewrite it with another due time and end, 0: none; it was delivered before? */
extern bool queue_row_reschedule(Relation rel, QueueDef *def, MessageRow *row,
								 TimestampTz visible_at,
								 TimestampTz expires_at,
								 bool was_delivered);

/* A row to be found or fetched: an empty slot, which the caller drops */
extern MessageRow *queue_row_make(Relation rel);

/* Fill in the columns from the slot */
extern void queue_row_read(MessageRow *row);

/* Bytes of payload, body and headers of the row in the slot */
extern int64 queue_row_bytes(MessageRow *row);

/* The failures that the row in the slot has noted */
extern NullableDatum queue_row_failure_log(MessageRow *row);

/* The state of a row that "dirty" has just let pass into the slot */
extern RowState queue_row_state(MessageRow *row, SnapshotData *dirty);

/* Is the row that was read a new version of another? */
extern bool queue_row_is_version(MessageRow *row);

/* Has it been rewritten since, or is it being rewritten, or was that undone? */
extern bool queue_row_is_outdated(MessageRow *row);

/* Has this transaction written the row that was read? */
extern bool queue_row_is_own(MessageRow *row);

#endif							/* QUEUE_ROWS_H */
