/*-------------------------------------------------------------------------
 *
 * client.c
 *		Who a session is, for views that show it to others.
 *
 * What a session leaves in shared memory when it takes a message or goes to
 * sleep, because it may have ended, or be somebody else, when a view is read.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <netinet/in.h>

#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/backend_status.h"
#include "utils/guc.h"
#include "utils/inet.h"

#include "common/client.h"

/* What an address of IPv4 begins with: ten zero bytes, and two of ones */
static const uint32 mapped[3] = {0, 0, pg_hton32(0xffff)};

/*
 * queue_client_address
 *		Return the address that this session was connected from.
 */
const ClientAddress *
queue_client_address(void)
{
	static ClientAddress address;
	static bool is_known = false;
	const struct sockaddr *from;

	if (is_known || MyBEEntry == NULL)
		return &address;
	is_known = true;

	/* struct Port would need the headers of libraries for authentication */
	from = (const struct sockaddr *) &MyBEEntry->st_clientaddr.addr;
	if (from->sa_family == AF_INET)
	{
		memcpy(address.bytes, mapped, sizeof(mapped));
		memcpy(address.bytes + sizeof(mapped),
			   &((const struct sockaddr_in *) from)->sin_addr, 4);
	}
	else if (from->sa_family == AF_INET6)
		memcpy(address.bytes, &((const struct sockaddr_in6 *) from)->sin6_addr,
			   sizeof(address.bytes));
	return &address;
}

/* Fill in this session. */
void
queue_client_self(Client *client)
{
	memset(client, 0, sizeof(Client));
	client->pid = MyProcPid;
	client->role = GetOuterUserId();
	client->address = *queue_client_address();
	if (application_name != NULL)
		strlcpy(client->application, application_name, NAMEDATALEN);
}

/* Return an address as an inet; *isnull is set if it is none. */
Datum
queue_client_inet(const ClientAddress *address, bool *isnull)
{
	static const ClientAddress none = {0};
	inet	   *result;

	*isnull = memcmp(address, &none, sizeof(none)) == 0;
	if (*isnull)
		return (Datum) 0;
	result = palloc0(sizeof(inet));
	if (memcmp(address->bytes, mapped, sizeof(mapped)) == 0)
	{
		ip_family(result) = PGSQL_AF_INET;
		memcpy(ip_addr(result), address->bytes + sizeof(mapped), 4);
	}
	else
	{
		ip_family(result) = PGSQL_AF_INET6;
		memcpy(ip_addr(result), address->bytes, sizeof(address->bytes));
	}
	ip_bits(result) = ip_maxbits(result);
	SET_INET_VARSIZE(result);
	return InetPGetDatum(result);
}
