/*-------------------------------------------------------------------------
 *
 * subscription_args.h
 *		Settings of a subscription, as arguments of functions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_SUBSCRIPTION_ARGS_H
#define QUEUE_SUBSCRIPTION_ARGS_H

#include "fmgr.h"

/*
 * Natts_subscription values each; those of the subscription itself and of the
 * topic are not filled in, and the dead-letter queue is not looked at
 */
extern void queue_subscription_args_create(FunctionCallInfo fcinfo,
										   Datum *values, bool *nulls);
extern void queue_subscription_args_alter(FunctionCallInfo fcinfo,
										  Datum *values, bool *nulls);

/* Does a call of alter_subscription() give this one? */
extern bool queue_subscription_args_given(FunctionCallInfo fcinfo,
										  int attnum);

/* 22023 for what neither would take, as a row that is restored may have it */
extern void queue_subscription_args_check(const Datum *values,
										  const bool *nulls);

#endif							/* QUEUE_SUBSCRIPTION_ARGS_H */
