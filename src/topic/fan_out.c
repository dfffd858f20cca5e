/*-------------------------------------------------------------------------
 *
 * fan_out.c
 *		Copies of what is published, for the queues that are bound.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/ranges.h"
#include "topic/fan_out.h"

const FanOutTerms queue_plain_terms = {.priority = QUEUE_DEFAULT_PRIORITY};

/* Send the copies. */
void
queue_fan_out(TopicDef *topic, Relation rel, const TopicDraft *drafts, int n,
			  const FanOutTerms *terms)
{
}
