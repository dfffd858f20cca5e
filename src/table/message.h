/*-------------------------------------------------------------------------
 *
 * message.h
 *		Messages as a consumer gets them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_MESSAGE_H
#define QUEUE_MESSAGE_H

#include "table/result.h"
#include "table/rows.h"

/* One row of a result, with its values fetched from TOAST */
extern HeapTuple queue_message_result(TupleDesc desc, MessageRow *row,
									  int attempt, const char *receipt);

#endif							/* QUEUE_MESSAGE_H */
