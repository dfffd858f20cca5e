/*-------------------------------------------------------------------------
 *
 * problem.c
 *		What is wrong with one queue, topic or subscription: queue.problem(),
 *		and part of queue.health().
 *
 * Nothing here raises an error for a table that is broken, locked or gone,
 * because one such table must not hide what there is to say of the others.
 *
 * Locks: AccessShareLock on the table, and on its dead-letter queue, given back
 * at once, as in inspect.c.  Health does without if it cannot be had at once.
 * Changes nothing, so nothing is left if this process dies.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "common/args.h"
#include "common/compat.h"
#include "common/relation.h"
#include "common/relation_name.h"
#include "dispatch/move.h"
#include "table/definition.h"
#include "table/key_table.h"
#include "table/member.h"
#include "table/subscription.h"
#include "table/topic.h"

/* What may be wrong with it, the worst first; each NULL if it is not */
typedef struct Problems
{
	char	   *form;			/* why it cannot be used */
	char	   *dead_letter;	/* why its dead letters have nowhere to go */
	char	   *keys;			/* why it takes no message with a dedup key */
	char	   *deaf;			/* why what is replicated is found late, or
								 * told to nobody */
} Problems;

#define NUM_PROBLEMS			4

PG_FUNCTION_INFO_V1(queue_problem);
PG_FUNCTION_INFO_V1(queue_problems);

static bool find_problems(Relation rel, Problems *problems);
static void find_problems_of_queue(Relation rel, QueueDef *def,
								   Problems *problems);
static char *name_deaf_trigger(Relation rel, const char *trigger,
							   const char *what_follows);
static Datum make_array(const Problems *problems);

/*
 * problem(queue)
 *
 * Says why the functions refuse the table, or its dead letters have nowhere to
 * go, or what is replicated goes past its triggers.  Null if all is well.  Of a
 * table that is of no kind, it says why it is no queue.
 */
Datum
queue_problem(PG_FUNCTION_ARGS)
{
	Problems	problems = {0};
	Relation	rel = NULL;
	char	   *problem;

	queue_require_preload();
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	if (get_rel_relkind(PG_GETARG_OID(0)) == RELKIND_RELATION)
		rel = try_table_open(PG_GETARG_OID(0), AccessShareLock);
	if (rel == NULL)
		PG_RETURN_TEXT_P(cstring_to_text("There is no such table."));

	if (!find_problems(rel, &problems))
		find_problems_of_queue(rel, queue_def(rel), &problems);
	table_close(rel, AccessShareLock);
	problem = problems.form != NULL ? problems.form :
		problems.dead_letter != NULL ? problems.dead_letter :
		problems.keys != NULL ? problems.keys : problems.deaf;
	if (problem == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(problem));
}

/*
 * problems(object): all of them, in the order of struct Problems, for
 * queue.health(); null if there are none
 *
 * Of a queue, a topic or a subscription that the user may SELECT from or watch.
 * An array, because a thousand calls of a function that returns a row take three
 * times as long.
 */
Datum
queue_problems(PG_FUNCTION_ARGS)
{
	Problems	problems = {0};
	Relation	rel;
	bool		is_locked;
	Oid			relid;

	queue_require_preload();
	queue_require_arg(fcinfo, 0, "object");
	relid = PG_GETARG_OID(0);
	if (!queue_may_watch(relid) ||
		get_rel_relkind(relid) != RELKIND_RELATION)
		PG_RETURN_NULL();
	rel = queue_open_unless_locked(relid, AccessShareLock, &is_locked);
	if (rel == NULL)
		PG_RETURN_NULL();
	(void) find_problems(rel, &problems);
	table_close(rel, AccessShareLock);
	if (problems.form == NULL && problems.dead_letter == NULL &&
		problems.keys == NULL && problems.deaf == NULL)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(make_array(&problems));
}

/* Find what is wrong with a table of any kind; false: it is of none. */
static bool
find_problems(Relation rel, Problems *problems)
{
	QueueDef   *def = queue_def(rel);
	TopicDef   *topic;
	SubscriptionDef *subscription;

	if (def->is_queue)
	{
		find_problems_of_queue(rel, def, problems);
		return true;
	}
	subscription = queue_subscription_def(rel);
	if (subscription->is_subscription)
	{
		if (subscription->problem != NULL)
			problems->form = pstrdup(subscription->problem);
		else if (subscription->on_failure == ON_FAILURE_DEAD_LETTER)
			problems->dead_letter =
				queue_dead_letter_problem_of(subscription->dead_letter,
											 subscription->retry.max_attempts,
											 rel->rd_rel->relowner);
		return true;
	}
	topic = queue_topic_def(rel);
	if (topic->is_topic && topic->problem != NULL)
		problems->form = pstrdup(topic->problem);
	else if (topic->is_topic && topic->deaf_trigger != NULL)
		problems->deaf = name_deaf_trigger(rel, topic->deaf_trigger,
										   "readers are not told of what is replicated");
	return topic->is_topic;
}

/* The same for what is a queue, or was to be one. */
static void
find_problems_of_queue(Relation rel, QueueDef *def, Problems *problems)
{
	if (def->problem != NULL)
		problems->form = pstrdup(def->problem);
	if (problems->form != NULL || !def->is_queue)
		return;
	problems->dead_letter = queue_dead_letter_problem(def,
													  rel->rd_rel->relowner);
	problems->keys = queue_key_table_problem(def);
	if (def->deaf_trigger != NULL)
		problems->deaf = name_deaf_trigger(rel, def->deaf_trigger,
										   "what is replicated is found late");
}

/* Say that a trigger is not enabled ALWAYS, what follows, and what mends it. */
static char *
name_deaf_trigger(Relation rel, const char *trigger, const char *what_follows)
{
	return psprintf("Its trigger \"%s\" is not enabled ALWAYS, so %s: ALTER TABLE %s ENABLE ALWAYS TRIGGER %s.",
					trigger, what_follows,
					queue_qualified_name(RelationGetRelid(rel)),
					quote_identifier(trigger));
}

/* Make an array of them, with null for those that are not there. */
static Datum
make_array(const Problems *problems)
{
	const char *texts[NUM_PROBLEMS] = {
		problems->form, problems->dead_letter, problems->keys, problems->deaf
	};
	Datum		values[NUM_PROBLEMS] = {0};
	bool		nulls[NUM_PROBLEMS];
	int			ndims[1] = {NUM_PROBLEMS};
	int			bounds[1] = {1};

	for (int i = 0; i < NUM_PROBLEMS; i++)
	{
		nulls[i] = texts[i] == NULL;
		if (!nulls[i])
			values[i] = CStringGetTextDatum(texts[i]);
	}
	return PointerGetDatum(construct_md_array(values, nulls, 1, ndims, bounds,
											  TEXTOID, -1, false,
											  TYPALIGN_INT));
}
