/*-------------------------------------------------------------------------
 *
 * binding_row.h
 *		Which queues are bound to which topics: table queue.binding.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_BINDING_ROW_H
#define QUEUE_BINDING_ROW_H

#include "nodes/pg_list.h"

/* Columns of queue.binding */
#define Natts_binding					6
#define Anum_binding_topic				1
#define Anum_binding_queue				2
#define Anum_binding_pattern			3
#define Anum_binding_selector			4
#define Anum_binding_on_refusal			5
#define Anum_binding_bound_by			6

/* on_refusal: what a publisher does if the queue does not take a message */
#define BINDING_FAILS					"fail"
#define BINDING_SKIPS					"skip"

/* A binding, in memory of its own */
typedef struct BindingRow
{
	Oid			topic;
	Oid			queue;
	char	   *pattern;
	Datum		selector;		/* jsonpath */
	bool		has_selector;
	bool		fails;			/* on_refusal */
	char	   *bound_by;		/* who made it, by the name it had */
} BindingRow;

/* Those of a topic, by queue and pattern: a List of BindingRow */
extern List *queue_binding_list(Oid topic);

/* Is a queue bound to a topic? */
extern bool queue_binding_exists(Oid topic, Oid queue);

/* Insert it, or replace the one with this topic, queue and pattern */
extern void queue_binding_put(const BindingRow *row);

/* Delete those of a queue to a topic, with this pattern unless it is NULL */
extern int	queue_binding_delete(Oid topic, Oid queue, const char *pattern);

/* A table is dropped: delete what binds it */
extern void queue_binding_forget(Oid relid);

/* Tables that bindings name, and that are gone */
extern List *queue_binding_gone(void);

#endif							/* QUEUE_BINDING_ROW_H */
