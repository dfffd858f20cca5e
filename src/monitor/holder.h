/*-------------------------------------------------------------------------
 *
 * holder.h
 *		Who holds something, or waits: what a user may see of other sessions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_HOLDER_H
#define QUEUE_HOLDER_H

#include "common/client.h"

/* role, application_name, client_addr, pid */
#define Natts_holder		4

/* May the current user see what a session of this role is? */
extern bool queue_may_see_session(Oid role);

/* Fill in so many columns; NULL: not to be seen, or not known */
extern void queue_put_holder(const Client *client, Datum *values,
							 bool *nulls);

#endif							/* QUEUE_HOLDER_H */
