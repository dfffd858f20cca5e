/*-------------------------------------------------------------------------
 *
 * decider.h
 *		Deciding databases: what they are registered as, and what they say.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_DECIDER_H
#define QUEUE_DECIDER_H

#include "nodes/pg_list.h"

#include "common/remote.h"

/* A row of queue.deciding_database */
typedef struct Decider
{
	char	   *name;
	char	   *participant;
	char	   *coordinator;
	Oid			owner;
	char	   *connection;		/* NULL: this database */
	bool		password_required;
	char	   *here;			/* identity of this database */
	bool		is_registered_here;
	char	   *identity;
	char	   *last_error;
	char	   *prefix;			/* names of its branches begin with this */
	char	   *error;			/* what went wrong in this pass, or NULL */
} Decider;

/* A record that waits for this participant */
typedef struct Record
{
	char	   *gid;
	char	   *decision;		/* NULL: none */
	bool		is_over;		/* its deadline has passed */
	bool		is_due;			/* ... or it was decided some time ago */
} Record;

/* All that are registered; strings go to this context */
extern List *queue_decider_read_all(MemoryContext result_context);

/* Connect to one that is not this database; *conn is to be closed */
extern void queue_decider_connect(Decider *decider, RemoteConnection **conn);

/* Records that wait for this participant; conn is NULL for this database */
extern List *queue_decider_read_records(Decider *decider,
										RemoteConnection *conn);

/* What is decided, now and for ever, or NULL */
extern char *queue_decider_ask(Decider *decider, RemoteConnection *conn,
							   const char *gid);

/* Report that nothing is left to do here for these */
extern void queue_decider_report(Decider *decider, RemoteConnection *conn,
								 List *gids);

/* Remember why this one cannot be obeyed, or that it can */
extern void queue_decider_note_error(Decider *decider);

#endif							/* QUEUE_DECIDER_H */
