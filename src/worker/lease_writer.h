/*-------------------------------------------------------------------------
 *
 * lease_writer.h
 *		What of the in-flight table goes to the log of leases, and when.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_LEASE_WRITER_H
#define QUEUE_LEASE_WRITER_H

#include "worker/round.h"

/* Called at the start of a round */
extern void queue_log_begin_round(Round *round);

/* The clock has been set */
extern void queue_log_move_clock(TimestampTz change);

/*
 * Entries that are seen while their partition is locked: a lease, a take, one
 * held by none, and one of which the log is to say this at some time
 */
extern void queue_log_note_lease(Round *round, InflightEntry *entry);
extern void queue_log_note_held(Round *round, InflightEntry *entry,
								bool crash_counts);
extern void queue_log_note_failures(Round *round, InflightEntry *entry);
extern void queue_log_note(Round *round, InflightEntry *entry, LogKind kind,
						   TimestampTz at);

/* Write what has been noted; false if that failed */
extern bool queue_log_write(Round *round);

#endif							/* QUEUE_LEASE_WRITER_H */
