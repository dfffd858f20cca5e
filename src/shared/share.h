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

/* Count a new entry; false: it would exceed a share */
extern bool queue_share_take(Oid dbid, Oid relid, bool obeys_shares);
extern void queue_share_give_back(Oid dbid, Oid relid);

/* Refusals: note one, and how many there were */
extern void queue_share_note_refused(void);
extern uint32 queue_share_refused(void);

/* True: certainly no entry; false: perhaps */
extern bool queue_share_is_empty(Oid dbid, Oid relid);

#endif							/* QUEUE_SHARE_H */
