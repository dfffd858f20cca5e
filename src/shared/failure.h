/*-------------------------------------------------------------------------
 *
 * failure.h
 *		Failed attempts: how long to back off, and what went wrong.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_FAILURE_H
#define QUEUE_FAILURE_H

/* How a queue treats failed messages; columns of queue.queue */
typedef struct RetryPolicy
{
	int			max_attempts;	/* 0: no limit */
	int64		delay;			/* usec */
	int64		max_delay;		/* usec */
} RetryPolicy;

/* Where the text of a failure lies in shared memory */
typedef struct FailureText
{
	int			slot;			/* or one of those below */
	uint32		generation;
} FailureText;

#define FAILURE_NO_TEXT			(-1)
#define FAILURE_ROLLED_BACK		(-2)	/* the dequeue or receive was rolled
										 * back */
#define FAILURE_LEASE_RAN_OUT	(-3)

extern Size queue_failure_shmem_size(void);
extern void queue_failure_shmem_init(void);

/* Microseconds to back off after this many failures */
extern int64 queue_failure_delay(const RetryPolicy *retry, int failures);

/* Store a text, once for all messages of a call; may be NULL */
extern FailureText queue_failure_note_text(const char *text);

/* The text, palloc'd; NULL if there is none, or none any more */
extern char *queue_failure_text(const FailureText *where);

#endif							/* QUEUE_FAILURE_H */
