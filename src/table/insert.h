/*-------------------------------------------------------------------------
 *
 * insert.h
 *		New rows of a queue table, one or many at a time.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_INSERT_H
#define QUEUE_INSERT_H

#include "utils/relcache.h"

#include "table/definition.h"
#include "table/draft.h"

/* Insert rows; what drafts point at must live until the end */
typedef struct QueueInsert QueueInsert;
extern QueueInsert *queue_insert_begin(Relation rel,
									   const QueueDef *def);
extern void queue_insert_row(QueueInsert *insert, const MessageDraft *draft);
extern void queue_insert_end(QueueInsert *insert);

#endif							/* QUEUE_INSERT_H */
