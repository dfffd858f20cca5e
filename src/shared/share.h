/*-------------------------------------------------------------------------
 *
 * share.h
 *		Shares of the in-flight table, by database and queue.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_SHARE_H
#define QUEUE_SHARE_H

extern Size queue_share_shmem_size(void);
extern void queue_share_shmem_init(void);

/* Count a new entry; false if its queue or database has its share already,
 * unless shares are of no account */
extern bool queue_share_take(Oid dbid, Oid relid, bool obeys_shares);
extern void queue_share_give_back(Oid dbid, Oid relid);

/* Somebody was refused, so room is wanted; how often that was */
extern void queue_share_note_refused(void);
extern uint32 queue_share_refused(void);

/* Has a queue no entry for certain?  It may have none without that. */
extern bool queue_share_is_empty(Oid dbid, Oid relid);

#endif							/* QUEUE_SHARE_H */
