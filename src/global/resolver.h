/*-------------------------------------------------------------------------
 *
 * resolver.h
 *		Finishing branches of global transactions whose coordinator is gone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_RESOLVER_H
#define QUEUE_RESOLVER_H

#include "datatype/timestamp.h"

/* A duty of the worker: wake or start the resolver; is it called for? */
extern TimestampTz queue_resolver_start_if_needed(void);
extern bool queue_resolver_is_urgent(void);

PGDLLEXPORT extern void queue_resolver_main(Datum arg);

#endif							/* QUEUE_RESOLVER_H */
