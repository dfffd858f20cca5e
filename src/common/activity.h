/*-------------------------------------------------------------------------
 *
 * activity.h
 *		What the processes of the extension do now, and what went wrong.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_ACTIVITY_H
#define QUEUE_ACTIVITY_H

#include "utils/timestamp.h"

/* Room for texts, with a final zero; they are cut */
#define ACTIVITY_SIZE		64
#define ACTIVITY_ERROR_SIZE 512

/* One process, or the last one of its kind in a database */
typedef struct Activity
{
	int			pid;			/* 0: it has ended */
	Oid			dbid;			/* InvalidOid: of no database */
	char		kind[ACTIVITY_SIZE];
	char		doing[ACTIVITY_SIZE];	/* empty: nothing */
	Oid			relid;			/* ... with this table; InvalidOid: none */
	TimestampTz started_at;
	TimestampTz since;			/* when it began what it does */
	TimestampTz error_at;		/* 0: there was none */
	int			error_encoding;
	char		error[ACTIVITY_ERROR_SIZE];
} Activity;

extern Size queue_activity_shmem_size(void);
extern void queue_activity_shmem_init(void);

/* This process is of that kind from now on, until it exits */
extern void queue_activity_start(const char *kind, Oid dbid);

/* It does this now, with that table (or InvalidOid); NULL: nothing */
extern void queue_activity_show(const char *doing, Oid relid);

/* The i-th place, and how many there are; false: there is no process */
extern int	queue_activity_count(void);
extern bool queue_activity_copy(int i, Activity *copy);

#endif							/* QUEUE_ACTIVITY_H */
