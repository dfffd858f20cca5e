/*-------------------------------------------------------------------------
 *
 * bound_queue.h
 *		A queue that is bound to a topic, opened to take a copy.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_BOUND_QUEUE_H
#define QUEUE_BOUND_QUEUE_H

#include "common/compat.h"
#include "shared/bound.h"
#include "table/definition.h"
#include "transaction/charge.h"

/*
 * Open the queue, without waiting.  NULL: it does not take messages, for the
 * reason given; or for none, because it is gone
 */
extern Relation queue_bound_open(Oid relid, bool has_keys, QueueDef **def,
								 Refusal *refusal);

/* Raise the error of a publish that fails because of that */
pg_noreturn extern void queue_bound_report(Oid topic, Oid relid,
										   Refusal refusal);

/* The refusal as a word, for views; NULL: none */
extern const char *queue_bound_word(Refusal refusal);

#endif							/* QUEUE_BOUND_QUEUE_H */
