/*-------------------------------------------------------------------------
 *
 * progress.h
 *		How far a long operation of this process has come.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_PROGRESS_H
#define QUEUE_PROGRESS_H

#include "datatype/timestamp.h"

/* In the order of the names in progress.c */
typedef enum ProgressKind
{
	PROGRESS_OF_REDRIVE,
	PROGRESS_OF_PURGE,
	PROGRESS_OF_DROP,
	PROGRESS_OF_RETENTION
} ProgressKind;

/* What another process is at */
typedef struct Progress
{
	int			pid;
	Oid			dbid;
	Oid			relid;
	const char *kind;
	int64		done;
	int64		total;			/* -1: not known */
	TimestampTz started_at;
} Progress;

/*
 * One begins, with so many messages (-1: not known); has come so far; is over.
 * An error ends it
 */
extern void queue_progress_begin(ProgressKind kind, Oid relid, int64 total);
extern void queue_progress_update(int64 done);
extern void queue_progress_end(void);

/* How many messages a table has, as the server's statistics estimate */
extern int64 queue_progress_estimate(Oid relid);

/* That of the next process, from *i = 0 on; false: there is none */
extern bool queue_progress_next(int *i, Progress *progress);

#endif							/* QUEUE_PROGRESS_H */
