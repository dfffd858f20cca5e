/*-------------------------------------------------------------------------
 *
 * resolver.h
 *		Finishing branches of global transactions whose coordinator is gone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_RESOLVER_H
#define QUEUE_RESOLVER_H

/* The worker's: wake the resolver or start it, if this database takes part in
 * global transactions.  False if that is to be tried again.  In a transaction. */
extern bool queue_resolver_look(void);

PGDLLEXPORT extern void queue_resolver_main(Datum arg);

#endif							/* QUEUE_RESOLVER_H */
