/*-------------------------------------------------------------------------
 *
 * kind.c
 *		Which kind a table is of: queue, topic, subscription.
 *
 * queue.definition() is SQL, which cannot say what is wrong with an argument.
 * So it asks here first.  Takes no lock: a table that is dropped meanwhile has
 * no definition, and that is NULL.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "common/args.h"
#include "common/compat.h"
#include "common/relation_name.h"
#include "table/access.h"
#include "table/form.h"
#include "table/member.h"
#include "table/setting_row.h"

PG_FUNCTION_INFO_V1(queue_kind);

/*
 * kind(queue) returns "queue", "topic" or "subscription"
 *
 * By its settings, so that a table that is broken has its kind, too.
 */
Datum
queue_kind(PG_FUNCTION_ARGS)
{
	const TableForm *form;
	Oid			relid;

	queue_require_preload();
	queue_require_arg(fcinfo, 0, "queue");
	relid = PG_GETARG_OID(0);
	if (get_rel_name(relid) == NULL)
		queue_access_report_missing(relid, &queue_form);
	form = queue_form_of(relid);
	if (form == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a queue, topic or subscription",
						queue_shown_name(relid)),
				 errdetail("It has no settings.")));
	PG_RETURN_TEXT_P(cstring_to_text(form->noun));
}
