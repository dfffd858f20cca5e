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

/* A duty of the worker: wake the resolver or start it, if this database takes
 * part in global transactions.  Has somebody asked for it? */
extern TimestampTz queue_resolver_look(void);
extern bool queue_resolver_is_urgent(void);

PGDLLEXPORT extern void queue_resolver_main(Datum arg);

#endif							/* QUEUE_RESOLVER_H */
