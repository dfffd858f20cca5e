/*-------------------------------------------------------------------------
 *
 * admit.h
 *		Is there room in a queue with limits for what is about to be sent?
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_ADMIT_H
#define QUEUE_ADMIT_H

#include "shared/usage.h"
#include "table/definition.h"

/* If there is, count it; may throw */
extern bool queue_admit(Relation rel, QueueDef *def, const Amount *amount);

/* Would there be?  Counts nothing */
extern bool queue_admit_would(Relation rel, QueueDef *def,
							  const Amount *amount);

#endif							/* QUEUE_ADMIT_H */
