/*-------------------------------------------------------------------------
 *
 * query.h
 *		Statements of the resolver, here and over there, that end in time.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_QUERY_H
#define QUEUE_QUERY_H

#include "access/xlogdefs.h"
#include "nodes/pg_list.h"

#include "common/remote.h"

/* what a deciding database is told so that it does not go on when nobody
 * listens any more */
#define STATEMENT_TIMEOUT	"8s"

/* Rows go to this memory context; the event is shown by whoever waits */
extern void queue_query_init(MemoryContext context, uint32 event);

/*
 * A statement in a transaction of its own here, or over there, with up to four
 * parameters; its rows, as queue_remote_query() returns them.
 */
extern List *queue_query_here(const char *sql, int nparams,
							  const char *const *params);
extern List *queue_query_there(RemoteConnection *conn, const char *sql,
							   int nparams, const char *const *params);

/* The array as a literal; NULL for a NULL */
extern char *queue_query_text_array(List *texts);

/* Other things that may take long: between these two it is cancelled at some
 * time */
extern void queue_query_begin(void);
extern void queue_query_begin_wait(const char *activity);
extern void queue_query_end_wait(void);

/* After an error: was that the reason? */
extern bool queue_query_is_timed_out(void);

/* Wait until the synchronous standbys have that; 08007 if they take too long */
extern void queue_query_require_durable(XLogRecPtr lsn);

#endif							/* QUEUE_QUERY_H */
