/*-------------------------------------------------------------------------
 *
 * who.h
 *		Who runs a transaction, or has locked a table?
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_WHO_H
#define QUEUE_WHO_H

#include "datatype/timestamp.h"

/* A session, or a prepared transaction, or neither is known */
typedef struct Who
{
	int			pid;			/* 0: none */
	char	   *gid;			/* palloc'd; NULL: none */
	TimestampTz since;			/* when its transaction began, or was
								 * prepared; 0: not known, or not to be told */
} Who;

/* This transaction, in progress, or the one that it is a part of */
extern void queue_who_runs(TransactionId xid, Who *who);

/* The transaction of this process */
extern void queue_who_is(int pid, Who *who);

/*
 * The first lock on a table that keeps consumers out, and its mode; false:
 * there is none
 */
extern bool queue_who_locks(Oid relid, Who *who, char **mode);

#endif							/* QUEUE_WHO_H */
