/*-------------------------------------------------------------------------
 *
 * bindings.c
 *		What each session knows of the queues that are bound to a topic.
 *
 * A publish must not read table queue.binding, nor compile patterns.  So a
 * session keeps them for each topic that it publishes to, and a change of the
 * topic in the relation cache, which every change of a binding causes, makes
 * the next publish read them again.  A publisher has the topic locked when it
 * looks here, and a session that binds or unbinds keeps it locked against
 * publishers until the end of its transaction, so what is kept is right for as
 * long as it is used.  Only a queue that is dropped changes bindings without
 * that lock; the publisher finds then that it is gone.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/memutils.h"

#include "common/compat.h"
#include "table/binding_row.h"
#include "table/def_cache.h"
#include "topic/bindings.h"

DEF_BEGINS_WITH_HEAD(TopicBindings);

static DefCache cache = {
	.name = "bindings of topics",
	.size = sizeof(TopicBindings),
	.settings = MEMBER_BINDING
};

static void build(TopicBindings *known);
static void read_bindings(TopicBindings *fresh);


/* Register the relcache callback; from _PG_init(), in every backend. */
void
queue_bindings_init(void)
{
	queue_def_cache_register(&cache);
}

/*
 * queue_bindings
 *		Return the queues that are bound to a topic, which is locked.
 */
const TopicBindings *
queue_bindings(Oid topic)
{
	TopicBindings *known = queue_def_cache_enter(&cache, topic);

	if (!known->is_valid)
		build(known);
	return known;
}

/*
 * build
 *		Read them.
 *
 * If they are invalidated on the way, what was read serves this call, but not
 * the next one.  After an error there is what was there before, not valid.
 */
static void
build(TopicBindings *known)
{
	TopicBindings fresh = {.relid = known->relid};
	MemoryContext old;

	known->is_stale = false;
	fresh.context = AllocSetContextCreate(CurrentMemoryContext,
										  "bindings of a topic",
										  ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(fresh.context);
	read_bindings(&fresh);
	MemoryContextSwitchTo(old);

	fresh.is_stale = known->is_stale;
	fresh.is_valid = !fresh.is_stale;
	MemoryContextSetParent(fresh.context, queue_def_cache_context());
	if (known->context != NULL)
		MemoryContextDelete(known->context);
	*known = fresh;
}

/* Read the rows, and prepare patterns and selectors. */
static void
read_bindings(TopicBindings *fresh)
{
	List	   *rows = queue_binding_list(fresh->relid);
	int			nrows = list_length(rows);
	Binding    *bindings = palloc(Max(nrows, 1) * sizeof(Binding));

	fresh->queues = palloc(Max(nrows, 1) * sizeof(BoundQueue));
	for (int i = 0; i < nrows; i++)
	{
		BindingRow *row = list_nth(rows, i);
		BoundQueue *queue = fresh->n > 0 ? &fresh->queues[fresh->n - 1] : NULL;

		if (queue == NULL || queue->relid != row->queue)
		{
			queue = &fresh->queues[fresh->n++];
			queue->relid = row->queue;
			queue->n = 0;
			queue->bindings = &bindings[i];
		}
		queue->n++;
		bindings[i].text = row->pattern;
		bindings[i].pattern = queue_pattern_compile(row->pattern,
													strlen(row->pattern));
		bindings[i].selector = !row->has_selector ? NULL :
			queue_selector_make(row->selector, false /* raises */ );
		bindings[i].fails = row->fails;
	}
}

/*
 * queue_bindings_want
 *		Returns true if one of a queue's bindings wants a message.
 *
 * *fails becomes true if one of those that do says that the publish is to fail
 * if the queue does not take it.
 */
bool
queue_bindings_want(const BoundQueue *queue, const TopicDraft *draft,
					int priority, bool *fails)
{
	bool		found = false;

	for (int i = 0; i < queue->n; i++)
	{
		const Binding *binding = &queue->bindings[i];

		if ((found && !binding->fails) ||
			!queue_binding_wants(binding, draft, priority))
			continue;
		found = true;
		*fails |= binding->fails;
		if (binding->fails)
			break;
	}
	return found;
}

/* Does this binding? */
bool
queue_binding_wants(const Binding *binding, const TopicDraft *draft,
					int priority)
{
	SelectorInput input;
	text	   *key = DatumGetTextPP(draft->routing_key.value);

	if (!queue_pattern_match(binding->pattern, VARDATA_ANY(key),
							 VARSIZE_ANY_EXHDR(key)))
		return false;
	if (binding->selector == NULL)
		return true;
	input.id = draft->id;
	input.priority = priority;
	input.attempt = 1;
	input.group_key = draft->group_key;
	input.correlation_id = draft->correlation_id;
	input.headers = draft->headers;
	input.payload = draft->payload;
	return queue_selector_matches_input(binding->selector, &input);
}
