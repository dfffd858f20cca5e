/*-------------------------------------------------------------------------
 *
 * holder.c
 *		Who holds something, or waits: what a user may see of other sessions.
 *
 * As in pg_stat_activity: sessions of roles whose privileges one has, and with
 * those of pg_read_all_stats all.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "monitor/holder.h"

/*
 * queue_may_see_session
 *		Returns true if the current user may see what a session of this role
 *		is.
 */
bool
queue_may_see_session(Oid role)
{
	return has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS) ||
		(OidIsValid(role) && has_privs_of_role(GetUserId(), role));
}

/*
 * queue_put_holder
 *		Fill in the columns that say who a session is.
 *
 * A role that was dropped has no name any more.
 */
void
queue_put_holder(const Client *client, Datum *values, bool *nulls)
{
	char	   *role;

	memset(values, 0, Natts_holder * sizeof(Datum));
	memset(nulls, true, Natts_holder * sizeof(bool));
	if (!OidIsValid(client->role) || !queue_may_see_session(client->role))
		return;
	role = GetUserNameFromId(client->role, true /* missing_ok */ );
	if (role != NULL)
	{
		values[0] = DirectFunctionCall1(namein, CStringGetDatum(role));
		nulls[0] = false;
	}
	values[1] = CStringGetTextDatum(client->application);
	nulls[1] = false;
	values[2] = queue_client_inet(&client->address, &nulls[2]);
	values[3] = Int32GetDatum(client->pid);
	nulls[3] = client->pid == 0;
}
