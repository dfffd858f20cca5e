/*-------------------------------------------------------------------------
 *
 * form.c
 *		What a table of each kind is made of: queues, topics, subscriptions.
 *
 * All are ordinary tables that are exactly what a function of ours made of
 * them.  What that is stands here, and what looks at it, or makes it, goes by
 * this, whatever the kind: the white list (shape.c, index.c), index entries
 * (entries.c), creation and adoption (api/make_table.c), DDL (api/guard.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_trigger.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"

#include "table/form.h"
#include "table/subscription_column.h"
#include "table/topic_column.h"

/* In order of OwnIndex */
static const OwnIndexForm queue_indexes[] = {
	{3, {Anum_message_priority, Anum_message_visible_at, Anum_message_id},
	Anum_message_visible_at},
	{1, {Anum_message_expires_at}, Anum_message_expires_at},
	{2, {Anum_message_group_key, Anum_message_id}, Anum_message_group_key},
	{2, {Anum_message_correlation_id, Anum_message_id},
	Anum_message_correlation_id},
};

StaticAssertDecl(lengthof(queue_indexes) <= NUM_OWN_INDEXES,
				 "indexes of a queue");

const TableForm queue_form = {
	.noun = "queue",
	.natts = Natts_message,
	.columns = queue_message_columns,
	.id = Anum_message_id,
	.nkeys = 2,
	.key = {Anum_message_priority, Anum_message_id},
	.nindexes = lengthof(queue_indexes),
	.indexes = queue_indexes,
	.triggers = {
		{"queue_insert", "before_insert", "INSERT", TRIGGER_TYPE_INSERT},
		{"queue_update", "before_update", "UPDATE", TRIGGER_TYPE_UPDATE}
	},
	.storage = "",
	.may_be_unlogged = true,
	.may_be_truncated = true,
	.ids_may_restart = true,
	.settings = MEMBER_QUEUE,
	.maker = "queue.create_queue()",
	.changer = "queue.alter_queue()",
	.dropper = "queue.drop_queue()"
};

const TableForm queue_topic_form = {
	.noun = "topic",
	.natts = Natts_published,
	.columns = queue_topic_columns,
	.id = Anum_published_id,
	.nkeys = 2,
	.key = {Anum_published_partition, Anum_published_id},
	.triggers = {
		{"topic_insert", "before_publish", "INSERT", TRIGGER_TYPE_INSERT},
		{"topic_update", "before_topic_update", "UPDATE", TRIGGER_TYPE_UPDATE}
	},
	.storage = "",
	.may_be_truncated = true,
	.settings = MEMBER_TOPIC,
	.maker = "queue.create_topic()",
	.changer = "queue.alter_topic()",
	.dropper = "queue.drop_topic()"
};

/*
 * Its rows are few and rewritten all the time, so a page keeps room for new
 * versions of them.
 */
const TableForm queue_subscription_form = {
	.noun = "subscription",
	.natts = Natts_position,
	.columns = queue_subscription_columns,
	.nkeys = 1,
	.key = {Anum_position_partition},
	.triggers = {
		{"subscription_insert", "before_subscription_insert", "INSERT",
		TRIGGER_TYPE_INSERT},
		{"subscription_change", "before_subscription_change",
		"UPDATE OR DELETE", TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE}
	},
	.storage = "fillfactor = 10, ",
	.settings = MEMBER_SUBSCRIPTION,
	.maker = "queue.subscribe()",
	.changer = "queue.alter_subscription()",
	.dropper = "queue.drop_queue()"
};

const TableForm *const queue_forms[NUM_FORMS] = {
	&queue_form, &queue_topic_form, &queue_subscription_form
};

/* Return the column of this name, NULL if such a table has none. */
const QueueColumn *
queue_form_column(const TableForm *form, const char *name)
{
	for (int i = 0; i < form->natts; i++)
	{
		if (strcmp(form->columns[i].name, name) == 0)
			return &form->columns[i];
	}
	return NULL;
}

/* Return a column for CREATE TABLE, as "id pg_catalog.int8 NOT NULL". */
char *
queue_form_column_ddl(const TableForm *form, AttrNumber attnum)
{
	const QueueColumn *column = &form->columns[attnum - 1];

	return psprintf("%s %s%s", quote_identifier(column->name),
					column->type_name,
					column->is_not_null ? " NOT NULL" : "");
}

/* Return the primary key, as "(priority, id)". */
char *
queue_form_key(const TableForm *form)
{
	return queue_form_columns(form, form->nkeys, form->key);
}

/* Are these columns the primary key? */
bool
queue_form_is_key(const TableForm *form, int n, const AttrNumber *attnums)
{
	return n == form->nkeys &&
		memcmp(attnums, form->key, n * sizeof(AttrNumber)) == 0;
}

/* Return the names of some columns, as "(priority, id)". */
char *
queue_form_columns(const TableForm *form, int n, const AttrNumber *attnums)
{
	StringInfoData columns;

	initStringInfo(&columns);
	for (int i = 0; i < n; i++)
		appendStringInfo(&columns, "%s%s", i == 0 ? "(" : ", ",
						 quote_identifier(form->columns[attnums[i] - 1].name));
	appendStringInfoChar(&columns, ')');
	return columns.data;
}
