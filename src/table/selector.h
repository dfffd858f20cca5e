/*-------------------------------------------------------------------------
 *
 * selector.h
 *		Selectors: which messages a caller wants, by what is in them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_SELECTOR_H
#define QUEUE_SELECTOR_H

#include "table/rows.h"

typedef struct QueueSelector QueueSelector;

/* What a selector sees of a message; a body it does not see */
typedef struct SelectorInput
{
	int64		id;
	int			priority;
	int			attempt;
	NullableDatum group_key;
	NullableDatum correlation_id;
	NullableDatum headers;
	NullableDatum payload;
} SelectorInput;

/*
 * Prepare a jsonpath, in the current memory context.  If "raises", errors that
 * it meets in a message are raised; else such a message does not match
 */
extern QueueSelector *queue_selector_make(Datum jsonpath, bool raises);
extern void queue_selector_free(QueueSelector *selector);

/* Does it ask for the attempt? */
extern bool queue_selector_wants_attempt(const QueueSelector *selector);

/* Does a message match?  NULL: there is no selector, all do */
extern bool queue_selector_matches(QueueSelector *selector, MessageRow *row,
								   int attempt);
extern bool queue_selector_matches_input(QueueSelector *selector,
										 const SelectorInput *input);

#endif							/* QUEUE_SELECTOR_H */
