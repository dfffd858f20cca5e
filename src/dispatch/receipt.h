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

typedef struct Receipt
{
	MessageKey	key;
	uint64		epoch;
	uint64		number;
} Receipt;

/* As text, palloc'd */
extern char *queue_receipt_format(const Receipt *receipt);

/* QU004 if it is none, or one of another database */
extern void queue_receipt_parse(text *arg, Receipt *receipt);

#endif							/* QUEUE_RECEIPT_H */
