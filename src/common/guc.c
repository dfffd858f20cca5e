/*-------------------------------------------------------------------------
 *
 * guc.c
 *		The settings of the server, queue.*.
 *
 * One variable each, of the same name, which the files that need it read.
 * What each means to a user is in docs/reference/configuration.md.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "utils/guc.h"

#include "common/guc.h"

bool		queue_count_failures = true;
int			queue_max_in_flight = 131072;
int			queue_max_databases = 64;
int			queue_max_queues = 10000;
int			queue_max_topics = 64;
int			queue_max_wait = 60000;
int			queue_lease_write_delay = 1000;
int			queue_in_doubt_warning = 60;
int			queue_resolve_interval = 5000;
int			queue_vacuum_threshold = 10000;
double		queue_vacuum_scale_factor = 0.05;
double		queue_vacuum_cost_delay = 0.5;

/* Define all settings, and reserve the prefix. */
void
queue_guc_init(void)
{
	DefineCustomBoolVariable("queue.count_failures",
							 "A rollback counts as a failure of the messages that it gives back.",
							 "A consumer that cannot work now turns it off, for a transaction.",
							 &queue_count_failures,
							 true,
							 PGC_USERSET,
							 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("queue.in_doubt_warning",
							"Age of a prepared transaction that used a queue at which the log is warned.",
							"-1 turns the warnings off.",
							&queue_in_doubt_warning,
							60,
							-1,
							INT_MAX,
							PGC_SIGHUP,
							GUC_UNIT_S,
							NULL, NULL, NULL);
	DefineCustomIntVariable("queue.lease_write_delay",
							"How long a lease lasts before the worker writes it to disk.",
							"Leases younger than that may end early in a crash.",
							&queue_lease_write_delay,
							1000,
							0,
							60 * 1000,
							PGC_SIGHUP,
							GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("queue.max_databases",
							"Number of databases of the server that may use queues.",
							NULL,
							&queue_max_databases,
							64,
							1,
							10000,
							PGC_POSTMASTER,
							0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("queue.max_in_flight",
							"Number of messages of the server that may be leased or being dequeued at once.",
							"Also counts messages that have failed and are not yet written as such.",
							&queue_max_in_flight,
							131072,
							64,
							100 * 1000 * 1000,
							PGC_POSTMASTER,
							0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("queue.max_queues",
							"Number of queues of the server that shared memory has room for.",
							"More may exist, but are slower.",
							&queue_max_queues,
							10000,
							16,
							1000 * 1000,
							PGC_POSTMASTER,
							0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("queue.max_topics",
							"Number of topics of the server that have a place in shared memory.",
							"Others can be neither published to nor read.",
							&queue_max_topics,
							64,
							1,
							10000,
							PGC_POSTMASTER,
							0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("queue.max_wait",
							"Longest time that a call waits for a message, or for room.",
							"They hold a snapshot meanwhile.",
							&queue_max_wait,
							60 * 1000,
							0,
							INT_MAX,
							PGC_SUSET,
							GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("queue.resolve_interval",
							"How long a branch of a global transaction may be in doubt before its deciding database is asked, and how often.",
							NULL,
							&queue_resolve_interval,
							5000,
							10,
							60 * 60 * 1000,
							PGC_SIGHUP,
							GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomRealVariable("queue.vacuum_cost_delay",
							 "Cost delay of the vacuum of queue tables.",
							 "What vacuum_cost_delay is to VACUUM; 0 turns it off.",
							 &queue_vacuum_cost_delay,
							 0.5,
							 0,
							 100,
							 PGC_SIGHUP,
							 GUC_UNIT_MS,
							 NULL, NULL, NULL);
	DefineCustomRealVariable("queue.vacuum_scale_factor",
							 "Dead rows before a queue table is vacuumed, as a fraction of its live rows.",
							 "Added to queue.vacuum_threshold.",
							 &queue_vacuum_scale_factor,
							 0.05,
							 0,
							 100,
							 PGC_SIGHUP,
							 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("queue.vacuum_threshold",
							"Dead rows before a queue table is vacuumed.",
							"-1 leaves it to autovacuum.",
							&queue_vacuum_threshold,
							10000,
							-1,
							INT_MAX,
							PGC_SIGHUP,
							0,
							NULL, NULL, NULL);
	MarkGUCPrefixReserved("queue");
}
