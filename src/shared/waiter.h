/*-------------------------------------------------------------------------
 *
 * waiter.h
 *		Sessions that sleep until a queue may have a message for them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_WAITER_H
#define QUEUE_WAITER_H

#include "shared/state.h"

/* at one go; more is done in several */
#define MAX_WAKES	64

/* Whose latches to set when all locks are released */
typedef struct WakeList
{
	Oid			dbid;
	bool		wakes_anyone;	/* those, too, who wait for any queue */
	int			n;
	int			procnos[MAX_WAKES];
} WakeList;

extern Size queue_waiter_shmem_size(void);
extern void queue_waiter_shmem_init(void);

/* 0A000 in a transaction whose snapshot would not see what comes */
extern void queue_waiter_check_isolation(void);

/*
 * The sleeper: enter, then look at the queues, with a snapshot taken after
 * that, then sleep, then enter again, which changes nothing but that a wake-up
 * has been used.  Whatever becomes available behind the look finds us in the
 * list.
 */
extern void queue_waiter_enter(const Oid *relids, int nrelids);
extern void queue_waiter_leave(void);	/* also from callbacks */

/* What is due in the i-th of these queues is nothing to us, as it is paused */
extern void queue_waiter_set_paused(int i, bool is_paused);

/* There is something, but we leave it to others */
extern void queue_waiter_pass_on(void);

/* Sleep until woken, or a message may be due, or "until", a time of clock.h;
 * "due" is when the first is, a time of day, as the look has found.  FATAL if
 * the client has gone. */
extern void queue_waiter_sleep(TimestampTz until, TimestampTz due);

/*
 * The waker.  Pick up to n of those who wait for a queue, whose state is
 * locked: of those who have looked since the window of this number was taken
 * out, or of all (0).  True if there may be more to pick.  Then release the
 * lock and set the latches.  No allocation, no error.
 */
extern void queue_waiter_start_wakes(WakeList *wakes, Oid dbid);
extern bool queue_waiter_pick(QueueState *state, int n, uint64 number,
							  WakeList *wakes);
extern void queue_waiter_wake_anyone(WakeList *wakes);
extern void queue_waiter_set_latches(WakeList *wakes);

/* Something is due earlier: wake who is to wake first */
extern void queue_waiter_pick_guardian(QueueState *state, WakeList *wakes);

/* Number of those who wait; for people */
extern int	queue_waiter_count(QueueState *state);

#endif							/* QUEUE_WAITER_H */
