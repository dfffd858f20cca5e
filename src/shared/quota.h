/*-------------------------------------------------------------------------
 *
 * quota.h
 *		Shares of the in-flight table, by database and queue.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_QUOTA_H
#define QUEUE_QUOTA_H

extern Size queue_quota_shmem_size(void);
extern void queue_quota_shmem_init(void);

/* Count a new entry; false: it would exceed a share */
extern bool queue_quota_charge(Oid dbid, Oid relid, bool enforce);
extern void queue_quota_refund(Oid dbid, Oid relid);

/* Refusals: note one, and how many there were */
extern void queue_quota_note_refused(void);
extern uint32 queue_quota_refused(void);

/*
 * How many entries there are: of a queue, of a database (InvalidOid), of all
 * (both); for views, since others may share a counter
 */
extern uint32 queue_quota_used(Oid dbid, Oid relid);

/* True: certainly no entry; false: perhaps */
extern bool queue_quota_is_unused(Oid dbid, Oid relid);

/* 53400: the in-flight table is full */
pg_noreturn extern void queue_quota_raise_full(void);

#endif							/* QUEUE_QUOTA_H */
