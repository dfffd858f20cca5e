/*-------------------------------------------------------------------------
 *
 * copy.h
 *		A message of a topic as it goes into a queue.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_COPY_H
#define QUEUE_COPY_H

#include "table/topic_draft.h"

/* Its headers there, with one more that says where it is in the topic */
extern Datum queue_copy_headers(const TopicDraft *draft, const char *topic);

#endif							/* QUEUE_COPY_H */
