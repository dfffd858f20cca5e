/*-------------------------------------------------------------------------
 *
 * topic_args.h
 *		Settings of a topic, as arguments of functions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_TOPIC_ARGS_H
#define QUEUE_TOPIC_ARGS_H

#include "fmgr.h"

/* Natts_topic values each; that of the topic itself is not filled in */
extern void queue_topic_args_create(FunctionCallInfo fcinfo, Datum *values,
									bool *nulls);
extern void queue_topic_args_alter(FunctionCallInfo fcinfo, Datum *values,
								   bool *nulls);

/* 22023 for what neither would take, as a row that is restored may have it */
extern void queue_topic_args_check(const Datum *values, const bool *nulls);

#endif							/* QUEUE_TOPIC_ARGS_H */
