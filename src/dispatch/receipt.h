/*-------------------------------------------------------------------------
 *
 * receipt.h
 *		The handle of a lease, as text.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_RECEIPT_H
#define QUEUE_RECEIPT_H

#include "shared/inflight.h"

/*
 * Of a message that a subscription received, the lease is one of a partition,
 * and the receipt says which of its messages it is about
 */
typedef struct Receipt
{
	MessageKey	key;
	uint64		epoch;
	uint64		number;
	int64		message;		/* its id; 0: the key is that of the message */
	int64		after;			/* ... the id of the one before it in the
								 * batch, or where that began */
	bool		is_last;		/* ... of the batch */
} Receipt;

/* As text, palloc'd */
extern char *queue_receipt_format(const Receipt *receipt);

/* QU004 if it is none, or one of another database */
extern void queue_receipt_parse(text *arg, Receipt *receipt);

#endif							/* QUEUE_RECEIPT_H */
