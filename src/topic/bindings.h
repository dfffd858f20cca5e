/*-------------------------------------------------------------------------
 *
 * bindings.h
 *		What each session knows of the queues that are bound to a topic.
 *
 *-------------------------------------------------------------------------
 */
#ifndef QUEUE_BINDINGS_H
#define QUEUE_BINDINGS_H

#include "table/pattern.h"
#include "table/selector.h"
#include "table/topic_draft.h"

/* One binding */
typedef struct Binding
{
	char	   *text;			/* the pattern as it was given */
	QueuePattern *pattern;
	QueueSelector *selector;	/* NULL: any message */
	bool		fails;			/* on_refusal */
} Binding;

/* A queue, and its bindings to the topic */
typedef struct BoundQueue
{
	Oid			relid;
	int			n;
	Binding    *bindings;
} BoundQueue;

/* Those of a topic, in the order of their OIDs; as DefHead begins */
typedef struct TopicBindings
{
	Oid			relid;			/* hash key */
	bool		is_valid;
	bool		is_stale;		/* invalidated while it was being built */
	int			n;
	BoundQueue *queues;
	MemoryContext context;		/* of all this */
} TopicBindings;

/* Look them up; they are there until this is called again for the topic */
extern const TopicBindings *queue_bindings(Oid topic);

/*
 * Does one of a queue's bindings want a message?  Then *fails says whether it
 * must get it.  The priority is that of its copies
 */
extern bool queue_bindings_want(const BoundQueue *queue,
								const TopicDraft *draft, int priority,
								bool *fails);
extern bool queue_binding_wants(const Binding *binding,
								const TopicDraft *draft, int priority);

/* Register the relcache callback; from _PG_init(), in every backend */
extern void queue_bindings_init(void);

#endif							/* QUEUE_BINDINGS_H */
