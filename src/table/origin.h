/*-------------------------------------------------------------------------
 *
 * origin.h
 *		Where a dead letter comes from, as its row says.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_ORIGIN_H
#define QUEUE_ORIGIN_H

#include "table/rows.h"

typedef struct Origin
{
	Oid			relid;			/* its queue; InvalidOid: it does not exist */
	char	   *name;			/* ... as that was called, palloc'd */
	int64		id;				/* there; 0: not known */
	TimestampTz expires_at;		/* 0: never */
	bool		had_headers;	/* it had some, though perhaps none in them */
} Origin;

/* What the log of a dead letter begins with: this row of this queue */
extern Datum queue_origin_make(Relation rel, MessageRow *row);

/* Read it; false: the message did not become a dead letter here */
extern bool queue_origin_read(NullableDatum log, Origin *origin);

/* A new log, with what the one before said of it; and a log without it */
extern Datum queue_origin_keep(NullableDatum before, Datum log);
extern NullableDatum queue_origin_strip(NullableDatum log);

#endif							/* QUEUE_ORIGIN_H */
