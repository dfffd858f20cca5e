/*-------------------------------------------------------------------------
 *
 * waiter.h
 *		Sessions that sleep until a queue may have a message for them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_WAITER_H
#define QUEUE_WAITER_H

#include "shared/queue_slot.h"

/* at one go; more are woken in several */
#define MAX_WAKES	64

/*
 * Hashes of the keys of messages that are added, by which those wait that want
 * one of these.  No such set: any message may have been added
 */
#define MAX_WAKE_KEYS	8

typedef struct WakeKeys
{
	bool		is_any;
	int			n;
	uint32		hashes[MAX_WAKE_KEYS];
} WakeKeys;

/* Whose latches to set when all locks are released */
typedef struct WakeList
{
	Oid			dbid;
	bool		wakes_anyone;	/* also the sessions that wait for any queue */
	int			n;
	int			procnos[MAX_WAKES];
} WakeList;

/* For views: what kind of message is wanted */
typedef enum WaitWants
{
	WANTS_ANY,
	WANTS_SELECTED,				/* by a selector */
	WANTS_ID,
	WANTS_CORRELATION_ID
} WaitWants;

/* ... and of the queues whose lists are entered the first so many are named */
typedef struct WaitTerms
{
	WaitWants	wants;
	int			nqueues;
	TimestampTz end;			/* by clock.h */
} WaitTerms;

extern Size queue_waiter_shmem_size(void);
extern void queue_waiter_shmem_init(void);

/* 0A000 in a transaction whose snapshot would not see new messages */
extern void queue_waiter_check_isolation(void);

/* Enter the lists, then look, then sleep, then enter again */
extern void queue_waiter_enter(const Oid *relids, int nrelids,
							   const WaitTerms *terms);
extern void queue_waiter_enter_selecting(Oid relid, uint32 key,
										 const WaitTerms *terms);
extern void queue_waiter_leave(void);	/* also from callbacks */

/* The i-th of these queues is paused, so what is due there does not count */
extern void queue_waiter_set_paused(int i, bool is_paused);

/* There is something, which this session leaves to others */
extern void queue_waiter_pass_on(void);

/* Sleep until woken, "until" (by clock.h), or something is due */
extern void queue_waiter_sleep(TimestampTz until, TimestampTz due);

/*
 * To wake: start a list, pick waiters with the slot locked, release it, set
 * the latches.  No allocation, no error
 */
extern void queue_waiter_start_wakes(WakeList *wakes, Oid dbid);
extern bool queue_waiter_pick(QueueSlot *slot, int n, uint64 number,
							  WakeList *wakes);

/*
 * Release the slot, to which messages with these keys were added: wake those
 * that were picked, and those that wait for such messages
 */
extern void queue_waiter_unlock_added(QueueSlot *slot, const WakeKeys *keys,
									  WakeList *wakes);

/* ... which a look by a selector gives back: waiters for some like these */
extern void queue_waiter_unlock_sought(QueueSlot *slot, uint64 number,
									   WakeList *wakes);

/* Wake a waiter that takes any message: one was looked at, and left */
extern void queue_waiter_wake_taker(QueueSlot *hint, Oid relid);

/* Wake all that wait for a table; for callbacks */
extern void queue_waiter_wake_all(Oid dbid, Oid relid);

/* Pick one waiter, whatever it wants; the slot is locked */
extern void queue_waiter_pick_any(QueueSlot *slot, WakeList *wakes);
extern void queue_waiter_wake_anyone(WakeList *wakes);
extern void queue_waiter_set_latches(WakeList *wakes);

/* Something is due earlier: wake the waiter that is to wake first */
extern void queue_waiter_pick_guardian(QueueSlot *slot, WakeList *wakes);

/* Number of sessions that wait for a queue, for its view */
extern int	queue_waiter_count(QueueSlot *slot);

/*
 * The same by what they want: any message, or certain ones only; and how many
 * wait, in all databases, for whatever happens
 */
extern void queue_waiter_count_each(QueueSlot *slot, int *any,
									int *selecting);
extern int	queue_waiter_count_anyone(void);

#endif							/* QUEUE_WAITER_H */
