/*-------------------------------------------------------------------------
 *
 * remote.h
 *		Connections to deciding databases.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_REMOTE_H
#define QUEUE_REMOTE_H

#include "nodes/pg_list.h"

typedef struct pg_conn RemoteConnection;

/* Connect, or throw; to be disconnected, after an error too */
extern RemoteConnection *queue_remote_connect(const char *conninfo,
											  const char *user,
											  bool password_required);
extern bool queue_remote_is_connected(RemoteConnection *conn);
extern void queue_remote_disconnect(RemoteConnection *conn);

/* Rows of a statement, each an array of char * */
extern List *queue_remote_query(RemoteConnection *conn, const char *sql,
								int nparams, const char *const *params);

#endif							/* QUEUE_REMOTE_H */
