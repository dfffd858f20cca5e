/*-------------------------------------------------------------------------
 *
 * leader_pass.h
 *		What the leader compares in one pass: databases, slots, workers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_LEADER_PASS_H
#define QUEUE_LEADER_PASS_H

#include "nodes/pg_list.h"
#include "postmaster/bgworker.h"
#include "utils/palloc.h"

#include "shared/database.h"

/* What the leader remembers of a slot of database.c, same index */
typedef struct LeaderSlot
{
	BackgroundWorkerHandle *handle; /* registered, not known to have ended */
	pid_t		dismissed_pid;	/* worker that was asked to leave, or 0 */
	TimestampTz dismissed_at;
} LeaderSlot;

/* A row of pg_database */
typedef struct DatabaseInfo
{
	Oid			dbid;
	NameData	name;
	bool		is_open;		/* a worker may connect */
} DatabaseInfo;

/* One pass of the leader over everything */
typedef struct LeaderPass
{
	MemoryContext context;		/* what the pass allocates */
	TimestampTz now;
	TimestampTz next_at;		/* the next pass, at the latest */
	int			nslots;
	DatabaseSlot *slots;		/* copies, as of the start of the pass */
	LeaderSlot *workers;		/* of each slot */
	DatabaseInfo **infos;		/* of each slot: its database, or NULL */
	bool	   *is_locked;		/* of each slot: lock on the database got */
	List	   *databases;		/* of DatabaseInfo */
	int			nwaiting;		/* of these, for a process */
	bool		lacks_room;		/* one of them has no slot */
} LeaderPass;

/* Read pg_database, in a transaction */
extern void queue_leader_read_databases(LeaderPass *pass);

/* Bring slots and databases together */
extern void queue_leader_match_slots(LeaderPass *pass);

/* The next pass is not later than that */
extern void queue_leader_pass_by(LeaderPass *pass, TimestampTz at);

#endif							/* QUEUE_LEADER_PASS_H */
