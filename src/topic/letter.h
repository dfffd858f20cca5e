/*-------------------------------------------------------------------------
 *
 * letter.h
 *		Messages of a topic that a subscription makes dead letters.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_LETTER_H
#define QUEUE_LETTER_H

#include "executor/tuptable.h"
#include "utils/relcache.h"

#include "table/subscription.h"

/*
 * Send the message in the slot to the dead letters of a subscription, which has
 * some; its log is that of the position, with what that does not tell
 */
extern void queue_letter_send(Relation rel, SubscriptionDef *def,
							  TupleTableSlot *message, const char *reason,
							  int attempts, NullableDatum log,
							  const FailureNews *news);

#endif							/* QUEUE_LETTER_H */
