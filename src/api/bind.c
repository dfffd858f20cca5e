/*-------------------------------------------------------------------------
 *
 * bind.c
 *		Queues bound to topics: bind() and unbind().
 *
 * As with CREATE TRIGGER, a role that may bind adds work to the transactions
 * of others, so it takes the privilege TRIGGER on the topic; and the queue
 * must be one's own.  The owner of either may unbind.
 *
 * Locks: ShareRowExclusiveLock on the topic to the end of the transaction, so
 * that each publish is either visible before it, or goes by what has been
 * changed; then the queue, so that it is not dropped meanwhile.  Publishers
 * that are under way are waited for, but not prepared ones (55006), and a
 * session that may not change anything can make nobody wait.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "table/binding_row.h"
#include "table/call.h"
#include "table/definition.h"
#include "table/member.h"
#include "table/pattern.h"
#include "table/selector.h"
#include "table/setting_row.h"
#include "table/topic.h"
#include "transaction/in_doubt.h"

PG_FUNCTION_INFO_V1(queue_bind);
PG_FUNCTION_INFO_V1(queue_unbind);

static char *pattern_argument(FunctionCallInfo fcinfo, int argno);
static bool fails_argument(FunctionCallInfo fcinfo, int argno,
						   Relation topic);
static Relation open_topic(Oid relid);
static void check_either_owner(Oid topic, Oid queue);


/* bind(topic, queue, pattern, selector, on_refusal) */
Datum
queue_bind(PG_FUNCTION_ARGS)
{
	BindingRow	row = {0};
	Relation	topic;
	Relation	queue;
	QueueDef   *def;

	queue_call_begin(fcinfo, "queue.bind()", CALL_WRITES,
					 "topic", "queue", "pattern");
	row.topic = PG_GETARG_OID(0);
	row.queue = PG_GETARG_OID(1);
	row.pattern = pattern_argument(fcinfo, 2);
	row.has_selector = !PG_ARGISNULL(3);
	if (row.has_selector)
	{
		row.selector = PG_GETARG_DATUM(3);
		queue_selector_free(queue_selector_make(row.selector, false));
	}
	row.bound_by = GetUserNameFromId(GetUserId(), false);

	topic = open_topic(row.topic);
	row.fails = fails_argument(fcinfo, 4, topic);
	queue = queue_open(row.queue, QUEUE_OWN, &def);
	queue_binding_put(&row);
	(void) queue_def_slot(def); /* to count what it does not take */
	table_close(queue, NoLock);
	table_close(topic, NoLock);
	PG_RETURN_VOID();
}

/* Read a pattern, which must be one. */
static char *
pattern_argument(FunctionCallInfo fcinfo, int argno)
{
	char	   *pattern = text_to_cstring(PG_GETARG_TEXT_PP(argno));

	queue_pattern_free(queue_pattern_compile(pattern, strlen(pattern)));
	return pattern;
}

/*
 * fails_argument
 *		Read on_refusal: is a publish to fail if the queue does not take it?
 *
 * If nothing is said, a stranger's queue does not stop the topic, and one of the
 * topic's owner gets all there is.
 */
static bool
fails_argument(FunctionCallInfo fcinfo, int argno, Relation topic)
{
	char	   *word;

	if (PG_ARGISNULL(argno))
		return object_ownercheck(RelationRelationId, RelationGetRelid(topic),
								 GetUserId());
	word = text_to_cstring(PG_GETARG_TEXT_PP(argno));
	if (strcmp(word, BINDING_FAILS) != 0 && strcmp(word, BINDING_SKIPS) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid on_refusal: \"%s\"", word),
				 errdetail("Allowed are: %s, %s.", BINDING_FAILS,
						   BINDING_SKIPS)));
	return strcmp(word, BINDING_FAILS) == 0;
}

/* Open a topic that the user may bind queues to; not before that is known. */
static Relation
open_topic(Oid relid)
{
	TopicDef   *topic;
	AclResult	result;

	if (queue_setting_find(MEMBER_TOPIC, relid, 0, NULL))
	{
		result = pg_class_aclcheck(relid, GetUserId(), ACL_TRIGGER);
		if (result != ACLCHECK_OK)
			aclcheck_error(result, OBJECT_TABLE, get_rel_name(relid));
		queue_in_doubt_refuse(relid, queue_topic_lockmode(TOPIC_BIND));
	}
	return queue_topic_open(relid, TOPIC_BIND, &topic);
}

/* unbind(topic, queue, pattern) */
Datum
queue_unbind(PG_FUNCTION_ARGS)
{
	LOCKMODE	lockmode = queue_topic_lockmode(TOPIC_BIND);
	Oid			topic;
	Oid			queue;
	char	   *pattern = NULL;

	queue_call_begin(fcinfo, "queue.unbind()", CALL_WRITES, "topic", "queue");
	topic = PG_GETARG_OID(0);
	queue = PG_GETARG_OID(1);
	if (!PG_ARGISNULL(2))
		pattern = text_to_cstring(PG_GETARG_TEXT_PP(2));

	if (!queue_setting_find(MEMBER_TOPIC, topic, 0, NULL))
		queue_topic_refuse(topic, TOPIC_BIND);
	if (!queue_binding_exists(topic, queue))
		PG_RETURN_INT32(0);
	check_either_owner(topic, queue);
	queue_in_doubt_refuse(topic, lockmode);
	LockRelationOid(topic, lockmode);
	LockRelationOid(queue, AccessShareLock);

	/* all of it may have changed while we waited */
	check_either_owner(topic, queue);
	PG_RETURN_INT32(queue_binding_delete(topic, queue, pattern));
}

/* Raise 42501 unless the user owns the one or the other. */
static void
check_either_owner(Oid topic, Oid queue)
{
	char	   *name = get_rel_name(queue);

	if (name != NULL && get_rel_name(topic) != NULL &&
		!object_ownercheck(RelationRelationId, queue, GetUserId()) &&
		!object_ownercheck(RelationRelationId, topic, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, name);
}
