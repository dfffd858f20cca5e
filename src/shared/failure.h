/*-------------------------------------------------------------------------
 *
 * failure.h
 *		Failed attempts: how long to back off, and what went wrong.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_FAILURE_H
#define QUEUE_FAILURE_H

#include "datatype/timestamp.h"

/* So many failures of a message are kept: by its row, and until that tells */
#define FAILURES_KEPT	5

/* Room for a text, and for the name of an application, with a final zero */
#define FAILURE_TEXT_SIZE	504
#define FAILURE_NAME_SIZE	NAMEDATALEN

/*
 * As many failures as rows count: beyond that neither the row nor what memory adds
 * to it shows more
 */
static inline int
queue_add_failures(int counted, int failures)
{
	return Min(counted + failures, PG_INT16_MAX);
}

/* How a queue treats failed messages; columns of queue.queue */
typedef struct RetryPolicy
{
	int			max_attempts;	/* 0: no limit */
	int64		delay;			/* usec */
	int64		max_delay;		/* usec */
} RetryPolicy;

/* In which way did it fail?  The last three have a text in common. */
typedef enum FailureKind
{
	FAILURE_NACKED,				/* with a text */
	FAILURE_NACKED_SILENTLY,
	FAILURE_ROLLED_BACK,
	FAILURE_CONNECTION_LOST,
	FAILURE_LEASE_RAN_OUT
} FailureKind;

/* A failure, as memory remembers it */
typedef struct FailureNote
{
	TimestampTz at;
	uint32		generation;		/* of the slot with the rest; 0: there is none */
	unsigned int slot:12,
				kind:4,			/* FailureKind */
				batch:16;		/* so many failed together; 0: unknown */
} FailureNote;

#define FAILURE_MAX_BATCH	PG_UINT16_MAX

/* The failures of a message that its row does not tell */
typedef struct FailureNews
{
	int			nunknown;		/* the oldest, of which nothing is known */
	int			nnotes;
	bool		is_retold;		/* the first note is about the newest failure
								 * that the row tells */
	FailureNote notes[FAILURES_KEPT];	/* the newest is the last */
} FailureNews;

/* All that is known of a failure */
typedef struct Failure
{
	TimestampTz at;
	char	   *message;		/* palloc'd, or NULL */
	int			sqlstate;		/* 0: none */
	Oid			role;			/* or InvalidOid */
	char	   *application;	/* palloc'd, or NULL */
	int			batch;
} Failure;

extern Size queue_failure_shmem_size(void);
extern void queue_failure_shmem_init(void);

/* Microseconds to back off after this many failures */
extern int64 queue_failure_delay(const RetryPolicy *retry, int failures);

/* Note a failure, of now; "text" may be NULL */
extern FailureNote queue_failure_note(FailureKind kind, const char *text,
									  int sqlstate, Oid role,
									  const char *application);

/* The same by who is working in this process */
extern FailureNote queue_failure_note_own(FailureKind kind, const char *text,
										  int sqlstate);

/* What is known of a failure that was noted */
extern void queue_failure_read(const FailureNote *note, Failure *failure);

#endif							/* QUEUE_FAILURE_H */
