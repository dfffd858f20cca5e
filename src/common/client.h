/*-------------------------------------------------------------------------
 *
 * client.h
 *		Who a session is, for views that show it to others.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_CLIENT_H
#define QUEUE_CLIENT_H

/*
 * An address as in IPv6, those of IPv4 mapped into it; zero: none, because the
 * session is local, or a background process
 */
typedef struct ClientAddress
{
	uint8		bytes[16];
} ClientAddress;

typedef struct Client
{
	int			pid;			/* 0: not known */
	Oid			role;			/* the one that acts, after SET ROLE */
	ClientAddress address;
	char		application[NAMEDATALEN];
} Client;

/* The address that this session was connected from */
extern const ClientAddress *queue_client_address(void);

/* This session */
extern void queue_client_self(Client *client);

/* An address as an inet; *isnull: it is none */
extern Datum queue_client_inet(const ClientAddress *address, bool *isnull);

#endif							/* QUEUE_CLIENT_H */
