/*-------------------------------------------------------------------------
 *
 * why.c
 *		queue.why(): why is a message not delivered?
 *
 * It asks what consumers ask, in their order: the row, the in-flight table, the
 * group, the settings of the queue, who waits.  It takes nothing, wakes nobody
 * and changes nothing, so it works in read-only transactions, and on a standby
 * as far as rows tell.  What it says is of this moment; rows are judged by the
 * present status of transactions, not by the snapshot of the statement.
 *
 * It costs some look-ups in indexes, however many messages there are.
 *
 * A table that somebody has locked is not waited for, because that is the
 * answer then.
 *
 * Locks: AccessShareLock on the table, if it can be had at once, given back at
 * the end.  If the process dies, or memory is full, there is nothing to undo.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "common/compat.h"
#include "common/relation.h"
#include "common/relation_name.h"
#include "dispatch/lease.h"
#include "monitor/why.h"
#include "table/access.h"
#include "table/call.h"
#include "table/setting_row.h"

/* reason, since, until, pid, gid, explanation, remedy */
#define Natts_why			7

PG_FUNCTION_INFO_V1(queue_why);

static const Instead instead = {"", "", ""};

static void check_relation(Oid relid);
static bool may_read(Oid relid);
static void look(Answer *answer, const Question *question, Relation rel);
static HeapTuple answer_row(FunctionCallInfo fcinfo, const Answer *answer);

/* why(queue, id) */
Datum
queue_why(PG_FUNCTION_ARGS)
{
	Answer		answer = {0};
	Question	question = {0};
	Relation	rel;
	bool		is_locked;

	queue_call_begin(fcinfo, "queue.why()", CALL_READS, "queue", "id");
	question.relid = PG_GETARG_OID(0);
	question.id = PG_GETARG_INT64(1);
	question.now = GetCurrentTimestamp();

	check_relation(question.relid);
	question.may_read = may_read(question.relid);
	question.literal = quote_literal_cstr(queue_qualified_name(question.relid));
	rel = queue_open_unless_locked(question.relid, AccessShareLock,
								   &is_locked);
	if (rel != NULL)
	{
		look(&answer, &question, rel);
		table_close(rel, AccessShareLock);
	}
	else if (!is_locked)
		queue_access_report_missing(question.relid, &queue_form);
	else if (!queue_answer_locked(&answer, &question))
		queue_answer(&answer, "table locked",
					 "Somebody has just had the table locked: ask again.");
	PG_RETURN_DATUM(HeapTupleGetDatum(answer_row(fcinfo, &answer)));
}

/* Raise 42704 if there is no such relation, 42809 if it is no table. */
static void
check_relation(Oid relid)
{
	char		relkind;

	AcceptInvalidationMessages();
	relkind = get_rel_relkind(relid);
	if (relkind == '\0')
		queue_access_report_missing(relid, &queue_form);
	if (relkind != RELKIND_RELATION)
		queue_access_report_relkind(relid, &queue_form, relkind);
}

/*
 * may_read
 *		May the current user read what is in the table?
 *
 * Raises 42501 unless it may at least know what goes on there.
 */
static bool
may_read(Oid relid)
{
	if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) == ACLCHECK_OK ||
		object_ownercheck(RelationRelationId, relid, GetUserId()))
		return true;
	if (!queue_may_watch(relid))
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, get_rel_name(relid));
	return false;
}

/* Ask about a message of a table of whatever kind. */
static void
look(Answer *answer, const Question *question, Relation rel)
{
	const TableForm *form = queue_form_of(question->relid);

	queue_lease_load_to_look();
	if (form == &queue_form)
		queue_why_message(answer, question, rel, queue_def(rel));
	else if (form == &queue_topic_form)
		queue_why_published(answer, question, rel, queue_topic_def(rel));
	else if (form == &queue_subscription_form)
		queue_why_unread(answer, question, rel, queue_subscription_def(rel));
	else
		queue_access_refuse(question->relid, &queue_form, &instead);
}

/* The answer as a row */
static HeapTuple
answer_row(FunctionCallInfo fcinfo, const Answer *answer)
{
	TupleDesc	desc;
	Datum		values[Natts_why] = {0};
	bool		nulls[Natts_why] = {0};

	desc = queue_call_row_type(fcinfo);
	values[0] = CStringGetTextDatum(answer->reason);
	values[1] = TimestampTzGetDatum(answer->since);
	nulls[1] = answer->since == 0;
	values[2] = TimestampTzGetDatum(answer->until);
	nulls[2] = answer->until == 0;
	values[3] = Int32GetDatum(answer->pid);
	nulls[3] = answer->pid == 0;
	if (answer->gid != NULL)
		values[4] = CStringGetTextDatum(answer->gid);
	nulls[4] = answer->gid == NULL;
	values[5] = CStringGetTextDatum(answer->explanation);
	if (answer->remedy != NULL)
		values[6] = CStringGetTextDatum(answer->remedy);
	nulls[6] = answer->remedy == NULL;
	return heap_form_tuple(BlessTupleDesc(desc), values, nulls);
}
