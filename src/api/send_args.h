/*-------------------------------------------------------------------------
 *
 * send_args.h
 *		Arguments of functions that send messages, to queues or topics.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_SEND_ARGS_H
#define QUEUE_SEND_ARGS_H

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "utils/array.h"

/*
 * The second argument of all of them; and the third of those for bodies, which
 * shifts the others from there on
 */
#define ARG_CONTENT			1
#define ARG_CONTENT_TYPE	2

/* What a call sends */
typedef struct SendContent
{
	const char *funcname;
	const char *argname;		/* "payload", "payloads" ... */
	bool		is_body;
	NullableDatum type;			/* content_type */
} SendContent;

/* Take the content type out of the arguments; "call" has room for nargs */
extern NullableDatum queue_send_split_type(FunctionCallInfo fcinfo,
										   FunctionCallInfo call, int nargs);

/* The same call with the payload as jsonb, not json or text */
extern void queue_send_read_text(FunctionCallInfo fcinfo,
								 FunctionCallInfo call, int nargs);

/* The payloads or bodies of a batch */
extern Datum *queue_send_contents(FunctionCallInfo fcinfo,
								  const SendContent *content, int *n);

/* When messages are due; 0: at once */
extern TimestampTz queue_send_due(NullableDatum delay,
								  NullableDatum deliver_at, TimestampTz now);

/* The result of a batch */
extern ArrayType *queue_send_ids(const int64 *ids, int n);

#endif							/* QUEUE_SEND_ARGS_H */
