/*-------------------------------------------------------------------------
 *
 * trigger_call.h
 *		What the triggers of our tables have in common.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_TRIGGER_CALL_H
#define QUEUE_TRIGGER_CALL_H

#include "commands/trigger.h"
#include "fmgr.h"

#include "common/compat.h"
#include "table/form.h"

/* What the trigger was given; error if it is not called as it is meant to be */
extern TriggerData *queue_trigger_call(FunctionCallInfo fcinfo,
									   const OwnTriggerForm *trigger);

/* Do rows come from another server, which has checked them? */
extern bool queue_trigger_is_replica(void);

/* 42501 if a row has values that only the owner may give, and it is another */
extern void queue_trigger_check_setters(Relation rel, const TableForm *form,
										const bool *nulls);

/* 42501 for a column that the server sets */
pg_noreturn extern void queue_trigger_refuse_column(Relation rel,
													const TableForm *form,
													int attnum);

#endif							/* QUEUE_TRIGGER_CALL_H */
