/*-------------------------------------------------------------------------
 *
 * wait.h
 *		Procedures that sleep.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_WAIT_H
#define QUEUE_WAIT_H

/* Hold back no vacuum while this session sleeps */
extern void queue_drop_portal_snapshot(void);

#endif							/* QUEUE_WAIT_H */
